"""The native decoder answers as the torch modules do, with every kernel table of the processor."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference needs torch")

from fastseg import ops
from fastseg.errors import BackendError, ModelFolderError
from fastseg.export.networks.efficient_sam import EfficientSamMaskDecoder, PointEncoder
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from fastseg.export.networks.sam2 import FINE, MIDDLE, Sam2MaskDecoder
from fastseg.export.networks.sam_hq import HqMaskDecoder
from tests.helpers.processes import finish
from tests.helpers.random_weights import scattered

TABLES = ("amx-bf16", "avx512-bf16", "avx512", "avx2", "portable", "neon")

FLOAT_TOLERANCE = 1e-5
"""Of the largest value: a hundred roundings of float32, which is what two orders differ by."""

HALF_TOLERANCE = 1.5e-2
"""Operands keep 8 bits; sums, normalisation and softmax are float32. Three times what was seen."""


PARTS = {
    "SAM": (PromptEncoder, MaskDecoder),
    "SAM 2": (PromptEncoder, Sam2MaskDecoder),
    "SAM-HQ": (PromptEncoder, HqMaskDecoder),
    "EfficientSAM": (PointEncoder, EfficientSamMaskDecoder),
}

FLOAT32_ALONE = ("SAM-HQ", "EfficientSAM")


@pytest.fixture(params=TABLES)
def kernel_table(request) -> str:
    if request.param not in ops.kernel_tables():
        pytest.skip(f"this processor does not run the kernel table {request.param}")
    return request.param


@pytest.fixture(params=PARTS)
def kind(request, kernel_table) -> str:
    if request.param in FLOAT32_ALONE and ops.computes_in_bf16(kernel_table):
        pytest.skip(f"the decoder of {request.param} is computed in float32 alone")
    return request.param


def tolerance(kernel_table: str) -> float:
    return HALF_TOLERANCE if ops.computes_in_bf16(kernel_table) else FLOAT_TOLERANCE


@dataclass(frozen=True)
class Source:
    """Torch modules, their weights, an embedding, and the maps that some have beside it."""

    kind: str
    grid: int
    prompts: PromptEncoder
    decoder: MaskDecoder
    embedding: torch.Tensor
    maps: tuple[torch.Tensor, ...]

    @property
    def side(self) -> int:
        return 16 * self.grid

    def weights(self) -> dict[str, np.ndarray]:
        named = {"prompt_encoder": self.prompts, "mask_decoder": self.decoder}
        return {
            f"{prefix}.{name}": tensor.numpy()
            for prefix, module in named.items()
            for name, tensor in module.state_dict().items()
        }

    def kernel(self, kernel_table: str) -> ops.DecoderKernel:
        return kernel(self.grid, self.kind, kernel_table)

    def state(self, kernel: ops.DecoderKernel, *, scale: float = 1.0, threads: int = 1):
        """Compute the state of an image; ``scale`` makes another image."""
        arrays = (scale * array.numpy() for array in (self.embedding, *self.maps))
        return kernel.image_state(*arrays, threads=threads)


@cache
def source(grid: int, kind: str = "SAM") -> Source:
    with torch.random.fork_rng():
        torch.manual_seed(grid)
        prompts, decoder = PARTS[kind]
        modules = scattered(prompts(grid, 16 * grid)), scattered(decoder())
        embedding, places = torch.randn(1, 256, grid, grid), 4 * grid * grid
        shapes = {
            "SAM 2": ((1, places, MIDDLE), (1, places, 4 * FINE)),
            "SAM-HQ": ((1, 32, 4 * grid, 4 * grid),),
        }
        maps = tuple(torch.randn(shape) for shape in shapes.get(kind, ()))
        return Source(kind, grid, *modules, embedding, maps)


@lru_cache(maxsize=4)
def kernel(grid: int, kind: str, kernel_table: str) -> ops.DecoderKernel:
    modules = source(grid, kind)
    return ops.DecoderKernel(
        modules.weights(), grid=grid, side=modules.side, kernel_table=kernel_table
    )


@dataclass(frozen=True)
class Asked:
    """Prompts as the kernel takes them."""

    points: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None


def ask(grid: int, prompts: int, points: int, *, masked: bool = False, kind: str = "SAM") -> Asked:
    if masked and kind == "EfficientSAM":
        pytest.skip("EfficientSAM takes no mask prompts")
    random = np.random.default_rng(points)
    coords = 18 * grid * random.random((prompts, points, 2), dtype=np.float32) - grid
    labels = random.integers(-1, 4, (prompts, points)).astype(np.int32)
    masks = 6 * random.standard_normal((prompts, 1, 4 * grid, 4 * grid), dtype=np.float32)
    return Asked(coords, labels, masks if masked else None)


def expected(source: Source, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
    masks = None if asked.masks is None else torch.from_numpy(asked.masks)
    with torch.inference_mode():
        encoded = source.prompts(
            torch.from_numpy(asked.points), torch.from_numpy(asked.labels), masks
        )
        positions = source.prompts.dense_positions()
        logits, ious = source.decoder(source.embedding, positions, *encoded, *source.maps)
    return logits.numpy(), ious.numpy()


def found(kernel: ops.DecoderKernel, source: Source, asked: Asked, *, threads: int = 1):
    state = source.state(kernel, threads=threads)
    decoded = kernel.decode(asked.points, asked.labels, state, masks=asked.masks, threads=threads)
    logits = kernel.draw(decoded.prompt_state, decoded.mask_vectors, state, threads=threads)
    return logits, decoded.iou_predictions


def assert_close(actual: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    assert actual.shape == wanted.shape
    assert np.abs(actual - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("masked", [False, True], ids=["points", "points and masks"])
@pytest.mark.parametrize(
    ("grid", "prompts", "points"),
    [
        *((8, 3, 2), (8, 1, 1), (8, 5, 0), (7, 2, 3), (3, 9, 6), (8, 2, 40), (1, 2, 2)),
        *(
            (8, 2, 11),
            (8, 2, 12),
        ),  # the most tokens of the low-rank form, and the least of the other
    ],
)
def test_every_table_answers_as_torch(kernel_table, kind, grid, prompts, points, masked):
    modules, asked = source(grid, kind), ask(grid, prompts, points, masked=masked, kind=kind)
    for actual, wanted in zip(
        found(modules.kernel(kernel_table), modules, asked), expected(modules, asked), strict=True
    ):
        assert_close(actual, wanted, tolerance(kernel_table))


@pytest.mark.parametrize("spread", [0.01, 20.0], ids=["little else", "as much else"])
def test_channels_far_from_zero_cost_no_precision(kernel_table, spread):
    """The norms' squares are sums of many terms, which must not cancel."""
    if ops.computes_in_bf16(kernel_table):
        pytest.skip("this form is one of float32 tables")
    plain, asked = source(8), ask(8, 4, 2)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        level = 20 * torch.randn(1, 256, 1, 1)
    modules = replace(plain, embedding=level + spread * plain.embedding)
    actual = found(plain.kernel(kernel_table), modules, asked)
    for ours, wanted in zip(actual, expected(modules, asked), strict=True):
        assert_close(ours, wanted, tolerance(kernel_table))


