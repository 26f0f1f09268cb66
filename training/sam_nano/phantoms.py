"""Tomogram- and radiograph-like images: smooth bodies within bodies, grey, low in contrast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training import outlines, textures
from training.outlines import Outline
from training.sam_nano.scenes import Scene, fill


def _organ(random: np.random.Generator, radius: float) -> Outline:
    """Draw a smooth closed curve: rounder than a blob, now and then bent like a kidney."""
    if random.random() < 0.45:
        return outlines.ellipse(random, radius)
    rounded = outlines.blob(random, radius)
    if random.random() < 0.5:
        rounded *= radius / np.maximum(np.linalg.norm(rounded, axis=1, keepdims=True), 1) * 0.5
        rounded += 0.5 * outlines.blob(random, radius)
    if random.random() < 0.25:
        rounded[:, 1] += random.normal(0, 0.6) * rounded[:, 0] ** 2 / radius
    return rounded


def _organ_in(
    random: np.random.Generator, inside: NDArray[np.bool_], radius: float
) -> Outline | None:
    """Draw an organ whose middle lies in ``inside``; None where there is no room."""
    positions = np.flatnonzero(inside[::8, ::8])
    if not len(positions):
        return None
    y, x = np.divmod(int(random.choice(positions)), inside[::8, ::8].shape[1])
    return _organ(random, radius) + 8.0 * np.array([x, y])


class Slice:
    """A slice under construction: one grey level a pixel, and the label of its object."""

    def __init__(self, random: np.random.Generator, size: tuple[int, int]) -> None:
        self.random = random
        self.size = size
        self.grey = np.full(size, random.uniform(0, 0.15), dtype=np.float32)
        self.texture = textures.mottled(random, size, 40)
        self.labels = np.zeros(size, dtype=np.int16)
        self.wholes = [0]
        self.projected = random.random() < 0.35
        """True if grey levels add up, as in a radiograph, and do not hide each other."""

    def add(self, inside: NDArray[np.bool_], level: float, *, part_of: int = 0) -> int:
        """Fill a region with a soft-edged grey level; return its label."""
        random = self.random
        weight = textures.soften(inside.astype(np.float32), int(random.integers(1, 6)))
        if self.projected:
            self.grey += weight * np.float32(level * random.uniform(0.2, 0.6))
        else:
            texture = np.float32(random.choice([0.0, 0.02, 0.05])) * self.texture
            self.grey += weight * (np.float32(level) + texture - self.grey)
        label = len(self.wholes)
        self.labels[inside] = label
        self.wholes.append(part_of or label)
        return label


def _fill(slice_: Slice, outline: Outline | None, within: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if outline is None:
        return np.zeros_like(within)
    return (fill(outline, slice_.size) > 127) & within


def _organs(slice_: Slice, within: NDArray[np.bool_], level: float, whole: int) -> None:
    random = slice_.random
    contrast = random.uniform(0.04, 0.3)
    for _ in range(int(random.integers(3, 11))):
        reach = np.exp(random.uniform(np.log(12), np.log(0.24 * max(slice_.size))))
        inside = _fill(slice_, _organ_in(random, within, reach), within)
        if inside.sum() < 200:
            continue
        own = level + random.choice([-1, 1]) * contrast * random.uniform(0.4, 1.6)
        label = slice_.add(inside, own, part_of=whole)
        if not whole and random.random() < 0.25:  # a lesion belongs to the organ it sits in
            spot = _fill(
                slice_, _organ_in(random, inside, reach * random.uniform(0.2, 0.4)), inside
            )
            if spot.sum() > 160:
                slice_.add(spot, own + random.normal(0, contrast), part_of=label)


def _bones(slice_: Slice, within: NDArray[np.bool_], whole: int) -> None:
    """Add bright small bodies, or the stripes of ribs."""
    random, (height, width) = slice_.random, slice_.size
    if random.random() < 0.5:
        for _ in range(int(random.integers(1, 4))):
            outline = _organ_in(random, within, random.uniform(10, 0.1 * max(slice_.size)))
            inside = _fill(slice_, outline, within)
            if inside.sum() > 160:
                slice_.add(inside, random.uniform(0.75, 1.0), part_of=whole)
        return
    gap, thick = random.uniform(0.1, 0.2) * height, random.uniform(0.015, 0.04) * height
    x = np.linspace(0, width, 24)
    for y in np.arange(random.uniform(0, gap), height, gap):
        spine = y + random.uniform(0.05, 0.3) * height * ((x / width - 0.5) * 2) ** 2
        rib = np.concatenate(
            [np.stack([x, spine - thick], 1), np.stack([x, spine + thick], 1)[::-1]]
        )
        soft = textures.soften((_fill(slice_, rib, within)).astype(np.float32), 3)
        slice_.grey += soft * np.float32(random.uniform(0.03, 0.15))  # visible, but no object


def generate(random: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draw a slice or a radiograph of ``(height, width)`` pixels."""
    slice_ = Slice(random, size)
    height, width = size
    level = random.uniform(0.25, 0.65)
    reach = max(size) * random.uniform(0.35, 0.9)
    middle = np.array([width, height]) * random.uniform(0.3, 0.7, 2)
    body = _fill(slice_, _organ(random, reach) + middle, np.ones(size, dtype=bool))
    whole = slice_.add(body, level) if body.any() and random.random() < 0.5 else 0
    if not whole:
        slice_.grey += body * np.float32(level)
    if random.random() < 0.4:
        _bones(slice_, body, whole)
    _organs(slice_, body if body.sum() > 4000 else ~body, level, whole)
    return Scene(_expose(random, slice_.grey), slice_.labels, np.array(slice_.wholes, np.int16))


def _expose(random: np.random.Generator, grey: textures.Plane) -> NDArray[np.uint8]:
    """Apply coarse pixels, noise, a slope of brightness, a grey-scale window; sometimes negate."""
    height, width = grey.shape
    bias = textures.smooth_noise(random, grey.shape, max(grey.shape) * random.uniform(0.5, 1))
    field = grey * (1 + np.float32(random.uniform(0, 0.2)) * bias)
    shrink = random.uniform(1.0, 4.0)
    small = Image.fromarray(field.astype(np.float32)).resize(
        (round(width / shrink), round(height / shrink)), Image.Resampling.BOX
    )
    pixels = np.asarray(small)
    grain = random.standard_normal(pixels.shape, dtype=np.float32)
    if random.random() < 0.5:
        grain = textures.soften(grain, 1) * 2
    pixels = pixels + grain * np.float32(abs(random.normal(0, 0.035)))
    low, high = random.uniform(-0.05, 0.12), random.uniform(0.7, 1.1)
    shown = np.clip((pixels - low) / (high - low), 0, 1)
    if random.random() < 0.15:
        shown = 1 - shown
    small_image = Image.fromarray((255 * shown).astype(np.uint8))
    large = np.asarray(small_image.resize((width, height), Image.Resampling.BILINEAR))
    return np.repeat(large[..., None], 3, axis=2)
