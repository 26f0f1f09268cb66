"""Ultrasound image of a heart: scatterers, beam, attenuation, compression to grey.

The polar grid has one row for each range and one column for each beam. Speckle comes from complex
scatterers blurred by the point spread function; that is constant in the polar grid, so on the
image it widens with depth as a real beam does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch.nn import functional

from training.echo.heart import Heart, Tissue
from training.echo.sector import BEAMS, RANGES, Sector
from training.textures import smooth_noise

Plane = NDArray[np.float32]
"""A polar plane (RANGES, BEAMS)."""

GRID = (RANGES, BEAMS)


@dataclass(frozen=True, slots=True)
class Settings:
    """One machine, one patient, one window between the ribs; levels in decibels."""

    levels: dict[Tissue, float]
    """Mean brightness of each tissue; 0 saturates."""
    dynamic_range: float
    """Decibels between black and white."""
    axial: float
    """Deviation of the point spread function along the beam, in ranges."""
    lateral: float
    """Deviation across the beam, in beams."""
    specular: float
    """Strength of borders that face the probe."""
    haze: float
    """Level of the reverberation just below the probe."""
    haze_reach: float
    """Share of the depth at which the haze has fallen by 20 dB."""
    clutter: float
    """Mean level of the side lobes and multiple echoes over the chambers, in patches."""
    uneven: float
    """Deviation of the gain over the sector."""
    shading: float
    """Deviation of the gain from beam to beam: ribs, lung, poor contact."""
    noise: float
    """Level of the receiver's noise."""


def random_settings(random: np.random.Generator) -> Settings:
    """Draw settings of anything from a clear image to a poor one."""
    muscle = random.uniform(-38, -17)
    contrast = random.uniform(12, 36)
    levels: dict[Tissue, float] = {
        "blood": muscle - contrast,
        "trabeculae": muscle - contrast * random.uniform(0.2, 0.8),
        "muscle": muscle,
        "wall": muscle + random.uniform(-4, 8),
        "leaflet": muscle + random.uniform(-3, 10),
        "fibrous": min(-4.0, muscle + random.uniform(3, 16)),
        "outside": muscle + random.uniform(-15, 4),
    }
    return Settings(
        levels=levels,
        dynamic_range=random.uniform(40, 62),
        axial=random.uniform(0.6, 1.5),
        lateral=random.uniform(0.7, 2.4),
        specular=random.uniform(0, 4),
        haze=muscle + random.uniform(-22, 12),
        haze_reach=random.uniform(0.15, 0.7),
        clutter=muscle - contrast + random.uniform(-12, 8),
        uneven=random.uniform(1, 6),
        shading=random.uniform(0.5, 6),
        noise=muscle - contrast - random.uniform(-6, 14),
    )


def blur(planes: torch.Tensor, axial: float, lateral: float) -> torch.Tensor:
    """Apply a Gaussian point spread function to planes (n, RANGES, BEAMS); energy is kept."""
    for axis, deviation in ((1, axial), (2, lateral)):
        reach = max(1, round(2.5 * deviation))
        offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
        kernel = kernel / kernel.square().sum().sqrt()
        shape = (1, 1, -1, 1) if axis == 1 else (1, 1, 1, -1)
        padding = (reach, 0) if axis == 1 else (0, reach)
        planes = functional.conv2d(planes[:, None], kernel.view(shape), padding=padding)[:, 0]
    return planes


