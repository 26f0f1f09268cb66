"""Drawing of what a model does with boxes on ordinary photographs, and with a grid on coins.

``python -m training.sam_nano.sample_masks docs/sam-nano.png``
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import fastseg
from fastseg.overlay import Panel, compose
from fastseg.sam.model import Sam

BOXES = {
    "cup, saucer, spoon": [(172, 15, 427, 310), (78, 62, 480, 390), (318, 64, 424, 328)],
    "eyes and nose": [(136, 82, 206, 149), (295, 110, 346, 165), (232, 223, 290, 265)],
    "head, helmet, rocket": [(152, 13, 302, 187), (279, 340, 508, 512), (357, 0, 452, 246)],
    "hat, face": [(153, 18, 370, 177), (158, 130, 375, 315)],
}
"""Boxes x0, y0, x1, y1 of objects, drawn by eye before any mask of theirs was seen."""

LONG_SIDE = 480
"""Longest side of a panel in pixels."""


def photographs() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the photographs of ``BOXES`` by their names, uint8 (H, W, 3).

    Training saw patches of the first three, without any label; it never saw the last.
    """
    from matplotlib import cbook
    from skimage import data

    names = iter(BOXES)
    for image in (data.coffee(), data.chelsea(), data.astronaut()):
        yield next(names), image
    with cbook.get_sample_data("grace_hopper.jpg") as file, Image.open(file) as image:
        yield next(names), np.asarray(image.convert("RGB"))


def panels(model: Sam) -> Iterator[Panel]:
    """Yield a panel of coins in everything mode, and one of boxes for each photograph."""
    from skimage import data

    coins = np.repeat(data.coins()[..., None], 3, axis=2)
    yield Panel(coins, model.everything(coins, points_per_side=16), "coins, everything mode")
    for name, image in photographs():
        masks = model.segment(image, boxes=BOXES[name]).best()
        yield Panel(image, masks, name, prompt_boxes=BOXES[name])


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and write the drawing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument("--model", default="sam-nano", help="name or folder of the model")
    arguments = parser.parse_args(argv)
    with fastseg.load(arguments.model) as model:
        drawn = compose(list(panels(model)), "masks of the highest score", long_side=LONG_SIDE)
    drawn.quantize(256).save(arguments.out, optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
