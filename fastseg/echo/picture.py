"""One frame of an echocardiogram as a drawing: contours, long axes, disks and their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from fastseg.echo.findings import Finding
from fastseg.imaging.palette import colours
from fastseg.inputs.text import printable
from fastseg.masks import Masks
from fastseg.measure import Measurement
from fastseg.provenance import NOTICE

LONG_SIDE = 1024
"""Longest side of the drawn frame in pixels; a small frame is enlarged 4 times at most."""

PANEL_WIDTH = 330
"""Width of the column of numbers in pixels."""

_LARGEST_SCALE = 4.0
_OVERSAMPLING = 2  # lines are drawn larger and shrunk, which makes their edges smooth
_BACKGROUND = (17, 19, 23)
_INK, _FAINT, _WARNING = (232, 234, 237), (150, 156, 165), (255, 92, 70)
_BRIGHTNESS = 0.9
_LINE_WIDTH, _LEAST_BLUR = 2.4, 1.6  # of a contour, in pixels of the drawing
_GAP = 28

_HUES = {"LV": 1, "LA": 6, "RV": 2, "RA": 0, "cavity": 1, "disc": 6}
"""Place of each chamber among ``palette.colours``: neighbours in the heart are far apart."""


@dataclass(frozen=True, slots=True)
class EchoPanel:
    """A frame with its masks, its measurements and its captions."""

    image: NDArray[np.uint8]  # (H, W, 3)
    masks: Masks
    findings: Sequence[Finding]  # each of the mask that has its name
    title: str = ""
    legend: str = ""


def draw(panel: EchoPanel, *, long_side: int = LONG_SIDE) -> Image.Image:
    """Draw a frame with its chambers, and their measurements beside it.

    Apical chambers have their long axis and the diameters of the disks; in the short-axis view the
    inner and the outer contour say it all. The ticks at the left edge are 1 cm apart.

    Args:
        panel: The frame and its findings.
        long_side: Longest side of the frame in the drawing, in pixels.

    Returns:
        An RGB image.
    """
    height, width = panel.image.shape[:2]
    scale = min(_LARGEST_SCALE, long_side / max(height, width))
    frame = _frame(panel, scale)
    bottom = max(frame.height, _panel_height(panel)) + 2 * _GAP + 30
    sheet = Image.new(
        "RGB", (frame.width + PANEL_WIDTH + 3 * _GAP, bottom + _GAP + 22), _BACKGROUND
    )
    sheet.paste(frame, (_GAP, _GAP + 30))
    pencil = ImageDraw.Draw(sheet)
    _write(pencil, (_GAP, _GAP + 6), panel.title, 22, sheet.width - 2 * _GAP)
    _numbers(pencil, panel, (frame.width + 2 * _GAP, _GAP + 30))
    line = " · ".join(part for part in (panel.legend, NOTICE) if part)
    _write(pencil, (_GAP, bottom + 12), line, 16, sheet.width - 2 * _GAP, _FAINT)
    return sheet


def frame_part(
    drawing: Image.Image, panel: EchoPanel, *, long_side: int = LONG_SIDE
) -> Image.Image:
    """Cut the frame out of a drawing, without captions and numbers."""
    width, height = _drawn_size(panel, long_side)
    return drawing.crop((_GAP, _GAP + 30, _GAP + width, _GAP + 30 + height))


def colour(chamber: str) -> tuple[int, int, int]:
    """Choose the colour of a measured chamber, sRGB 0..255."""
    red, green, blue = colours(max(_HUES.values()) + 1)[_HUES[chamber]].tolist()
    return red, green, blue


def _drawn_size(panel: EchoPanel, long_side: int) -> tuple[int, int]:
    """Compute width and height of the enlarged frame."""
    height, width = panel.image.shape[:2]
    scale = min(_LARGEST_SCALE, long_side / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _frame(panel: EchoPanel, scale: float) -> Image.Image:
    """Draw the enlarged frame with contours, axes, disks and names."""
    height, width = panel.image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    enlarged = Image.fromarray(panel.image).resize(size, Image.Resampling.BICUBIC)
    canvas = np.asarray(enlarged).astype(np.float32) * _BRIGHTNESS
    for finding in panel.findings:
        mask = panel.masks[finding.measurement.name].array()[0]
        if mask.any():
            _outline(canvas, mask, colour(finding.measurement.name))
    drawing = Image.fromarray(np.round(canvas).astype(np.uint8))
    lines = Image.new("RGBA", (size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING))
    pencil = ImageDraw.Draw(lines)
    factor = scale * _OVERSAMPLING
    for finding in panel.findings:
        if finding.place.view != "sax":
            _disks(pencil, finding, factor)
    if panel.findings:
        _ruler(pencil, panel.findings[0].measurement.cm_per_pixel / factor, lines.size)
    drawing.paste(small := lines.reduce(_OVERSAMPLING), mask=small)
    tags = ImageDraw.Draw(drawing)
    for finding in panel.findings:
        if finding.place.view != "sax":
            _tag(tags, finding.measurement, scale)
    return drawing


def _outline(
    canvas: NDArray[np.float32], mask: NDArray[np.bool_], shade: tuple[int, int, int]
) -> None:
    """Blend the smooth contour of a mask, and a breath of its colour inside, into ``canvas``."""
    size = canvas.shape[1], canvas.shape[0]
    scale = size[0] / mask.shape[1]
    stretched = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    # The blur rounds off the corners of the frame's pixels; the line lies on its inner slope,
    # which rises as the normal distribution does.
    spread = max(0.9 * scale, _LEAST_BLUR)
    # Beyond a few spreads from the mask nothing changes.
    reach = math.ceil(4 * spread) + 2
    x0, y0, x1, y1 = stretched.getbbox() or (0, 0, 1, 1)
    box = (
        max(0, x0 - reach),
        max(0, y0 - reach),
        min(size[0], x1 + reach),
        min(size[1], y1 + reach),
    )
    blurred = np.asarray(stretched.crop(box).filter(ImageFilter.GaussianBlur(spread)))
    soft, steepness = blurred.astype(np.float32) / 255, 2.5 * spread
    end = (1 + math.erf(_LINE_WIDTH / spread / math.sqrt(2))) / 2
    cover = np.clip((soft - 0.5) * steepness + 0.5, 0.0, 1.0)
    inner = np.clip((soft - end) * steepness + 0.5, 0.0, 1.0)
    opacity = (0.07 * cover + 0.93 * (cover - inner))[..., None]
    part = canvas[box[1] : box[3], box[0] : box[2]]
    part += (np.array(shade, np.float32) - part) * opacity


def _disks(pencil: ImageDraw.ImageDraw, finding: Finding, factor: float) -> None:
    """Draw the diameters, and over them the long axis with a point at each end.

    An axis that runs across its chamber is of the colour of a warning.
    """
    chamber = finding.measurement
    shade, ink = colour(chamber.name), _WARNING if finding.axis_doubt else _INK
    for left, right in chamber.chords_px:
        if not math.isnan(left[0]):
            ends = (*_at(left, factor), *_at(right, factor))
            pencil.line(ends, fill=(*shade, 150), width=_OVERSAMPLING)
    top, bottom = chamber.axis_px
    if math.isnan(top[0]):
        return
    pencil.line(
        (*_at(top, factor), *_at(bottom, factor)), fill=(*ink, 235), width=2 * _OVERSAMPLING
    )
    for end in (top, bottom):
        pencil.circle(_at(end, factor), 4 * _OVERSAMPLING, fill=(*ink, 255))


def _ruler(pencil: ImageDraw.ImageDraw, cm_per_pixel: float, size: tuple[int, int]) -> None:
    """Draw ticks down the left edge, one a centimetre, every fifth longer."""
    for tick in range(1, math.ceil(size[1] * cm_per_pixel)):
        y = tick / cm_per_pixel
        length = 14 if tick % 5 == 0 else 7
        pencil.line((0, y, length * _OVERSAMPLING, y), fill=(*_INK, 190), width=2 * _OVERSAMPLING)


def _tag(pencil: ImageDraw.ImageDraw, chamber: Measurement, scale: float) -> None:
    """Write the chamber's name on a dark tag at its centroid."""
    if math.isnan(chamber.centroid_px[0]):
        return
    middle, font = _at(chamber.centroid_px, scale), ImageFont.load_default(size=20)
    half = pencil.textlength(chamber.name, font=font) / 2 + 8
    box = (middle[0] - half, middle[1] - 14, middle[0] + half, middle[1] + 14)
    pencil.rounded_rectangle(box, radius=7, fill=_BACKGROUND)
    pencil.text(middle, chamber.name, fill=colour(chamber.name), font=font, anchor="mm")