def _surroundings(random: np.random.Generator, settings: Settings) -> Plane:
    """Draw tissue around the heart: bright and dark patches, some of them as dark as blood."""
    outside, blood = settings.levels["outside"], settings.levels["blood"]
    plane = outside + random.uniform(2, 8) * smooth_noise(random, GRID, random.uniform(18, 70))
    streaks = smooth_noise(random, (RANGES, BEAMS // 3), random.uniform(4, 9))
    stretched = np.repeat(streaks, 3, axis=1) * np.float32(random.uniform(0, 5))
    plane = plane + stretched
    for _ in range(int(random.integers(0, 4))):
        hole = smooth_noise(random, GRID, random.uniform(25, 60)) > random.uniform(0.9, 1.8)
        plane[hole] = blood + random.uniform(-4, 8)
    return np.asarray(plane, dtype=np.float32)


def _draw_levels(
    random: np.random.Generator, heart: Heart, sector: Sector, settings: Settings
) -> Plane:
    """Draw the decibels of everything in the sector, before beam and noise."""
    canvas = Image.fromarray(_surroundings(random, settings))
    draw = ImageDraw.Draw(canvas)
    for stroke in heart.strokes:
        points = [(float(x), float(y)) for x, y in sector.to_polar(stroke.points)]
        level = settings.levels[stroke.tissue] + random.normal(0, 2)
        if stroke.width == 0:
            draw.polygon(points, fill=level)
        else:
            draw.line(points, fill=level, width=max(1, round(stroke.width)))
    return np.array(canvas)


def _gain(random: np.random.Generator, settings: Settings) -> Plane:
    """Draw the gain in decibels: depth compensation, shading of beams, patches, dropout."""
    depth = smooth_noise(random, (RANGES, 2), random.uniform(40, 110))[:, :1]
    beams = smooth_noise(random, (2, BEAMS), random.uniform(10, 50))[:1]
    patches = smooth_noise(random, GRID, random.uniform(20, 60))
    edge = np.linspace(-1, 1, BEAMS, dtype=np.float32)[None, :]
    slope = np.linspace(0, 1, RANGES, dtype=np.float32)[:, None] * random.normal(-2, 6)
    onset = np.linspace(0, 1, RANGES, dtype=np.float32)[:, None] > random.uniform(0, 0.4)
    side = -random.uniform(0, 8) * edge**2 + random.normal(0, 5) * edge
    gain = depth * random.uniform(0, 5) + slope + side + settings.uneven * patches
    return np.asarray(gain + settings.shading * beams * onset, dtype=np.float32)


def _amplitude(decibels: Plane) -> torch.Tensor:
    return torch.from_numpy(np.power(np.float32(10), decibels / np.float32(20)))


def _specular(amplitude: torch.Tensor, strength: float) -> torch.Tensor:
    """Compute specular borders, where the beam meets brighter tissue: smooth, without speckle."""
    smooth = blur(amplitude[None], 1.2, 2.0)[0] / 3.5
    rise = functional.relu(smooth[2:] - smooth[:-2])
    return strength * functional.pad(rise, (0, 0, 1, 1))


def _reverberation(random: np.random.Generator, settings: Settings) -> Plane:
    """Draw haze below the probe that fades with depth, layered in some images."""
    depth = np.linspace(0, 1, RANGES, dtype=np.float32)[:, None]
    level = settings.haze - 20 * depth / settings.haze_reach
    layers = random.uniform(0, 6) * np.sin(depth * random.uniform(60, 200)) * (depth < 0.3)
    patches = smooth_noise(random, GRID, random.uniform(12, 50))
    haze = np.maximum(level + layers + 3 * patches, _clutter(random, settings))
    return np.asarray(haze, dtype=np.float32)


def _clutter(random: np.random.Generator, settings: Settings) -> Plane:
    """Draw patches that are wide across the beams and thin along them."""
    across = random.uniform(2, 5)
    narrow = smooth_noise(random, (RANGES, round(BEAMS / across)), random.uniform(6, 24))
    columns = (np.arange(BEAMS) / across).astype(int)
    wide = narrow[:, np.minimum(columns, narrow.shape[1] - 1)]
    return np.asarray(settings.clutter + random.uniform(3, 8) * wide, dtype=np.float32)


def echoes(random: np.random.Generator, heart: Heart, sector: Sector) -> torch.Tensor:
    """Draw the image on the polar grid: grey levels (RANGES, BEAMS), float32 in [0, 1]."""
    settings = random_settings(random)
    gain = _gain(random, settings)
    tissue = _amplitude(_draw_levels(random, heart, sector, settings) + gain)
    haze = _amplitude(_reverberation(random, settings) + 0.5 * gain)
    source = torch.sqrt(tissue.square() + haze.square())
    scatterers = torch.from_numpy(random.standard_normal((2, *GRID), dtype=np.float32))
    speckle = blur(scatterers * source, settings.axial, settings.lateral)
    received = speckle.square().sum(dim=0).sqrt() / 1.25
    if random.random() < 0.5:  # spatial compounding
        received = received * 0.5 + 0.5 * blur(received[None], 1.0, 1.0)[0] / 3.5
    received = received + _specular(tissue, settings.specular)
    if random.random() < 0.3:
        shift = int(random.integers(10, 60))
        echo = functional.pad(received, (0, 0, shift, 0))[:RANGES]
        received = received + random.uniform(0.02, 0.12) * echo
    grain = torch.from_numpy(random.standard_normal(GRID, dtype=np.float32)).abs()
    received = received + grain * 10 ** (settings.noise / 20)
    decibels = 20 * torch.log10(received + 1e-6)
    return (1 + decibels / settings.dynamic_range).clamp(0, 1)
