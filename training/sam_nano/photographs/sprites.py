"""Objects to be pasted into a scene: their colours, their coverage, and their parts."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from training import outlines, textures
from training.sam_nano import figures
from training.sam_nano.figures import Part
from training.sam_nano.photographs import regions
from training.sam_nano.photographs.collection import Collection
from training.sam_nano.scenes import fill

SOURCES = ("figure", "drawing", "cutout", "shape")
SOURCE_ODDS = (0.35, 0.27, 0.18, 0.2)

CUTOUT_AREAS = (0.01, 0.4)
"""Least and largest share of its photograph of a region that is cut out."""


CUTOUT_CROPS = 300
"""Crops of photographs that regions are cut out of; finding regions takes most of a sprite."""

CUTOUT_SEED = 68
"""First number of the seed of such a crop."""


@dataclass(frozen=True, slots=True)
class Sprite:
    """One object."""

    colours: NDArray[np.float32]
    """``(height, width, 3)`` in [0, 1]."""

    coverage: NDArray[np.float32]
    """``(height, width)`` in [0, 1]."""

    parts: NDArray[np.int16]
    """``(height, width)``: number of the part, from 1 on; 0 where the object has no named part."""

    @property
    def inside(self) -> NDArray[np.bool_]:
        """The pixels that belong to the object."""
        return self.coverage > 0.5


def draw(
    random: np.random.Generator, images: Collection, side: float, source: str | None = None
) -> Sprite:
    """Draw an object whose longer side has ``side`` pixels, from a given source or any."""
    chosen = source or str(random.choice(SOURCES, p=SOURCE_ODDS))
    if chosen == "figure":
        return of_figure(random, images, figures.draw(random), side)
    if chosen == "drawing":
        return of_drawing(random, images, side)
    if chosen == "cutout":
        return of_cutout(random, images, side)
    outline = outlines.random_outline(random, 0.5)
    return of_figure(random, images, [Part(outline, 0)], side)


def of_figure(
    random: np.random.Generator, images: Collection, parts: list[Part], side: float
) -> Sprite:
    """Fill the parts of a figure with surfaces, and shade them."""
    points = np.concatenate([part.outline for part in parts])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = side / max(float((high - low).max()), 1e-3)
    width, height = (np.ceil((high - low) * scale).astype(int) + 5).tolist()
    size = (height, width)
    colours = np.zeros((*size, 3), np.float32)
    inside, numbers = np.zeros(size, bool), np.zeros(size, np.int16)
    skins: dict[int, NDArray[np.float32]] = {}
    for part in parts:
        mask = fill((part.outline - low) * scale + 2, size) > 127
        if part.surface not in skins:
            skins[part.surface] = surface(random, images, size)
        shade = np.float32(1 + random.normal(0, 0.06))
        colours[mask] = skins[part.surface][mask] * shade
        numbers[mask], inside = part.surface + 1, inside | mask
    return _finish(random, colours, inside.astype(np.float32), numbers)


def of_drawing(random: np.random.Generator, images: Collection, side: float) -> Sprite:
    """Take a drawing as it is, or with its lights and shadows on another surface."""
    pixels = Image.fromarray(images.drawing(random))
    scale = side / max(pixels.size)
    size = (max(6, round(pixels.width * scale)), max(6, round(pixels.height * scale)))
    image = np.asarray(pixels.resize(size, Image.Resampling.BILINEAR), dtype=np.float32) / 255
    if random.random() < 0.5:
        image = image[:, ::-1]
    colours, coverage = image[..., :3], image[..., 3]
    if random.random() < 0.6:
        own = surface(random, images, coverage.shape)
        colours = 0.55 * own + 0.45 * colours.mean(axis=2, keepdims=True)
    elif random.random() < 0.5:
        colours = colours[..., random.permutation(3)]
    return _finish(random, colours, coverage, np.zeros(coverage.shape, np.int16))


def of_cutout(random: np.random.Generator, images: Collection, side: float) -> Sprite:
    """Cut a region out of a photograph; a drawing stands in for a crop without one."""
    number = int(random.integers(CUTOUT_CROPS))
    crop = _labelled_crop(images, number)
    if not crop.masks:
        return of_drawing(random, images, side)
    mask = crop.masks[int(random.integers(len(crop.masks)))]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _enlarge(random, crop.pixels[window], mask[window], side)


class _LabelledCrop(NamedTuple):
    """A crop of a photograph, and those of its regions that can be cut out."""

    pixels: NDArray[np.uint8]
    masks: list[NDArray[np.bool_]]


@functools.lru_cache(maxsize=CUTOUT_CROPS)
def _labelled_crop(images: Collection, number: int) -> _LabelledCrop:
    """Draw the crop of a number; regions that its edge cuts are none of its objects."""
    random = np.random.default_rng((CUTOUT_SEED, number))
    crop = (int(random.integers(224, 321)), int(random.integers(224, 321)))
    pixels = images.photograph(random, crop)
    found = regions.find(random, pixels)
    levels, chosen = regions.levels(found), []
    for region in range(1, len(found.wholes)):
        mask = (levels == region).any(axis=0)
        border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        if CUTOUT_AREAS[0] < mask.mean() < CUTOUT_AREAS[1] and not border.any():
            chosen.append(mask)
    return _LabelledCrop(pixels, chosen)


def _enlarge(
    random: np.random.Generator, pixels: NDArray[np.uint8], mask: NDArray[np.bool_], side: float
) -> Sprite:
    scale = side / max(mask.shape)
    size = tuple(max(6, round(length * scale)) for length in mask.shape[::-1])
    image = Image.fromarray(pixels).resize((size[0], size[1]), Image.Resampling.BICUBIC)
    plane = Image.fromarray(mask.astype(np.uint8) * 255)
    soft = plane.resize((size[0], size[1]), Image.Resampling.BICUBIC).filter(
        ImageFilter.GaussianBlur(0.4 * scale)
    )
    coverage = np.clip((np.asarray(soft, np.float32) / 255 - 0.5) * 3 + 0.5, 0, 1)
    colours = np.asarray(image, dtype=np.float32) / 255
    return _finish(random, colours, coverage, np.zeros(coverage.shape, np.int16))


def surface(
    random: np.random.Generator, images: Collection, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Draw a surface (height, width, 3): one colour, or a texture about it, strong or weak."""
    colour = random.uniform(0.05, 0.95, 3)
    if random.random() < 0.4:
        colour = np.full(3, colour.mean()) + random.normal(0, 0.04, 3)
    kind = random.random()
    if kind < 0.25:
        weave = textures.surface(random, size)[..., None] * random.uniform(0, 0.08)
        return np.asarray(np.clip(colour + weave, 0, 1), dtype=np.float32)
    texture = images.texture(random, size).astype(np.float32) / 255
    if kind < 0.55:
        return texture
    strength = random.uniform(0.2, 0.9)
    mixed = colour + strength * (texture - texture.mean(axis=(0, 1)))
    return np.asarray(np.clip(mixed, 0, 1), dtype=np.float32)


def _finish(
    random: np.random.Generator,
    colours: NDArray[np.float32],
    coverage: NDArray[np.float32],
    parts: NDArray[np.int16],
) -> Sprite:
    """Shade an object: lighter on one side, darker towards its edge."""
    height, width = coverage.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    angle, slope = random.uniform(0, 2 * np.pi), random.uniform(0, 0.35)
    light = 1 + slope * (np.cos(angle) * x + np.sin(angle) * y)
    if random.random() < 0.5:
        plane = Image.fromarray((coverage * 255).astype(np.uint8))
        reach = max(1.0, 0.06 * max(coverage.shape))
        deep = np.asarray(plane.filter(ImageFilter.GaussianBlur(reach)), np.float32) / 255
        light = light * (1 - random.uniform(0, 0.5) * np.clip(2 - 2 * deep, 0, 1))
    shaded = np.clip(colours * light[..., None], 0, 1).astype(np.float32)
    return Sprite(shaded, np.asarray(coverage, np.float32), parts)
