"""Masks of heart chambers from a network's probabilities, and their scores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastseg import _core
from fastseg.errors import MaskError
from fastseg.ops import checks


class ChamberScores(NamedTuple):
    """Confidence of a network in every chamber."""

    scores: NDArray[np.float32]
    """``(n, channels)`` from 0 to 1: the intersection over union that the probabilities promise."""

    stability: NDArray[np.float32]
    """``(n, channels)`` pixels above logit 1 / pixels above logit -1; 0 / 0 is NaN."""


def clean_chambers(
    probabilities: NDArray[np.float32],
    *,
    threshold: float = 0.5,
    exclusive: bool,
    threads: int = 0,
) -> NDArray[np.bool_]:
    """Give every channel one smooth piece without holes.

    Of the pixels above the threshold the largest 8-connected component stays (of equal ones the
    first in raster order), is closed by a disk of radius 2 whose part outside the frame changes
    nothing, and its holes are filled, which are background that no path over edges joins to the
    border. The steps are those of Ferreira et al., Nat Commun 16, 4070 (2025). A NaN counts as
    background.

    Args:
        probabilities: ``(n, channels, h, w)`` float32.
        threshold: pixels above it are the mask, compared in single precision.
        exclusive: chambers cannot overlap: a pixel that several of channels 1 and up claim is
            taken from all of them, and channel 0 becomes the union of what is left.
        threads: cores to use at most; 0 is all.

    Returns:
        ``(n, channels, h, w)`` bool. Taking contested pixels away may leave a chamber in pieces.

    Raises:
        MaskError: the probabilities are not of that shape and dtype, or ``exclusive`` is asked of
            fewer than two channels.
        PromptError: the threshold is not a usable number.
    """
    probabilities = checks.chamber_planes(probabilities)
    checks.thresholds(threshold, 0.0)
    if exclusive and probabilities.shape[1] < 2:
        raise MaskError(
            "exclusive chambers are a union and at least one chamber, not "
            f"{probabilities.shape[1]} channel; use exclusive=False"
        )
    out = np.empty(probabilities.shape, np.bool_)
    _core.clean_chambers(
        probabilities, threshold, exclusive, out.view(np.uint8), checks.threads(threads)
    )
    return out


def chamber_scores(
    probabilities: NDArray[np.float32], masks: NDArray[np.bool_], *, threads: int = 0
) -> ChamberScores:
    """Score masks by the probabilities that they were made from.

    The score is the sum of the probabilities inside a mask, divided by the number of its pixels
    plus the sum outside: expected intersection over expected union if every pixel were drawn on
    its own. An empty mask scores 0. Probabilities count in whole multiples of 2 ** -24; less than
    0 and NaN count as 0, more than 1 as 1.

    Args:
        probabilities: ``(n, channels, h, w)`` float32 from 0 to 1.
        masks: ``(n, channels, h, w)`` bool.
        threads: cores to use at most; 0 is all.

    Raises:
        MaskError: an array is not of that shape and dtype, or the two do not belong together.
    """
    probabilities = checks.chamber_planes(probabilities)
    masks = np.ascontiguousarray(masks)
    if masks.shape != probabilities.shape or masks.dtype != np.bool_:
        raise MaskError(
            f"masks must be {probabilities.shape} bool as the probabilities are, "
            f"not {masks.shape} {masks.dtype}"
        )
    scores = np.empty(probabilities.shape[:2], np.float32)
    stability = np.empty_like(scores)
    _core.chamber_scores(
        probabilities, masks.view(np.uint8), scores, stability, checks.threads(threads)
    )
    return ChamberScores(scores, stability)
