"""Collages: objects pasted into photographs, scattered or on shelves, seen in perspective."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from training.sam_nano import figures
from training.sam_nano.photographs import camera, sprites
from training.sam_nano.photographs.collection import Collection
from training.sam_nano.photographs.sprites import Sprite
from training.sam_nano.scenes import Scene

SMALLEST_PART = 160
"""Least pixels of a part that gets a number of its own."""

GOODS = ("bottle", "packet", "mug")
"""Figures that stand on shelves."""


class Collage:
    """A collage under construction."""

    def __init__(
        self, random: np.random.Generator, images: Collection, size: tuple[int, int]
    ) -> None:
        self.random = random
        self.images = images
        self.size = size
        self.plain = random.random() < 0.45
        """True if the ground is one surface, which holds no objects of its own."""
        self.colours = self._ground()
        self.labels = np.zeros(size, dtype=np.int16)
        self.wholes = [0]

    def _ground(self) -> NDArray[np.float32]:
        if self.plain:
            return sprites.surface(self.random, self.images, self.size).copy()
        ground = Image.fromarray(self.images.photograph(self.random, self.size))
        if self.random.random() < 0.35:
            ground = ground.filter(ImageFilter.GaussianBlur(self.random.uniform(2, 12)))
        return np.asarray(ground, dtype=np.float32) / 255

    def paste(self, sprite: Sprite, corner: tuple[int, int]) -> int:
        """Paste an object with its upper left pixel at x, y; return its number, or 0."""
        height, width = sprite.coverage.shape
        x, y = corner
        x0, y0, x1, y1 = (
            max(x, 0),
            max(y, 0),
            min(x + width, self.size[1]),
            min(y + height, self.size[0]),
        )
        if x1 - x0 < 8 or y1 - y0 < 8:
            return 0
        here, there = np.s_[y0:y1, x0:x1], np.s_[y0 - y : y1 - y, x0 - x : x1 - x]
        inside = sprite.inside[there]
        if inside.sum() < SMALLEST_PART:
            return 0
        if self.random.random() < 0.6:
            self._shadow(sprite, corner)
        weight, colours = sprite.coverage[there], sprite.colours[there]
        if self.random.random() < 0.2:  # out of focus
            reach = self.random.uniform(0.8, 3)
            weight, colours = _blur(weight, reach), _blur(colours, reach)
        self.colours[here] += weight[..., None] * (colours - self.colours[here])
        return self._claim(here, inside, sprite.parts[there])

    def _claim(
        self, here: tuple[slice, slice], inside: NDArray[np.bool_], parts: NDArray[np.int16]
    ) -> int:
        whole = len(self.wholes)
        self.wholes.append(whole)
        self.labels[here][inside] = whole
        for part in range(1, int(parts.max(initial=0)) + 1):
            mask = inside & (parts == part)
            count = int(mask.sum())
            if SMALLEST_PART < count < 0.85 * inside.sum():
                self.labels[here][mask] = len(self.wholes)
                self.wholes.append(whole)
        return whole

    def _shadow(self, sprite: Sprite, corner: tuple[int, int]) -> None:
        """Darken the ground beside an object."""
        reach = max(2, int(self.random.uniform(0.02, 0.12) * max(sprite.coverage.shape)))
        plane = np.pad(sprite.coverage, 3 * reach)
        soft = _blur(plane, reach) * np.float32(self.random.uniform(0.15, 0.6))
        x, y = (int(c - 3 * reach + self.random.normal(0, 1.2 * reach)) for c in corner)
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + plane.shape[1], self.size[1]), min(y + plane.shape[0], self.size[0])
        if x1 > x0 and y1 > y0:
            darker = 1 - soft[y0 - y : y1 - y, x0 - x : x1 - x]
            self.colours[y0:y1, x0:x1] *= darker[..., None]

    def finish(self) -> Scene:
        """Return the scene, from the side in some cases, as a camera shows it."""
        colours, labels = self.colours, self.labels
        if self.random.random() < 0.3:
            colours, labels = _tilt(self.random, colours, labels)
        image = camera.expose(self.random, colours)
        wholes = np.array(self.wholes, dtype=np.int16)
        return Scene(image, labels, wholes, ground_known=self.plain)


def _blur(plane: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    image = Image.fromarray((np.clip(plane, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(reach)), dtype=np.float32) / 255


def _tilt(
    random: np.random.Generator, colours: NDArray[np.float32], labels: NDArray[np.int16]
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Show a quadrilateral of a scene, as from the side."""
    height, width = labels.shape
    corners = np.array([[0, 0], [0, height], [width, height], [width, 0]], dtype=float)
    inwards = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
    corners += inwards * random.uniform(0, 0.18, (4, 2)) * [width, height]
    shown = Image.fromarray((np.clip(colours, 0, 1) * 255).astype(np.uint8))
    numbers = Image.fromarray(labels.astype(np.int32))
    moved = [
        image.transform((width, height), Image.Transform.QUAD, corners.ravel().tolist(), filter_)
        for image, filter_ in (
            (shown, Image.Resampling.BILINEAR),
            (numbers, Image.Resampling.NEAREST),
        )
    ]
    return np.asarray(moved[0], np.float32) / 255, np.asarray(moved[1]).astype(np.int16)


def scatter(collage: Collage) -> None:
    """Paste objects of all sizes anywhere, or a few large ones."""
    random, (height, width) = collage.random, collage.size
    for _ in range(int(random.integers(2, 14))):
        side = float(np.exp(random.uniform(np.log(28), np.log(0.85 * max(collage.size)))))
        sprite = sprites.draw(random, collage.images, side)
        high, wide = sprite.coverage.shape
        x = int(random.uniform(-0.3 * wide, width - 0.7 * wide))
        y = int(random.uniform(-0.3 * high, height - 0.7 * high))
        collage.paste(sprite, (x, y))


def shelves(collage: Collage) -> None:
    """Paste rows of goods on boards, side by side, most of them alike within a row."""
    random, (height, width) = collage.random, collage.size
    row = int(height * random.uniform(0.14, 0.4))
    for foot in range(row, height + row, row):
        board = np.s_[foot - max(3, row // 12) : foot, :]
        collage.colours[board] *= np.float32(random.uniform(0.3, 1.2))
        x = int(random.uniform(-0.2, 0) * row)
        while x < width:
            name = str(random.choice(GOODS))
            parts = figures.FIGURES[name](random)
            side = 0.85 * row * random.uniform(0.6, 1)
            for _ in range(int(random.integers(1, 6))):
                sprite = sprites.of_figure(random, collage.images, parts, side)
                high, wide = sprite.coverage.shape
                collage.paste(sprite, (x, foot - row // 12 - high))
                x += int(wide * random.uniform(0.9, 1.1))


def generate(random: np.random.Generator, images: Collection, size: tuple[int, int]) -> Scene:
    """Draw a collage of ``(height, width)`` pixels."""
    collage = Collage(random, images, size)
    (shelves if random.random() < 0.2 else scatter)(collage)
    return collage.finish()
