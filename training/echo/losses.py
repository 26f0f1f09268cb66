"""Loss of a batch: soft Dice over the batch plus cross entropy of the pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

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


def chamber_loss(logits: Tensor, masks: Tensor) -> tuple[Tensor, float]:
    """Compute the loss of one view's part of a batch, and its mean soft Dice for the log."""
    dice = soft_dice(torch.sigmoid(logits), masks).mean()
    entropy = functional.binary_cross_entropy_with_logits(logits, masks)
    return 1 - dice + entropy, float(dice.detach())
