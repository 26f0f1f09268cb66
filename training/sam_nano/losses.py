"""What training minimises: masks, their predicted quality, and the encoder's dense hints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Style = Literal["plain", "balanced", "tamed"]
"""Plain, ``balanced`` as in ``mask_losses``, or ``tamed``: prompts that nobody could answer, an
object that does not show, say, do not drown the others of their step."""

SLOT_LEAK = 0.05
"""Weight of the slots that did not win, so that none of them dies."""


KNEE = 3.0
"""Loss of one prompt from which more of it counts less and less, where losses are tamed."""


@dataclass(frozen=True, slots=True)
class MaskLoss:
    """The loss of a group of prompts and what to watch while it falls."""

    total: Tensor
    best_iou: float
    chosen_iou: float
    """Mean IoU of the slot that the network itself scores highest."""


def mask_losses(logits: Tensor, targets: Tensor, *, balanced: bool = False) -> Tensor:
    """Cross entropy plus dice: (N, M) from logits (N, M, h, w) and targets (N, h, w).

    The entropy is summed over the picture and divided by a size between the object's and the
    picture's, so that small objects count and edges stay where they are. ``balanced`` instead gives
    inside and outside one half each, which finds places fast but draws objects too large.
    """
    truth = targets[:, None].expand_as(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    area = truth.sum(dim=(2, 3))
    chance = logits.sigmoid()
    overlap = (chance * truth).sum(dim=(2, 3))
    dice = 1 - (2 * overlap + 1) / (chance.sum(dim=(2, 3)) + area + 1)
    if balanced:
        inside = (entropy * truth).sum(dim=(2, 3)) / (area + 1)
        outside = (entropy * (1 - truth)).mean(dim=(2, 3))
        return inside + 2 * outside + dice
    pixels = truth.shape[2] * truth.shape[3]
    return entropy.sum(dim=(2, 3)) / (area + 0.05 * pixels) + dice


def measured_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU (N, M) of thresholded logits with thresholded targets."""
    drawn, truth = logits > 0, (targets > 0.5)[:, None]
    both = (drawn & truth).sum(dim=(2, 3))
    return both / (drawn | truth).sum(dim=(2, 3)).clamp(min=1)


def prompt_loss(
    logits: Tensor, scores: Tensor, targets: Tensor, *, sure: bool, style: Style
) -> MaskLoss:
    """Loss of one group of prompts.

    Only the best of slots 1 to 3 learns the mask (Kirillov et al. 2023), so that the slots part
    ways where a prompt is ambiguous; slot 0 answers alone, and counts more where the prompt says
    enough (``sure``). All scores learn the IoU that was measured.

    Args:
        logits: float (N, 4, h, w).
        scores: float (N, 4), predicted IoU.
        targets: float (N, h, w) in [0, 1].
        sure: Whether the prompts are boxes or several points.
        style: How losses of single masks are taken.
    """
    losses = mask_losses(logits, targets, balanced=style == "balanced")
    if style == "tamed":
        losses = KNEE * torch.log1p(losses / KNEE)
    alone, several = losses[:, 0], losses[:, 1:]
    masks = several.min(dim=1).values.mean() + SLOT_LEAK * several.mean()
    masks = masks + (1.0 if sure else 0.25) * alone.mean()
    with torch.no_grad():
        iou = measured_iou(logits, targets)
    quality = functional.mse_loss(scores, iou)
    chosen = iou[:, 1:].gather(1, scores[:, 1:].argmax(dim=1, keepdim=True))
    return MaskLoss(
        masks + 2 * quality, float(iou[:, 1:].max(dim=1).values.mean()), float(chosen.mean())
    )


def dense_loss(hints: Tensor, dense: Tensor) -> Tensor:
    """Loss of the encoder's hints (B, C, h, w): entropy for yes or no, distance for the centre."""
    asked = [0, *range(4, dense.shape[1])]
    yes_or_no = functional.binary_cross_entropy_with_logits(hints[:, asked], dense[:, asked])
    boundary = functional.binary_cross_entropy_with_logits(
        hints[:, 1], dense[:, 1], pos_weight=torch.tensor(4.0)
    )
    object_weight = dense[:, :1]
    distance = functional.smooth_l1_loss(hints[:, 2:4], dense[:, 2:4], reduction="none")
    centre = (distance * object_weight).sum() / (2 * object_weight.sum() + 1)
    return yes_or_no + boundary + centre
