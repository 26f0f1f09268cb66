"""Ultrasound-like images: a sector of speckle, dark chambers between bright walls, shadows.

The anatomy is schematic: chambers stand on both sides of a valve plane, the long ones point to
the probe. Edges fade as they do where the beam runs along a wall, so a network has to learn
likely shapes of a chamber, not just its bright edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from training import outlines, textures
from training.outlines import Outline
from training.sam_nano.scenes import Scene, fill

CORNERS = 28
"""Stations along each side of a chamber."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Origin and extent of the beams, in pixels of the image."""

    apex: NDArray[np.float64]
    """x, y; often above the image."""
    reach: float
    """Depth of the deepest echo."""
    opening: float
    """Half of the sector's angle, radians."""
    tilt: float
    """Angle of the middle beam against the vertical, radians."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Outlines in pixels of the image."""

    chambers: list[Outline]
    walls: list[Outline]
    """Outlines drawn bright below the chambers; those that are objects have a ring as target."""
    ringed: bool
    """True if the first wall, without its chamber, is an object: muscle in cross-section."""


def chamber(
    random: np.random.Generator, top: float, bottom: float, width: float, *, long: bool
) -> Outline:
    """Draw a chamber between two depths, of half ``width``, tapered towards its free end.

    ``long`` ones have their free end at the top and a flat base, others a flat top.
    """
    along = np.linspace(0.0, 1.0, CORNERS)
    cut = random.uniform(0.72, 0.95)
    inner = along * cut if long else 1 - (1 - along) * cut
    skew = random.uniform(0.85, 1.7) if long else random.uniform(0.7, 1.1)
    profile = np.sin(np.pi * inner**skew) ** random.uniform(0.45, 0.85)
    bend = random.normal(0, 0.18) * width * np.sin(np.pi * along)
    sides = []
    for sign in (-1, 1):
        waver = sum(
            random.normal(0, 0.13 / k) * np.sin(k * np.pi * along + random.uniform(0, np.pi))
            for k in (1, 2, 3, 4, 6)
        )
        reach = width * profile * np.clip(random.normal(1, 0.12), 0.7, 1.3) * (1 + waver)
        sides.append(np.stack([sign * reach + bend, top + (bottom - top) * along], axis=1))
    return np.concatenate([sides[0], sides[1][::-1]])


def _apical(random: np.random.Generator) -> list[Outline]:
    """Draw two or four chambers about a valve plane; the whole is one unit long."""
    valve = random.uniform(-0.02, 0.16)
    gap = random.uniform(0.0, 0.03)
    width = random.uniform(0.13, 0.21)
    four = random.random() < 0.6
    shift = width + random.uniform(0.015, 0.05) if four else 0.0
    sides = [(shift, 1.0, -0.5)]
    if four:
        sides.append((-shift, random.uniform(0.55, 0.95), random.uniform(-0.4, -0.2)))
    found = []
    for place, share, apex in sides:
        height = valve + random.normal(0, 0.02)
        below = height + gap + random.uniform(0.22, 0.42)
        upper = chamber(random, apex, height, width * share, long=True)
        lower = chamber(random, height + gap, below, width * random.uniform(0.7, 1.05), long=False)
        # Apices lean towards each other, bases apart.
        upper[:, 0] += place * (0.75 + 0.5 * (upper[:, 1] - apex))
        lower[:, 0] += place * random.uniform(0.85, 1.15)
        found += [upper, lower]
    if random.random() < 0.5:
        found = [outline * np.array([-1.0, 1.0]) for outline in found]
    return found


def anatomy(random: np.random.Generator, centre: NDArray[np.float64], length: float) -> Anatomy:
    """Draw an apical view, a cross-section, or dark bodies; about ``length`` pixels tall."""
    angle, kind = random.normal(0, 0.22), random.random()
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    thickness = random.uniform(0.02, 0.07)
    if kind < 0.7:
        chambers = _apical(random)
        walls = [_grow(outline, thickness) for outline in chambers]
    elif kind < 0.85:
        radius = random.uniform(0.14, 0.24)
        inner = 0.65 * outlines.disc(random, 1.0) + 0.35 * outlines.ellipse(random, 1.0)
        chambers = [inner * radius * random.uniform(0.45, 0.75)]
        walls = [outlines.disc(random, radius)]
    else:
        chambers = [
            outlines.blob(random, random.uniform(0.06, 0.2)) + random.uniform(-0.4, 0.4, 2)
            for _ in range(int(random.integers(1, 5)))
        ]
        walls = [_grow(outline, thickness / 2) for outline in chambers]
    return Anatomy(
        [outline @ turn * length + centre for outline in chambers],
        [wall @ turn * length + centre for wall in walls],
        ringed=0.7 <= kind < 0.85,
    )