def test_the_grid_of_sam_is_nothing_special(kernel_table, kind):
    modules, asked = source(64, kind), ask(64, 2, 2)
    for actual, wanted in zip(
        found(modules.kernel(kernel_table), modules, asked, threads=0),
        expected(modules, asked),
        strict=True,
    ):
        assert_close(actual, wanted, tolerance(kernel_table))


@pytest.mark.parametrize(
    ("grid", "prompts", "masked"),
    [(8, 23, False), (40, 8, False), (40, 2, True)],
    ids=["one part of an image", "several parts", "several parts, masks"],
)
def test_bits_depend_neither_on_threads_nor_on_the_batch(kernel_table, kind, grid, prompts, masked):
    modules, asked = source(grid, kind), ask(grid, prompts, 2, masked=masked, kind=kind)
    kernel = modules.kernel(kernel_table)
    logits, ious = found(kernel, modules, asked)
    for threads in (2, 5, 16):
        again, ious_again = found(kernel, modules, asked, threads=threads)
        np.testing.assert_array_equal(again, logits)
        np.testing.assert_array_equal(ious_again, ious)
    one = slice(prompts - 1, prompts)
    masks = asked.masks[one] if masked else None
    alone = Asked(asked.points[one], asked.labels[one], masks)
    again, ious_again = found(kernel, modules, alone, threads=5)
    np.testing.assert_array_equal(again, logits[one])
    np.testing.assert_array_equal(ious_again, ious[one])


