"""Speed of the echo U-Net of both widths: native, in torch and in two runtimes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the references are torch's")
pytest.importorskip("onnxruntime", reason="a reference is ONNX Runtime")

import fastseg  # noqa: E402
from benchmarks.arithmetic import gmac  # noqa: E402
from benchmarks.turns import milliseconds  # noqa: E402
from fastseg import artifacts, ops  # noqa: E402
from fastseg.artifacts import registry  # noqa: E402
from fastseg.contract import Array, unet_network  # noqa: E402
from fastseg.environment import usable_cores  # noqa: E402
from fastseg.errors import BackendError  # noqa: E402
from fastseg.export.model_folder import Card  # noqa: E402
from fastseg.export.networks.unet import UNet  # noqa: E402
from fastseg.export.onnx.writer import Source  # noqa: E402
from fastseg.export.unet import write_unet_folder  # noqa: E402
from fastseg.inference.sessions import Choice, Sessions  # noqa: E402
from fastseg.masks import Masks  # noqa: E402
from training.echo.phantom import generate  # noqa: E402

VIEW, CLASSES, SIDE = "a4c", 5, 256
WIDTHS = {"echo-a4c, width 16": 16, "published width 32, random weights": 32}
ROUNDS = 5
Run = Callable[[], Any]

LEAST_GAIN = 1.0
"""Least speed of the kernel as a multiple of the best other's, or it is not worth its code. A
run takes a few milliseconds, so the host's other work moves the ratio: between 1.1 and 2.4."""

LEAST_GAIN_FP32 = 1.3
"""The same in FP32 with AVX2, where runs are longer and the ratio moves less."""

TABLE_FP32 = "avx2"
"""The kernel table with which ``backend="auto"`` takes the kernel in FP32."""

CHOICES = {
    "ONNX Runtime FP32": {"backend": "onnxruntime", "precision": "fp32"},
    "OpenVINO BF16": {"backend": "openvino", "precision": "bf16"},
    "native BF16": {"backend": "native", "precision": "bf16"},
}

CHOICES_FP32 = {
    "ONNX Runtime": {"backend": "onnxruntime", "precision": "fp32"},
    "OpenVINO": {"backend": "openvino", "precision": "fp32"},
    "native": {"backend": "native", "precision": "fp32"},
}


@pytest.fixture(scope="module", params=WIDTHS.values(), ids=WIDTHS)
def network(request) -> UNet:
    torch.manual_seed(0)
    return UNet(3, CLASSES, request.param).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory) -> Path:
    """Return the embedded model, or a folder of the published width."""
    if network.width == 16:
        return registry.find(f"echo-{VIEW}")
    path: Path = tmp_path_factory.mktemp("unet") / "published"
    write_unet_folder(network, path, VIEW, Card("published width"))
    return path


def frames(count: int) -> Array:
    random = np.random.default_rng(2026)
    return np.stack([generate(random, VIEW).frame for _ in range(count)])


def in_torch(network: UNet, inputs: Array, *, bf16: bool) -> Run:
    torch.set_num_threads(usable_cores())
    network = network.to(memory_format=torch.channels_last)
    given = torch.from_numpy(inputs).contiguous(memory_format=torch.channels_last)

    def run() -> Array:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return network(given).sigmoid().float().numpy()

    return run


def rows_of(runs: dict[str, Run], batch: int, speed: float) -> tuple[list[tuple[str, ...]], float]:
    """Return a row for each contender, and the kernel's speed as a multiple of the best other's."""
    times = {name: np.array(ms) / batch for name, ms in milliseconds(runs, ROUNDS).items()}
    medians = {name: float(np.median(ms)) for name, ms in times.items()}
    rows = [("", "ms a frame", "least", "GFLOP/s")]
    for name, median in medians.items():
        cells = (f"{median:.1f}", f"{times[name].min():.1f}", f"{speed / median:.0f}")
        rows.append((name, *cells))
    best = min(median for name, median in medians.items() if not name.startswith("native"))
    native = min(median for name, median in medians.items() if name.startswith("native"))
    return rows, best / native


