"""One traced block of each kind makes the graph that a trace of all blocks makes."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="exports need torch")
onnx = pytest.importorskip("onnx", reason="exports need onnx")

from fastseg.contract import GraphSpec, TensorSpec
from fastseg.errors import ParityError
from fastseg.export.networks.image_encoder import ImageEncoder, Shape
from fastseg.export.onnx.repeated_blocks import RepeatedBlocks
from fastseg.export.onnx.writer import Source, write
from tests.helpers.random_weights import scattered

SMALL = Shape(width=48, depth=4, heads=3, global_blocks=(1, 3), side=64)


def source_of(module, side: int, channels: int) -> Source:
    image = TensorSpec("image", "float32", ("images", 3, side, side))
    out = TensorSpec("embedding", "float32", ("images", channels, 4, 4))
    inputs = (torch.zeros(1, 3, side, side),)
    return Source(GraphSpec("encoder", (image,), (out,)), module, inputs, batch="images")


@pytest.fixture(scope="module")
def encoder():
    return scattered(ImageEncoder(SMALL)).eval().requires_grad_(False)


def computed(path) -> tuple[list[object], list[str]]:
    """Write the outputs of a graph out as expressions of inputs and weights; list the nodes."""
    model = onnx.load(path)
    known: dict[str, object] = {
        one.name: hash((tuple(one.dims), onnx.numpy_helper.to_array(one).tobytes()))
        for one in model.graph.initializer
    }
    for node in model.graph.node:
        attributes = tuple(sorted(one.SerializeToString() for one in node.attribute))
        inputs = tuple(known.get(name, name) for name in node.input)
        for index, name in enumerate(node.output):
            known[name] = hash((node.op_type, attributes, inputs, index))
    outputs = [known[one.name] for one in model.graph.output]
    return outputs, [node.name for node in model.graph.node]


def test_the_graph_is_that_of_all_blocks_node_by_node(encoder, tmp_path):
    source = source_of(encoder, SMALL.side, 256)
    assert RepeatedBlocks(encoder, "blocks").kinds() == [0, 1, 0, 1]
    assert not torch.equal(encoder.blocks[0].norm1.weight, encoder.blocks[2].norm1.weight)
    write(source, tmp_path / "whole.onnx")
    write(replace(source, blocks="blocks"), tmp_path / "repeated.onnx")
    assert computed(tmp_path / "repeated.onnx") == computed(tmp_path / "whole.onnx")


def test_the_same_export_writes_the_same_bytes(encoder, tmp_path):
    source = replace(source_of(encoder, SMALL.side, 256), blocks="blocks")
    written = []
    for name in ("once.onnx", "again.onnx"):
        write(source, tmp_path / name)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_blocks_that_differ_in_an_attribute_alone_are_of_two_kinds():
    blocks = torch.nn.Sequential(*(torch.nn.LayerNorm(8, eps=eps) for eps in (1e-6, 1e-5, 1e-6)))
    assert RepeatedBlocks(torch.nn.ModuleDict({"blocks": blocks}), "blocks").kinds() == [0, 1, 0]


class Skipping(torch.nn.Module):
    """Two layers, of which the second also takes what the first took."""

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = torch.nn.Conv2d(3, 3, 1)

        def forward(self, x, skipped):
            return self.mix(x) * skipped

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([self.Layer(), self.Layer()])

    def forward(self, image):
        x = image + 1
        for block in self.blocks:
            x = block(x, image)
        return x


def test_blocks_that_are_no_chain_are_refused(tmp_path):
    source = source_of(Skipping().eval().requires_grad_(False), 4, 3)
    with pytest.raises(ParityError, match=r"blocks\.0 takes 2 values"):
        write(replace(source, blocks="blocks"), tmp_path / "graph.onnx")