def _numbers(pencil: ImageDraw.ImageDraw, panel: EchoPanel, corner: tuple[int, int]) -> None:
    """Write the column of measurements, a block for each chamber."""
    x, y = corner
    for finding in panel.findings:
        chamber = finding.measurement
        swatch = (x, y + 5, x + 6, y + _block(finding) - 20)
        pencil.rounded_rectangle(swatch, radius=3, fill=colour(chamber.name))
        _write(pencil, (x + 20, y + 14), chamber.name, 24, PANEL_WIDTH - 20, colour(chamber.name))
        for line, (label, text) in enumerate(_facts(finding)):
            at = y + 46 + 26 * line
            _write(pencil, (x + 20, at), label, 18, PANEL_WIDTH - 20, _FAINT)
            _write_quantity(pencil, (x + PANEL_WIDTH, at), text)
        y += _block(finding)


def _write_quantity(pencil: ImageDraw.ImageDraw, at: tuple[int, int], text: str) -> None:
    """Write a number and its unit up to a right middle; Pillow's own font has no raised 2."""
    right, middle = at
    if text.endswith("cm2"):
        pencil.text((right, middle - 6), "2", fill=_INK, font=_font(12), anchor="rm")
        right, text = right - 8, text[:-1]
    pencil.text((right, middle), text, fill=_INK, font=_font(18), anchor="rm")