def test_few_prompts_are_drawn_alike_by_any_number_of_threads(kernel_table):
    modules, asked = source(64), ask(64, 1, 2)
    kernel = modules.kernel(kernel_table)
    logits, _ = found(kernel, modules, asked)
    again, _ = found(kernel, modules, asked, threads=3)
    np.testing.assert_array_equal(again, logits)


def test_what_is_not_a_number_shows_in_the_logits(kernel_table):
    modules, asked = source(8), ask(8, 2, 2)
    kernel = modules.kernel(kernel_table)
    embedding = modules.embedding.numpy().copy()
    embedding[0, 5, 3, 6] = np.nan
    state = kernel.image_state(embedding)
    decoded = kernel.decode(asked.points, asked.labels, state)
    logits = kernel.draw(decoded.prompt_state, decoded.mask_vectors, state)
    assert np.isnan(logits[:, :, 12:16, 24:28]).all()


def test_only_the_masks_that_are_asked_for_are_drawn(kernel_table, kind):
    modules, asked = source(8, kind), ask(8, 2, 2)
    kernel = modules.kernel(kernel_table)
    state = modules.state(kernel)
    decoded = kernel.decode(asked.points, asked.labels, state)
    whole = kernel.draw(decoded.prompt_state, decoded.mask_vectors, state)
    for slots in (slice(0, 1), slice(1, 4), slice(0, 0)):
        some = kernel.draw(decoded.prompt_state, decoded.mask_vectors[:, slots], state)
        np.testing.assert_array_equal(some, whole[:, slots])
    many = np.tile(decoded.mask_vectors, (1, 3, 1))
    np.testing.assert_array_equal(kernel.draw(decoded.prompt_state, many, state)[:, 4:8], whole)


@pytest.mark.parametrize("masked", [False, True], ids=["points", "points and masks"])
@pytest.mark.parametrize(
    ("grid", "prompts", "points"), [(8, 39, 2), (7, 5, 0), (3, 2, 20), (40, 2, 2)]
)
def test_decode_above_draws_the_same_masks_as_two_stages(
    kernel_table, kind, grid, prompts, points, masked
):
    modules = source(grid, kind)
    asked = ask(grid, prompts, points, masked=masked, kind=kind)
    kernel = modules.kernel(kernel_table)
    state = modules.state(kernel)
    logits, ious = found(kernel, modules, asked)
    above = float(np.median(ious[:, 1:]))
    wanted = ious > np.float32(above)
    assert wanted.any()
    assert not wanted.all()
    for threads, slots in product((1, 3, 40), (slice(0, 1), slice(1, 4), slice(0, 4))):
        scores, drawn = kernel.decode_above(
            asked.points,
            asked.labels,
            state,
            above=above,
            masks=asked.masks,
            slots=slots,
            threads=threads,
        )
        np.testing.assert_array_equal(scores, ious)
        of_slots = wanted[:, slots]
        np.testing.assert_array_equal(drawn[of_slots], logits[:, slots][of_slots])


