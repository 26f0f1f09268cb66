"""How good sam-nano is on a real photograph, the coins of scikit-image; never used for training.

``python -m training.evaluation training/runs/one/sam_nano.safetensors``
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional

from fastseg import contract
from fastseg.geometry import Frame
from training.batches import PIXEL_DEVIATION, PIXEL_MEAN
from training.network import SamNano

FOUND_IOU = 0.75
"""Overlap from which on a coin counts as found."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured on the coins."""

    click_best: float
    """Mean IoU of the best of three masks, one click in the middle of each coin."""
    click_chosen: float
    """The same for the mask that the model scores highest."""
    box_alone: float
    """Mean IoU of slot 0 for the box of each coin."""
    box_chosen: float
    """The same for the mask of slots 1 to 3 that the model scores highest."""
    box_score_error: float
    """Mean distance between predicted and measured IoU of slot 0."""
    found: int
    """Coins that everything mode finds with SAM's default thresholds."""
    found_loosely: int
    """The same with thresholds 0.7 and 0.8."""
    kept: int
    """Masks that pass the default thresholds, before duplicates are removed."""


def coins() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The picture (303, 384, 3) and the masks (22, 303, 384) of the coins that stand apart.

    The reference: above Otsu's threshold, closed by 3 x 3, holes filled, pieces of 1000 to 4000
    pixels. That leaves out two coins which run into the bright background of the upper left.
    """
    from scipy import ndimage
    from skimage import data, filters

    grey = data.coins()
    bright = ndimage.binary_closing(grey > filters.threshold_otsu(grey), np.ones((3, 3)))
    pieces, count = ndimage.label(ndimage.binary_fill_holes(bright))
    masks = [pieces == label for label in range(1, count + 1)]
    kept = np.stack([mask for mask in masks if 1000 <= mask.sum() <= 4000])
    return np.repeat(grey[..., None], 3, axis=2), kept


def boxes(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Corners (N, 2, 2) of every mask's box, x before y."""
    corners = []
    for mask in masks:
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        corners.append([[columns[0], rows[0]], [columns[-1], rows[-1]]])
    return np.array(corners, dtype=np.float64)


