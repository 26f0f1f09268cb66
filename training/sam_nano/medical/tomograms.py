"""Slices of CT and MR: organs that touch and differ little, windows, partial volume, noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training import textures
from training.sam_nano.medical.anatomy import Anatomy, Mask, blob, ellipse, quantise
from training.sam_nano.scenes import Scene

FAT, MUSCLE, BONE, AIR = -100.0, 55.0, 450.0, -950.0
"""Values of tissues in Hounsfield units."""

WINDOWS = ((40.0, 400.0), (50.0, 250.0), (40.0, 80.0), (-500.0, 1500.0), (300.0, 1800.0))
"""Levels and widths: soft tissue, liver, brain, lung, bone."""

WINDOW_ODDS = (0.5, 0.22, 0.08, 0.12, 0.08)


class Organ(NamedTuple):
    """A kind of organ: place and size as shares of the body's radii, values in HU."""

    name: str
    place: tuple[float, float]
    radius: float
    values: tuple[float, float]


ORGANS = (
    Organ("liver", (-0.45, -0.15), 0.5, (50, 130)),
    Organ("stomach", (0.35, -0.35), 0.3, (10, 60)),
    Organ("spleen", (0.65, 0.05), 0.24, (50, 140)),
    Organ("kidney", (-0.42, 0.38), 0.17, (40, 220)),
    Organ("kidney", (0.42, 0.38), 0.17, (40, 220)),
    Organ("pancreas", (0.05, 0.0), 0.16, (40, 120)),
    Organ("gallbladder", (-0.3, 0.05), 0.11, (0, 20)),
    Organ("aorta", (0.05, 0.28), 0.07, (40, 350)),
    Organ("vein", (-0.1, 0.26), 0.08, (40, 220)),
)


class _Slice:
    """A slice under construction, in HU."""

    def __init__(self, random: np.random.Generator, size: tuple[int, int]) -> None:
        self.random, self.size = random, size
        height, width = size
        self.centre = (width * random.uniform(0.42, 0.58), height * random.uniform(0.42, 0.58))
        reach = min(size) * random.uniform(0.38, 0.75)
        self.radii = (reach * random.uniform(1.0, 1.4), reach * random.uniform(0.75, 1.0))
        self.values = np.full(size, AIR, dtype=np.float32)
        self.anatomy = Anatomy(size)

    def inner(self, share: float) -> Mask:
        return ellipse(self.size, self.centre, (self.radii[0] * share, self.radii[1] * share))

    def position(self, place: tuple[float, float]) -> tuple[float, float]:
        x, y = (float(c + p * r) for c, p, r in zip(self.centre, place, self.radii, strict=True))
        return x, y

    def fill(self, mask: Mask, value: float, *, part_of: int = 0, numbered: bool = True) -> int:
        grain = self.random.uniform(0, 10)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return 0
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        size = self.values[window].shape
        texture = textures.smooth_noise(self.random, size, max(4.0, max(size) / 6)) * grain
        self.values[window] = np.where(
            mask[window], np.float32(value) + texture, self.values[window]
        )
        return self.anatomy.add(mask, part_of=part_of) if numbered else 0


def _wall(drawn: _Slice) -> Mask:
    """Draw skin, fat, muscle and the spine; return the cavity."""
    random = drawn.random
    drawn.fill(drawn.inner(1.0), FAT, numbered=False)
    muscle = drawn.inner(random.uniform(0.8, 0.95))
    drawn.fill(muscle, MUSCLE, numbered=False)
    cavity = drawn.inner(random.uniform(0.68, 0.8))
    drawn.fill(cavity, FAT + random.uniform(0, 60), numbered=False)
    x, y = drawn.position((0.0, 0.62))
    spine = min(drawn.radii) * random.uniform(0.12, 0.18)
    for side in (-1, 1):
        beside = (x + side * spine * 1.9, y + spine * 0.4)
        drawn.fill(ellipse(drawn.size, beside, (spine * 1.1, spine * 1.4)), MUSCLE)
    whole = drawn.fill(ellipse(drawn.size, (x, y), (spine, spine * 0.8)), BONE * 0.6)
    canal = ellipse(drawn.size, (x, y + spine * 1.1), (spine * 0.4, spine * 0.35))
    drawn.fill(canal, 30, part_of=whole)
    for turn in random.uniform(0, 2 * np.pi, int(random.integers(0, 12))):
        place = drawn.position((0.84 * np.cos(turn), 0.84 * np.sin(turn)))
        long, thin = spine * random.uniform(0.4, 0.9), spine * random.uniform(0.15, 0.3)
        drawn.fill(ellipse(drawn.size, place, (long, thin), turn + np.pi / 2), BONE)
    return cavity


