"""Shorter exports change no graph, and leave the packages as they were."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from torch.onnx._internal.exporter import _fx_passes, _registration

from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.contract import GraphSpec, TensorSpec
from fastseg.export.onnx import exporter
from fastseg.export.onnx.writer import Source, write

ROWS = TensorSpec("rows", "float32", ("prompts", 4))
LABELS = TensorSpec("labels", "int32", ("prompts", 4))
OUT = TensorSpec("out", "float32", ("prompts", 4))


class OfOneType(torch.nn.Module):
    def forward(self, rows, labels):
        return torch.where(labels == -1, 0.0, rows) + labels.to(torch.float32)


class OfWholeNumbersAndReal(torch.nn.Module):
    def forward(self, rows, labels):
        return rows * labels


class HalfOfWholeNumbers(torch.nn.Module):
    def forward(self, rows, labels):
        return rows + labels / 2


class TimesTheirNumber(torch.nn.Module):
    def forward(self, rows, labels):
        return rows * rows.shape[0] + labels.to(torch.float32)


def export(module, path) -> None:
    inputs = torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.int32)
    write(Source(GraphSpec("graph", (ROWS, LABELS), (OUT,)), module.eval(), inputs), path)


@pytest.mark.parametrize(
    ("module", "converts"),
    [
        (OfOneType(), False),
        (OfWholeNumbersAndReal(), True),
        (HalfOfWholeNumbers(), True),
        (TimesTheirNumber(), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_types_are_converted_where_a_graph_mixes_them_alone(
    module, converts, tmp_path, monkeypatch
):
    runs = []
    promote = exporter._PROMOTE
    monkeypatch.setattr(exporter, "_PROMOTE", lambda traced: [runs.append(1), promote(traced)])
    export(module, tmp_path / "graph.onnx")
    assert bool(runs) is converts
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    labels = np.arange(-2, 18, dtype=np.int32).reshape(5, 4)
    backend = OrtBackend(tmp_path / "graph.onnx", GraphSpec("graph", (ROWS, LABELS), (OUT,)))
    found = backend.run({"rows": rows, "labels": labels})["out"]
    expected = module(torch.from_numpy(rows), torch.from_numpy(labels)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_operators_are_read_once_for_two_graphs(tmp_path, monkeypatch):
    reads = []
    read = exporter._READ_OPERATORS
    exporter._read_operators.cache_clear()
    monkeypatch.setattr(
        exporter, "_READ_OPERATORS", lambda **options: [reads.append(1), read(**options)][1]
    )
    export(OfOneType(), tmp_path / "first.onnx")
    export(OfOneType(), tmp_path / "second.onnx")
    assert len(reads) == 1
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


def test_the_packages_are_as_they_were_after_an_export(tmp_path):
    def parts():
        registry = vars(_registration.ONNXRegistry)["from_torchlib"]
        rules = exporter._REWRITER._DEFAULT_REWRITE_RULES
        stacks = exporter._TRACING.do_not_emit_stack_traces
        return registry, _fx_passes.insert_type_promotion_nodes, rules, stacks

    before = parts()
    with exporter.shorter_exports():
        assert not any(one is other for one, other in zip(parts(), before, strict=True))
    export(OfOneType(), tmp_path / "graph.onnx")
    assert parts() == before
