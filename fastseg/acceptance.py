"""Whether engines may take the place of the network in FP32: the same masks, or no engine."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from fastseg import comparison, ops, questions
from fastseg.artifacts import ModelFolder
from fastseg.building import Request, Verdict
from fastseg.contract import UNET_GRAPH, Array
from fastseg.demo import PICTURE
from fastseg.graphs import Choice, Graphs
from fastseg.images import read_image
from fastseg.manifest import UNET
from fastseg.parity import Table, compare_arrays, compare_masks

LEAST_MEAN_IOU = 0.99
"""Of the masks of all prompts with those in FP32."""

MOST_COUNT_CHANGE = 0.05
"""Of the number of masks that pass the filters of everything mode, as a part of it."""

LEAST_CHAMBER_IOU = 0.995
"""Of every chamber that a network for frames draws."""


def compare(folder: ModelFolder, engines: ModelFolder, request: Request, device: str) -> Verdict:
    """Run a model's engines and its graphs in FP32 on the same pictures.

    Args:
        folder: The model folder, which holds the graphs in FP32.
        engines: The same with the engines.
        request: What was built.
        device: The GPU that runs the engines; FP32 runs on the processor.

    Raises:
        BackendError: The folder holds no graphs in FP32, or the engines do not run.
    """
    exact = Choice(device="cpu", precision="fp32")
    fast = Choice(device=device, backend=request.backend, precision=request.precision)
    if folder.manifest.family == UNET:
        return _compare_frames(folder, engines, exact, fast)
    asked = [questions.ask(folder.manifest, one) for one in comparison.samples(folder.manifest)]
    found = comparison.compare(
        questions.answer_all(folder, exact, asked), questions.answer_all(engines, fast, asked)
    )
    mean = found.of_masks.mask_iou_mean or 0.0
    before, after = found.kept
    change = abs(after - before) / max(before, 1)
    text = (
        f"{found.table}\nmean mask IoU {mean:.4f} (at least {LEAST_MEAN_IOU}), masks kept by "
        f"everything mode's filters: {before} and {after} (within {MOST_COUNT_CHANGE:.0%})"
    )
    passed = mean >= LEAST_MEAN_IOU and change <= MOST_COUNT_CHANGE
    return Verdict(passed, found.as_dict(), text)


def _compare_frames(
    folder: ModelFolder, engines: ModelFolder, exact: Choice, fast: Choice
) -> Verdict:
    expected, actual = (
        _probabilities(where, choice) for where, choice in ((folder, exact), (engines, fast))
    )
    masks = [
        ops.runs_from_array((one > 0.5).reshape(-1, *one.shape[-2:])) for one in (actual, expected)
    ]
    table = Table(
        (
            compare_arrays("probabilities", actual, expected),
            compare_masks("chambers", masks[0], masks[1]),
        )
    )
    worst = table.rows[-1].mask_iou_min or 0.0
    text = f"{table}\nworst chamber IoU {worst:.4f} (at least {LEAST_CHAMBER_IOU})"
    return Verdict(worst >= LEAST_CHAMBER_IOU, {"rows": table.as_rows()}, text)


def _probabilities(folder: ModelFolder, choice: Choice) -> Array:
    """What a network for frames makes of three windows of the demo's picture, as a batch."""
    about = folder.manifest.frame
    image = read_image(PICTURE)[..., : about.channels]
    side = min(image.shape[:2])
    corners = [(0, 0, side), (side // 8, 0, side // 2), (0, side // 8, side // 2)]
    windows = [(x, y, x + size, y + size) for x, y, size in corners]
    frames = np.stack(
        [ops.frame_input(np.ascontiguousarray(image), window, about.side) for window in windows]
    )
    with closing(Graphs(folder, choice)) as graphs:
        return graphs[UNET_GRAPH].run({"frames": frames})["probabilities"]