class Predictor:
    """The network on one picture, in plain torch: slow, and the same arithmetic as training."""

    def __init__(self, network: SamNano, image: NDArray[np.uint8], side: int = 1024) -> None:
        self.network = network.eval()
        self.frame = Frame((image.shape[0], image.shape[1]), side=side)
        height, width = self.frame.resized
        picture = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        square = np.zeros((side, side, 3), dtype=np.float32)
        square[:height, :width] = (np.asarray(picture) - PIXEL_MEAN) / PIXEL_DEVIATION
        with torch.inference_mode():
            tensor = torch.from_numpy(square.transpose(2, 0, 1)[None].copy())
            self.embedding = network.image_encoder(tensor)
        self.positions = network.prompt_encoder.dense_positions()[:, :, : side // 16, : side // 16]

    @torch.inference_mode()
    def __call__(
        self, points: NDArray[np.float64], labels: NDArray[np.int32]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, 4, H, W) at the picture's size and scores (N, 4) for (N, P, 2) points."""
        coords = torch.from_numpy(self.frame.to_model(points))
        sparse, dense = self.network.prompt_encoder(coords, torch.from_numpy(labels))
        logits, scores = self.network.mask_decoder(self.embedding, self.positions, sparse, dense)
        side, (height, width) = self.frame.side, self.frame.resized
        large = functional.interpolate(logits, (side, side), mode="bilinear")
        cut = large[..., :height, :width]
        return functional.interpolate(cut, self.frame.image, mode="bilinear"), scores

    def click(self, points: NDArray[np.float64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Answers to single foreground clicks (N, 2)."""
        padded = np.stack([points, np.zeros_like(points)], axis=1)
        kinds = (contract.LABEL_FOREGROUND, contract.LABEL_PADDING)
        # Frame would move the padding point if the picture had an offset; whole pictures have none.
        return self(padded, np.tile(np.array(kinds, np.int32), (len(points), 1)))

    def box(self, corners: NDArray[np.float64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Answers to boxes (N, 2, 2)."""
        kinds = (contract.LABEL_BOX_TOP_LEFT, contract.LABEL_BOX_BOTTOM_RIGHT)
        return self(corners, np.tile(np.array(kinds, np.int32), (len(corners), 1)))


def overlaps(logits: torch.Tensor, truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU (N, M) of (N, M, H, W) logits with their own truth (N, H, W)."""
    drawn, wanted = (logits > 0).numpy(), truth[:, None]
    both = (drawn & wanted).sum(axis=(2, 3))
    return np.asarray(both / np.maximum((drawn | wanted).sum(axis=(2, 3)), 1))


def everything(
    predict: Predictor, truth: NDArray[np.bool_], points_per_side: int
) -> dict[tuple[float, float], tuple[int, int]]:
    """Coins found and masks kept by a grid of clicks, for two pairs of thresholds.

    A sketch of everything mode without removal of duplicates, which cannot find more coins.
    """
    height, width = predict.frame.image
    steps = (np.arange(points_per_side) + 0.5) / points_per_side
    x, y = np.meshgrid(steps * width, steps * height)
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    pairs = ((0.88, 0.95), (0.7, 0.8))
    best = {pair: np.zeros(len(truth)) for pair in pairs}
    kept = dict.fromkeys(pairs, 0)
    areas = truth.sum(axis=(1, 2))
    flat = truth.reshape(len(truth), -1).T.astype(np.float32)
    for start in range(0, len(grid), 64):
        logits, scores = predict.click(grid[start : start + 64])
        planes, quality = logits[:, 1:].flatten(0, 1).flatten(1), scores[:, 1:].flatten().numpy()
        sure, possible = (planes > 1).sum(dim=1), (planes > -1).sum(dim=1)
        stability = (sure / possible.clamp(min=1)).numpy()
        drawn = (planes > 0).numpy().astype(np.float32)
        both = drawn @ flat
        iou = both / np.maximum(drawn.sum(axis=1)[:, None] + areas - both, 1)
        for pair in pairs:
            passed = (quality > pair[0]) & (stability >= pair[1])
            kept[pair] += int(passed.sum())
            if passed.any():
                best[pair] = np.maximum(best[pair], iou[passed].max(axis=0))
    return {pair: (int((best[pair] >= FOUND_IOU).sum()), kept[pair]) for pair in pairs}


def evaluate(network: SamNano, points_per_side: int = 32, side: int = 1024) -> Quality:
    """Measure a network on the coins; ``points_per_side`` 0 leaves everything mode out."""
    image, truth = coins()
    predict = Predictor(network, image, side)
    corners = boxes(truth)
    rows = np.arange(len(truth))
    clicked, scores = predict.click(corners.mean(axis=1))
    click = overlaps(clicked, truth)[:, 1:]
    boxed, box_scores = predict.box(corners)
    box = overlaps(boxed, truth)
    strict, loose = (0, 0), (0, 0)
    if points_per_side:
        strict, loose = everything(predict, truth, points_per_side).values()
    return Quality(
        click_best=float(click.max(axis=1).mean()),
        click_chosen=float(click[rows, scores[:, 1:].argmax(dim=1).numpy()].mean()),
        box_alone=float(box[:, 0].mean()),
        box_chosen=float(box[rows, 1 + box_scores[:, 1:].argmax(dim=1).numpy()].mean()),
        box_score_error=float(np.abs(box_scores[:, 0].numpy() - box[:, 0]).mean()),
        found=strict[0],
        found_loosely=loose[0],
        kept=strict[1],
    )


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="sam_nano.safetensors of a run")
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--side", type=int, default=1024, help="of the square, in pixels")
    arguments = parser.parse_args(argv)
    network = SamNano()
    network.load_state_dict(load_file(arguments.weights))
    print(json.dumps(asdict(evaluate(network, arguments.points_per_side, arguments.side))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
