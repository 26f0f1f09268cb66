"""Generated images of vessels in an eye: python -m training.finetune.vessel_dataset FOLDER.

They look enough like photographs of a fundus to try the commands on, and are no substitute for one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training import textures
from training.sam_nano import branches, scenes

SIDE = 512
"""Side of the images in pixels, about that of DRIVE."""

VESSEL, FUNDUS, DISC = (
    np.array(colour, np.float32)
    for colour in ((0.42, 0.12, 0.07), (0.72, 0.36, 0.19), (0.95, 0.8, 0.5))
)
"""Colours of vessels, ground and optic disc in [0, 1]."""

TRUTH_FROM = 0.5
"""Share of a pixel that vessels cover from which it belongs to the truth."""


def generate(
    random: np.random.Generator, side: int = SIDE
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one image and its vessels; the generator alone decides its content.

    Args:
        random: Source of every choice.
        side: Height and width in pixels.

    Returns:
        uint8 (side, side, 3), and bool (side, side).
    """
    size = (side, side)
    y, x = (np.mgrid[:side, :side].astype(np.float32) + 0.5) / side - 0.5
    fundus = x**2 + y**2 < 0.47**2
    colours = FUNDUS * (1 + 0.08 * textures.mottled(random, size, side / 4))[..., None]
    _spot(colours, DISC, (x, y), random.uniform(-0.3, 0.3, 2), 0.07, 0.9)
    for _ in range(int(random.integers(3, 9))):  # bleedings, which are no vessels
        reach = random.uniform(0.008, 0.03)
        _spot(
            colours, VESSEL, (x, y), random.uniform(-0.35, 0.35, 2), reach, random.uniform(0.4, 0.9)
        )
    vessels = np.zeros(size, np.bool_)
    for _ in range(int(random.integers(5, 9))):
        vessels |= branches.tree(random, size, random.uniform(3, 8) * side / SIDE)
    covered = textures.soften(vessels.astype(np.float32), 1)
    colours += (covered * np.float32(random.uniform(0.35, 0.8)))[..., None] * (VESSEL - colours)
    lit = scenes.light(random, colours.astype(np.float32)) * fundus[..., None]
    noisy = lit * 255 + random.normal(0, 6, (*size, 3))
    image = np.clip(noisy, 0, 255).astype(np.uint8)
    return image, (covered >= TRUTH_FROM) & fundus


def _spot(
    colours: NDArray[np.float32],
    colour: NDArray[np.float32],
    grid: tuple[NDArray[np.float32], NDArray[np.float32]],
    centre: NDArray[np.float64],
    reach: float,
    strength: float,
) -> None:
    """Blend a round spot with a soft edge into an image."""
    distance = np.hypot(grid[0] - centre[0], grid[1] - centre[1]) / reach
    weight = strength / (1 + np.exp(np.clip((distance - 1) * 8, -60, 60)))
    colours += weight[..., None].astype(np.float32) * (colour - colours)


def write_dataset(folder: Path, count: int, seed: int, *, side: int = SIDE) -> None:
    """Write ``count`` images and masks, each drawn by the seed and its own number."""
    for inside in ("images", "masks"):
        (folder / inside).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, vessels = generate(np.random.default_rng((seed, number)), side)
        name = f"eye{number:03}"
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
        mask = Image.fromarray(vessels.astype(np.uint8) * 255)
        mask.save(folder / "masks" / f"{name}_vessels.png")


def main(argv: list[str] | None = None) -> int:
    """Write the two datasets that the command names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="gets train/ and test/, each images/ and masks/")
    parser.add_argument("--train", type=int, default=20, help="images to train on (20)")
    parser.add_argument("--test", type=int, default=20, help="images to test on (20)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    # Seeds of training and test never meet.
    write_dataset(arguments.folder / "train", arguments.train, 2 * arguments.seed)
    write_dataset(arguments.folder / "test", arguments.test, 2 * arguments.seed + 1)
    print(f"{arguments.train} and {arguments.test} images in {arguments.folder}/train and /test")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
