"""Everything mode and encoding on a GPU beside the usual alternatives. Needs a GPU.

The reference is SAM's own package in torch: eager in FP32, and in BF16 with scaled dot-product
attention and ``torch.compile``. All have the same random weights of ViT-B, 1080p, 1024 points and
RLE output. fastseg runs engines that were built here, in FP16 and in FP32. Memory is that of the
device after the run, with what a contender keeps for the next image.
"""

from __future__ import annotations

import gc
import time
from contextlib import closing
from functools import partial
from itertools import product
from statistics import median

import numpy as np
import pytest

import fastseg
from fastseg import artifacts
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt import open_engine
from fastseg.backends.tensorrt.library import FLAVOURS
from fastseg.building import Request, build
from fastseg.errors import BackendUnavailableError, FastsegError
from fastseg.export.sam import add_fp16, export_sam
from fastseg.validation.synthetic import scenes
from tests.helpers.on_gpu import require_gpu
from tests.helpers.random_weights import scattered
from tests.helpers.reference_package import segment_anything

pytestmark = pytest.mark.gpu

ROUNDS = 5
BATCH, CALLS = 8, 5
EAGER = "segment-anything, eager FP32"

LOOSE = {"pred_iou_thresh": -10.0, "stability_score_thresh": 0.5, "points_per_side": 32}
"""Thresholds for random weights that pass about as many masks as real ones do."""


@pytest.fixture(scope="module")
def torch():
    found = pytest.importorskip("torch", reason="compares with torch")
    require_gpu(kernels=True)
    if not found.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    return found


