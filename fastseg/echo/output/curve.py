"""The area of a chamber over its clip as a image, with its beats and the frames that count."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from fastseg.echo.beats import AreaCurve
from fastseg.echo.picture import colour
from fastseg.inputs.text import printable
from fastseg.provenance import NOTICE

WIDTH, HEIGHT = 960, 400
"""Size of the image in pixels."""

_OVERSAMPLING = 2  # lines are drawn larger and shrunk, which makes their edges smooth
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 24, 66, 92  # margins around the axes, in pixels
_BACKGROUND, _BEAT = (17, 19, 23), (30, 34, 41)
_INK, _FAINT, _GRID = (232, 234, 237), (165, 171, 180), (52, 57, 66)
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True, slots=True)
class _Axes:
    """The map from frames and areas to pixels of the oversampled image."""

    frames: int
    low: float
    high: float

    def at(self, frame: float, area: float) -> tuple[float, float]:
        across = frame / max(self.frames - 1, 1)
        up = (area - self.low) / (self.high - self.low)
        x = _LEFT + across * (WIDTH - _LEFT - _RIGHT)
        y = HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)
        return x * _OVERSAMPLING, y * _OVERSAMPLING


def draw_curve(curve: AreaCurve) -> Image.Image:
    """Draw the area of a chamber over the frames of its clip.

    Frames that take part are joined by a line, the others are hollow points. Beats are shaded in
    turn, and in each the frame of the largest area has a triangle that points up, that of the
    smallest one that points down.

    Returns:
        An RGB image of ``WIDTH`` x ``HEIGHT`` pixels.
    """
    known = [area for area in curve.areas_cm2 if math.isfinite(area)] or [0.0, 1.0]
    axes = _Axes(len(curve.areas_cm2), 0.0, 1.12 * max(known) or 1.0)
    large = Image.new("RGB", (WIDTH * _OVERSAMPLING, HEIGHT * _OVERSAMPLING), _BACKGROUND)
    pencil = ImageDraw.Draw(large)
    _beats(pencil, curve, axes)
    _grid(pencil, curve, axes)
    _line(pencil, curve, axes)
    for beat in curve.beats:
        _mark(pencil, axes.at(beat.largest, curve.areas_cm2[beat.largest]), up=True)
        _mark(pencil, axes.at(beat.smallest, curve.areas_cm2[beat.smallest]), up=False)
    _words(pencil, curve)
    return large.reduce(_OVERSAMPLING)


def describe(curve: AreaCurve) -> str:
    """Describe the image of a curve in words, for those who do not see it."""
    used = sum(curve.used)
    words = (
        f"Area of {curve.chamber} in {curve.view} over {len(curve.areas_cm2)} frames, of which "
        f"{used} take part."
    )
    for number, beat in enumerate(curve.beats, start=1):
        largest, smallest = curve.areas_cm2[beat.largest], curve.areas_cm2[beat.smallest]
        words += (
            f" Beat {number}, frames {beat.start} to {beat.end - 1}: largest {largest:.1f} cm2 in "
            f"frame {beat.largest}, smallest {smallest:.1f} cm2 in frame {beat.smallest}."
        )
    return words


def _beats(pencil: ImageDraw.ImageDraw, curve: AreaCurve, axes: _Axes) -> None:
    for number, beat in enumerate(curve.beats):
        left, top = axes.at(max(beat.start - 0.5, 0), axes.high)
        right, bottom = axes.at(min(beat.end - 0.5, axes.frames - 1), axes.low)
        if number % 2 == 0 and right > left:
            pencil.rectangle((left, top, right, bottom), fill=_BEAT)


def _grid(pencil: ImageDraw.ImageDraw, curve: AreaCurve, axes: _Axes) -> None:
    """Draw lines of equal area with their numbers, and the frames below."""
    step = next((one for one in _STEPS if axes.high / one <= 6), _STEPS[-1])
    for area in range(0, math.floor(axes.high) + 1, step):
        left, y = axes.at(0, area)
        right, _ = axes.at(axes.frames - 1, area)
        pencil.line((left, y, right, y), fill=_GRID, width=_OVERSAMPLING)
        _write(pencil, (left - 20, y), f"{area}", 15, _FAINT, "rm")
    step = next((one for one in _STEPS if axes.frames / one <= 14), _STEPS[-1])
    for frame in range(0, axes.frames, step):
        x, y = axes.at(frame, axes.low)
        _write(pencil, (x, y + 28), f"{frame}", 15, _FAINT, "mm")
    x, y = axes.at((axes.frames - 1) / 2, axes.low)
    pace = "" if curve.frame_ms is None else f", {curve.frame_ms:.3g} ms apart"
    _write(pencil, (x, y + 70), f"frame{pace}", 15, _FAINT, "mm")


def _line(pencil: ImageDraw.ImageDraw, curve: AreaCurve, axes: _Axes) -> None:
    shade = colour(curve.chamber)
    before = None
    for frame, (area, used) in enumerate(zip(curve.areas_cm2, curve.used, strict=True)):
        if not math.isfinite(area):
            continue
        x, y = axes.at(frame, area)
        if used:
            if before is not None:
                pencil.line((*before, x, y), fill=shade, width=2 * _OVERSAMPLING)
            pencil.circle((x, y), 3 * _OVERSAMPLING, fill=shade)
            before = (x, y)
        else:
            pencil.circle((x, y), 3.5 * _OVERSAMPLING, outline=_FAINT, width=_OVERSAMPLING)


def _mark(pencil: ImageDraw.ImageDraw, at: tuple[float, float], *, up: bool) -> None:
    """Draw a triangle beside a point of the curve: above it if it points up."""
    side, gap = 8 * _OVERSAMPLING, 7 * _OVERSAMPLING
    (x, y), sign = at, -1 if up else 1
    base, tip = y + sign * gap, y + sign * (gap + 1.5 * side)
    pencil.polygon([(x - side, base), (x + side, base), (x, tip)], fill=_INK)


def _words(pencil: ImageDraw.ImageDraw, curve: AreaCurve) -> None:
    left = _LEFT * _OVERSAMPLING
    title = f"{curve.chamber} in {curve.view}, area in cm2"
    _write(pencil, (left, 24 * _OVERSAMPLING), title, 20, _INK, "lm")
    count = len(curve.beats)
    beats = f"{count} beat{'s' if count != 1 else ''} by the {curve.found_by}"
    legend = f"{beats} · triangles: largest and smallest of a beat · hollow: takes no part"
    _write(pencil, (left, 50 * _OVERSAMPLING), legend, 14, _FAINT, "lm")
    _write(pencil, (left, (HEIGHT - 16) * _OVERSAMPLING), NOTICE, 13, _FAINT, "lm")


def _write(
    pencil: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: float,
    ink: tuple[int, int, int],
    anchor: str,
) -> None:
    font = ImageFont.load_default(size=size * _OVERSAMPLING)
    pencil.text(at, printable(text), fill=ink, font=font, anchor=anchor)
