"""Loss of drawn masks: soft Dice plus cross entropy, and the error of predicted scores."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.dice import soft_dice


def mask_losses(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Compute the loss of every mask, unweighted as in MedSAM (arXiv 2304.12306).

    Args:
        logits: (prompts, slots, h, w).
        targets: (prompts, h, w) in [0, 1].
        valid: (h, w), 0 where there is padding.

    Returns:
        (prompts, slots).
    """
    wanted = targets[:, None].expand_as(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    entropy = (entropy * valid).sum(dim=(2, 3)) / valid.sum()
    chance = (logits.sigmoid() * valid).flatten(0, 1)[None]
    dice = soft_dice(chance, (wanted * valid).flatten(0, 1)[None])
    return entropy + 1 - dice.reshape(entropy.shape)


@torch.no_grad()
def hard_scores(logits: Tensor, targets: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and Dice (prompts, slots) of masks at logit 0 with targets at one half."""
    drawn = (logits > 0) & (valid > 0)
    truth = ((targets > 0.5) & (valid > 0))[:, None]
    both = (drawn & truth).sum(dim=(2, 3)).float()
    total = drawn.sum(dim=(2, 3)) + truth.sum(dim=(2, 3))
    return both / (total - both).clamp(min=1), 2 * both / total.clamp(min=1)


def prompt_loss(
    logits: Tensor, scores: Tensor, targets: Tensor, valid: Tensor, *, alternatives: bool
) -> Tensor:
    """Compute the loss of the single mask and, with alternatives, of the best of the others too.

    Scores learn the measured IoU of every mask that is trained, as in SAM.

    Args:
        logits: (prompts, slots, h, w).
        scores: (prompts, slots).
        targets: (prompts, h, w) in [0, 1].
        valid: (h, w), 0 where there is padding.
        alternatives: True where a prompt may be answered by any slot, False without a prompt.
    """
    if not alternatives:
        logits, scores = logits[:, :1], scores[:, :1]
    losses = mask_losses(logits, targets, valid)
    total = losses[:, 0].mean()
    if alternatives:
        total = total + losses[:, 1:].min(dim=1).values.mean()
    iou, _ = hard_scores(logits, targets, valid)
    return total + functional.mse_loss(scores, iou)
