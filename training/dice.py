"""Soft Dice of probabilities and masks, for the losses of all trainings."""

from __future__ import annotations

from torch import Tensor

SMOOTH = 1e-5
"""Addend of numerator and denominator, so that an absent class costs nothing."""


def soft_dice(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Compute the soft Dice of each class over a batch, by squares (Milletari et al. 2016).

    Args:
        probabilities: (n, classes, height, width) in [0, 1].
        masks: The same shape, 0 or 1.
    """
    across = (0, 2, 3)
    both = (probabilities * masks).sum(across)
    total = probabilities.square().sum(across) + masks.square().sum(across)
    return (2 * both + SMOOTH) / (total + SMOOTH)
