"""Loss of a batch: soft Dice over the batch plus cross entropy of the pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.dice import soft_dice


def chamber_loss(logits: Tensor, masks: Tensor) -> tuple[Tensor, float]:
    """Compute the loss of one view's part of a batch, and its mean soft Dice for the log."""
    dice = soft_dice(torch.sigmoid(logits), masks).mean()
    entropy = functional.binary_cross_entropy_with_logits(logits, masks)
    return 1 - dice + entropy, float(dice.detach())
