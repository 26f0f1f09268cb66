"""Everything mode on a GPU beside what one would run instead on the same one. Needs a GPU.

The reference is SAM's own generator in torch: eager in FP32, and in BF16 with scaled dot-product
attention and ``torch.compile``. All have the same random weights of ViT-B, 1080p, 1024 clicks and
run lengths out. fastseg runs engines that were built here, in FP32 and, where the folder holds
them, in FP16.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import pytest

import fastseg
from fastseg import acceptance, artifacts
from fastseg.backends import tensorrt_runtime
from fastseg.backends.tensorrt_runtime import FLAVOURS
from fastseg.building import Request, build
from fastseg.errors import FastsegError
from fastseg.export.sam import export_sam
from tests.on_gpu import require_gpu
from tests.random_weights import scattered
from tests.standins import segment_anything

pytestmark = pytest.mark.gpu

ROUNDS = 7
LOOSE = {"pred_iou_thresh": -10.0, "stability_score_thresh": 0.5, "points_per_side": 32}
"""Random weights predict nothing: thresholds that let about as many masks pass as real ones do."""


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


def generators(torch, checkpoint):
    """SAM's generator in both manners, by name."""
    package = segment_anything()
    made = {}
    for name in ("segment-anything, eager FP32", "segment-anything, BF16, SDPA, compiled"):
        sam = package.sam_model_registry["vit_b"](checkpoint=str(checkpoint)).cuda().eval()
        if "compiled" in name:
            sam.image_encoder = torch.compile(with_sdpa(torch, sam.image_encoder))
            sam.mask_decoder = torch.compile(sam.mask_decoder)
        made[name] = package.SamAutomaticMaskGenerator(
            sam, output_mode="uncompressed_rle", points_per_batch=64, **LOOSE
        )
    return made


def with_sdpa(torch, encoder):
    """The same encoder, whose attention runs fused; relative positions go in as a bias."""
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


def models(checkpoint, folder):
    """fastseg on each runtime and in each precision that can be had here, by name."""
    source = folder / "vit-b"
    export_sam(checkpoint, source, licence="none")
    for flavour in FLAVOURS:
        for precision in ("fp32", "fp16"):
            out = folder / f"{flavour}-{precision}"
            try:
                tensorrt_runtime.runtime(FLAVOURS[flavour])
                request = Request(flavour, precision, device="cuda", out=out)
                build(artifacts.read(source), request, gate=acceptance.compare)
                model = fastseg.load(out, backend=flavour, device="cuda", precision=precision)
            except FastsegError as error:
                print(f"{flavour} {precision} left out: {error}")
                continue
            yield f"fastseg, {flavour} {precision.upper()}", model


def timed(work, synchronise, rounds=ROUNDS):
    """Median in ms, relative spread, and what the last call gave; warm."""
    work(), work()
    times, result = [], None
    for _ in range(rounds):
        synchronise()
        start = time.perf_counter()
        result = work()
        synchronise()
        times.append(1e3 * (time.perf_counter() - start))
    return median(times), (max(times) - min(times)) / median(times) / 2, result


def test_a_full_hd_picture_and_1024_clicks(torch, checkpoint, image, table, tmp_path):
    rows = [("contestant", "ms", "spread", "masks", "peak of torch MiB", "ratio")]
    first = None
    for name, generator in generators(torch, checkpoint).items():
        torch.cuda.reset_peak_memory_stats()
        half = "BF16" in name
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            ms, spread, found = timed(lambda g=generator: g.generate(image), torch.cuda.synchronize)
        first = first or ms
        peak = torch.cuda.max_memory_allocated() / 2**20
        rows.append(
            (
                name,
                f"{ms:.1f}",
                f"±{spread:.0%}",
                str(len(found)),
                f"{peak:.0f}",
                f"{first / ms:.2f}",
            )
        )
    for name, model in models(checkpoint, tmp_path):
        with model:
            assert model.device_search is not None
            ms, spread, found = timed(
                lambda m=model: m.everything(image, max_device_memory=2**32, **LOOSE),
                torch.cuda.synchronize,
            )
        rows.append((name, f"{ms:.1f}", f"±{spread:.0%}", str(len(found)), "", f"{first / ms:.2f}"))
    gpu = torch.cuda.get_device_name()
    table(f"everything, ViT-B (random weights), 1080p, 1024 clicks, {gpu}, warm", rows)
    assert len(rows) > 3, "no runtime of fastseg ran"