def in_runtimes(
    folder: Path, choices: Mapping[str, dict[str, str]], inputs: Array
) -> dict[str, Run]:
    """Return the runs of the runtimes that are here; the others are printed."""
    runs: dict[str, Run] = {}
    for name, choice in choices.items():
        try:
            backend = Sessions(artifacts.read(folder), Choice("cpu", **choice))["network"]
        except BackendError as error:
            print(f"{name}: {error}")
            continue
        runs[name] = lambda backend=backend: backend.run({"frames": inputs})["probabilities"]
    return runs


def source(network: UNet) -> Source:
    """Return the network as an export takes it, for its arithmetic."""
    example = (torch.zeros(1, 3, SIDE, SIDE),)
    return Source(unet_network(SIDE, 3, CLASSES), UNet(3, CLASSES, network.width), example)


@pytest.mark.parametrize("batch", [1, 8])
def test_the_network(network, folder, batch, table):
    if ops.UNET_KERNEL_TABLE not in ops.kernel_tables():
        pytest.skip("this processor has no AMX")
    inputs = frames(batch)
    runs = {
        f"torch {'BF16' if bf16 else 'FP32'}, channels last": in_torch(network, inputs, bf16=bf16)
        for bf16 in (False, True)
    }
    runs |= in_runtimes(folder, CHOICES, inputs)
    rows, gain = rows_of(runs, batch, 2e3 * gmac(source(network)))
    error = np.abs(runs["native BF16"]() - runs["ONNX Runtime FP32"]()).max()
    table(
        f"width {network.width}, batch {batch}, the network alone, {usable_cores()} threads; "
        f"probabilities off by at most {error:.3f}",
        rows,
    )
    assert gain > LEAST_GAIN


@pytest.mark.parametrize("batch", [1, 8])
def test_the_network_in_fp32(network, folder, batch, table):
    fastest = next(each for each in ops.kernel_tables() if not ops.computes_in_bf16(each))
    if fastest != TABLE_FP32:
        pytest.skip(f"in FP32 the kernel was measured with {TABLE_FP32}, not with {fastest}")
    inputs = frames(batch)
    runs = {"torch, channels last": in_torch(network, inputs, bf16=False)}
    runs |= in_runtimes(folder, CHOICES_FP32, inputs)
    rows, gain = rows_of(runs, batch, 2e3 * gmac(source(network)))
    error = np.abs(runs["native"]() - runs["ONNX Runtime"]()).max()
    table(
        f"width {network.width}, batch {batch}, the network alone in FP32, {usable_cores()} "
        f"threads; probabilities off by at most {error:.1e}; {gain:.2f} times the best other",
        rows,
    )
    assert gain > LEAST_GAIN_FP32


@pytest.mark.parametrize("batch", [1, 8])
def test_frames_to_masks(network, folder, batch, table):
    """Measure the network with pre- and postprocessing."""
    if ops.UNET_KERNEL_TABLE not in ops.kernel_tables():
        pytest.skip("this processor has no AMX")
    clip = frames(batch).transpose(0, 2, 3, 1)
    models = {name: fastseg.load(folder, **choice) for name, choice in CHOICES.items()}
    runs = {
        name: lambda model=model: model.segment(clip, channels="ycbcr")
        for name, model in models.items()
    }
    rows, gain = rows_of(runs, batch, 2e3 * gmac(source(network)))
    title = f"width {network.width}, batch {batch}, frames to masks, {usable_cores()} threads"
    if network.width == 16:  # random weights draw noise
        title += f"; IoU with FP32 {agreement(runs['native BF16'](), runs['ONNX Runtime FP32']())}"
    table(title, rows)
    assert gain > LEAST_GAIN


def agreement(found: list[Masks], expected: list[Masks]) -> str:
    """Return mean and least IoU of masks that are not empty."""
    ours, theirs = (np.concatenate([one.array() for one in masks]) for masks in (found, expected))
    either = (ours | theirs).sum((1, 2))
    ious = ((ours & theirs).sum((1, 2)) / np.maximum(either, 1))[either > 0]
    return f"{ious.mean():.4f}, least {ious.min():.4f}"