def _facts(finding: Finding) -> list[tuple[str, str]]:
    """List the facts of a chamber: a label and a number with its unit."""
    chamber = finding.measurement
    if chamber.reason:
        return [(chamber.reason, "")]
    facts = [("area", f"{chamber.area_cm2:.1f} cm2")]
    if finding.place.view != "sax":
        facts += [
            ("long axis", f"{chamber.length_cm:.2f} cm"),
            ("volume, one plane", _volume(finding)),
            ("eccentricity", f"{chamber.eccentricity:.2f}"),
        ]
    if not math.isnan(finding.score):
        facts.append(("expected IoU", f"{finding.score:.2f}"))
    if chamber.pieces > 1:
        facts.append(("in pieces", str(chamber.pieces)))
    if finding.axis_doubt:
        facts.append(("axis runs across", ""))
    return facts


def _volume(finding: Finding) -> str:
    volume = finding.volume_ml
    return "withheld" if math.isnan(volume) else f"{volume:.1f} mL"


def _block(finding: Finding) -> int:
    """Compute the height of a chamber's block in the column, in pixels."""
    return 46 + 26 * len(_facts(finding)) + 24


def _panel_height(panel: EchoPanel) -> int:
    return sum(map(_block, panel.findings))


def _at(point: tuple[float, float], factor: float) -> tuple[float, float]:
    """Map a point of the frame, whose pixel centres are whole numbers, into the drawing."""
    return (point[0] + 0.5) * factor, (point[1] + 0.5) * factor


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _write(
    pencil: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    size: float,
    width: int,
    ink: tuple[int, int, int] = _INK,
) -> None:
    """Write one line from its left middle, smaller where it would be longer than ``width``."""
    if not text:
        return
    text = printable(text)
    length = pencil.textlength(text, font=_font(size))
    pencil.text(
        at, text, fill=ink, font=_font(max(8.0, size * min(1.0, width / length))), anchor="lm"
    )
