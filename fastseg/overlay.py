"""Drawings of results: masks over their image in distinct colours, and a line of facts below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from fastseg.imaging.palette import colours
from fastseg.inputs.text import printable
from fastseg.masks import Masks
from fastseg.ops import rle_from_array

LONG_SIDE = 1200
"""Longest side of a drawn image in pixels; a small image is enlarged 4 times at most."""

_BACKGROUND = (17, 19, 23)
_INK = (232, 234, 237)
_FILL, _OUTLINE = 0.36, 0.95  # opacity
_MARGIN = 2  # source pixels around a mask's box, so that its outline is not cut off


@dataclass(frozen=True, slots=True)
class Panel:
    """One image with its masks and its prompts."""

    image: NDArray[np.uint8]  # (H, W, 3)
    masks: Masks
    title: str = ""
    prompt_boxes: Sequence[Sequence[float]] = ()  # x0, y0, x1, y1 in image pixels
    prompt_points: Sequence[Sequence[float]] = ()  # x, y in image pixels
    spacing: tuple[float, float] | None = None  # height and width of a pixel in any unit


def draw(panel: Panel, *, long_side: int = LONG_SIDE, numbers: bool = True) -> Image.Image:
    """Draw one panel: the image, dimmed, and every mask filled and outlined, large ones first.

    Masks of one name have one colour, and masks without names have one each.

    Args:
        panel: The image and its masks.
        long_side: Longest side of the drawing in pixels; an image is enlarged 4 times at most.
        numbers: Write each mask's name, or its number (from 1, its place in ``panel.masks``) if
            it has none, in its middle; a name that has no room there makes way for the number.

    Returns:
        An RGB image, in which a millimetre is as long across as down.
    """
    panel = with_square_pixels(panel)
    height, width = panel.image.shape[:2]
    scale = min(4.0, long_side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    enlarged = Image.fromarray(panel.image).resize(size, Image.Resampling.LANCZOS)
    canvas = np.asarray(enlarged).astype(np.float32) * 0.8
    palette = _palette(panel.masks)
    order = np.argsort(-np.asarray(panel.masks.areas), kind="stable")
    for index in order:
        _paint(canvas, panel.masks[int(index)], palette[index])
    drawing = Image.fromarray(np.round(canvas).astype(np.uint8))
    pencil = ImageDraw.Draw(drawing)
    if numbers:
        for index in order:
            _write_tag(pencil, int(index) + 1, panel.masks[int(index)], scale)
    _draw_prompts(pencil, panel, scale)
    return drawing


def compose(panels: Sequence[Panel], legend: str, *, long_side: int = LONG_SIDE) -> Image.Image:
    """Set panels side by side under their titles, with one line of facts below.

    Args:
        panels: At least one.
        legend: The line; it is made smaller where it would not fit.
        long_side: Longest side of each panel in pixels.

    Returns:
        An RGB image.
    """
    drawn = [draw(panel, long_side=long_side) for panel in panels]
    gap, unit = max(8, long_side // 100), max(14, long_side // 50)
    top = gap + (unit * 2 if any(panel.title for panel in panels) else 0)
    width = sum(drawing.width for drawing in drawn) + gap * (len(drawn) + 1)
    bottom = top + max(drawing.height for drawing in drawn)
    sheet = Image.new("RGB", (width, bottom + unit * 2 + gap), _BACKGROUND)
    pencil = ImageDraw.Draw(sheet)
    left = gap
    for panel, drawing in zip(panels, drawn, strict=True):
        _write_line(pencil, panel.title, (left, gap + unit), drawing.width, unit * 1.15)
        sheet.paste(drawing, (left, top))
        left += drawing.width + gap
    _write_line(pencil, legend, (gap, bottom + unit + gap // 2), width - 2 * gap, unit)
    return sheet


def montage(panels: Sequence[Panel], legend: str, *, long_side: int = 1600) -> Image.Image:
    """Set many panels in rows, each with its title, with one line of facts below.

    Args:
        panels: At least one, of one size.
        legend: The line; it is made smaller where it would not fit.
        long_side: Width of the sheet in pixels.

    Returns:
        An RGB image.
    """
    columns = max(1, round(math.sqrt(1.5 * len(panels))))
    gap, unit = 8, 16
    side = (long_side - gap * (columns + 1)) // columns
    drawn = [draw(panel, long_side=side, numbers=False) for panel in panels]
    width, height = (max(sizes) for sizes in zip(*(one.size for one in drawn), strict=True))
    cell = (width + gap, height + gap + 2 * unit)
    rows = math.ceil(len(panels) / columns)
    size = (gap + columns * cell[0], gap + rows * cell[1] + 2 * unit)
    sheet = Image.new("RGB", size, _BACKGROUND)
    pencil = ImageDraw.Draw(sheet)
    for place, (panel, drawing) in enumerate(zip(panels, drawn, strict=True)):
        left, top = gap + place % columns * cell[0], gap + place // columns * cell[1]
        _write_line(pencil, panel.title, (left, top + unit), width, unit)
        sheet.paste(drawing, (left, top + 2 * unit))
    _write_line(pencil, legend, (gap, size[1] - unit - gap // 2), size[0] - 2 * gap, unit)
    return sheet


def with_square_pixels(panel: Panel) -> Panel:
    """Stretch the shorter side of pixels that are not square, in the image and in its masks."""
    if panel.spacing is None or panel.spacing[0] == panel.spacing[1]:
        return panel
    height, width = panel.image.shape[:2]
    tall, wide = (side / min(panel.spacing) for side in panel.spacing)
    size = max(1, round(width * wide)), max(1, round(height * tall))
    across, down = size[0] / width, size[1] / height
    image = np.asarray(Image.fromarray(panel.image).resize(size, Image.Resampling.LANCZOS))
    stretched = np.zeros((len(panel.masks), size[1], size[0]), np.bool_)
    for mask, out in zip(panel.masks.array(), stretched, strict=True):
        levels = Image.fromarray(mask.astype(np.uint8) * 255)
        out[...] = np.asarray(levels.resize(size, Image.Resampling.NEAREST)) > 0
    return replace(
        panel,
        image=image,
        masks=replace(
            Masks.from_rle(
                rle_from_array(stretched),
                scores=panel.masks.scores,
                stability=panel.masks.stability,
                prompt=panel.masks.prompt,
                names=panel.masks.names,
            ),
            timings=panel.masks.timings,
        ),
        prompt_boxes=[
            (x0 * across, y0 * down, x1 * across, y1 * down)
            for x0, y0, x1, y1 in panel.prompt_boxes
        ],
        prompt_points=[(x * across, y * down) for x, y in panel.prompt_points],
        spacing=None,
    )


def _paint(canvas: NDArray[np.float32], mask: Masks, colour: NDArray[np.float32]) -> None:
    """Blend one mask into ``canvas``, touching only the pixels about its box."""
    (height, width), (rows, columns) = mask.size, canvas.shape[:2]
    scale = np.array([columns / width, rows / height])
    box = mask.boxes[0]
    near = np.maximum(box[:2] - _MARGIN, 0)
    far = np.minimum(box[2:] + 1 + _MARGIN, [width, height])
    left, top = np.floor(near * scale).astype(int)
    right, bottom = np.minimum(np.ceil(far * scale).astype(int), [columns, rows])
    # The part of the image under the touched part of the canvas; pixels cut in two belong to it.
    x0, y0 = np.array([left, top]) / scale
    x1, y1 = np.minimum(np.array([right, bottom]) / scale, [width, height])
    first, last = (int(x0), int(y0)), (math.ceil(x1), math.ceil(y1))
    part = mask.array()[0, first[1] : last[1], first[0] : last[0]].astype(np.uint8) * 255
    window = (x0 - first[0], y0 - first[1], x1 - first[0], y1 - first[1])
    size = (int(right - left), int(bottom - top))
    resized = Image.fromarray(part).resize(size, Image.Resampling.BILINEAR, box=window)
    soft = np.asarray(resized).astype(np.float32)
    # Enlarging blurs the edge over as many pixels as the scale: sharpen it back to one.
    cover = np.clip((soft / 255 - 0.5) * max(1.0, float(scale.min())) + 0.5, 0.0, 1.0)
    inner = Image.fromarray(np.round(cover * 255).astype(np.uint8)).filter(ImageFilter.MinFilter(5))
    edge = cover - np.asarray(inner).astype(np.float32) / 255
    opacity = (_FILL * cover + (_OUTLINE - _FILL) * np.maximum(edge, 0))[..., None]
    area = canvas[top:bottom, left:right]
    area += (colour - area) * opacity


def _palette(masks: Masks) -> NDArray[np.float32]:
    """Choose the colour of each mask, (n, 3) sRGB."""
    if masks.names is None:
        return colours(len(masks)).astype(np.float32)
    places = {name: place for place, name in enumerate(dict.fromkeys(masks.names))}
    shades = colours(len(places)).astype(np.float32)
    palette: NDArray[np.float32] = shades[[places[name] for name in masks.names]]
    return palette


def _write_tag(pencil: ImageDraw.ImageDraw, number: int, mask: Masks, scale: float) -> None:
    """Write a mask's name or number on a dark tag in its middle, unless its box is too small."""
    font = ImageFont.load_default(size=15)
    width, height = (mask.boxes[0, 2:] - mask.boxes[0, :2]) * scale
    for text in (*map(printable, mask.names or ()), str(number)):
        left, top, right, bottom = pencil.textbbox((0, 0), text, font=font)
        if right - left + 12 <= width and bottom - top + 8 <= height:
            break
    else:
        return
    x, y = _midst(mask)
    middle = (x * scale, y * scale)
    half = ((right - left) / 2 + 5, (bottom - top) / 2 + 4)
    tag = (middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1])
    pencil.rounded_rectangle(tag, radius=5, fill=_BACKGROUND)
    pencil.text(middle, text, fill=_INK, font=font, anchor="mm")


