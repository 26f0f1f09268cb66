"""Arrays as the emulated device takes them, and whole operations on it from and to NumPy."""

from __future__ import annotations

import numpy as np

from fastseg import ops
from fastseg.cuda import kernels as device_ops
from fastseg.cuda.kernels import FILL, LABEL, RECORD, Candidates, MaskFilter

EVERYTHING_PASSES = MaskFilter(edge_tolerance=-1.0)


def scratch(length):
    """Make memory full of old bytes, at a multiple of 16."""
    held = np.full(length + 16, 0xA5, np.uint8)
    start = -held.ctypes.data % 16
    return held[start : start + length]


def labels(count, scores=None):
    """Label planes with prompts 0, 1, ..."""
    rows = np.zeros(count, LABEL)
    rows["prompt"] = np.arange(count)
    rows["score"] = np.arange(count) if scores is None else scores
    return rows


def as_bytes(rows):
    return rows.view(np.uint8).reshape(len(rows), rows.dtype.itemsize)


def candidates(masks, runs):
    return Candidates(
        scratch(masks * RECORD.itemsize).reshape(masks, RECORD.itemsize),
        scratch(runs * 4).view(np.uint32),
        np.zeros(FILL.itemsize, np.uint8),
    )


def fill_of(found):
    return tuple(int(number) for number in found.fill.view(FILL)[0])


def records_of(found, count):
    return found.records[:count].reshape(-1).view(RECORD)


def add_masks(kernels, logits, frame, found, *, rows=None, mask_filter=EVERYTHING_PASSES):
    """Run ``binarise`` into existing candidates."""
    rows = labels(len(logits)) if rows is None else rows
    need = kernels.binarise_workspace(len(logits), logits.shape[1:], frame)
    kernels.binarise(
        logits, as_bytes(rows), frame, mask_filter, candidates=found, workspace=scratch(need)
    )


def keep(kernels, found, kept):
    """Return the candidates of these indices, as records and the parts of ``Rle``."""
    masks, runs = found.records.shape[0], found.positions.shape[0]
    listed, count = np.zeros(masks, np.int32), np.array([len(kept)], np.int32)
    listed[: len(kept)] = kept
    out = candidates(masks, runs)
    kernels.join_runs(found, listed, count, out=out)
    masks, runs = fill_of(out)
    records = records_of(out, masks)
    return records, ops.Rle(out.positions[:runs].copy(), np.append(records["begin"], runs), (1, 1))


def suppress(kernels, found, threshold):
    """Return the indices that ``box_nms`` keeps."""
    masks = found.records.shape[0]
    kept, count = np.full(masks, -1, np.int32), np.zeros(1, np.int32)
    need = kernels.box_nms_workspace(masks)
    kernels.box_nms(found, threshold, kept=kept, count=count, workspace=scratch(need))
    return kept[: count[0]]


def both_ways():
    """Make kernels of the emulated device that take blocks and threads forwards, and backwards."""
    return [device_ops.emulated_kernels(), device_ops.emulated_kernels(backwards=True)]