def test_decode_above_nothing_draws_every_mask_whatever_its_score(kernel_table):
    modules, asked = source(8), ask(8, 3, 2)
    kernel = modules.kernel(kernel_table)
    embedding = modules.embedding.numpy().copy()
    embedding[0, 5, 3, 6] = np.nan  # no score is a number then
    for features in (modules.embedding.numpy(), embedding):
        state = kernel.image_state(features)
        decoded = kernel.decode(asked.points, asked.labels, state)
        logits = kernel.draw(decoded.prompt_state, decoded.mask_vectors, state)
        for slots in (slice(0, 1), slice(1, 4), slice(0, 4), slice(2, 3)):
            scores, drawn = kernel.decode_above(
                asked.points, asked.labels, state, above=-np.inf, slots=slots
            )
            np.testing.assert_array_equal(scores, decoded.iou_predictions)
            np.testing.assert_array_equal(drawn, logits[:, slots])
    assert np.isnan(scores).all()


@pytest.mark.parametrize("grid", [7, 8, 40, 64])
@pytest.mark.parametrize("extent", [(1, 1), (17, 28), (28, 5)])
def test_decode_above_draws_the_part_that_is_wanted(kernel_table, kind, grid, extent):
    modules, asked = source(grid, kind), ask(grid, 2, 2)
    kernel = modules.kernel(kernel_table)
    state = modules.state(kernel)
    given = asked.points, asked.labels, state
    whole_scores, whole = kernel.decode_above(*given, above=-np.inf)
    scores, part = kernel.decode_above(*given, above=-np.inf, extent=extent)
    np.testing.assert_array_equal(scores, whole_scores)
    wanted = np.s_[:, :, : extent[0], : extent[1]]
    np.testing.assert_array_equal(part[wanted], whole[wanted])


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        *(
            ("extent", each, r"rows and columns must be in 1\.\.32")
            for each in ((0, 4), (4, 0), (33, 4), (4, 33))
        ),
        *(
            ("slots", each, r"slots must be some of 0\.\.4")
            for each in (slice(-1, 1), slice(1, 1), slice(2, 1), slice(0, 5))
        ),
    ],
)
def test_decode_above_refuses_logits_and_slots_that_are_not_there(
    kernel_table, name, given, message
):
    modules, asked = source(8), ask(8, 2, 2)
    kernel = modules.kernel(kernel_table)
    state = kernel.image_state(modules.embedding.numpy())
    with pytest.raises(BackendError, match=message):
        kernel.decode_above(asked.points, asked.labels, state, above=0.0, **{name: given})


def test_decode_above_with_no_prompts_and_with_malformed_prompts(kernel_table):
    modules, asked = source(8), ask(8, 2, 2)
    kernel = modules.kernel(kernel_table)
    state = kernel.image_state(modules.embedding.numpy())
    scores, drawn = kernel.decode_above(asked.points[:0], asked.labels[:0], state, above=0.0)
    assert scores.shape == (0, 4)
    assert drawn.shape == (0, 3, 32, 32)
    with pytest.raises(BackendError, match=r"points must be \(2, 2, 2\)"):
        kernel.decode_above(asked.points[:1], asked.labels, state, above=0.0)
    with pytest.raises(BackendError, match="point_labels must be in"):
        kernel.decode_above(asked.points, asked.labels + 9, state, above=0.0)


def test_prompts_of_several_images_decode_as_image_by_image(kernel_table, kind):
    modules, asked = source(8, kind), ask(8, 4, 2)
    kernel = modules.kernel(kernel_table)
    states = np.concatenate([modules.state(kernel, scale=scale) for scale in (1.0, 0.5)])
    index = np.array([0, 1, 1, 0], np.int32)
    together = kernel.decode(asked.points, asked.labels, states, image_index=index)
    logits = kernel.draw(together.prompt_state, together.mask_vectors, states, image_index=index)
    for prompt, image in enumerate(index):
        one, state = slice(prompt, prompt + 1), states[image : image + 1]
        alone = kernel.decode(asked.points[one], asked.labels[one], state)
        np.testing.assert_array_equal(alone.iou_predictions, together.iou_predictions[one])
        drawn = kernel.draw(alone.prompt_state, alone.mask_vectors, state)
        np.testing.assert_array_equal(drawn, logits[one])


