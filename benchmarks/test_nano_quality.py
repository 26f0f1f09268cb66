"""Quality of sam-nano: a photograph, generated scenes, boxes in echocardiograms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the generator of scenes is part of the training")
pytest.importorskip("skimage", reason="the photograph comes with scikit-image")

import fastseg
from fastseg.sam.model import PromptModel
from tests.conftest import echo_examples  # noqa: F401
from training.sam_nano import echo_boxes, evaluation, held_out, scene_kinds

SCENES = 40
"""Held-out scenes, eight of each kind."""


@pytest.fixture(scope="module")
def nano() -> Iterator[PromptModel]:
    with fastseg.load("sam-nano") as model:
        yield model


def test_coins(table: Callable[..., None]) -> None:
    quality = evaluation.evaluate("sam-nano")
    rows = [
        ["prompt", "mask", "mean IoU"],
        ["box", "the single mask", f"{quality.box_single:.3f}"],
        ["box", "best-scored of three", f"{quality.box_chosen:.3f}"],
        ["one point", "best-scored of three", f"{quality.point_chosen:.3f}"],
        ["one point", "best of three", f"{quality.point_best:.3f}"],
    ]
    found = (
        f"everything mode finds {quality.found} of {quality.coins} at IoU "
        f"{evaluation.FOUND_IOU}; {quality.masks_that_are_coins} of {quality.masks} masks are coins"
    )
    table(f"coins, a photograph; {found}", rows)


def test_held_out_scenes(table: Callable[..., None], nano: PromptModel) -> None:
    results: dict[str, list[held_out.SceneResult]] = {kind: [] for kind in scene_kinds.SCENE_KINDS}
    for held in held_out.scenes(SCENES):
        results[held.kind].append(held_out.measure_model(nano, held))
    everything = [result for some in results.values() for result in some]
    rows = [["kind", "objects", "box", "point, best of 3", "point, best-scored", "score error"]]
    for kind, some in [*results.items(), ("all", everything)]:
        quality = held_out.summarise(some)
        rows.append(
            [
                kind,
                str(sum(len(result.box) for result in some)),
                f"{quality.box:.3f}",
                f"{quality.point_best:.3f}",
                f"{quality.point_chosen:.3f}",
                f"{quality.score_error:.3f}",
            ]
        )
    table(f"{SCENES} generated scenes that training never draws, mean IoU", rows)


def test_echo_boxes(
    table: Callable[..., None], nano: PromptModel, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue("echo_examples")
    chambers = echo_boxes.measure(nano, folder)
    rows = [["chamber", "count", "ellipse in the box", "the single mask", "best-scored of three"]]
    for name in (*echo_boxes.CHAMBERS, "all"):
        some = [chamber for chamber in chambers if name in ("all", chamber.name)]
        means = np.mean([[c.ellipse, c.single, c.chosen] for c in some], axis=0)
        rows.append([name, str(len(some)), *(f"{mean:.3f}" for mean in means)])
    table("real apical frames, a tight box around each chamber, mean Dice", rows)
