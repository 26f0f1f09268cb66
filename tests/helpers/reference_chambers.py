"""References for the kernels of heart frames, in scipy, scikit-image and plain NumPy."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.ndimage
import skimage.morphology

EVERYWHERE = np.ones((3, 3))


def largest_component(mask):
    """Keep the largest 8-connected component; of equal ones the first in raster order."""
    labels, _ = scipy.ndimage.label(mask, EVERYWHERE)
    areas = np.bincount(labels.ravel())[1:]
    return labels == np.argmax(areas) + 1 if len(areas) else mask


def clean(probabilities, threshold=0.5):
    """Clean a channel: threshold, largest component, closing by a disk of radius 2, filling."""
    mask = largest_component(probabilities > np.float32(threshold))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        closed = skimage.morphology.binary_closing(mask, skimage.morphology.disk(2))
    return scipy.ndimage.binary_fill_holes(closed)


def clean_chambers(probabilities, threshold=0.5, *, exclusive):
    masks = np.zeros(probabilities.shape, bool)
    for frame in range(len(probabilities)):
        for channel in range(probabilities.shape[1]):
            masks[frame, channel] = clean(probabilities[frame, channel], threshold)
    if exclusive:
        claims = masks[:, 1:].sum(1)
        masks[:, 0] = claims == 1
        masks[:, 1:] &= masks[:, :1]
    return masks


def chamber_scores(probabilities, masks):
    units = (np.clip(np.nan_to_num(probabilities, nan=0.0), 0, 1) * np.float32(2**24)).astype(
        np.int64
    )
    inside = (units * masks).sum((2, 3))
    union = (masks.sum((2, 3)) << 24) + units.sum((2, 3)) - inside
    some = masks.any((2, 3))
    scores = np.where(some, inside / np.maximum(union, 1), 0.0)
    logit_one, minus_one = (np.float32(1 / (1 + np.exp(-logit))) for logit in (1.0, -1.0))
    high = (probabilities > logit_one).sum((2, 3)).astype(np.float32)
    low = (probabilities > minus_one).sum((2, 3)).astype(np.float32)
    with np.errstate(invalid="ignore"):
        return scores.astype(np.float32), high / low


def area_taps(inputs, outputs):
    """Return the first input of each output, and the share of it that each input covers."""
    taps = []
    for output in range(outputs):
        begin, end = output * inputs, (output + 1) * inputs
        first = begin // outputs
        covered = [
            min(end, (i + 1) * outputs) - max(begin, i * outputs)
            for i in range(first, -(-end // outputs))
        ]
        taps.append((first, [np.float32(part / inputs) for part in covered]))
    return taps


def cubic_taps(inputs, outputs, a=-0.75):
    """Return the first of four inputs of each output, and their weights (Keys 1981)."""

    def weight(x):
        if x <= 1:
            return ((a + 2) * x - (a + 3)) * x * x + 1
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    taps = []
    for output in range(outputs):
        centre = (output + 0.5) * (inputs / outputs) - 0.5
        left = int(np.floor(centre))
        distances = [abs(centre - left - (tap - 1)) for tap in range(4)]
        taps.append((left - 1, [np.float32(weight(distance)) for distance in distances]))
    return taps


def filter_axis(values, taps, axis):
    """Weight along one axis in single precision, tap by tap; the border repeats."""
    moved = np.moveaxis(values, axis, 0)
    out = np.zeros((len(taps), *moved.shape[1:]), np.float32)
    for output, (first, weights) in enumerate(taps):
        for tap, weight in enumerate(weights):
            if weight != 0:
                out[output] += weight * moved[min(max(first + tap, 0), len(moved) - 1)]
    return np.moveaxis(out, 0, axis)


def resample(image, taps_of, side):
    """Resize columns, then rows; bytes are rounded at the end."""
    sums = image.astype(np.float32)
    for axis in (0, 1):
        sums = filter_axis(sums, taps_of(image.shape[axis], side), axis)
    if image.dtype == np.uint8:
        return np.clip(sums + np.float32(0.5), 0, 255).astype(np.uint8)
    return sums


def cut(frame, window):
    """Cut a window out of a frame, with zeros where it reaches beyond."""
    x0, y0, x1, y1 = window
    (height, width), reach = frame.shape[:2], max(abs(number) for number in window)
    padded = np.pad(frame, [(reach, reach), (reach, reach), (0, 0)])
    rows = slice(y0 + reach, min(y1, height + reach) + reach)
    part = padded[rows, x0 + reach : min(x1, width + reach) + reach]
    assert part.shape[:2] == (y1 - y0, x1 - x0)
    return part


def stretch(image):
    values = image.astype(np.float32).transpose(2, 0, 1)
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def frame_input(frame, window, side):
    part = cut(frame, window)
    if (part == part[:1, :1, :1]).all():
        return np.zeros((frame.shape[2], side, side), np.float32)
    if part.shape[:2] != (side, side):
        if part.shape[:2] != (400, 400):
            part = resample(part, area_taps, 400)
        if side != 400:
            part = resample(part, cubic_taps, side)
    return stretch(part)


def places(inputs, begin, length, count):
    """Return the two mask pixels around each pixel of a frame, and its place, in 2 * length."""
    far = (2 * (np.arange(count) - begin) + 1) * inputs - length
    far = np.clip(far, 0, (inputs - 1) * 2 * length)
    left = far // (2 * length)
    return left, np.minimum(left + 1, inputs - 1), far % (2 * length)


def masks_to_frame(masks, window, size):
    """Resize bilinearly in integers, all pixels; one half counts as set."""
    (x0, y0, x1, y1), (height, width) = window, size
    top, bottom, down = places(masks.shape[1], y0, y1 - y0, height)
    left, right, across = places(masks.shape[2], x0, x1 - x0, width)
    whole_down, whole_across = 2 * (y1 - y0), 2 * (x1 - x0)
    values = masks.astype(np.int64)
    columns = values[:, :, left] * (whole_across - across) + values[:, :, right] * across
    down = down[:, np.newaxis]
    rows = columns[:, top] * (whole_down - down) + columns[:, bottom] * down
    drawn = 2 * rows >= whole_down * whole_across
    drawn[:, : max(y0, 0)] = drawn[:, :, : max(x0, 0)] = False
    drawn[:, max(y1, 0) :] = drawn[:, :, max(x1, 0) :] = False
    return drawn