def test_the_decoder_takes_the_maps_that_it_draws_on(kernel_table, kind):
    """No more, no fewer, and of their sizes."""
    modules = source(8, kind)
    kernel = modules.kernel(kernel_table)
    embedding, *maps = (array.numpy() for array in (modules.embedding, *modules.maps))
    wrong = [[*maps, embedding]]
    if maps:
        wrong += [maps[:-1], [*maps[:-1], maps[-1][..., 1:]]]
    for given in wrong:
        with pytest.raises(BackendError, match="This decoder takes arrays of"):
            kernel.image_state(embedding, *given)


def test_efficient_sam_has_no_weights_for_mask_prompts(kernel_table):
    if ops.computes_in_bf16(kernel_table):
        pytest.skip("the decoder of EfficientSAM is computed in float32 alone")
    modules, asked = source(8, "EfficientSAM"), ask(8, 2, 2, masked=True)
    kernel = modules.kernel(kernel_table)
    with pytest.raises(BackendError, match="takes no mask prompts"):
        kernel.decode(asked.points, asked.labels, modules.state(kernel), masks=asked.masks)


@pytest.mark.parametrize("kind", FLOAT32_ALONE)
def test_decoders_that_need_a_whole_canvas_are_refused_in_bfloat16(kernel_table, kind):
    if not ops.computes_in_bf16(kernel_table):
        pytest.skip(f"{kernel_table} computes in float32")
    with pytest.raises(ModelFolderError, match="float32 alone"):
        source(8, kind).kernel(kernel_table)


