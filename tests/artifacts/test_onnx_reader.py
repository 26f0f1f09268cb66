"""Graphs are read as the package onnx reads them, and what is damaged is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastseg
from fastseg.artifacts import onnx_reader
from fastseg.errors import ModelFolderError

EMBEDDED = Path(fastseg.__file__).parent / "models"


@pytest.mark.parametrize("file", ["echo-a4c/network.onnx", "sam-nano/decoder.onnx"])
def test_it_reads_what_onnx_reads(file):
    onnx = pytest.importorskip("onnx")
    expected, found = onnx.load(EMBEDDED / file).graph, onnx_reader.read(EMBEDDED / file)
    assert [(node.kind, node.inputs, node.outputs) for node in found.nodes] == [
        (node.op_type, tuple(node.input), tuple(node.output)) for node in expected.node
    ]
    for node, wanted in zip(found.nodes, expected.node, strict=True):
        whole = {
            one.name: one.i if one.type == onnx.AttributeProto.INT else tuple(one.ints)
            for one in wanted.attribute
            if one.type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS)
        }
        assert {name: _signed(value) for name, value in node.attributes.items()} == whole
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in expected.initializer}
    kept = {name: one for name, one in weights.items() if one.dtype in (np.float32, np.float16)}
    assert set(found.weights) == set(kept)
    for name, array in found.weights.items():
        assert array.dtype == kept[name].dtype
        np.testing.assert_array_equal(array, kept[name])
    assert found.inputs == tuple(one.name for one in expected.input)
    assert found.outputs == tuple(one.name for one in expected.output)


def _signed(value: object) -> object:
    """As 64 bits with a sign, which is how ONNX means whole numbers."""
    if isinstance(value, tuple):
        return tuple(map(_signed, value))
    return value - 2**64 if value >= 2**63 else value


@pytest.mark.parametrize("kept", [0, 1, 100, 3_000, -1])
def test_a_file_that_ends_early_is_refused(tmp_path, kept):
    content = (EMBEDDED / "echo-a4c/network.onnx").read_bytes()
    (tmp_path / "network.onnx").write_bytes(content[:kept])
    with pytest.raises(ModelFolderError, match=r"network\.onnx is no ONNX graph"):
        onnx_reader.read(tmp_path / "network.onnx")


def test_anything_else_is_refused_or_holds_nothing(tmp_path):
    random = np.random.default_rng(0)
    for index in range(300):
        file = tmp_path / f"{index}.onnx"
        file.write_bytes(b"\x3a\x40" + random.bytes(64))  # what begins as a graph of 64 bytes
        try:
            assert not onnx_reader.read(file).weights
        except ModelFolderError as error:
            assert "export the model again" in str(error)  # noqa: PT017 - most, not all


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFolderError, match=r"nothing\.onnx cannot be read"):
        onnx_reader.read(tmp_path / "nothing.onnx")
