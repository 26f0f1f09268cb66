"""Generated echo frames with the masks of their chambers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from training.echo import apical, short_axis
from training.echo.annotations import annotate
from training.echo.heart import CHANNELS, CLASSES, Heart, Stroke, View
from training.echo.sector import SIDE, Points, Sector
from training.echo.ultrasound import echoes
from training.textures import smooth_noise

_HEARTS = {
    "a2c": apical.two_chambers,
    "a4c": apical.four_chambers,
    "sax": short_axis.ring,
}


@dataclass(frozen=True, slots=True)
class Phantom:
    """One generated frame and the masks of its chambers."""

    frame: NDArray[np.float32]
    """(channels, SIDE, SIDE) in [0, 1] after joint min-max: luma, then both chromas if any."""
    masks: NDArray[np.bool_]
    """(classes, SIDE, SIDE), in the order of ``CLASSES``; classes may overlap."""


def generate(random: np.random.Generator, view: View) -> Phantom:
    """Draw one frame of a view."""
    heart, sector = place_heart(random, view, _HEARTS[view](random))
    luma, inside = sector.scan_convert(echoes(random, heart, sector))
    image = Image.fromarray(_postprocess(random, luma.numpy(), inside.numpy()))
    annotate(random, image, sector)
    grey = np.clip(np.asarray(image), 0, 1)
    frame = _add_chroma(random, grey, sector) if CHANNELS[view] == 3 else grey[None]
    low, high = frame.min(), frame.max()
    frame = ((frame - low) / max(high - low, 1e-6)).astype(np.float32)
    return Phantom(frame, chamber_masks(heart, sector, view))


def draw_masks(random: np.random.Generator, view: View) -> NDArray[np.bool_]:
    """Draw only the masks (classes, SIDE, SIDE) of one frame, which is much faster."""
    heart, sector = place_heart(random, view, _HEARTS[view](random))
    return chamber_masks(heart, sector, view)


def place_heart(random: np.random.Generator, view: View, heart: Heart) -> tuple[Heart, Sector]:
    """Move a heart into the square, and choose the sector that a sonographer would."""
    corners = np.concatenate(list(heart.chambers.values()))
    height = np.ptp(corners[:, 1])
    half_angle = random.uniform(0.58, 0.92)
    above = random.uniform(40, 100) if view == "sax" else random.uniform(16, 56)
    below = random.uniform(20, 110) if view == "sax" else random.uniform(-2, 62)
    depth = float(np.clip(above + height + below, 150, 285))
    size = min(1.0, (depth + 6) / (above + height))
    probe = (SIDE / 2 + random.normal(0, 3), SIDE / 2 - depth / 2 + random.normal(0, 6))
    sector = Sector(probe, depth, half_angle, random.uniform(0, 14))
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    target = np.array([probe[0] + random.normal(4, 16), probe[1] + size * (above + height / 2)])

    def moved(points: Points) -> Points:
        return np.asarray((points - middle) * size + target)

    strokes = [Stroke(moved(s.points), s.tissue, s.width) for s in heart.strokes]
    chambers = {name: moved(points) for name, points in heart.chambers.items()}
    return Heart(strokes, chambers), sector


def chamber_masks(heart: Heart, sector: Sector, view: View) -> NDArray[np.bool_]:
    """Draw the masks (classes, SIDE, SIDE) of a placed heart, cut off at the sector's edge."""
    visible = sector.visible()

    def filled(name: str) -> NDArray[np.bool_]:
        canvas = Image.new("1", (SIDE, SIDE))
        points = [(float(x), float(y)) for x, y in heart.chambers[name]]
        ImageDraw.Draw(canvas).polygon(points, fill=1)
        return np.asarray(np.asarray(canvas) & visible)

    if view == "sax":
        cavity, disc = filled("cavity"), filled("disc")
        return np.stack([cavity, disc & ~cavity, disc])
    chambers = [filled(name) for name in CLASSES[view][1:]]
    return np.stack([np.any(chambers, axis=0), *chambers])


def _postprocess(
    random: np.random.Generator, luma: NDArray[np.float32], inside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Apply gamma, gain and blur to the image; black or nearly black outside the sector."""
    shown = luma ** random.uniform(0.7, 1.9) * random.uniform(0.75, 1.2)
    ground = random.uniform(0, 0.06) if random.random() < 0.25 else 0.0
    shown = np.where(inside, np.maximum(shown, ground), ground).astype(np.float32)
    if random.random() < 0.6:
        blurred = Image.fromarray(np.clip(shown * 255, 0, 255).astype(np.uint8))
        blurred = blurred.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.1)))
        shown = np.asarray(blurred, dtype=np.float32) / np.float32(255)
    return np.array(shown, dtype=np.float32)


def _add_chroma(
    random: np.random.Generator, grey: NDArray[np.float32], sector: Sector
) -> NDArray[np.float32]:
    """Stack luma and chromas (3, SIDE, SIDE): chroma near 0.5, all 0 where the frame is padded."""
    planes = [grey]
    tinted = random.random() < 0.3
    for _ in range(2):
        tint = random.normal(0, 0.25) * grey * (1 - grey) if tinted else 0
        drift = smooth_noise(random, grey.shape, 60) * 0.004
        planes.append(np.float32(128 / 255 + random.normal(0, 0.012)) + tint + drift)
    frame = np.stack([np.broadcast_to(plane, grey.shape) for plane in planes]).astype(np.float32)
    if random.random() < 0.75:
        reach = sector.depth * np.sin(sector.half_angle)
        across = int(np.clip(reach + random.uniform(-20, 30), 70, SIDE / 2))
        down = int(np.clip(sector.depth / 2 + random.uniform(8, 24), 70, SIDE / 2))
        middle = SIDE // 2
        if random.random() < 0.5:
            across = middle
        padded = np.ones(grey.shape, dtype=bool)
        padded[middle - down : middle + down, middle - across : middle + across] = False
        frame[:, padded] = 0
    return frame
