"""Mixed-precision graphs: strongly typed, measured, and honest about what float16 would lose."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")
onnx = pytest.importorskip("onnx", reason="exports need onnx")
onnx_ir = pytest.importorskip("onnx_ir", reason="exports need onnx-ir")

from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.contract import GraphSpec, TensorSpec
from fastseg.export.fp16.calibration import LARGEST, LOSS, BlockDecision, Calibration
from fastseg.export.fp16.rewrite import to_fp16
from fastseg.export.fp16.rounding import spell_out
from fastseg.export.networks.folded_encoder import FoldedAttention, fold
from fastseg.export.networks.image_encoder import ImageEncoder, Shape
from fastseg.export.onnx.blocks import FP16, FP32, block_of, is_float, read_graph
from fastseg.export.onnx.writer import Source, save, write
from fastseg.testing.onnx_text import compile_graph
from tests.helpers.random_weights import scattered

pytestmark = pytest.mark.usefixtures("remembered_exports")

SMALL = Shape(width=48, depth=3, heads=3, global_blocks=(1,), side=256)
"""16 tokens a side, which windows of 14 do not divide."""


def encoder() -> ImageEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = scattered(ImageEncoder(SMALL))
    with torch.no_grad():
        for block in made.blocks:  # attention that matters, by content and by place
            block.attn.qkv.weight.mul_(3)
            block.attn.rel_pos_h.mul_(30)
            block.attn.rel_pos_w.mul_(20)
    return made


def random_images(count: int) -> np.ndarray:
    random = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, SMALL.side, SMALL.side, generator=random).numpy()


def graph() -> GraphSpec:
    image = TensorSpec("image", "float32", ("images", 3, SMALL.side, SMALL.side))
    embedding = TensorSpec("embedding", "float32", ("images", 256, SMALL.grid, SMALL.grid))
    return GraphSpec("encoder", (image,), (embedding,))


def exported(module: torch.nn.Module, path: Path) -> Path:
    example = torch.zeros(1, 3, SMALL.side, SMALL.side)
    write(Source(graph(), module, (example,), batch="images"), path)
    return path


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Path:
    return exported(fold(encoder()), tmp_path_factory.mktemp("graphs") / "single.onnx")


def halved(path: Path, fp32_blocks: Collection[str], out: Path) -> Path:
    ports = {"image": "float32", "embedding": "float32"}
    save(to_fp16(read_graph(path), fp32_blocks=fp32_blocks, ports=ports), out)
    return out


def embed(path: Path, images: np.ndarray) -> np.ndarray:
    return OrtBackend(path, graph(), threads=2).run({"image": images})["embedding"]


def rounded(path: Path, images: np.ndarray) -> np.ndarray:
    """Run a graph with every float16 tensor rounded."""
    exact = path.with_suffix(".exact.onnx")
    save(spell_out(read_graph(path)), exact)
    return embed(exact, images)


def nmse(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.square(actual - expected).sum() / np.square(expected).sum())


@pytest.mark.parametrize("block", [0, 1], ids=["window", "whole image"])
def test_folded_positions_give_the_attention_that_a_bias_gives(block):
    plain = encoder().blocks[block].attn
    random = torch.Generator().manual_seed(1)
    qkv = torch.randn(2, plain.span, plain.span, 3 * SMALL.width, generator=random)
    expected = plain.mix(qkv)
    folded = FoldedAttention(plain)
    assert folded.places.shape[1] % 8 == 0
    assert (folded.mix(qkv) - expected).abs().max() <= 1e-6 * expected.abs().max()
    for table in (folded.rows, folded.columns):
        kept = table.clone()
        table.zero_()
        assert (folded.mix(qkv) - expected).abs().max() > 0.01 * expected.abs().max()
        table.copy_(kept)


def test_the_folded_encoder_shares_its_weights_and_embeds_alike(single):
    plain = encoder()
    folded = fold(plain)
    assert folded.blocks[0].mlp.lin1.weight is plain.blocks[0].mlp.lin1.weight
    assert not isinstance(plain.blocks[0].attn, FoldedAttention)
    images = random_images(3)
    expected = plain(torch.from_numpy(images)).numpy()
    found = embed(single, images)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_nodes_are_named_after_their_modules(single):
    blocks = [block_of(node) for node in read_graph(single).graph]
    assert {"patch_embed.proj", "blocks.1.attn", "blocks.1.mlp", "blocks.1", "neck.0"} <= {*blocks}
    assert blocks.index("blocks.1.norm1") < blocks.index("blocks.1.attn")


def test_an_fp16_graph_is_strongly_typed_with_its_fp32_blocks(single, tmp_path):
    half = halved(single, ["blocks.1.mlp"], tmp_path / "half.onnx")
    onnx.checker.check_model(str(half), full_check=True)  # strict: no operator mixes types
    model = read_graph(half)
    for node in model.graph:
        kinds = {value.dtype for value in node.inputs if is_float(value)}
        block = block_of(node)
        if node.op_type == "Softmax" or block == "blocks.1.mlp":
            assert kinds == {FP32}, node.name
        elif node.op_type in ("MatMul", "Conv"):
            assert kinds == {FP16}, node.name
    assert half.stat().st_size < 0.7 * single.stat().st_size


def test_one_cast_serves_all_who_read_a_tensor(single, tmp_path):
    model = read_graph(halved(single, ["blocks.1.mlp"], tmp_path / "half.onnx"))
    casts = [(node.inputs[0].name, node.outputs[0].dtype) for node in model.graph
             if node.op_type == "Cast"]  # fmt: skip
    assert len(casts) == len(set(casts))


@pytest.mark.parametrize("count", [1, 3])
def test_half_graphs_take_any_number_of_images(single, tmp_path, count):
    half = halved(single, (), tmp_path / "half.onnx")
    images = random_images(3)[:count]
    expected = embed(single, images)
    for found in (embed(half, images), rounded(half, images)):
        assert 0 < nmse(found, expected) < 1e-4


def test_rounding_is_seen_that_the_runtime_leaves_out(tmp_path):
    """300 * 300 is more than float16 holds: a GPU gives infinity, this runtime 300."""
    ports = (TensorSpec("x", "float16", (3,)),), (TensorSpec("y", "float16", (3,)),)
    tiny, path = GraphSpec("tiny", *ports), tmp_path / "tiny.onnx"
    path.write_bytes(compile_graph(tiny, "square = Mul (x, x)\n y = Div (square, x)", {}))
    save(spell_out(read_graph(path)), tmp_path / "exact.onnx")
    x = np.array([300, 2, 0.1], np.float16)
    with np.errstate(over="ignore"):
        expected = (x.astype(np.float32) ** 2).astype(np.float16) / x
    found = OrtBackend(tmp_path / "exact.onnx", tiny).run({"x": x})["y"]
    np.testing.assert_array_equal(found, expected)
    assert np.isinf(found[0])


def calibrated(path: Path, images: np.ndarray) -> dict[str, BlockDecision]:
    calibration = Calibration(path, graph(), threads=2)
    (found,) = calibration.run([{"image": images}])
    assert nmse(found["embedding"], embed(path, images)) < 1e-8
    return {one.block: one for one in calibration.decisions()}


def test_blocks_are_measured_one_by_one(single):
    images = random_images(1)
    model = encoder()
    seen: dict[str, float] = {}
    for name in ("blocks.1.norm2", "neck.2"):
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output.abs().max().item()})
        )
    model(torch.from_numpy(images))
    decisions = calibrated(single, images)
    assert decisions["neck.2"].max_abs == pytest.approx(max(seen.values()), rel=0.5)
    assert decisions["blocks.1.norm2"].max_abs == pytest.approx(seen["blocks.1.norm2"], rel=1e-3)
    for one in decisions.values():
        between = one.block in ("(network)", "blocks.0", "blocks.1", "blocks.2")
        expected = ("fp32", "between blocks") if between else ("fp16", "")
        assert (one.precision, one.reason) == expected, one.block
        assert 1e-9 < one.nmse < LOSS


def overflowing() -> ImageEncoder:
    """An encoder with one channel of the residual stream beyond what float16 holds."""
    made = encoder()
    with torch.no_grad():
        made.blocks[0].mlp.lin2.bias[7] = 3e5
    return made


def test_what_overflows_stays_single_and_the_rest_does_not(tmp_path):
    path = exported(fold(overflowing()), tmp_path / "single.onnx")
    images = random_images(1)
    expected = embed(path, images)
    naive = rounded(halved(path, (), tmp_path / "naive.onnx"), images)
    assert not np.isfinite(naive).all(), "the naive conversion must be seen to fail"
    decisions = calibrated(path, images)
    fp32_blocks = {one.block for one in decisions.values() if one.precision == "fp32"}
    assert {decisions[block].reason for block in ("blocks.0", "blocks.0.mlp", "neck.0")} == {
        "overflow"
    }
    assert decisions["blocks.0.mlp"].max_abs > LARGEST
    assert decisions["blocks.1.attn"].precision == "fp16"
    found = rounded(halved(path, fp32_blocks, tmp_path / "half.onnx"), images)
    assert nmse(found, expected) < 1e-5


def test_what_loses_too_much_stays_single(tmp_path):
    """Differences of large numbers: float16 keeps nothing of them."""
    made = encoder()
    with torch.no_grad():
        lin1, lin2 = made.blocks[1].mlp.lin1, made.blocks[1].mlp.lin2
        lin1.bias.fill_(1000)
        lin2.weight.copy_(lin2.weight - lin2.weight.mean(dim=1, keepdim=True))
        lin2.bias.sub_(lin2.weight.sum(dim=1) * 1000)
    path = exported(fold(made), tmp_path / "single.onnx")
    decision = calibrated(path, random_images(1))["blocks.1.mlp"]
    assert decision.max_abs < LARGEST
    assert decision.nmse > LOSS
    assert (decision.precision, decision.reason) == ("fp32", "loss")


@pytest.mark.parametrize("level", [-2.1, 0.0, 2.6], ids=["black", "grey", "white"])
def test_constant_images_are_embedded_alike(single, tmp_path, level):
    images = np.full((1, 3, SMALL.side, SMALL.side), level, np.float32)
    fp32_blocks = [f"blocks.{index}" for index in range(3)]
    found = rounded(halved(single, fp32_blocks, tmp_path / "half.onnx"), images)
    assert nmse(found, embed(single, images)) < 1e-5


def test_weights_in_half_the_bytes_are_read_as_they_compute(tmp_path):
    layer = torch.nn.Linear(128, 64)
    with torch.no_grad():
        layer.weight.copy_(layer.weight.half().float())
    ports = (TensorSpec("x", "float32", ("n", 128)),), (TensorSpec("y", "float32", ("n", 64)),)
    small, path = GraphSpec("small", *ports), tmp_path / "stored.onnx"
    write(Source(small, layer, (torch.zeros(2, 128),)), path, store="float16")
    model = read_graph(path)
    assert {value.dtype for value in model.graph.initializers.values()} == {FP32}
    save(model, tmp_path / "read.onnx")
    x = np.random.default_rng(0).normal(size=(3, 128)).astype(np.float32)
    a, b = (OrtBackend(tmp_path / name, small).run({"x": x})["y"] for name in
            ("stored.onnx", "read.onnx"))  # fmt: skip
    np.testing.assert_array_equal(a, b)
