"""A model repository of Triton describes the graphs as ONNX Runtime reads them."""

from __future__ import annotations

import re

import pytest

from fastseg import artifacts
from fastseg.__main__ import main
from fastseg.artifacts import registry
from fastseg.errors import OutputError
from fastseg.export.triton import write_repository

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")

TENSOR = re.compile(r'\{ name: "(\w+)", data_type: (TYPE_\w+), dims: \[([-\d, ]+)\](, reshape)?')
TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(int32)": "TYPE_INT32",
}


def described(block: str) -> list[tuple[str, str, list[int]]]:
    found = TENSOR.findall(block)
    return [
        (name, kind, [] if scalar else [int(size) for size in dims.split(",")])
        for name, kind, dims, scalar in found
    ]


def read(tensors) -> list[tuple[str, str, list[int]]]:
    return [
        (one.name, TYPES[one.type], [size if isinstance(size, int) else -1 for size in one.shape])
        for one in tensors
    ]


@pytest.mark.parametrize("model", ["sam-nano", "echo-a4c"])
def test_every_graph_is_a_model_with_its_inputs_and_outputs(tmp_path, model):
    names = write_repository(registry.find(model), tmp_path / "out")
    folder = artifacts.read(registry.find(model))
    assert names == tuple(f"{model}-{name}" for name in folder.manifest.graphs)
    for name in names:
        text = (tmp_path / "out" / name / "config.pbtxt").read_text()
        assert text.startswith(f'name: "{name}"\nbackend: "onnxruntime"\n')
        inputs, outputs = text.partition("output [")[::2]
        session = onnxruntime.InferenceSession(
            tmp_path / "out" / name / "1" / "model.onnx", providers=["CPUExecutionProvider"]
        )
        assert described(inputs) == read(session.get_inputs())
        assert described(outputs) == read(session.get_outputs())


def test_the_verb_writes_a_repository_once(tmp_path, tiny_folder, capsys):
    out = tmp_path / "repository"
    assert main(["export", "triton", str(tiny_folder), "--out", str(out)]) == 0
    assert "-encoder" in capsys.readouterr().out
    assert sorted(path.name for path in out.glob("*/1/model.onnx")) == ["model.onnx"] * len(
        list(out.glob("*/config.pbtxt"))
    )
    with pytest.raises(OutputError, match="not empty"):
        write_repository(tiny_folder, out)
