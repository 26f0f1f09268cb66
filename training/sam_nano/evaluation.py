"""Quality of a model folder on a real photograph, the coins of scikit-image; never trained on.

``python -m training.sam_nano.evaluation fastseg/models/sam-nano``
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fastseg

FOUND_IOU = 0.8
"""Overlap from which on a coin counts as found."""


@dataclass(frozen=True, slots=True)
class CoinQuality:
    """Quality on the coins, at the full square and through the whole pipeline."""

    point_best: float
    """Mean IoU of the best of three masks, one point in the middle of each coin."""
    point_chosen: float
    """Mean IoU of the mask that the model scores highest."""
    box_single: float
    """Mean IoU of the single mask for the box of each coin."""
    box_chosen: float
    """Mean IoU of the mask of three that the model scores highest."""
    coins: int
    """Isolated coins."""
    found: int
    """Coins that everything mode finds with SAM's default settings."""
    masks: int
    """Masks that everything mode returns."""
    masks_that_are_coins: int
    """Masks of everything mode that overlap a coin by ``FOUND_IOU`` or more."""


def coins() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the image (303, 384, 3) and the masks (22, 303, 384) of the isolated coins.

    The reference: above Otsu's threshold, closed by 3 x 3, holes filled, pieces of 1000 to 4000
    pixels. That leaves out the coins which run into the bright background of the upper left.
    """
    from scipy import ndimage
    from skimage import data, filters

    grey = data.coins()
    bright = ndimage.binary_closing(grey > filters.threshold_otsu(grey), np.ones((3, 3)))
    pieces, count = ndimage.label(ndimage.binary_fill_holes(bright))
    masks = [pieces == label for label in range(1, count + 1)]
    kept = np.stack([mask for mask in masks if 1000 <= mask.sum() <= 4000])
    return np.repeat(grey[..., None], 3, axis=2), kept


def corners(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the box x0, y0, x1, y1 of the outermost pixels of every mask: (N, 4)."""
    found = []
    for mask in masks:
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        found.append([columns[0], rows[0], columns[-1], rows[-1]])
    return np.array(found, dtype=np.float64)


def edges(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the boxes along the outer edges of the pixels, so that they have the masks' extent."""
    return np.add(corners(masks), (0, 0, 1, 1))


def overlaps(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the IoU (N, M) of every mask of one stack with every mask of another."""
    a, b = (masks.reshape(len(masks), -1).astype(np.float64) for masks in (one, other))
    both = a @ b.T
    union = a.sum(axis=1)[:, None] + b.sum(axis=1) - both
    return np.asarray(both / np.maximum(union, 1))


def evaluate(folder: str | Path) -> CoinQuality:
    """Measure a model folder, or an embedded model by its name, on the coins."""
    image, truth = coins()
    boxes, rows = corners(truth), np.arange(len(truth))
    with fastseg.load(folder) as model:
        embedding = model.embed(image)
        middles = (boxes[:, :2] + boxes[:, 2:])[:, None] / 2
        by_point = model.segment(embedding, points=middles)
        by_box = model.segment(embedding, boxes=boxes)
        single = model.segment(embedding, boxes=boxes, multimask=False)
        all_masks = model.everything(image)
    point = overlaps(by_point.array(), truth).reshape(len(truth), 3, len(truth))
    matches = overlaps(all_masks.array(), truth) >= FOUND_IOU
    return CoinQuality(
        point_best=float(point[rows, :, rows].max(axis=1).mean()),
        point_chosen=float(overlaps(by_point.best().array(), truth)[rows, rows].mean()),
        box_single=float(overlaps(single.array(), truth)[rows, rows].mean()),
        box_chosen=float(overlaps(by_box.best().array(), truth)[rows, rows].mean()),
        coins=len(truth),
        found=int(matches.any(axis=0).sum()),
        masks=len(all_masks),
        masks_that_are_coins=int(matches.any(axis=1).sum()),
    )


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="a model folder, or the name of an embedded model")
    arguments = parser.parse_args(argv)
    print(json.dumps(asdict(evaluate(arguments.folder)), indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