def test_no_prompts_are_no_work(kernel_table):
    modules, asked = source(8), ask(8, 0, 2)
    logits, ious = found(modules.kernel(kernel_table), modules, asked)
    assert logits.shape == (0, 4, 32, 32)
    assert ious.shape == (0, 4)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w.pop("mask_decoder.iou_token.weight"), "no mask_decoder.iou_token.weight"),
        (
            lambda w: w.update({"prompt_encoder.no_mask_embed.weight": np.zeros((1, 255), "f4")}),
            r"no_mask_embed.weight is \(1,255,\), not \(1,256,\)",
        ),
        (lambda w: w.clear(), "export the model again"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(change, named):
    weights = source(8).weights()
    change(weights)
    with pytest.raises(ModelFolderError, match=f"(?i){named}"):
        ops.DecoderKernel(weights, grid=8, side=128, kernel_table=ops.kernel_tables()[0])


def test_what_contradicts_itself_is_refused(kernel_table):
    modules, asked = source(8), ask(8, 2, 2)
    kernel = modules.kernel(kernel_table)
    state = kernel.image_state(modules.embedding.numpy())
    points, labels = asked.points, asked.labels
    decoded = kernel.decode(points, labels, state)
    with pytest.raises(BackendError, match="embedding must be"):
        kernel.image_state(np.zeros((1, 256, 4, 4), np.float32))
    with pytest.raises(BackendError, match="points must be"):
        kernel.decode(points[:1], labels, state)
    with pytest.raises(BackendError, match=r"point_labels must be in -1\.\.3, not 4"):
        kernel.decode(points, np.full_like(labels, 4), state)
    with pytest.raises(BackendError, match="masks must be"):
        kernel.decode(points, labels, state, masks=np.zeros((2, 1, 8, 8), np.float32))
    with pytest.raises(BackendError, match="masks must be"):
        kernel.decode_above(
            points, labels, state, above=0.0, masks=np.zeros((2, 1, 8, 8), np.float32)
        )
    with pytest.raises(BackendError, match="states must be"):
        kernel.decode(points, labels, state[:, 1:])
    with pytest.raises(BackendError, match=r"image_index must be in 0\.\.0, not 1"):
        kernel.decode(points, labels, state, image_index=np.array([0, 1], np.int32))
    with pytest.raises(BackendError, match="were not made by this decoder"):
        kernel.draw(decoded.prompt_state[:, :-1], decoded.mask_vectors, state)
    for damage in (0.0, np.nan, 1e9):
        damaged = decoded.prompt_state.copy()
        damaged[1, 0] = damage
        with pytest.raises(BackendError, match="were not made by this decoder"):
            kernel.draw(damaged, decoded.mask_vectors, state)
    with pytest.raises(BackendError, match="mask_vectors"):
        kernel.draw(decoded.prompt_state, decoded.mask_vectors[:1], state)


@pytest.mark.parametrize("name", ["abacus", *TABLES])
def test_a_table_that_the_processor_lacks_is_refused_with_those_it_has(name):
    if name in ops.kernel_tables():
        pytest.skip(f"this processor runs the kernel table {name}")
    with pytest.raises(BackendError, match=rf"no kernel table '{name}'.*(portable|neon)"):
        ops.DecoderKernel({}, grid=8, side=128, kernel_table=name)


def test_one_core_gives_the_same_bits(kernel_table):
    modules, asked = source(8), ask(8, 5, 2)
    kernel = modules.kernel(kernel_table)
    wanted = found(kernel, modules, asked, threads=0)
    result = []

    def on_one_core() -> None:
        # The affinity of this thread alone.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        result.extend(found(kernel, modules, asked, threads=0))

    thread = threading.Thread(target=on_one_core)
    thread.start()
    thread.join()
    for actual, expected_bits in zip(result, wanted, strict=True):
        np.testing.assert_array_equal(actual, expected_bits)


@pytest.mark.parametrize(
    "name", ["mask_decoder.iou_token.weight", "mask_decoder.transformer.norm_final_attn.weight"]
)
def test_weights_that_are_not_finite_show_in_every_score(kernel_table, name):
    modules, asked = source(8), ask(8, 3, 2)
    weights = modules.weights()
    weights[name] = np.full_like(weights[name], np.inf)
    kernel = ops.DecoderKernel(weights, grid=8, side=128, kernel_table=kernel_table)
    state = kernel.image_state(modules.embedding.numpy())
    scores = kernel.decode(asked.points, asked.labels, state).iou_predictions
    assert not np.isfinite(scores).any()
    again, _ = kernel.decode_above(asked.points, asked.labels, state, above=0.5)
    np.testing.assert_array_equal(again, scores)


def test_an_embedding_of_denormals_is_decoded_like_one_of_zeros(kernel_table):
    modules, asked = source(8), ask(8, 3, 2)
    kernel = modules.kernel(kernel_table)
    logits = []
    for scale in (0.0, 1e-40):
        state = kernel.image_state(np.float32(scale) * modules.embedding.numpy())
        decoded = kernel.decode(asked.points, asked.labels, state)
        logits.append(kernel.draw(decoded.prompt_state, decoded.mask_vectors, state))
    assert np.isfinite(logits[1]).all()
    assert_close(logits[1], logits[0], FLOAT_TOLERANCE)


FORKED = """
import os, sys
import numpy as np
from tests.ops.test_sam_decoder import ask, found, source
table = sys.argv[1]
modules, asked = source(8), ask(8, 5, 2)
wanted = found(modules.kernel(table), modules, asked, threads=3)
child = os.fork()
if child == 0:
    again = found(modules.kernel(table), modules, asked, threads=3)
    os._exit(0 if all(map(np.array_equal, again, wanted)) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_that_was_forked_after_load_decodes_alike(kernel_table):
    done = finish([sys.executable, "-c", FORKED, kernel_table])
    assert done.returncode == 0, done.stderr
