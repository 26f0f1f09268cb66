"""Share of the machine's peak that graphs and kernels reach, measured in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="the peak is measured, and arithmetic counted, in torch"
)
pytest.importorskip("onnxruntime", reason="the graphs run in onnxruntime")

import fastseg  # noqa: E402
from benchmarks.arithmetic import gmac, sam_gmac  # noqa: E402
from benchmarks.products import product_gflops  # noqa: E402
from fastseg import ops  # noqa: E402
from fastseg.benchmarking.arithmetic import Arithmetic, low_rank_point_gmac  # noqa: E402
from fastseg.benchmarking.bench import spread_points  # noqa: E402
from fastseg.contract import MULTIPLE, unet_network  # noqa: E402
from fastseg.export.networks.unet import UNet  # noqa: E402
from fastseg.export.onnx.writer import Source  # noqa: E402
from fastseg.geometry import Frame  # noqa: E402
from fastseg.sam.prompts import single_points  # noqa: E402
from fastseg.sam.two_stage_decoder import PROMPTS_PER_RUN  # noqa: E402

Table = Callable[[str, list[tuple[str, ...]]], None]

ROUNDS = 7
COPIED_BYTES = 2**29


@dataclass(frozen=True)
class Peak:
    """Measured peak of this machine."""

    gflops: dict[str, float]
    """GFLOP/s of a large matrix product, by precision."""

    gigabytes: float
    """GB/s read and written by a copy far larger than the caches."""


@dataclass(frozen=True)
class Kernel:
    """A function with its arithmetic and its least memory traffic."""

    name: str
    run: Callable[[], object]
    gmac: float
    """Thousand million multiply-adds that it makes, or those of its graph; 0 without a product."""

    bytes: int
    """Bytes read and written at least once: inputs, outputs, weights."""

    precision: str = "fp32"
    shortened: bool = False
    """True if it makes fewer products than its graph: their rate is then no share of a peak."""


@pytest.fixture(scope="module")
def peak() -> Peak:
    source = torch.ones(COPIED_BYTES // 4)
    target = torch.empty_like(source)
    return Peak(product_gflops(), 2e-9 * COPIED_BYTES / min(seconds(lambda: target.copy_(source))))


def seconds(run: Callable[[], object]) -> list[float]:
    """Measure the seconds of each round, warm."""
    run()
    took = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return took


def table_of(kernels: Iterator[Kernel], peak: Peak) -> list[tuple[str, ...]]:
    """Return a row a kernel; kernels without a matrix product are measured by memory alone."""
    rows = [("", "ms", "GFLOP/s", "of peak", "least MB", "GB/s", "of copy")]
    for kernel in kernels:
        took = statistics.median(seconds(kernel.run))
        rate = 2 * kernel.gmac / took
        of_peak = f"{100 * rate / peak.gflops[kernel.precision]:.0f} %" if kernel.gmac else ""
        if kernel.shortened:
            of_peak = "fewer products"
        moved = 1e-9 * kernel.bytes / took
        rows.append(
            (
                f"{kernel.name}, {kernel.precision}" if kernel.gmac else kernel.name,
                f"{1e3 * took:.1f}",
                f"{rate:.0f}" if kernel.gmac else "",
                of_peak,
                f"{kernel.bytes / 1e6:.1f}",
                f"{moved:.1f}",
                f"{100 * moved / peak.gigabytes:.0f} %",
            )
        )
    return rows


def title(what: str, peak: Peak) -> str:
    products = ", ".join(f"{rate:.0f} GFLOP/s {name}" for name, rate in peak.gflops.items())
    return f"{what}; peak here: {products}, {peak.gigabytes:.1f} GB/s copied"


def sam_kernels(precision: str) -> Iterator[Kernel]:
    """Yield the encoder and both stages of the decoder of sam-nano."""
    counted = sam_gmac("sam-nano")
    pixels = np.random.default_rng(0).integers(0, 256, (768, 1024, 3), dtype=np.uint8)
    with fastseg.load("sam-nano", precision=precision) as model:
        stored = {one.graph.name: one.bytes for one in model.manifest.graphs.values()}
        embedding = model.embed(pixels)
        points = spread_points(PROMPTS_PER_RUN, (768, 1024))
        (batch,) = single_points(points).batches(embedding.frame, limit=PROMPTS_PER_RUN)
        tokens = model.decoder.tokens(embedding, batch)
        image = 4 * 256 * 64 * 64
        known = Arithmetic.of(model.manifest, model.runs["decoder"])
        assert known is not None
        of_point = low_rank_point_gmac(drawn=False) if known.low_rank else counted["decoder"]
        yield Kernel(
            "encoder and image state",
            lambda: model.embed(pixels),
            known.embedding_gflop / 2,
            stored["encoder"] + stored["image_state"] + 3 * 4 * 1024**2 + 5 * image,
            computes_in(model, "encoder"),
        )
        yield Kernel(
            f"decoder, {PROMPTS_PER_RUN} points",
            lambda: model.decoder.tokens(embedding, batch),
            of_point * PROMPTS_PER_RUN,
            stored["decoder"] + 4 * image + PROMPTS_PER_RUN * image,
            computes_in(model, "decoder"),
        )
        yield Kernel(
            f"mask head, {PROMPTS_PER_RUN} x 3 masks",
            lambda: model.decoder.logits(tokens, MULTIPLE),
            counted["mask_head"] * PROMPTS_PER_RUN,
            stored["mask_head"] + PROMPTS_PER_RUN * (image + 3 * 4 * 256**2),
            computes_in(model, "mask_head"),
            shortened=is_native_fp32(model, "mask_head"),
        )


def computes_in(model: fastseg.Sam, graph: str) -> str:
    """Return the precision of a graph, which is not the same for all of a model."""
    return str(model.runs[graph]).split()[-1]


def is_native_fp32(model: fastseg.Sam | fastseg.Unet, graph: str) -> bool:
    """Tell whether a graph runs natively in FP32, which takes fewer products for most of them."""
    return model.runs[graph] == "native:cpu fp32"


def unet_kernels(precision: str) -> Iterator[Kernel]:
    """Yield the embedded network for frames."""
    batch, side = 8, 256
    frames = np.random.default_rng(0).random((batch, side, side, 3), dtype=np.float32)
    network = UNet(3, 5, 16).to("meta")
    example = torch.zeros(1, 3, side, side, device="meta")
    counted = gmac(Source(unet_network(side, 3, 5), network, (example,), batch="batch"))
    with fastseg.load("echo-a4c", precision=precision) as model:
        stored = sum(one.bytes for one in model.manifest.graphs.values())
        yield Kernel(
            f"echo-a4c, {batch} frames, pre- and postprocessing included",
            lambda: model.segment(frames, channels="ycbcr"),
            batch * counted,
            stored + 4 * batch * (3 + 5) * side**2,
            model.precision,
            shortened=is_native_fp32(model, "network"),
        )


def native_kernels() -> Iterator[Kernel]:
    """Yield kernels that compute little and read much."""
    rng = np.random.default_rng(0)
    image, frame = rng.integers(0, 256, (3000, 4000, 3), dtype=np.uint8), Frame((3000, 4000))
    statistics_of_sam = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    yield Kernel(
        "preprocess, 12 megapixels",
        lambda: ops.preprocess(image, frame, *statistics_of_sam),
        0.0,
        image.nbytes + 3 * 4 * frame.side**2,
    )
    coarse = torch.from_numpy(rng.standard_normal((64, 3, 12, 12), dtype=np.float32))
    logits = torch.nn.functional.interpolate(coarse, 256, mode="bicubic").reshape(-1, 256, 256)
    planes = logits.contiguous().numpy()
    yield Kernel(
        "binarise, 192 masks to 12 megapixels",
        lambda: ops.binarise(planes, frame),
        0.0,
        planes.nbytes,
    )


def test_graphs(peak: Peak, table: Table) -> None:
    rows: list[tuple[str, ...]] = []
    for precision in ("fp32", "bf16"):
        try:
            found = table_of(each(precision), peak)
        except fastseg.FastsegError:
            continue  # the table shows what runs here
        rows += found[bool(rows) :]
    assert rows
    table(title("graphs", peak), rows)


def each(precision: str) -> Iterator[Kernel]:
    yield from sam_kernels(precision)
    yield from unet_kernels(precision)


def test_native_kernels(peak: Peak, table: Table) -> None:
    table(title("native kernels", peak), table_of(native_kernels(), peak))
