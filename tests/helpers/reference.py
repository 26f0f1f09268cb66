"""Slow and obvious NumPy references, which the native kernels must equal bit for bit."""

from __future__ import annotations

import numpy as np
import scipy.ndimage

LOGIT_LIMIT = np.float32(2.0**120)


def triangle_weights(inputs, outputs):
    """Return Pillow's antialiased bilinear filter, (outputs, inputs), in 22-bit fixed point."""
    scale = inputs / outputs
    support = max(scale, 1.0)
    matrix = np.zeros((outputs, inputs), np.int64)
    for output in range(outputs):
        centre = (output + 0.5) * scale
        begin = max(0, int(centre - support + 0.5))
        end = min(inputs, int(centre + support + 0.5))
        weights = [
            max(0.0, 1.0 - abs((i - centre + 0.5) * (1.0 / support))) for i in range(begin, end)
        ]
        total = 0.0
        for weight in weights:
            total += weight
        matrix[output, begin:end] = [int(weight / total * 2**22 + 0.5) for weight in weights]
    return matrix


def resize_axis(image, size, axis):
    moved = np.moveaxis(image.astype(np.int64), axis, 0)
    sums = np.tensordot(triangle_weights(len(moved), size), moved, 1) + 2**21
    return np.moveaxis(np.clip(sums >> 22, 0, 255).astype(np.uint8), 0, axis)


def axes_in_order(shape, size):
    """Resize vertically first if the height loses more than twice as many pixels as the width."""
    lost_height, lost_width = shape[0] - size[0], shape[1] - size[1]
    return (0, 1) if lost_height > 0 and lost_height > 2 * lost_width else (1, 0)


def resize_bilinear(image, size):
    for axis in axes_in_order(image.shape, size):
        image = resize_axis(image, size[axis], axis)
    return image


def preprocess(image, frame, mean, std):
    x0, y0, x1, y1 = frame.crop_box
    height, width = frame.resized
    resized = resize_bilinear(image[y0:y1, x0:x1], frame.resized).astype(np.float32)
    normalised = (resized - np.float32(mean)) / np.float32(std)
    out = np.zeros((3, frame.side, frame.side), np.float32)
    out[:, :height, :width] = normalised.transpose(2, 0, 1)
    return out


def between(position, inputs, outputs):
    """Return left and right neighbour of one bilinear step, and the share of the right one."""
    source = max(0.0, inputs / outputs * (position + 0.5) - 0.5)
    left = min(int(source), inputs - 1)
    return left, min(left + 1, inputs - 1), source - left


def stencils(low, side, resized, size):
    """Return the first low-resolution value of each of `size` outputs, and three weights."""
    first, weights = np.zeros(size, np.int64), np.zeros((size, 3), np.float32)
    for position in range(size):
        j0, j1, across = between(position, resized, size)
        a0, a1, a = between(j0, low, side)
        b0, b1, b = between(j1, low, side)
        total = [0.0, 0.0, 0.0]
        total[0] += (1.0 - across) * (1.0 - a)
        total[a1 - a0] += (1.0 - across) * a
        total[b0 - a0] += across * (1.0 - b)
        total[b1 - a0] += across * b
        first[position], weights[position] = a0, total
    return first, weights


def weigh(values, low, side, resized, size):
    """Enlarge the last axis twice."""
    first, weights = stencils(low, side, resized, size)
    a, b, c = (values[..., np.minimum(first + tap, low - 1)] for tap in range(3))
    return (weights[:, 0] * a + weights[:, 1] * b) + weights[:, 2] * c


def enlarge(logits, frame):
    """Enlarge low-resolution logits (n, h, w) to those of all pixels of the crop."""
    finite = np.clip(np.nan_to_num(logits, nan=-np.inf), -LOGIT_LIMIT, LOGIT_LIMIT)
    _, height, width = logits.shape
    columns = weigh(finite, width, frame.side, frame.resized[1], frame.size[1])
    rows = weigh(columns.swapaxes(1, 2), height, frame.side, frame.resized[0], frame.size[0])
    return np.ascontiguousarray(rows.swapaxes(1, 2))


def binarise(logits, frame, threshold=0.0, stability_offset=1.0):
    """Return masks of the whole image, areas, boxes and stability."""
    full = enlarge(logits, frame)
    masks = np.zeros((len(logits), *frame.image), bool)
    x0, y0, x1, y1 = frame.crop_box
    masks[:, y0:y1, x0:x1] = full > np.float32(threshold)
    high = (full > np.float32(threshold + stability_offset)).sum((1, 2))
    low = (full > np.float32(threshold - stability_offset)).sum((1, 2))
    with np.errstate(invalid="ignore"):
        stability = high.astype(np.float32) / low.astype(np.float32)
    boxes = np.array([box(mask) for mask in masks], np.int64).reshape(-1, 4)
    return masks, masks.sum((1, 2)), boxes, stability


def box(mask):
    ys, xs = np.nonzero(mask)
    return [xs.min(), ys.min(), xs.max(), ys.max()] if len(xs) else [0, 0, 0, 0]


def run_lengths(mask):
    """Return COCO's uncompressed run lengths of one mask."""
    pixels = mask.flatten(order="F")
    edges = [0, *(np.flatnonzero(pixels[1:] != pixels[:-1]) + 1), len(pixels)]
    return [0] * int(pixels[0]) + [int(length) for length in np.diff(edges)]


def draw(counts, size):
    """Return the mask that run lengths describe."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(size, order="F")


def fill(rings, size):
    """Fill by the even-odd rule: set where a ray to the left crosses an odd number of edges."""
    mask = np.zeros(size, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if x0 == x1:
                mask[min(y0, y1) : max(y0, y1), x0:] ^= True
    return mask


def signed_area(ring):
    x, y = ring.astype(np.int64).T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) // 2


def remove_small_regions(mask, min_area, mode):
    """Fill holes or drop islands of fewer pixels than `min_area`; tell if there were any."""
    working = ~mask if mode == "holes" else mask
    labels, count = scipy.ndimage.label(working, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    small = [i + 1 for i, area in enumerate(areas) if area < min_area]
    if not small:
        return mask, False
    if mode == "holes":
        return mask | np.isin(labels, small), True
    kept = [i for i in range(1, count + 1) if i not in small] or [int(np.argmax(areas)) + 1]
    return np.isin(labels, kept), True


def iou(a, b):
    either = (a | b).sum()
    return (a & b).sum() / either if either else 1.0


def box_nms(boxes, scores, iou_threshold):
    boxes = np.asarray(boxes, np.float32)
    order = sorted(range(len(boxes)), key=lambda i: -np.inf if np.isnan(scores[i]) else -scores[i])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    for i in order:
        if not any(box_iou(boxes, areas, k, i) > iou_threshold for k in kept):
            kept.append(i)
    return np.array(kept, np.int64)


def box_iou(boxes, areas, i, j):
    zero = np.float32(0)
    width = max(zero, min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0]))
    height = max(zero, min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1]))
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(width * height / (areas[i] + areas[j] - width * height))


def near_crop_edge(boxes, frame, tolerance=20.0):
    height, width = frame.image
    near_crop = np.abs(boxes - np.array(frame.crop_box)) <= tolerance
    near_image = np.abs(boxes - np.array([0, 0, width, height])) <= tolerance
    return (near_crop & ~near_image).any(1)
