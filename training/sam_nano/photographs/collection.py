"""The downloaded images in memory, and patches drawn from them."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.sam_nano.photographs.manifest import ImageKind

LARGEST_SIDE = {"photograph": 2048, "texture": 1024, "drawing": 640}
"""Longer side in pixels that images of each kind are reduced to."""

SMALLEST_CROP = 0.3
"""Least side of a crop of a photograph, as a share of its shorter side."""

FEWEST_PIXELS = 150
"""Least shorter side in pixels of a crop, where the photograph has as many."""


class Collection:
    """Images below a folder, by kind; each is read when it is first drawn.

    Args:
        folder: The folder that ``training.sam_nano.photographs`` filled.

    Raises:
        FileNotFoundError: It holds no images of one of the kinds.
    """

    def __init__(self, folder: Path) -> None:
        self.files: dict[ImageKind, list[Path]] = {
            kind: sorted(path for path in (folder / kind).rglob("*") if path.is_file())
            for kind in ("photograph", "texture", "drawing")
        }
        for kind, files in self.files.items():
            if not files:
                raise FileNotFoundError(
                    f"{folder} holds no {kind}s: fill it by python -m training.sam_nano.photographs"
                )

    def photograph(
        self, random: np.random.Generator, size: tuple[int, int], least: float = SMALLEST_CROP
    ) -> NDArray[np.uint8]:
        """Draw a crop of a photograph: (height, width, 3), half of them mirrored.

        Args:
            random: Decides the photograph and the crop.
            size: Height and width of the result.
            least: Least share of the photograph's largest crop of that aspect.
        """
        whole = _read(self._choose(random, "photograph"), "photograph")
        height, width = whole.shape[:2]
        largest = min(height / size[0], width / size[1])
        sharp = FEWEST_PIXELS / (largest * min(size))  # small photographs are shown whole
        scale = largest * np.exp(random.uniform(np.log(min(1.0, max(least, sharp))), 0))
        high, wide = max(8, int(size[0] * scale)), max(8, int(size[1] * scale))
        y, x = random.integers(0, height - high + 1), random.integers(0, width - wide + 1)
        crop = Image.fromarray(whole[y : y + high, x : x + wide])
        drawn = np.asarray(crop.resize(size[::-1], Image.Resampling.BICUBIC))
        return np.ascontiguousarray(drawn[:, ::-1]) if random.random() < 0.5 else drawn

    def texture(self, random: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Draw a surface (height, width, 3): a small crop of a photograph, or a texture."""
        if random.random() < 0.6:
            return self.photograph(random, size, least=0.06)
        whole = _read(self._choose(random, "texture"), "texture")
        side = int(min(whole.shape[:2]) * random.uniform(0.2, 1))
        y, x = (int(random.integers(0, room - side + 1)) for room in whole.shape[:2])
        crop = Image.fromarray(whole[y : y + side, x : x + side])
        return np.asarray(crop.resize(size[::-1], Image.Resampling.BICUBIC))

    def drawing(self, random: np.random.Generator) -> NDArray[np.uint8]:
        """Draw a drawing (height, width, 4), cut to the box of its opaque pixels."""
        while True:
            whole = _read(self._choose(random, "drawing"), "drawing")
            opaque = whole[..., 3] > 127
            share = opaque.mean()
            if share > 0.02:
                rows, columns = (np.flatnonzero(opaque.any(axis=axis)) for axis in (1, 0))
                if min(len(rows), len(columns)) > 12:
                    return whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    def _choose(self, random: np.random.Generator, kind: ImageKind) -> Path:
        files = self.files[kind]
        return files[int(random.integers(len(files)))]


@functools.lru_cache(maxsize=96)
def _read(file: Path, kind: ImageKind) -> NDArray[np.uint8]:
    with Image.open(file) as image:
        read = image.convert("RGBA" if kind == "drawing" else "RGB")
    side = LARGEST_SIDE[kind]
    read.thumbnail((side, side))
    return np.asarray(read)
