"""The kernels for frames of the heart again, as scipy, scikit-image and plain NumPy do it."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.ndimage
import skimage.morphology

EVERYWHERE = np.ones((3, 3))


def largest_component(mask):
    """8-connected; of equal ones the first in raster order."""
    labels, _ = scipy.ndimage.label(mask, EVERYWHERE)
    areas = np.bincount(labels.ravel())[1:]
    return labels == np.argmax(areas) + 1 if len(areas) else mask


def clean(probabilities, threshold=0.5):
    """One channel: threshold, largest component, closing by a disk of radius 2, holes filled."""
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