def _midst(mask: Masks) -> tuple[float, float]:
    """Find a point inside a mask that is not empty, x before y, and in its main part.

    Half of the mask lies to its left; a small piece far away does not draw it there.
    """
    x0, y0, x1, y1 = mask.boxes[0].tolist()
    part = mask.array()[0, y0 : y1 + 1, x0 : x1 + 1]
    areas = np.cumsum(part.sum(axis=0))
    column = int(np.searchsorted(areas, areas[-1] / 2))
    edges = np.flatnonzero(np.diff(part[:, column].astype(np.int8), prepend=0, append=0))
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return x0 + column + 0.5, y0 + (int(starts[longest]) + int(ends[longest])) / 2


def _draw_prompts(pencil: ImageDraw.ImageDraw, panel: Panel, scale: float) -> None:
    for x0, y0, x1, y1 in panel.prompt_boxes:
        pencil.rectangle((x0 * scale, y0 * scale, x1 * scale, y1 * scale), outline=_INK, width=2)
    for x, y in panel.prompt_points:
        at = (x * scale, y * scale)
        pencil.circle(at, radius=6, fill=_INK, outline=_BACKGROUND, width=2)


def _write_line(
    pencil: ImageDraw.ImageDraw, text: str, at: tuple[int, int], width: int, size: float
) -> None:
    """Write one line from its left middle, shrunk until it is at most ``width`` pixels long."""
    if not text:
        return
    text = printable(text)
    length = pencil.textlength(text, font=ImageFont.load_default(size=size))
    font = ImageFont.load_default(size=max(6.0, size * min(1.0, width / length)))
    pencil.text(at, text, fill=_INK, font=font, anchor="lm")
