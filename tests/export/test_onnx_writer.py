"""Properties of a written graph, whatever the module."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")
onnx = pytest.importorskip("onnx", reason="exports need onnx")

from fastseg import contract
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.contract import GraphSpec, TensorSpec
from fastseg.export.onnx import float16_storage
from fastseg.export.onnx import writer as onnx_writer
from fastseg.export.onnx.writer import Source, write
from tests.helpers.remembered_exports import remembered_exports

GRAPH = GraphSpec(
    "two_layers",
    (TensorSpec("rows", "float32", ("prompts", 64)),),
    (TensorSpec("out", "float32", ("prompts", 64)),),
)


class TwoLayers(torch.nn.Module):
    """A linear layer used twice, a norm and a GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(64, 64)
        self.norm = torch.nn.LayerNorm(64)

    def forward(self, rows):
        return self.linear(torch.nn.functional.gelu(self.norm(self.linear(rows))))


@pytest.fixture(scope="module")
def source() -> Source:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = TwoLayers()
    float16_storage.prepare(module.eval().requires_grad_(False))
    return Source(GRAPH, module, (torch.zeros(3, 64),))


@pytest.fixture(scope="module")
def path(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("graphs") / "two_layers.onnx"
    assert write(source, path) == ()
    return path


def check_answers(path, source) -> None:
    rows = torch.randn(7, 64, generator=torch.Generator().manual_seed(0))
    found = OrtBackend(path, GRAPH, threads=1).run({"rows": rows.numpy()})["out"]
    np.testing.assert_allclose(found, source.module(rows).numpy(), rtol=0, atol=1e-6)


def test_a_graph_answers_as_its_module_for_any_named_size(path, source):
    check_answers(path, source)


def test_the_file_holds_to_the_contract(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == contract.IR_VERSION
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", contract.OPSET)]
    assert {node.domain for node in model.graph.node} == {""}
    assert model.graph.name == "two_layers"


def test_nothing_of_the_machine_that_wrote_it_is_in_the_file(path):
    content = path.read_bytes()
    for trace in (b".py", b"stack_trace", b"/work", b"/home", b"site-packages"):
        assert trace not in content


def test_a_norm_is_one_operator_and_shared_weights_one_tensor(path):
    model = onnx.load(path)
    assert [node.op_type for node in model.graph.node].count("LayerNormalization") == 1
    assert path.stat().st_size < 1.5 * 4 * 64 * 64


def test_a_remembered_export_writes_the_same_file(path, source, tmp_path, monkeypatch):
    """Other tests rest on it."""

    def refuse(*_, **__):
        raise RuntimeError("it traced again")

    with remembered_exports():
        write(source, tmp_path / "first.onnx", store="float16")
        monkeypatch.setattr(torch.export, "export", refuse)
        write(source, tmp_path / "again.onnx")
        assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()
        other = deepcopy(source.module)
        other.linear.bias[0] += 1
        with pytest.raises(Exception, match="it traced again"):
            write(replace(source, module=other), tmp_path / "other.onnx")


def test_half_the_bytes_give_the_same_answers(path, source, tmp_path):
    small = tmp_path / "small.onnx"
    write(source, small, store="float16")
    assert small.stat().st_size < 0.65 * path.stat().st_size
    check_answers(small, source)


def test_weights_that_float16_would_change_are_left_as_they_are(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        source = Source(GRAPH, TwoLayers().eval().requires_grad_(False), (torch.zeros(3, 64),))
    write(source, tmp_path / "graph.onnx", store="float16")
    check_answers(tmp_path / "graph.onnx", source)


def test_batch_norms_are_folded_before_weights_are_rounded():
    sequence = torch.nn.Sequential(torch.nn.Conv2d(16, 64, 3), torch.nn.BatchNorm2d(64)).eval()
    sequence[1].running_var.fill_(3.0)
    image = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = sequence(image).detach()
    float16_storage.prepare(sequence)
    weight = sequence[0].weight.detach()
    assert isinstance(sequence[1], torch.nn.Identity)
    assert torch.equal(weight, weight.half().float())
    torch.testing.assert_close(sequence(image).detach(), expected, rtol=0, atol=5e-3)


def test_more_weights_than_a_file_can_hold_lie_beside_it(source, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_writer, "INSIDE", 1000)
    path = tmp_path / "large.onnx"
    (outside,) = write(source, path)
    assert outside.parent == tmp_path
    assert path.stat().st_size < outside.stat().st_size
    check_answers(path, source)
