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


SURE_ALONE, SURE_SEVERAL = 1.5, 0.5
"""Weights of the single mask and of the best of three where a prompt says enough."""

SCORE_BETA = 0.1
"""Errors of scores above this count by their size, those below by their square."""

KNEE = 3.0
"""Loss of one prompt from which more of it counts less and less, where losses are tamed."""


@dataclass(frozen=True, slots=True)
class MaskLoss:
    """The loss of a group of prompts and what to watch while it falls."""

    total: Tensor
    best_iou: float
    chosen_iou: float
    """Mean IoU of the slot that the network itself scores highest."""
    alone_iou: float
    """Mean IoU of the single mask."""


def mask_losses(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, *, balanced: bool = False
) -> Tensor:
    """Cross entropy plus dice: (N, M) from logits (N, M, ...) and targets (N, ...).

    The entropy is summed over the picture and divided by a size between the object's and the
    picture's, so that small objects count and edges stay where they are. ``balanced`` instead gives
    inside and outside one half each, which finds places fast but draws objects too large.
    ``weights`` (N, ...) say how many mask pixels each of a sample stands for.
    """
    logits, truth, counts = _flat(logits, targets, weights)
    entropy = functional.softplus(logits) - logits * truth
    area = (truth * counts).sum(dim=2)
    chance = logits.sigmoid() * counts
    overlap = (chance * truth).sum(dim=2)
    dice = 1 - (2 * overlap + 1) / (chance.sum(dim=2) + area + 1)
    pixels = counts.sum(dim=2)
    if balanced:
        inside = (entropy * (truth * counts)).sum(dim=2) / (area + 1)
        outside = (entropy * ((1 - truth) * counts)).sum(dim=2) / pixels
        return inside + 2 * outside + dice
    return (entropy * counts).sum(dim=2) / (area + 0.05 * pixels) + dice


def _flat(logits: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Bring logits to (N, M, P), targets and weights to (N, 1, P)."""
    if weights is None:
        weights = targets.new_ones(()).expand_as(targets)
    return logits.flatten(2), targets.flatten(1)[:, None], weights.flatten(1)[:, None]


def measured_iou(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """IoU (N, M) of thresholded logits with thresholded targets; arguments as ``mask_losses``."""
    logits, targets, counts = _flat(logits, targets, weights)
    drawn, truth = logits > 0, targets > 0.5
    both = ((drawn & truth) * counts).sum(dim=2)
    return both / ((drawn | truth) * counts).sum(dim=2).clamp(min=1)


def prompt_loss(
    logits: Tensor,
    scores: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    sure: bool,
    style: Style,
) -> MaskLoss:
    """Loss of one group of prompts.

    Only the best of slots 1 to 3 learns the mask (Kirillov et al. 2023), so that the slots part
    ways where a prompt is ambiguous; slot 0 answers alone, and counts more where the prompt says
    enough (``sure``). All scores learn the IoU that was measured.

    Args:
        logits: float (N, 4, ...).
        scores: float (N, 4), predicted IoU.
        targets: float (N, ...) in [0, 1].
        weights: float (N, ...), how many mask pixels each value stands for; one if None.
        sure: Whether the prompts are boxes or several points.
        style: How losses of single masks are taken.
    """
    losses = mask_losses(logits, targets, weights, balanced=style == "balanced")
    if style == "tamed":
        losses = KNEE * torch.log1p(losses / KNEE)
    alone, several = losses[:, 0], losses[:, 1:]
    masks = several.min(dim=1).values.mean() + SLOT_LEAK * several.mean()
    masks = masks * (SURE_SEVERAL if sure else 1.0) + (SURE_ALONE if sure else 0.25) * alone.mean()
    with torch.no_grad():
        iou = measured_iou(logits, targets, weights)
    quality = functional.smooth_l1_loss(scores, iou, beta=SCORE_BETA)
    chosen = iou[:, 1:].gather(1, scores[:, 1:].argmax(dim=1, keepdim=True))
    best = float(iou[:, 1:].max(dim=1).values.mean())
    return MaskLoss(masks + quality, best, float(chosen.mean()), float(iou[:, 0].mean()))


def dense_loss(hints: Tensor, dense: Tensor) -> Tensor:
    """Loss of the encoder's hints (B, C, h, w): entropy for yes or no, distance for the centre."""
    asked = [0, *range(4, dense.shape[1])]
    yes_or_no = functional.binary_cross_entropy_with_logits(hints[:, asked], dense[:, asked])
    boundary = functional.binary_cross_entropy_with_logits(
        hints[:, 1], dense[:, 1], pos_weight=hints.new_tensor(4.0)
    )
    object_weight = dense[:, :1]
    distance = functional.smooth_l1_loss(hints[:, 2:4], dense[:, 2:4], reduction="none")
    centre = (distance * object_weight).sum() / (2 * object_weight.sum() + 1)
    return yes_or_no + boundary + centre
