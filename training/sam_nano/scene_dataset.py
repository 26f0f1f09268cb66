"""Held-out scenes as a dataset of ``fastseg evaluate``: python -m training.sam_nano.scene_dataset.

The classes are the kinds of scene. Nothing in the folder was ever drawn for training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from training.sam_nano import held_out

SIDE = 512
"""Side of the images: half of that of the scenes, which keeps runs short."""


def write_dataset(folder: Path, count: int) -> int:
    """Write images and masks, and return the number of objects."""
    for inside in ("images", "masks"):
        (folder / inside).mkdir(parents=True, exist_ok=True)
    objects = 0
    for number, scene in enumerate(held_out.scenes(count)):
        name = f"scene{number:02}"
        image = Image.fromarray(scene.image).resize((SIDE, SIDE), Image.Resampling.BOX)
        image.save(folder / "images" / f"{name}.png")
        for place, mask in enumerate(scene.masks):
            drawn = Image.fromarray(mask.astype(np.uint8) * 255)
            small = np.asarray(drawn.resize((SIDE, SIDE), Image.Resampling.BOX)) > 127
            kind = scene.kind.replace("_", " ")
            file = folder / "masks" / f"{name}_{kind}_{place}.png"
            Image.fromarray(small.astype(np.uint8) * 255).save(file)
            objects += 1
    return objects


def main() -> None:
    """Write the dataset that the command names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=10, help="number of scenes")
    arguments = parser.parse_args()
    print(f"{write_dataset(arguments.folder, arguments.count)} objects in {arguments.folder}")


if __name__ == "__main__":
    main()