def _organs(drawn: _Slice, cavity: Mask) -> None:
    """Draw organs over each other, so that they touch; some with lesions and vessels."""
    random = drawn.random
    alike = random.uniform(40, 120)
    order = random.permutation(len(ORGANS))
    for index in order[: int(random.integers(3, len(ORGANS) + 1))]:
        organ = ORGANS[int(index)]
        value = random.uniform(*organ.values)
        if random.random() < 0.4:  # hardly another grey than its neighbours
            value = alike + random.normal(0, 12)
        moved = tuple(float(p + random.normal(0, 0.06)) for p in organ.place)
        centre = drawn.position((moved[0], moved[1]))
        radius = organ.radius * min(drawn.radii) * random.uniform(0.8, 1.3)
        mask = blob(random, drawn.size, centre, radius) & cavity
        number = drawn.fill(mask, value)
        for _ in range(int(random.integers(0, 3)) if number and radius > 40 else 0):
            spot = (
                centre[0] + random.normal(0, radius / 3),
                centre[1] + random.normal(0, radius / 3),
            )
            size = radius * random.uniform(0.08, 0.3)
            lesion = blob(random, drawn.size, spot, size) & mask
            drawn.fill(
                lesion, value + random.choice([-1, 1]) * random.uniform(15, 60), part_of=number
            )
    for _ in range(int(random.integers(0, 9))):  # loops of bowel
        place = drawn.position((float(random.uniform(-0.5, 0.6)), float(random.uniform(-0.6, 0.3))))
        radius = min(drawn.radii) * random.uniform(0.06, 0.13)
        wall = blob(random, drawn.size, place, radius) & cavity
        number = drawn.fill(wall, random.uniform(30, 90))
        content = ellipse(drawn.size, place, (radius * 0.6, radius * 0.6)) & wall
        drawn.fill(content, float(random.choice([AIR, 10, 250])), part_of=number)


def _chest(drawn: _Slice, cavity: Mask) -> None:
    """Draw lungs with vessels, the heart with its chambers, and the great vessels."""
    random = drawn.random
    across = drawn.radii[0]
    for side in (-1, 1):
        centre = drawn.position((side * 0.42, -0.05))
        lung = ellipse(drawn.size, centre, (across * 0.34, drawn.radii[1] * 0.55), side * 0.2)
        number = drawn.fill(lung & cavity, AIR + 130)
        for _ in range(int(random.integers(4, 16))):
            place = (
                centre[0] + random.normal(0, across * 0.14),
                centre[1] + random.normal(0, across * 0.2),
            )
            radius = across * np.exp(random.uniform(np.log(0.006), np.log(0.05)))
            drawn.fill(ellipse(drawn.size, place, (radius, radius)) & lung, 40, part_of=number)
    centre = drawn.position((0.1, -0.1))
    heart = blob(random, drawn.size, centre, across * 0.26) & cavity
    level = random.uniform(40, 80)
    number = drawn.fill(heart, level)
    contrast = random.uniform(0, 250)
    for place in ((-0.08, -0.03), (0.08, 0.05), (-0.02, 0.1)):
        spot = (centre[0] + place[0] * across, centre[1] + place[1] * across)
        chamber = blob(random, drawn.size, spot, across * 0.09) & heart
        drawn.fill(chamber, level + contrast, part_of=number)
    x, y = drawn.position((0.12, 0.35))
    drawn.fill(ellipse(drawn.size, (x, y), (across * 0.06, across * 0.06)), level + contrast)


def generate(random: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draw a slice of ``(height, width)`` pixels: of the abdomen or the chest, CT or MR."""
    drawn = _Slice(random, size)
    cavity = _wall(drawn)
    (_chest if random.random() < 0.25 else _organs)(drawn, cavity)
    image = _mr(random, drawn.values) if random.random() < 0.3 else _ct(random, drawn.values)
    return drawn.anatomy.scene(quantise(image))


def _scan(
    random: np.random.Generator, values: NDArray[np.float32], noise: float
) -> NDArray[np.float32]:
    """Average values over coarse pixels, as a detector does, and add noise of a grain."""
    height, width = values.shape
    shrink = random.uniform(1.2, 4.5)
    small = (max(8, round(width / shrink)), max(8, round(height / shrink)))
    pixels = np.asarray(Image.fromarray(values).resize(small, Image.Resampling.BOX))
    grain = textures.soften(
        random.standard_normal(pixels.shape, dtype=np.float32), int(random.integers(0, 3))
    )
    noisy = pixels + grain * np.float32(noise / max(float(grain.std()), 1e-3))
    large = Image.fromarray(noisy.astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.asarray(large, dtype=np.float32)


def _ct(random: np.random.Generator, values: NDArray[np.float32]) -> NDArray[np.float32]:
    level, width = WINDOWS[int(random.choice(len(WINDOWS), p=WINDOW_ODDS))]
    scanned = _scan(random, values, abs(random.normal(0, 14)))
    low = level - width / 2
    return np.asarray(np.clip((scanned - low) / width, 0, 1), dtype=np.float32)


def _mr(random: np.random.Generator, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give tissues other greys, keep their order only in part, and add a receiver's bias."""
    knots = np.array([AIR, FAT, 0.0, 60.0, 120.0, 250.0, 600.0])
    levels = np.concatenate([[0.02], random.uniform(0.15, 0.9, len(knots) - 2), [0.1]])
    signal = np.interp(values, knots, levels).astype(np.float32)
    bias = textures.smooth_noise(random, values.shape, max(values.shape) * random.uniform(0.4, 1))
    scanned = _scan(random, signal * (1 + np.float32(random.uniform(0, 0.25)) * bias), 0.0)
    deviation = abs(random.normal(0, 0.03))
    parts = random.normal(0, deviation, (2, *values.shape))
    rician = np.hypot(scanned + parts[0], parts[1])
    return np.asarray(rician * random.uniform(0.9, 1.3), dtype=np.float32)
