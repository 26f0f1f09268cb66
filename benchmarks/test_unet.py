"""The echo networks beside the same layers in torch: a frame, a mask, cleaning and measuring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastseg
from fastseg.backends.protocol import usable_cores
from fastseg.measure import measure
from fastseg.repetition import Repeated, Rule, repeat

torch = pytest.importorskip("torch", reason="the reference needs torch")

Table = Callable[[str, list[tuple[str, ...]]], None]

VIEW, SEED_WIDTH = "a4c", 32
BATCHES = (1, 8, 32)
RULE = Rule(warm_up=1, min_rounds=5, max_rounds=25, max_seconds=10.0)


@pytest.fixture(scope="module")
def model() -> Iterator[fastseg.Unet]:
    """The embedded network."""
    with fastseg.load("echo-a4c") as model:
        yield model


@pytest.fixture(scope="module")
def frames() -> NDArray[np.float32]:
    """Generated four-chamber frames, luma and chroma, channels last."""
    from training.echo.phantom import generate

    random = np.random.default_rng(2026)
    channels_first = np.stack([generate(random, VIEW).frame for _ in range(max(BATCHES))])
    return np.ascontiguousarray(channels_first.transpose(0, 2, 3, 1))


def seed_network() -> Any:
    """The network of the published method: its layers and widths, with random weights."""
    from fastseg.export.unet_network import UNet

    torch.manual_seed(0)
    return UNet(3, 5, SEED_WIDTH).eval()


@pytest.fixture(scope="module")
def seed_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fastseg.Unet]:
    """The same network, exported."""
    from fastseg.export.folders import Card
    from fastseg.export.unet import write_unet_folder

    folder: Path = tmp_path_factory.mktemp("seed") / "unet"
    write_unet_folder(seed_network(), folder, VIEW, Card("seed", licence="none"))
    with fastseg.load(folder) as model:
        assert isinstance(model, fastseg.Unet)
        yield model


def timed(name: str, call: Callable[[], object]) -> Repeated:
    def once() -> dict[str, float]:
        start = perf_counter()
        call()
        return {name: 1e3 * (perf_counter() - start)}

    return repeat(name, once, RULE)


def median(measurement: Repeated) -> float:
    return measurement.stages["total"].percentile(50)


def in_torch(network: Any, frames: NDArray[np.float32]) -> list[Repeated]:
    """A user's loop in either memory layout, from prepared frames to probabilities."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
    found = []
    for layout, suffix in ((torch.contiguous_format, ""), (torch.channels_last, ", channels last")):
        laid, given = network.to(memory_format=layout), pixels.contiguous(memory_format=layout)
        name = f"torch eager, width {SEED_WIDTH}{suffix}"
        with torch.inference_mode():
            found.append(timed(name, partial(lambda net, x: net(x).sigmoid(), laid, given)))
    return found


def in_fastseg(models: dict[str, fastseg.Unet], frames: NDArray[np.float32]) -> list[Repeated]:
    """From stored frames to cleaned masks under their names."""
    return [
        timed(name, partial(model.segment, frames, channels="ycbcr"))
        for name, model in models.items()
    ]


def test_frames_a_second_beside_torch(
    model: fastseg.Unet, seed_model: fastseg.Unet, frames: NDArray[np.float32], table: Table
) -> None:
    threads, chambers = usable_cores(), len(model.chambers)
    torch.set_num_threads(threads)
    network = seed_network()
    models = {f"fastseg, width {SEED_WIDTH}": seed_model, "fastseg, echo-a4c": model}
    rows: list[tuple[str, ...]] = [
        ("batch", "contender", "ms a frame", "frames/s", "ms a mask", "spread", "ratio")
    ]
    for batch in BATCHES:
        references = in_torch(network, frames[:batch])
        fastest = min(map(median, references))
        for row in (*references, *in_fastseg(models, frames[:batch])):
            frame, spread = median(row) / batch, 100 * row.stages["total"].half_width
            numbers = (f"{frame:.1f}", f"{1e3 / frame:.1f}", f"{frame / chambers:.2f}")
            ratio = f"{fastest / median(row):.2f}"
            rows.append((str(batch), row.name, *numbers, f"±{spread:.0f} %", ratio))
    table(
        f"U-Net of the four-chamber view, 256 x 256, fp32, {threads} threads, warm; torch ends at "
        "probabilities, fastseg at cleaned masks; ratio to the faster torch",
        rows,
    )


def test_cleaning_and_measuring_a_mask(
    model: fastseg.Unet, frames: NDArray[np.float32], table: Table
) -> None:
    from fastseg import ops

    probabilities = model.probabilities(frames, channels="ycbcr")
    masks = model.segment(frames, channels="ycbcr")
    count = len(frames) * len(model.chambers)
    measured = [
        timed("clean", lambda: ops.clean_chambers(probabilities, exclusive=True)),
        timed(
            "measure, default",
            lambda: [measure(one, cm_per_pixel=20 / 256) for one in masks],
        ),
        timed(
            "measure, source",
            lambda: [measure(one, cm_per_pixel=20 / 256, mode="source") for one in masks],
        ),
    ]
    rows: list[tuple[str, ...]] = [("", "ms a mask")]
    rows += [(row.name, f"{median(row) / count:.3f}") for row in measured]
    whole = median(measured[0]) + max(median(row) for row in measured[1:])
    rows.append(("clean and measure", f"{whole / count:.3f}"))
    table(f"cleaning and measuring, {count} masks of 256 x 256, {usable_cores()} threads", rows)
