"""The native image encoder against the torch modules, for every kernel table of this processor."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the modules are torch's")

from fastseg import ops
from fastseg.errors import BackendError, ModelFolderError
from fastseg.export.networks import sam_hq
from fastseg.export.networks.image_encoder import ImageEncoder, Shape
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from fastseg.export.networks.sam import SamModules
from tests.helpers.random_weights import scattered

TABLES = ("amx-bf16", "avx512-bf16", "avx512", "avx2", "portable", "neon")

TOLERANCE = 0.006
"""Root of the mean square of the error over that of the embedding: bfloat16 keeps 8 bits. A token
that looks at a wrong place, or a bias left out, is off by many times as much."""

EXACT_TOLERANCE = 1e-5
"""The same in float32, as of the largest error over the largest value."""

SHAPES = {
    "one row of windows and one padded": Shape(64, 3, 4, (1,), side=256),
    "heads of 80 channels": Shape(160, 2, 2, (1,), side=512),
    "windows that fit but for 6 tokens": Shape(64, 2, 2, (0,), side=768),
    "the grid of SAM": Shape(64, 2, 1, (1,), side=1024),
}


@pytest.fixture(params=TABLES)
def kernel_table(request) -> str:
    if request.param not in ops.kernel_tables():
        pytest.skip(f"this processor has no {request.param}")
    return request.param


def encoder(shape: Shape, seed: int = 0) -> ImageEncoder:
    """Random weights that make attention choose, positions count and biases show."""
    random = torch.Generator().manual_seed(seed)
    module = ImageEncoder(shape).eval().requires_grad_(False)
    for name, weight in module.named_parameters():
        values = torch.randn(weight.shape, generator=random)
        if weight.ndim > 1 and name != "pos_embed":
            values *= weight[0].numel() ** -0.5
        if "rel_pos" in name:
            values *= 4
        if name.endswith(("norm1.weight", "norm2.weight", "neck.1.weight", "neck.3.weight")):
            values = 1 + 0.1 * values
        weight.copy_(values)
    return module


def hq_modules(shape: Shape) -> sam_hq.HqModules:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = sam_hq.build(shape)
    scattered(modules.image_encoder)
    modules.image_encoder.encoder.load_state_dict(encoder(shape).state_dict())
    return modules


def weights(module: ImageEncoder) -> dict[str, np.ndarray]:
    grid = module.pos_embed.shape[1]
    modules = SamModules(module, PromptEncoder(grid, 16 * grid), MaskDecoder())
    found = modules.encoder_weights()
    assert found is not None
    return found


def images_of(side: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((count, 3, side, side)).astype(np.float32)


def assert_close(found: np.ndarray, expected: np.ndarray, kernel_table: str) -> None:
    if ops.computes_in_bf16(kernel_table):
        assert error(found, expected) < TOLERANCE
    else:
        assert error(found, expected) < EXACT_TOLERANCE
        assert np.abs(found - expected).max() < EXACT_TOLERANCE * np.abs(expected).max()


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_embeds_as_torch(kernel_table, shape):
    module, images = encoder(shape), images_of(shape.side)
    found = ops.EncoderKernel(weights(module), kernel_table=kernel_table).embed(images, threads=1)
    expected = module(torch.from_numpy(images)).numpy()
    assert found.shape == expected.shape
    assert_close(found, expected, kernel_table)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_embedding_and_features_of_sam_hq_are_those_of_torch(kernel_table, shape):
    modules, images = hq_modules(shape), images_of(shape.side, 2)
    if ops.computes_in_bf16(kernel_table):
        with pytest.raises(ModelFolderError, match="float32 alone"):
            ops.EncoderKernel(modules.encoder_weights(), kernel_table=kernel_table)
        return
    kernel = ops.EncoderKernel(modules.encoder_weights(), kernel_table=kernel_table)
    expected = [found.numpy() for found in modules.image_encoder(torch.from_numpy(images))]
    maps = kernel.maps(images, threads=1)
    for found, wanted in zip(maps, expected, strict=True):
        assert found.shape == wanted.shape
        assert_close(found, wanted, kernel_table)
    for found, again in zip(maps, kernel.maps(images, threads=3), strict=True):
        np.testing.assert_array_equal(again, found)
    # Both parts of the features count.
    encoder = modules.image_encoder
    part = encoder.embedding_encoder(torch.from_numpy(expected[0])).numpy()
    assert error(part, expected[1]) > 0.1
    assert error(expected[1] - part, expected[1]) > 0.1


def test_what_is_compared_depends_on_every_part():
    shape = SHAPES["one row of windows and one padded"]
    images = torch.from_numpy(images_of(shape.side))
    expected = encoder(shape)(images).numpy()
    parts = ("rel_pos_h", "rel_pos_w", "qkv.bias", "attn.proj", "mlp", "pos_embed", "neck.2")
    for part in parts:
        module = encoder(shape)
        for name, weight in module.named_parameters():
            if part in name:
                weight.copy_(weight.flip(-1))
        assert error(module(images).numpy(), expected) > 3 * TOLERANCE, part


def test_rising_logits_raise_the_running_maximum(kernel_table):
    # Every query likes the lowest rows best, by far more than float32 could bear without a new
    # reference: e ** (5 * 31).
    shape = Shape(64, 1, 1, (0,), side=512)
    module = encoder(shape)
    attention = module.blocks[0].attn
    attention.qkv.weight[:64] = 0
    attention.qkv.bias[:64] = 0
    attention.qkv.bias[0] = 1
    attention.rel_pos_h.zero_()
    attention.rel_pos_h[:, 0] = -5.0 * torch.arange(63)  # the farther above, the less
    images = images_of(shape.side)
    found = ops.EncoderKernel(weights(module), kernel_table=kernel_table).embed(images)
    assert_close(found, module(torch.from_numpy(images)).numpy(), kernel_table)


def test_bits_depend_neither_on_threads_nor_on_the_batch(kernel_table):
    shape = SHAPES["heads of 80 channels"]
    kernel = ops.EncoderKernel(weights(encoder(shape)), kernel_table=kernel_table)
    images = images_of(shape.side, 3)
    together = kernel.embed(images, threads=1)
    np.testing.assert_array_equal(kernel.embed(images, threads=3), together)
    np.testing.assert_array_equal(kernel.embed(images[2:], threads=2), together[2:])


def test_no_images_are_no_work(kernel_table):
    shape = SHAPES["one row of windows and one padded"]
    kernel = ops.EncoderKernel(weights(encoder(shape)), kernel_table=kernel_table)
    assert kernel.side == shape.side
    assert kernel.embed(images_of(shape.side, 0)).shape == (0, 256, 16, 16)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w.pop("blocks.1.mlp.lin1.kernel"), r"no blocks\.1\.mlp\.lin1\.kernel"),
        (lambda w: w.update({"neck.2.weight": w["neck.2.weight"][:, :9]}), r"neck\.2\.weight is"),
        (lambda w: w.update({"pos_embed": w["pos_embed"][0]}), "pos_embed is not"),
        (lambda w: w.update({"pos_embed": w["pos_embed"][:, :9, :9]}), "grid of 9"),
        (lambda w: w.pop("blocks.0.attn.rel_pos_h"), "rel_pos_h"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(kernel_table, change, named):
    changed = weights(encoder(SHAPES["one row of windows and one padded"]))
    change(changed)
    with pytest.raises(ModelFolderError, match=named):
        ops.EncoderKernel(changed, kernel_table=kernel_table)


def test_images_of_another_size_are_refused(kernel_table):
    shape = SHAPES["one row of windows and one padded"]
    kernel = ops.EncoderKernel(weights(encoder(shape)), kernel_table=kernel_table)
    with pytest.raises(BackendError, match=r"images must be \(1, 3, 256, 256\)"):
        kernel.embed(images_of(512))


def test_a_table_of_another_processor_is_refused_with_those_of_this_one():
    shape = SHAPES["one row of windows and one padded"]
    with pytest.raises(BackendError, match=rf"no kernel table 'sve'.*{ops.kernel_tables()[0]}"):
        ops.EncoderKernel(weights(encoder(shape)), kernel_table="sve")


@pytest.mark.parametrize("name", ["blocks.0.attn.qkv.kernel", "blocks.1.mlp.lin2.bias"])
def test_what_is_not_a_number_is_seen_in_the_embedding(kernel_table, name):
    if ops.computes_in_bf16(kernel_table):
        pytest.skip("only float32 promises what torch does")
    changed = weights(encoder(SHAPES["one row of windows and one padded"]))
    changed[name] = changed[name].copy()
    changed[name][..., 3] = np.nan
    kernel = ops.EncoderKernel(changed, kernel_table=kernel_table)
    assert np.isnan(kernel.embed(images_of(256))).all()


def test_bits_do_not_depend_on_the_tokens_that_a_thread_takes_at_a_time(kernel_table):
    shape = SHAPES["one row of windows and one padded"]
    kernel = ops.EncoderKernel(weights(encoder(shape)), kernel_table=kernel_table)
    alone = kernel.embed(images_of(256), threads=1)
    for threads in (2, 3, 5, 64):  # more threads than cores take fewer tokens each
        np.testing.assert_array_equal(kernel.embed(images_of(256), threads=threads), alone)
