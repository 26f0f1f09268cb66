"""Annotations that machines burn into their images: text, rulers, ECG, markers, a grey bar."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.echo.sector import SIDE, Sector

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

LETTERS = "0123456789:/.%VPMHzcmdBFRTIGain "


@cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _text(random: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    """Draw a few lines of letters and digits near an edge, some of them cut off."""
    left = float(random.choice([random.uniform(-12, 20), random.uniform(195, 250)]))
    top = random.uniform(0, 235)
    grey, size = random.uniform(0.35, 1), int(random.integers(6, 12))
    for line in range(int(random.integers(1, 6))):
        letters = "".join(random.choice(list(LETTERS), int(random.integers(2, 9))))
        draw.text((left, top + line * size * 1.2), letters, fill=grey, font=_font(size))


def _ruler(random: np.random.Generator, draw: ImageDraw.ImageDraw, sector: Sector) -> None:
    """Draw dots along one edge of the sector, a centimetre or five apart."""
    angle = float(random.choice([-1, 1])) * (sector.half_angle + random.uniform(0.01, 0.06))
    step = float(random.choice([12.8, 12.8, 64.0]))
    grey, radius = random.uniform(0.4, 1), random.uniform(0.4, 1.3)
    for distance in np.arange(step, sector.depth, step):
        x = sector.probe[0] + np.sin(angle) * distance
        y = sector.probe[1] + np.cos(angle) * distance
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=grey)


def _ecg(random: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    """Draw an ECG: a line with spikes in the lower part of the image."""
    base, start = random.uniform(205, 252), random.uniform(-10, 100)
    x = np.arange(start, start + random.uniform(50, 200), 1.5)
    beat = (x - start + random.uniform(0, 60)) % random.uniform(35, 90)
    y = base - random.uniform(6, 25) * np.exp(-0.5 * ((beat - 20) / 1.2) ** 2)
    y = y - random.uniform(1, 5) * np.exp(-0.5 * ((beat - 32) / 4) ** 2)
    points = [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    draw.line(points, fill=random.uniform(0.4, 1), width=1)


def _marker(random: np.random.Generator, draw: ImageDraw.ImageDraw, sector: Sector) -> None:
    """Draw the orientation mark beside the probe: a disc or a letter."""
    x = sector.probe[0] + float(random.choice([-1, 1])) * random.uniform(8, 30)
    y, radius = sector.probe[1] + random.uniform(-8, 14), random.uniform(2, 6)
    grey = random.uniform(0.4, 1)
    if random.random() < 0.6:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=grey)
    else:
        draw.text((x, y), str(random.choice(["V", "P", "R"])), fill=grey, font=_font(9))


def _bar(random: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    """Draw the grey scale."""
    x, top = float(random.choice([random.uniform(0, 12), random.uniform(235, 252)])), 20
    height, width = random.uniform(30, 120), random.uniform(2, 6)
    for row in range(int(height)):
        draw.line((x, top + row, x + width, top + row), fill=1 - row / height)


def annotate(random: np.random.Generator, image: Image.Image, sector: Sector) -> None:
    """Draw into an image of mode "F" with values in [0, 1]."""
    draw = ImageDraw.Draw(image)
    draw.fontmode = "L"
    for _ in range(int(random.integers(0, 4))):
        _text(random, draw)
    if random.random() < 0.6:
        _ruler(random, draw, sector)
    if random.random() < 0.35:
        _ecg(random, draw)
    if random.random() < 0.6:
        _marker(random, draw, sector)
    if random.random() < 0.3:
        _bar(random, draw)
    if random.random() < 0.25:
        row, grey = SIDE - random.uniform(1, 12), random.uniform(0.4, 1)
        for x in random.uniform(0, SIDE, int(random.integers(1, 5))):
            draw.line((x, SIDE, x, row - 10), fill=grey, width=2)
