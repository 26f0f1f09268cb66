"""Mask differences of mixed precision against the float32 graphs on the CPU.

Two arithmetics of the same files: as a GPU would compute them, with every float16 tensor rounded,
and as ONNX Runtime computes them on a CPU, which omits most of the rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="exports need torch")

from fastseg import artifacts
from fastseg.artifacts import ModelFolder, registry
from fastseg.export.sam import add_fp16
from fastseg.inference.sessions import Choice
from fastseg.validation import comparison
from fastseg.validation.comparison import Comparison
from fastseg.validation.probes import Probe, build_probe, run_probes
from fastseg.validation.synthetic import scenes
from tests.conftest import vit_b  # noqa: F401

pytestmark = pytest.mark.timeout(3600)
"""Time limit: every float16 is rounded by two casts, which takes ViT-B a quarter of an hour."""

EMBEDDED = ("sam-nano", "echo-a2c", "echo-a4c", "echo-sax")

HEADING = ["arithmetic", "of", "max abs", "NMSE", "IoU mean", "IoU least", "number"]

Table = Callable[..., None]
Images = Sequence[NDArray[np.uint8]]


def rows(arithmetic: str, found: Comparison) -> list[list[str]]:
    """Return a row for each tensor, for all masks, and for those that a pipeline would keep."""
    *tensors, masks = found.table.rows
    written = [
        [arithmetic, row.name, f"{row.max_abs:.1e}", f"{row.nmse:.1e}", "", "", ""]
        for row in tensors
    ]
    every = (masks.mask_iou_mean or 0.0, masks.mask_iou_min or 0.0)
    ious = [f"{iou:.5f}" for iou in every]
    written.append([arithmetic, "all masks", "", "", *ious, str(found.masks)])
    kept = [f"{iou:.5f}" for iou in reversed(found.kept_iou)] if found.kept_iou else ["", ""]
    counts = f"{found.kept[0]} -> {found.kept[1]}"
    written.append([arithmetic, "masks kept", "", "", *kept, counts])
    return written


def lenient(folder: ModelFolder, images: Images) -> Comparison:
    """Compare ONNX Runtime's own arithmetic with float32."""
    probes: list[Probe] = [
        build_probe(folder.manifest, one) for one in images or comparison.samples(folder.manifest)
    ]
    exact, half = (Choice("cpu", "onnxruntime", precision) for precision in ("fp32", "fp16"))
    return comparison.compare(run_probes(folder, exact, probes), run_probes(folder, half, probes))


def islands(folder: ModelFolder) -> list[list[str]]:
    """Return the float32 blocks of each graph, and the margins of the others."""
    written = [["graph", "blocks", "in float32", "largest number", "worst own NMSE in float16"]]
    for name, stored in folder.manifest.graphs.items():
        if stored.precision == "fp16":
            reasons = Counter(str(one["reason"]) for one in stored.blocks if one["reason"])
            half = [one for one in stored.blocks if one["precision"] == "fp16"]
            written.append(
                [
                    name,
                    str(len(stored.blocks)),
                    ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "none",
                    f"{max(one['max_abs'] for one in half):.3g}",
                    f"{max(one['nmse'] for one in half):.1e}",
                ]
            )
    return written


def measure(
    model: Path, out: Path, table: Table, *, checkpoint: Path | None = None, images: Images = ()
) -> None:
    """Add mixed precision to a model, which ends in ``ParityError`` if masks differ; print it."""
    rounded = add_fp16(model, out, checkpoint=checkpoint, images=images)
    folder = artifacts.read(out)
    table(
        f"{out.name}, mixed precision against float32, {rounded.images} image(s)",
        [HEADING, *rows("rounded", rounded), *rows("onnxruntime", lenient(folder, images))],
    )
    table(f"{out.name}, blocks in float32", islands(folder))
    assert rounded.of_masks.mask_iou_mean is not None
    assert rounded.of_masks.mask_iou_mean >= comparison.MEAN_IOU[folder.manifest.family]


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_models(name: str, tmp_path: Path, table: Table) -> None:
    measure(Path(registry.find(name)), tmp_path / name, table)


def test_vit_b_of_random_weights(
    request: pytest.FixtureRequest, tmp_path: Path, table: Table
) -> None:
    """Measure the true architecture; its masks are noise, with outlines everywhere.

    On one image: every rounding of a decoder with 84 prompts takes minutes on a CPU.
    """
    sam = request.getfixturevalue("vit_b")
    out = tmp_path / "vit-b"
    measure(sam.folder, out, table, checkpoint=sam.checkpoint, images=scenes()[:1])
