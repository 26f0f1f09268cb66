"""Quality of the embedded echo networks on real frames, beside a fixed template.

The frames are licensed for tests alone; where they do not lie beside the checkout this is skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the template is the mean of generated phantoms")
pytest.importorskip("onnxruntime", reason="the embedded models run in onnxruntime")

import fastseg
from tests.conftest import echo_examples  # noqa: F401
from training.echo import evaluation
from training.echo.heart import VIEWS, View
from training.echo.publish import publish

RUNS = Path(__file__).parents[1] / "training" / "runs" / "echo"
"""Folder of the training runs' weights; not part of the project."""

Scores = list[dict[str, float]]


def network_scores(model: str | Path, examples: list[evaluation.Example]) -> Scores:
    with fastseg.load(model, backend="onnxruntime", device="cpu") as network:
        return [evaluation.network_dice(network, example) for example in examples]


def cells(scores: Scores) -> list[str]:
    columns = [f"{name} {np.mean([row[name] for row in scores]):.3f}" for name in scores[0]]
    return [f"{evaluation.mean(scores):.3f}", ", ".join(columns)]


@pytest.mark.parametrize("view", VIEWS)
def test_dice_on_real_frames(
    table: Callable[..., None],
    view: View,
    echo_examples: Path,  # noqa: F811
) -> None:
    examples = evaluation.read_examples(echo_examples, view)
    found = {
        f"echo-{view}": network_scores(f"echo-{view}", examples),
        "template": evaluation.template_dice(examples, view),
    }
    rows = [["frames", "from", "mean Dice", "each"]]
    for group, wanted in (("development", {False}), ("held out", {True}), ("all", {False, True})):
        for name, scores in found.items():
            chosen = [s for s, e in zip(scores, examples, strict=True) if e.held_out in wanted]
            rows.append([f"{group} ({len(chosen)})", name, *cells(chosen)])
    table(f"{view}: Dice against the published masks, template cut where it is best", rows)


@pytest.mark.parametrize("view", VIEWS)
def test_dice_of_networks_of_either_width(
    table: Callable[..., None],
    view: View,
    echo_examples: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    weights = sorted(RUNS.glob(f"width-*/echo-{view}.safetensors"))
    if len(weights) < 2:
        pytest.skip("needs the weights of two widths in training/runs/echo")
    examples = evaluation.read_examples(echo_examples, view)
    rows = [["network", "mean Dice", "each"]]
    for file in weights:
        folder = tmp_path / file.parent.name
        publish(file, folder, view)
        rows.append([file.parent.name, *cells(network_scores(folder, examples))])
    table(f"{view}: Dice on all real frames by width of the network", rows)
