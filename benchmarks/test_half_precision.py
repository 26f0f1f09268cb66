"""What mixed precision costs in masks: every figure is against the float32 graphs on the CPU.

Two arithmetics of the same files: as a GPU would compute them, with every float16 tensor rounded,
and as ONNX Runtime computes them on a CPU, which leaves most of the rounding out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="exports need torch")

from fastseg import artifacts, comparison, registry
from fastseg.artifacts import ModelFolder
from fastseg.comparison import Comparison
from fastseg.export.half import spelled_out
from fastseg.export.sam import add_half
from fastseg.graphs import Choice
from fastseg.questions import Question, answer, answer_all, ask
from tests.conftest import vit_b_checkpoint, vit_b_folder  # noqa: F401

pytestmark = pytest.mark.timeout(3600)
"""Every float16 is rounded by two casts: minutes for sam-nano, a quarter of an hour for ViT-B."""

EMBEDDED = ("sam-nano", "echo-a2c", "echo-a4c", "echo-sax")

HEADING = ["model", "arithmetic", "tensor", "max abs", "NMSE", "IoU mean", "IoU min", "masks kept"]

Table = Callable[..., None]


def rows(name: str, arithmetic: str, found: Comparison) -> list[list[str]]:
    kept = f"{found.kept[0]} -> {found.kept[1]}"
    written = []
    for row in found.table.rows:
        masks = row.mask_iou_mean is not None
        written.append(
            [
                name,
                arithmetic,
                row.name,
                "" if masks else f"{row.max_abs:.1e}",
                "" if masks else f"{row.nmse:.1e}",
                f"{row.mask_iou_mean:.5f}" if masks else "",
                f"{row.mask_iou_min:.5f}" if masks else "",
                f"{kept} of {found.masks}" if masks else "",
            ]
        )
    return written


def compared(folder: ModelFolder) -> dict[str, Comparison]:
    """Both arithmetics against float32."""
    asked: list[Question] = [
        ask(folder.manifest, one) for one in comparison.samples(folder.manifest)
    ]
    exact, lenient = (Choice("cpu", "onnxruntime", precision) for precision in ("fp32", "fp16"))
    expected = answer_all(folder, exact, asked)
    with spelled_out(folder) as graphs:
        rounded = [answer(graphs, question, "fp16") for question in asked]
    return {
        "rounded": comparison.compare(expected, rounded),
        "onnxruntime": comparison.compare(expected, answer_all(folder, lenient, asked)),
    }


def islands(folder: ModelFolder) -> list[list[str]]:
    """What stays in float32, graph by graph, and how near the others come to the limits."""
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


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_models(name: str, tmp_path: Path, table: Table) -> None:
    add_half(registry.find(name), tmp_path / name)
    folder = artifacts.read(tmp_path / name)
    found = compared(folder)
    table(
        f"{name}, mixed precision against float32",
        [HEADING, *(row for way, one in found.items() for row in rows(name, way, one))],
    )
    table(f"{name}, what stays in float32", islands(folder))
    assert found["rounded"].of_masks.mask_iou_mean >= comparison.MEAN_IOU[folder.manifest.family]


def test_vit_b_of_random_weights(
    request: pytest.FixtureRequest, tmp_path: Path, table: Table
) -> None:
    """The true architecture; its masks are noise, with outlines everywhere."""
    checkpoint = request.getfixturevalue("vit_b_checkpoint")
    add_half(request.getfixturevalue("vit_b_folder"), tmp_path / "vit-b", checkpoint=checkpoint)
    folder = artifacts.read(tmp_path / "vit-b")
    found = compared(folder)
    table(
        "ViT-B of random weights, mixed precision against float32",
        [HEADING, *(row for way, one in found.items() for row in rows("vit-b", way, one))],
    )
    table("ViT-B of random weights, what stays in float32", islands(folder))
    assert found["rounded"].of_masks.mask_iou_mean >= 0.99
