"""The encoder's graph runs in a thread of its own, and can be ended from another."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")
onnx = pytest.importorskip("onnx", reason="exports need onnx")

from fastseg import contract
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.contract import GraphSpec, TensorSpec
from fastseg.errors import BackendError, ModelFolderError
from fastseg.export.encoder_run import EncoderRun

SHAPE = (1, 3, 16, 16)
GRAPH = GraphSpec(
    "encoder",
    (TensorSpec("image", "float32", SHAPE),),
    (TensorSpec("embedding", "float32", SHAPE),),
)


@pytest.fixture
def graph(tmp_path):
    """Write a graph that negates its image."""
    image, embedding = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, SHAPE)
        for name in ("image", "embedding")
    )
    node = onnx.helper.make_node("Neg", ["image"], ["embedding"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "encoder", [image], [embedding]),
        opset_imports=[onnx.helper.make_opsetid("", contract.OPSET)],
        ir_version=contract.IR_VERSION,
    )
    onnx.save(model, tmp_path / "encoder.onnx")
    return tmp_path / "encoder.onnx", GRAPH


def test_outputs_are_those_of_the_runs_image(graph):
    run = EncoderRun(graph, 16)
    np.testing.assert_array_equal(run.outputs()["embedding"], -run.image.numpy())
    assert torch.equal(run.image, EncoderRun(graph, 16).image)
    run.close()
    run.close()


def test_a_graph_that_cannot_be_run_is_told_when_its_outputs_are_asked_for(graph):
    graph[0].write_bytes(b"no graph")
    run = EncoderRun(graph, 16)
    with pytest.raises(ModelFolderError, match=r"encoder\.onnx"):
        run.outputs()
    run.close()


def test_a_stopped_graph_runs_no_more(graph):
    backend = OrtBackend(*graph)
    image = np.ones(SHAPE, np.float32)
    backend.run({"image": image})
    backend.stop()
    with pytest.raises(BackendError, match="encoder failed"):
        backend.run({"image": image})
