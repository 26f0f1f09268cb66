"""Published example frames as data for ``fastseg evaluate``, ``echo`` and ``measure``.

``python -m training.echo.example_dataset FRAMES OUT``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg.errors import FastsegError, ImageError

CHAMBERS = {"a2c": ("LA", "LV"), "a4c": ("LA", "LV", "RA", "RV")}
"""Chambers in the order of the channels behind the first, which is their union."""

BLACK = (0, 128, 128)
"""Luma and chroma of black; where luma is 0 the frames have other chroma, which is no colour."""

WORDS = {"a2c": "two", "a4c": "four"}
"""Beginning of the patients' names: frames of two views are of different patients."""


def write_dataset(frames: Path, out: Path) -> dict[str, int]:
    """Write the apical frames as images, and the masks of the published network as label maps.

    Each view gets a folder with ``images``, ``masks`` and ``classes.csv``. Names hold the view, and
    every frame is a patient of its own.

    Args:
        frames: Folder of ``A2C_*.npz`` and ``A4C_*.npz`` with the arrays ``image`` (H, W, 3), luma
            and chroma, and ``final`` (H, W, channels).
        out: The folder to write.

    Returns:
        The number of frames of each view.

    Raises:
        ImageError: There are no such frames, or one lacks an array.
    """
    counts = {}
    for view, chambers in CHAMBERS.items():
        files = sorted(frames.glob(f"{view.upper()}_*.npz"))
        if not files:
            raise ImageError(f"{frames} holds no {view.upper()}_*.npz. Name the folder of frames.")
        for inside in ("images", "masks"):
            (out / view / inside).mkdir(parents=True, exist_ok=True)
        for file in files:
            image, labels = _read(file, len(chambers))
            # A view at the beginning of a name would be taken for the view, without a patient.
            name = f"{WORDS[view]}-{file.stem.partition('_')[2]}_{view}.png"
            image.save(out / view / "images" / name)
            Image.fromarray(labels).save(out / view / "masks" / name)
        rows = "".join(f"{value},{name}\n" for value, name in enumerate(chambers, start=1))
        (out / view / "classes.csv").write_text(f"value,name\n{rows}", encoding="utf-8")
        counts[view] = len(files)
    return counts


def _read(file: Path, chambers: int) -> tuple[Image.Image, NDArray[np.uint8]]:
    """Read a frame as RGB, and its chambers as labels from 1; the later has what two claim."""
    try:
        with np.load(file) as arrays:
            image, final = arrays["image"], arrays["final"]
    except (OSError, ValueError, KeyError) as error:
        raise ImageError(f"{file} is no example frame: {error}.") from error
    if image.dtype != np.uint8:
        image = np.round(image.astype(np.float64) * 255).astype(np.uint8)
    image = np.where(image[..., :1] == 0, np.uint8(BLACK), image)
    labels = np.zeros(final.shape[:2], np.uint8)
    for channel in range(1, chambers + 1):
        labels[final[..., channel] > 0] = channel
    return Image.fromarray(image, "YCbCr").convert("RGB"), labels


def main(argv: list[str] | None = None) -> int:
    """Write the dataset that the command names; return 1 if there are no frames."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", type=Path, help="folder of A2C_*.npz and A4C_*.npz")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args(argv)
    try:
        counts = write_dataset(arguments.frames, arguments.out)
    except FastsegError as error:
        print(error, file=sys.stderr)
        return 1
    print(", ".join(f"{count} frames of {view}" for view, count in counts.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