def _grow(outline: Outline, by: float) -> Outline:
    centre = outline.mean(axis=0)
    away = outline - centre
    return outline + by * away / (np.linalg.norm(away, axis=1, keepdims=True) + 1e-6)


def _probe(
    random: np.random.Generator, centre: NDArray[np.float64], length: float, tilt: float
) -> Probe:
    reach = length * random.uniform(1.15, 1.7)
    depth = random.uniform(0.5, 0.62) * reach
    lean = tilt + random.normal(0, 0.1)
    apex = centre - depth * np.array([np.sin(lean), np.cos(lean)])
    return Probe(apex, reach, random.uniform(0.55, 0.95), tilt)


def _polar(probe: Probe, size: tuple[int, int]) -> tuple[textures.Plane, textures.Plane]:
    """Return depth as a share of the reach, and angle as a share of the opening, of all pixels."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    across, down = x - np.float32(probe.apex[0]), y - np.float32(probe.apex[1])
    depth = np.hypot(across, down) / np.float32(probe.reach)
    angle = (np.arctan2(across, down) - np.float32(probe.tilt)) / np.float32(probe.opening)
    return depth, angle


def _speckle(
    random: np.random.Generator, depth: textures.Plane, angle: textures.Plane, beams: int
) -> textures.Plane:
    """Draw Rayleigh-distributed amplitudes of mean one: fine in depth, wider with distance."""
    rows = int(beams * random.uniform(1.2, 2.2))
    field = random.standard_normal((2, rows, beams), dtype=np.float32)
    field[:, :, 1:] += field[:, :, :-1] * np.float32(0.8)
    amplitude = np.hypot(field[0], field[1])
    amplitude /= amplitude.mean()
    row = np.clip(depth * rows, 0, rows - 1).astype(np.int32)
    column = np.clip((angle + 1) * (beams / 2), 0, beams - 1).astype(np.int32)
    return amplitude[row, column]


def _tissue(
    random: np.random.Generator, body: Anatomy, size: tuple[int, int], shrink: float
) -> textures.Plane:
    """Draw the scattering strength of each pixel of the coarse image, before any fading."""
    level, dark = np.exp(random.uniform(-3.5, -0.7)), random.uniform(0.0, 0.12) ** 1.5
    mottle = textures.mottled(random, size, max(size) * random.uniform(0.1, 0.4))
    plane = Image.fromarray((level * np.exp(0.5 * mottle)).astype(np.float32))
    draw = ImageDraw.Draw(plane)
    bright = max(level * random.uniform(0.9, 3.0), dark * random.uniform(1.1, 3))
    for wall in body.walls:
        draw.polygon(_corners(wall, shrink), fill=float(bright * random.uniform(0.4, 1.2)))
        if random.random() < 0.6:
            _draw_patchy_wall(random, draw, _corners(wall, shrink), bright)
    if not body.ringed and random.random() < 0.5:  # an open valve joins what lies above and below
        middles = np.stack([outline.mean(axis=0) for outline in body.chambers[:2]])
        opening = int(random.uniform(0.1, 0.5) * np.ptp(body.chambers[0][:, 0]) / shrink)
        draw.line(_corners(middles, shrink), fill=float(dark), width=max(opening, 1))
    for outline in body.chambers:
        draw.polygon(_corners(outline, shrink), fill=float(dark * random.uniform(0.5, 2)))
    for outline in body.chambers:
        for _ in range(int(random.integers(0, 3))):  # leaflets and strands that shine inside
            ends = outline[random.integers(0, len(outline), 2)]
            middle = ends.mean(axis=0) * 0.5 + outline.mean(axis=0) * 0.5
            line = _corners(np.stack([ends[0], middle, ends[1]]), shrink)
            wide = int(random.integers(1, 4))
            draw.line(line, fill=float(bright * random.uniform(0.1, 0.8)), width=wide)
    return textures.soften(np.asarray(plane), int(random.integers(0, 5)))


def _draw_patchy_wall(
    random: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    wall: list[tuple[float, float]],
    bright: float,
) -> None:
    """Draw echoes along a wall, strong where it faces the beam and lost elsewhere."""
    count = len(wall)
    shine = np.cos(2 * np.pi * np.arange(count) / count + random.uniform(0, 2 * np.pi))
    shine = shine + random.normal(0, 0.5, count)
    wide = int(random.integers(2, 9))
    for index in np.flatnonzero(shine > random.uniform(-0.5, 0.8)):
        level = bright * np.exp(random.uniform(-0.3, 1.2))
        draw.line([wall[index - 1], wall[index]], fill=float(level), width=wide)


def _corners(outline: Outline, shrink: float) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in outline / shrink]


def _fade(
    random: np.random.Generator, plane: textures.Plane, depth: textures.Plane, angle: textures.Plane
) -> textures.Plane:
    """Apply lost walls, shadows behind ribs, gain that changes with depth, haze at the probe."""
    size = plane.shape
    fade = textures.smooth_noise(random, size, max(size) * random.uniform(0.12, 0.6))
    plane = plane * np.exp(np.float32(random.uniform(0.1, 1.5)) * fade)
    for _ in range(int(random.integers(0, 4))):
        place, wide = random.uniform(-1, 1), random.uniform(0.04, 0.3)
        start = random.uniform(0, 0.6)
        shadow = np.exp(-(((angle - place) / wide) ** 2)) * np.clip((depth - start) * 6, 0, 1)
        plane = plane * (1 - np.float32(random.uniform(0.3, 1)) * shadow)
    plane = plane * np.exp(np.float32(random.normal(0, 0.8)) * (depth - 0.5))
    haze = random.uniform(0, 0.25) * np.exp(-((depth / random.uniform(0.15, 0.6)) ** 2))
    floor = random.uniform(0.0, 0.04) + random.choice([0.0, 0.0, 0.1]) * random.random()
    faded: textures.Plane = (plane + haze + floor).astype(np.float32)
    return faded


def _draw_annotations(random: np.random.Generator, image: Image.Image) -> None:
    """Draw the annotations of machines: text, dots, a trace of the heart beat."""
    draw, (width, height) = ImageDraw.Draw(image), image.size
    for _ in range(int(random.integers(0, 4))):
        place = (random.uniform(0, width), random.uniform(0, height))
        text = "".join(random.choice(list("0123456789ABCHMRVZ/.: "), 5))
        draw.text(place, text, fill=int(random.integers(120, 256)))
    if random.random() < 0.4:
        start, step = random.uniform(0, 1, 2) * image.size, random.normal(0, 8, 2)
        for k in range(12):
            x, y = start + k * step
            draw.point((float(x), float(y)), fill=230)
    if random.random() < 0.2:
        x = np.arange(0, width, 2)
        y = height * 0.93 - 10 * random.random() * (np.sin(x / random.uniform(4, 9)) ** 9)
        draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=200)


def generate(random: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draw an ultrasound-like scene of ``(height, width)`` pixels; chambers are its objects."""
    height, width = size
    length = float(min(max(size) * random.uniform(0.6, 1.5), 850))
    centre = np.array([width, height]) * random.uniform(0.28, 0.72, 2)
    body = anatomy(random, centre, length)
    probe = _probe(random, centre, length, random.normal(0, 0.15))
    shrink = random.uniform(2.0, 4.5)
    coarse = (round(height / shrink), round(width / shrink))
    seen = Probe(probe.apex / shrink, probe.reach / shrink, probe.opening, probe.tilt)
    depth, angle = _polar(seen, coarse)
    plane = _fade(random, _tissue(random, body, coarse, shrink), depth, angle)
    beams = int(np.clip(2 * seen.opening * seen.reach * random.uniform(0.25, 0.6), 40, 260))
    speckle = _speckle(random, depth, angle, beams) ** np.float32(random.uniform(0.35, 1.0))
    amplitude = np.maximum(plane * speckle, 0)
    span = random.uniform(3.0, 6.0)  # log compression: this many e-folds from black to white
    loudest = np.log(max(float(np.quantile(amplitude, random.uniform(0.97, 0.999))), 1e-3))
    grey = 1 + (np.log(amplitude + 1e-4) - loudest) / span
    grey = np.where((depth < 1) & (np.abs(angle) < 1) & (depth > 0.02), grey, 0)
    grey = np.clip(grey, 0, 1) ** np.float32(random.uniform(0.8, 2.4))
    scan = Image.fromarray((grey * 255).astype(np.uint8))
    if random.random() < 0.7:
        scan = scan.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 0.9)))
    if random.random() < 0.7:
        _draw_annotations(random, scan)
    large = np.asarray(scan.resize((width, height), Image.Resampling.BILINEAR))
    tint = 1 - random.uniform(0, 0.3, 3) * (random.random() < 0.12)
    image = (large[..., None] * tint).astype(np.uint8)
    return Scene(image, *_labels(body, probe, size))


def _labels(
    body: Anatomy, probe: Probe, size: tuple[int, int]
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Label each pixel with its chamber; 0 outside of the sector."""
    labels, count = np.zeros(size, dtype=np.int16), 0
    beams = probe.tilt + np.linspace(-probe.opening, probe.opening, 40)
    rim = probe.apex + probe.reach * np.stack([np.sin(beams), np.cos(beams)], axis=1)
    sector = fill(np.concatenate([[probe.apex], rim]), size) > 127
    for outline in [*body.walls[:1]] * body.ringed + body.chambers:
        count += 1
        labels[(fill(outline, size) > 127) & sector] = count
    return labels, np.arange(count + 1, dtype=np.int16)
