"""ONNX Runtime and OpenVINO on the same graphs: time in turns, and parity beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the base of the comparison is onnxruntime")
pytest.importorskip("openvino", reason="openvino is not installed")

import fastseg
from benchmarks.turns import milliseconds
from fastseg import artifacts, ops
from fastseg.artifacts import ModelFolder, registry
from fastseg.backends import openvino
from fastseg.backends.base import Backend
from fastseg.backends.openvino import OpenVinoBackend
from fastseg.backends.selection import open_graph, plan
from fastseg.contract import Array
from fastseg.demo import PICTURE
from fastseg.environment import usable_cores
from fastseg.errors import ModelNotFoundError
from fastseg.images import read_image
from fastseg.sam.two_stage_decoder import PROMPTS_PER_RUN
from fastseg.validation import parity
from fastseg.validation.parity import Difference
from fastseg.validation.probes import PromptProbe, build_prompt_probe

ROUNDS = 7
PROMPTS = 64
VIEW = "a4c"

BASE = "onnxruntime fp32"
Result = TypeVar("Result")
Outputs = dict[str, Array]
Rows = list[tuple[str, ...]]
Table = Callable[[str, Rows], None]

HEADING = ("", "median ms", "spread", f"x {BASE}", "relative", "mask IoU, mean (least)")


@pytest.fixture(scope="module")
def nano() -> ModelFolder:
    return artifacts.read(registry.find("sam-nano"))


@pytest.fixture(scope="module")
def probe(nano: ModelFolder) -> PromptProbe:
    """Return probe inputs of a photograph; the first 64 prompts are the points of an 8 x 8 grid."""
    return build_prompt_probe(read_image(PICTURE), nano.manifest)


@pytest.fixture(scope="module", params=["embedded", "published"])
def unet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """Return the embedded network, or one of the published width with random weights."""
    if request.param == "embedded":
        try:
            return artifacts.read(registry.find(f"echo-{VIEW}"))
        except ModelNotFoundError:
            pytest.skip(f"echo-{VIEW} is not in this tree")
    torch = pytest.importorskip("torch", reason="the network is exported from torch")
    from fastseg.export.model_folder import Card
    from fastseg.export.networks.unet import UNet
    from fastseg.export.unet import write_unet_folder

    torch.manual_seed(0)
    folder: Path = tmp_path_factory.mktemp("unet") / "random width 32"
    write_unet_folder(UNet(3, 5, 32), folder, VIEW, Card("random width 32", licence="none"))
    return artifacts.read(folder)


def contenders(folder: ModelFolder, graph: str) -> dict[str, Backend]:
    """Open the graph on each runtime in each precision, also where ``plan`` would not choose it."""
    found: dict[str, Backend] = {
        BASE: open_graph(folder, graph, backend="onnxruntime"),
        "openvino fp32": open_graph(folder, graph, backend="openvino"),
    }
    if "bf16" in openvino.precisions():
        stored = plan(folder, graph).stored
        found[in_bf16(folder, graph)] = OpenVinoBackend(
            folder.file(stored), stored.graph, precision="bf16"
        )
    return found


def in_bf16(folder: ModelFolder, graph: str) -> str:
    chosen = plan(folder, graph, precision="bf16").precision == "bf16"
    return "openvino bf16" if chosen else "openvino bf16 (never chosen)"


def compared(
    runs: dict[str, Callable[[], Result]], compare: Callable[[Result, Result], Difference]
) -> Rows:
    """Return a row for each contender; the first is the base of the ratios."""
    results = {name: run() for name, run in runs.items()}
    expected = results[BASE]
    times = milliseconds(runs, ROUNDS)
    base = float(np.median(times[BASE]))
    rows: Rows = [HEADING]
    for name, taken in times.items():
        median, found = float(np.median(taken)), compare(results[name], expected)
        ious = "-"
        if found.mask_iou_mean is not None:
            ious = f"{found.mask_iou_mean:.5f} ({found.mask_iou_min:.5f})"
        spread = f"{min(taken):.1f}..{max(taken):.1f}"
        numbers = (f"{base / median:.2f}", f"{found.relative:.1e}", ious)
        rows.append((name, f"{median:.1f}", spread, *numbers))
    return rows


def worst(actual: Outputs, expected: Outputs) -> Difference:
    """Return the difference of the output that differs most."""
    found = [parity.compare_arrays(name, actual[name], expected[name]) for name in expected]
    return max(found, key=lambda difference: difference.relative)


def test_the_encoder(nano: ModelFolder, probe: PromptProbe, table: Table) -> None:
    backends = contenders(nano, "encoder")
    runs = {
        name: lambda backend=backend: backend.run({"image": probe.pixels})
        for name, backend in backends.items()
    }
    table(f"sam-nano, encoder, {usable_cores()} threads", compared(runs, worst))


@pytest.fixture(scope="module")
def features(nano: ModelFolder, probe: PromptProbe) -> Array:
    with closing(open_graph(nano, "encoder", backend="onnxruntime")) as encoder:
        return encoder.run({"image": probe.pixels})["embedding"]


def each_part(
    state: Backend, decoder: Backend, features: Array, probe: PromptProbe
) -> Iterator[Outputs]:
    """Yield the outputs of the first stage for the points, a few at a time."""
    shared = state.run({"embedding": features})
    for first in range(0, PROMPTS, PROMPTS_PER_RUN):
        some = slice(first, min(first + PROMPTS_PER_RUN, PROMPTS))
        points = {"point_coords": probe.coords[some], "point_labels": probe.labels[some]}
        yield decoder.run({**points, **shared})


def test_the_decoder(nano: ModelFolder, probe: PromptProbe, features: Array, table: Table) -> None:
    states, decoders = contenders(nano, "image_state"), contenders(nano, "decoder")

    def decode(name: str) -> Outputs:
        parts = [
            (part["iou_predictions"], part["mask_vectors"])
            for part in each_part(states[name], decoders[name], features, probe)
        ]
        ious, vectors = map(np.concatenate, zip(*parts, strict=True))
        return {"iou_predictions": ious, "mask_vectors": vectors}

    runs = {name: lambda name=name: decode(name) for name in decoders}
    rows = compared(runs, worst)
    table(f"sam-nano, image_state and decoder, {PROMPTS} points, {usable_cores()} threads", rows)


def test_the_mask_head(
    nano: ModelFolder, probe: PromptProbe, features: Array, table: Table
) -> None:
    with (
        closing(open_graph(nano, "image_state", backend="onnxruntime")) as state,
        closing(open_graph(nano, "decoder", backend="onnxruntime")) as decoder,
    ):
        tokens = list(each_part(state, decoder, features, probe))
    for part in tokens:
        del part["iou_predictions"]
        part["mask_vectors"] = np.ascontiguousarray(part["mask_vectors"][:, 1:])

    def draw(backend: Backend) -> Outputs:
        parts = [backend.run(part)["low_res_logits"] for part in tokens]
        return {"low_res_logits": np.concatenate(parts)}

    def compare(actual: Outputs, expected: Outputs) -> Difference:
        name = "low_res_logits"
        return parity.compare_logits(name, actual[name], expected[name])

    backends = contenders(nano, "mask_head")
    runs = {name: lambda backend=backend: draw(backend) for name, backend in backends.items()}
    title = f"sam-nano, mask head, {PROMPTS} x 3 masks, {usable_cores()} threads"
    table(title, compared(runs, compare))


def test_an_image_and_its_points(table: Table) -> None:
    """Measure the whole pipeline, in the precisions that ``plan`` gives each graph."""
    image = read_image(PICTURE)
    height, width = image.shape[:2]
    points = (ops.point_grid(8) * [width, height])[:, None]
    choices = {BASE: {"backend": "onnxruntime"}, "openvino fp32": {"backend": "openvino"}}
    if "bf16" in openvino.precisions():
        choices["openvino bf16"] = {"backend": "openvino", "precision": "bf16"}
    models = {name: fastseg.load("sam-nano", **choice) for name, choice in choices.items()}
    runs = {
        name: lambda model=model: model.segment(image, points=points).runs
        for name, model in models.items()
    }
    rows = compared(runs, lambda actual, expected: parity.compare_masks("", actual, expected))
    table(f"sam-nano, an image and {PROMPTS} points to masks, {usable_cores()} threads", rows)
    for model in models.values():
        model.close()


def frames(count: int) -> Array:
    """Generate four-chamber frames as the network takes them."""
    from training.echo.phantom import generate

    random = np.random.default_rng(2026)
    return np.stack([generate(random, VIEW).frame for _ in range(count)])


@pytest.mark.parametrize("batch", [1, 8])
def test_the_network_for_frames(unet: ModelFolder, batch: int, table: Table) -> None:
    inputs = {"frames": frames(batch)}
    backends = contenders(unet, "network")
    runs = {
        name: lambda backend=backend: backend.run(inputs)["probabilities"]
        for name, backend in backends.items()
    }

    def compare(actual: Array, expected: Array) -> Difference:
        if unet.manifest.name.startswith("echo"):
            return parity.compare_logits("probabilities", actual - 0.5, expected - 0.5)
        return parity.compare_arrays("probabilities", actual, expected)

    rows = compared(runs, compare)
    table(f"{unet.manifest.name}, batch {batch}, {usable_cores()} threads", rows)