@pytest.fixture(scope="module")
def checkpoint(torch, tmp_path_factory):
    torch.manual_seed(0)
    sam = scattered(segment_anything().sam_model_registry["vit_b"]())
    path = tmp_path_factory.mktemp("checkpoints") / "vit_b.pth"
    torch.save(sam.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def image():
    coarse = np.random.default_rng(0).integers(0, 256, (27, 48, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((40, 40, 1), np.uint8))


def references(torch, checkpoint):
    """Yield the names of both forms of SAM, and functions that make them."""

    def make(*, compiled: bool):
        sam = segment_anything().sam_model_registry["vit_b"](checkpoint=str(checkpoint))
        sam = sam.cuda().eval()
        if compiled:
            sam.image_encoder = torch.compile(with_sdpa(torch, sam.image_encoder))
            sam.mask_decoder.forward = in_float32(torch.compile(sam.mask_decoder.forward))
        return sam

    yield EAGER, partial(make, compiled=False)
    yield "segment-anything, BF16, SDPA, compiled", partial(make, compiled=True)


def in_float32(decode):
    """Return the decoder with float32 outputs, because NumPy has no BF16."""

    def forward(**given):
        masks, scores = decode(**given)
        return masks.float(), scores.float()

    return forward


def with_sdpa(torch, encoder):
    """Return the encoder with fused attention; relative positions become a bias."""
    from segment_anything.modeling import image_encoder

    def forward(self, x):
        batch, height, width, _ = x.shape
        qkv = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        bias = torch.zeros(
            (batch * self.num_heads, height * width, height * width), dtype=q.dtype, device=q.device
        )
        flat = q.reshape(batch * self.num_heads, height * width, -1)
        bias = image_encoder.add_decomposed_rel_pos(
            bias, flat, self.rel_pos_h, self.rel_pos_w, (height, width), (height, width)
        ).view(batch, self.num_heads, height * width, height * width)
        x = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(x.transpose(1, 2).reshape(batch, height, width, -1))

    for block in encoder.blocks:
        block.attn.forward = forward.__get__(block.attn)
    return encoder


@pytest.fixture(scope="module")
def built(checkpoint, tmp_path_factory):
    """Build folders with engines of each available runtime and precision, by name.

    FP16 graphs are compared on one image with every rounding carried out, which takes minutes on
    the processor; then their engines are compared on the GPU, as all are.
    """
    installed = list(filter(is_installed, FLAVOURS))
    if not installed:
        return {}
    folder, found = tmp_path_factory.mktemp("models"), {}
    source = folder / "vit-b"
    export_sam(checkpoint, source, licence="none")
    add_fp16(source, source, checkpoint=checkpoint, images=scenes()[:1])
    for flavour, precision in product(installed, ("fp16", "fp32")):
        out = folder / f"{flavour}-{precision}"
        request = Request(flavour, precision, device="cuda", out=out)
        try:
            build(artifacts.read(source), request)
        except FastsegError as error:
            print(f"{flavour} {precision} left out: {error}", flush=True)
            continue
        found[flavour, precision] = out
    return found


def is_installed(flavour):
    """Return True if a runtime is available; print the reason if not."""
    try:
        tensorrt_library.runtime(FLAVOURS[flavour])
    except BackendUnavailableError as error:
        print(f"left out: {error}", flush=True)
        return False
    return True


def timed(work, synchronise, rounds=ROUNDS):
    """Return the median in ms, the relative spread, and the last result; warm."""
    work(), work()
    times, result = [], None
    for _ in range(rounds):
        synchronise()
        start = time.perf_counter()
        result = work()
        synchronise()
        times.append(1e3 * (time.perf_counter() - start))
    return median(times), (max(times) - min(times)) / median(times) / 2, result


class Measurements:
    """Measured rows, printed at once, so that an interrupted run has printed its results."""

    def __init__(self, torch) -> None:
        self._torch = torch
        self.found: list[tuple[str, float, float, int, float]] = []

    def free_bytes(self) -> int:
        """Return the free memory of the device, after unused memory is returned."""
        gc.collect()
        self._torch.cuda.empty_cache()
        return self._torch.cuda.mem_get_info()[0]

    def measure(self, name, work, free_before, rounds=ROUNDS):
        """Time one contender, and measure the device memory that it has taken."""
        ms, spread, result = timed(work, self._torch.cuda.synchronize, rounds)
        taken = (free_before - self._torch.cuda.mem_get_info()[0]) / 2**20
        self.found.append((name, ms, spread, len(result), taken))
        masks = f"{len(result)} masks, {taken:.0f} MiB"
        print(f"{name}: {ms:.1f} ms ±{spread:.0%}, {masks}", flush=True)

    def table(self):
        """Return all rows, with ratios to the eager reference where that was measured."""
        eager = next((ms for name, ms, *_ in self.found if name == EAGER), None)
        heading = ("contender", "ms", "spread", "masks", "MiB taken", "ratio")
        return [
            heading,
            *(
                (
                    name,
                    f"{ms:.1f}",
                    f"±{spread:.0%}",
                    str(masks),
                    f"{taken:.0f}",
                    f"{eager / ms:.2f}" if eager else "",
                )
                for name, ms, spread, masks, taken in self.found
            ),
        ]


def test_a_full_hd_image_and_1024_points(torch, checkpoint, built, image, table):
    rows = Measurements(torch)
    for (flavour, precision), out in built.items():
        free = rows.free_bytes()
        with fastseg.load(out, backend=flavour, device="cuda", precision=precision) as model:
            assert model.gpu_mask_generator is not None
            work = partial(model.everything, image, max_device_memory=2**32, **LOOSE)
            rows.measure(f"fastseg, {flavour} {precision.upper()}", work, free)
    for name, make in references(torch, checkpoint):
        free = rows.free_bytes()
        generator = segment_anything().SamAutomaticMaskGenerator(
            make(), output_mode="uncompressed_rle", points_per_batch=64, **LOOSE
        )
        with torch.autocast("cuda", torch.bfloat16, enabled=name != EAGER):
            rows.measure(name, partial(generator.generate, image), free, rounds=3)
        del generator
    gpu = torch.cuda.get_device_name()
    table(f"everything, ViT-B (random weights), 1080p, 1024 points, {gpu}, warm", rows.table())
    if not built:
        pytest.skip(f"no runtime of fastseg builds engines for {gpu}; the references were measured")


def test_images_a_second(torch, checkpoint, built, table):
    """Measure the encoder alone on device images: ``BATCH`` a call, ``CALLS`` consecutively."""
    images = torch.zeros((BATCH, 3, 1024, 1024), device="cuda")
    rows = [("contender", "images/s", "spread")]

    def measure(name, encode):
        def work():
            for _ in range(CALLS):
                encode()

        ms, spread, _ = timed(work, torch.cuda.synchronize, rounds=3)
        rows.append((name, f"{1e3 * BATCH * CALLS / ms:.0f}", f"±{spread:.0%}"))
        print(*rows[-1], flush=True)

    for (flavour, precision), out in built.items():
        folder = artifacts.read(out)
        stored = folder.graph_file("encoder", precision)
        opened = open_engine(folder, stored, device="cuda", memory="cuda", backend=flavour)
        with closing(opened) as backend:
            name = f"fastseg, {flavour} {precision.upper()}"
            measure(name, partial(backend.run, {"image": images}))
    for name, make in references(torch, checkpoint):
        sam = make()
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=name != EAGER):
            measure(name, partial(sam.image_encoder, images))
    gpu = torch.cuda.get_device_name()
    table(f"encoder, ViT-B (random weights), {BATCH} images a call, {gpu}, warm", rows)
    if not built:
        pytest.skip(f"no runtime of fastseg builds engines for {gpu}; the references were measured")
