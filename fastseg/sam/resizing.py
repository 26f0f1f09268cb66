"""Resizing of images as networks other than SAM were trained with, one axis after the other.

Sources are scikit-image's and SciPy's documentation of splines, OpenCV's of area interpolation and
PyTorch's of antialiased bilinear interpolation; tests compare with all three.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_POLE = math.sqrt(3) - 2
"""Pole of the recursive filter that turns samples into coefficients of a cubic spline."""

_FIXED = 2048
"""Scale of the weights of OpenCV's bilinear interpolation of 8-bit images, which are integers."""

_SLIVER = 1e-3
"""Parts of a pixel up to this are left out of OpenCV's areas."""


def stretch_spline(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize both axes by a cubic spline, as scikit-image does with order 3.

    An axis that shrinks is smoothed first by a Gaussian of half its factor less one. The values are
    cut to the range of the image and truncated to 8 bits. Where the exact value is an integer,
    scikit-image's rounding may truncate to one less; here it is that integer.

    Args:
        pixels: uint8 (height, width, 3).
        side: Height and width of the result.

    Returns:
        uint8 (side, side, 3).
    """
    values = pixels.astype(np.float64)
    for axis in (0, 1):
        values = _smoothed(values, axis, max(0.0, (pixels.shape[axis] / side - 1) / 2))
    for axis in (0, 1):
        values = _along(_spline_zoom, values, axis, side)
    cut = np.clip(values, pixels.min(), pixels.max())
    return _bytes(np.floor(cut + 1e-9))


def stretch_bilinear(
    pixels: NDArray[np.uint8], side: int, *, widened: bool = True
) -> NDArray[np.float32]:
    """Resize both axes by a triangle filter in float32.

    Args:
        pixels: uint8 (height, width, 3).
        side: Height and width of the result.
        widened: Whether the filter is widened where it shrinks, so that every pixel counts.

    Returns:
        float32 (side, side, 3), not rounded.
    """
    values: NDArray[Any] = pixels.astype(np.float32)
    for axis in (1, 0):
        values = _along(partial(_triangle, widened=widened), values, axis, side)
    return values


def stretch_nearest(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize both axes by the pixel that each place begins in, as OpenCV's ``INTER_NEAREST`` does.

    Args:
        pixels: uint8 (height, width, 3).
        side: Height and width of the result.

    Returns:
        uint8 (side, side, 3).
    """
    # The factor is the inverse of a rounded quotient, which decides where a place meets a pixel.
    rows, columns = (
        np.minimum(np.floor(np.arange(side) * (1 / (side / count))).astype(np.int64), count - 1)
        for count in pixels.shape[:2]
    )
    nearest: NDArray[np.uint8] = pixels[rows[:, None], columns]
    return nearest


def resize_area(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize to a height and width by the mean of areas, as OpenCV's ``INTER_AREA`` does.

    Where an axis is enlarged, that is an interpolation between neighbours in integers.

    Args:
        pixels: uint8 (height, width, 3).
        size: Height and width of the result.

    Returns:
        uint8 (*size, 3).
    """
    height, width = pixels.shape[:2]
    if (height, width) == size:
        return pixels
    if height < size[0] or width < size[1]:
        return _enlarged(pixels, size)
    if height % size[0] == width % size[1] == 0:
        return _block_means(pixels, height // size[0], width // size[1])
    values: NDArray[Any] = pixels.astype(np.float32)
    for axis in (1, 0):
        values = _along(_areas, values, axis, size[axis])
    return _bytes(np.rint(values))


def _along(filtered: Any, values: NDArray[Any], axis: int, length: int) -> NDArray[Any]:
    """Apply ``filtered``, which works along the first axis, along another one."""
    turned = np.ascontiguousarray(np.moveaxis(values, axis, 0))
    return np.moveaxis(filtered(turned, length), 0, axis)


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = values.astype(np.uint8)
    return found


def _smoothed(values: Floats, axis: int, sigma: float) -> Floats:
    """Convolve with a Gaussian cut at four sigma; the image is mirrored about its edge pixels."""
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return values
    places = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (places / sigma) ** 2)
    weights /= weights.sum()
    count = values.shape[axis]
    taps = _mirrored(np.arange(count)[:, None] + places, count)
    return _along(lambda lines, _: _combined(lines, taps.T, weights[:, None]), values, axis, count)


def _spline_zoom(lines: Floats, length: int) -> Floats:
    """Evaluate the cubic spline through (n, ...) samples at the centres of ``length`` pixels."""
    count = len(lines)
    centres = (np.arange(length) + 0.5) * (count / length) - 0.5
    first = np.floor(centres)
    t = centres - first
    weights = np.stack(
        [
            (1 - t) ** 3 / 6,
            2 / 3 - t * t * (2 - t) / 2,
            2 / 3 - (1 - t) ** 2 * (1 + t) / 2,
            t**3 / 6,
        ]
    )
    taps = _mirrored(first.astype(np.int64) + np.arange(-1, 3)[:, None], count)
    return _combined(_spline_coefficients(lines), taps, weights)


def _spline_coefficients(samples: Floats) -> Floats:
    """Filter (n, ...) samples forwards and backwards (Unser 1999), mirrored about the edges."""
    count = len(samples)
    if count == 1:
        return samples
    powers = _POLE ** np.arange(count)
    start = powers.copy()
    start[1:-1] += _POLE ** (2 * (count - 1) - np.arange(1, count - 1))
    found = 6 * samples
    found[0] = np.tensordot(start, found, 1) / (1 - powers[-1] ** 2)
    for at in range(1, count):
        found[at] += _POLE * found[at - 1]
    found[-1] = (_POLE * found[-2] + found[-1]) * _POLE / (_POLE**2 - 1)
    for at in range(count - 2, -1, -1):
        found[at] = _POLE * (found[at + 1] - found[at])
    return found


def _mirrored(places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Fold places beyond the edge pixels back into 0..count - 1."""
    period = max(1, 2 * (count - 1))
    folded = np.abs(places) % period
    return np.minimum(folded, period - folded) if count > 1 else np.zeros_like(places)


def _combined(lines: NDArray[Any], taps: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Sum ``weights`` (k, m) times the lines at ``taps`` (k, m), in the order of k."""
    shape = (-1,) + (1,) * (lines.ndim - 1)
    total = None
    for tap, weight in zip(taps, np.broadcast_to(weights, taps.shape), strict=True):
        part = lines[tap] * weight.reshape(shape).astype(lines.dtype)
        total = part if total is None else total + part
    return np.asarray(total)


def _triangle(lines: NDArray[np.float32], length: int, *, widened: bool) -> NDArray[np.float32]:
    count = len(lines)
    scale = count / length
    reach = max(1.0, scale) if widened else 1.0
    centres = (np.arange(length) + 0.5) * scale
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((centres + reach + 0.5).astype(np.int64), count)
    places = first + np.arange((end - first).max())[:, None]
    weights = np.maximum(0.0, 1 - np.abs((places + 0.5 - centres) / reach))
    weights[places >= end] = 0
    weights /= weights.sum(axis=0)
    return _combined(lines, np.minimum(places, count - 1), weights)


def _areas(lines: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Take the mean of the pixels that each of ``length`` larger ones covers."""
    count = len(lines)
    scale = count / length
    begin = np.arange(length) * scale
    end = begin + scale
    cell = np.minimum(scale, count - begin)
    last = np.minimum(np.floor(end), count - 1)
    first = np.minimum(np.ceil(begin), last)
    before, after = first - begin, end - last
    taps, weights = [first - 1], [np.where(before > _SLIVER, before / cell, 0)]
    for step in range(int((last - first).max())):
        taps.append(first + step)
        weights.append(np.where(first + step < last, 1 / cell, 0))
    taps.append(last)
    weights.append(np.where(after > _SLIVER, np.minimum(np.minimum(after, 1), cell) / cell, 0))
    return _combined(lines, np.clip(taps, 0, count - 1).astype(np.int64), np.array(weights))


def _block_means(pixels: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Take the mean of blocks; halves go up for 2 x 2 pixels, else to even."""
    height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
    sums = pixels.reshape(height, rows, width, columns, 3).sum(axis=(1, 3), dtype=np.int64)
    if rows == columns == 2:
        return _bytes((sums + 2) >> 2)
    means = sums.astype(np.float32) * np.float32(1 / (rows * columns))
    return _bytes(np.rint(means))


def _enlarged(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    rows, row_weights = _neighbours(pixels.shape[0], size[0])
    columns, column_weights = _neighbours(pixels.shape[1], size[1])
    left, right = (pixels[:, column].astype(np.int64) for column in columns)
    along = left * column_weights[0][:, None] + right * column_weights[1][:, None]
    above, below = (along[row] >> 4 for row in rows)
    upper = (above * row_weights[0][:, None, None]) >> 16
    lower = (below * row_weights[1][:, None, None]) >> 16
    return _bytes(np.clip((upper + lower + 2) >> 2, 0, 255))


def _neighbours(count: int, length: int) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return the two neighbours of each of ``length`` pixels, and their weights in integers."""
    places = np.arange(length)
    first = np.floor(places * (count / length)).astype(np.int64)
    share = ((places + 1) - (first + 1) * (length / count)).astype(np.float32)
    share = np.where(share <= 0, np.float32(0), share - np.floor(share))
    share[first >= count - 1] = 0
    first = np.minimum(first, count - 1)
    weights = [np.rint((1 - share) * _FIXED), np.rint(share * _FIXED)]
    return [first, np.minimum(first + 1, count - 1)], [each.astype(np.int64) for each in weights]
