"""Losses of masks, of their predicted IoU, and of the auxiliary head's dense targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

LossStyle = Literal["plain", "balanced", "saturating"]
"""Plain, ``balanced`` as in ``mask_losses``, or ``saturating``: prompts that have no solution, such
as an object that does not show, do not dominate the others of their step."""

LOSING_SLOT_WEIGHT = 0.05
"""Weight of the slots that did not win, so that all of them keep learning."""

SINGLE_WEIGHT, MULTIPLE_WEIGHT = 1.5, 0.5
"""Weights of the single mask and of the best of three where a prompt is unambiguous."""

SCORE_BETA = 0.1
"""Errors of scores above this count linearly, those below quadratically."""

KNEE = 3.0
"""Loss of one prompt above which the ``saturating`` loss grows logarithmically."""


@dataclass(frozen=True, slots=True)
class MaskLoss:
    """The loss of a group of prompts, and the IoU of its masks for the log."""

    total: Tensor
    best_iou: float
    chosen_iou: float
    """Mean IoU of the slot that the network itself scores highest."""
    single_iou: float
    """Mean IoU of the single mask."""


def mask_losses(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, *, balanced: bool = False
) -> Tensor:
    """Compute cross entropy plus dice (N, M) of logits (N, M, ...) and targets (N, ...).

    The entropy is summed over the image and divided by a size between the object's and the
    image's, so that small objects count and edges stay where they are. ``balanced`` instead gives
    inside and outside one half each, which localises fast but makes masks too large.
    ``weights`` (N, ...) are the mask pixels that each pixel of a sample represents.
    """
    logits, truth, counts = _flatten(logits, targets, weights)
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


def _flatten(
    logits: Tensor, targets: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Bring logits to (N, M, P), targets and weights to (N, 1, P)."""
    if weights is None:
        weights = targets.new_ones(()).expand_as(targets)
    return logits.flatten(2), targets.flatten(1)[:, None], weights.flatten(1)[:, None]


def measured_iou(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the IoU (N, M) of thresholded logits and targets; arguments as ``mask_losses``."""
    logits, targets, counts = _flatten(logits, targets, weights)
    drawn, truth = logits > 0, targets > 0.5
    both = ((drawn & truth) * counts).sum(dim=2)
    return both / ((drawn | truth) * counts).sum(dim=2).clamp(min=1)


def prompt_loss(
    logits: Tensor,
    scores: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    unambiguous: bool,
    style: LossStyle,
) -> MaskLoss:
    """Compute the loss of one group of prompts.

    Only the best of slots 1 to 3 learns the mask (Kirillov et al. 2023), so that the slots
    diverge where a prompt is ambiguous; slot 0 is the single mask, and counts more where the
    prompt is ``unambiguous``. All scores learn the IoU that was measured.

    Args:
        logits: float (N, 4, ...).
        scores: float (N, 4), predicted IoU.
        targets: float (N, ...) in [0, 1].
        weights: float (N, ...), the mask pixels that each value represents; one if None.
        unambiguous: True for boxes or several points.
        style: The form of the loss of each mask.
    """
    losses = mask_losses(logits, targets, weights, balanced=style == "balanced")
    if style == "saturating":
        losses = KNEE * torch.log1p(losses / KNEE)
    single, several = losses[:, 0], losses[:, 1:]
    masks = several.min(dim=1).values.mean() + LOSING_SLOT_WEIGHT * several.mean()
    masks = (
        masks * (MULTIPLE_WEIGHT if unambiguous else 1.0)
        + (SINGLE_WEIGHT if unambiguous else 0.25) * single.mean()
    )
    with torch.no_grad():
        iou = measured_iou(logits, targets, weights)
    quality = functional.smooth_l1_loss(scores, iou, beta=SCORE_BETA)
    chosen = iou[:, 1:].gather(1, scores[:, 1:].argmax(dim=1, keepdim=True))
    best = float(iou[:, 1:].max(dim=1).values.mean())
    return MaskLoss(masks + quality, best, float(chosen.mean()), float(iou[:, 0].mean()))


def dense_loss(predicted: Tensor, dense: Tensor) -> Tensor:
    """Compute the auxiliary loss (B, C, h, w): entropy of classes, distance of the centre.

    Pixels whose targets are NaN do not count.
    """
    known = ~dense[:, :1].isnan()
    dense, weight = dense.nan_to_num(), known / known.float().mean().clamp(min=1e-3)
    binary = [0, *range(4, dense.shape[1])]
    classes = functional.binary_cross_entropy_with_logits(
        predicted[:, binary], dense[:, binary], weight=weight
    )
    boundary = functional.binary_cross_entropy_with_logits(
        predicted[:, 1:2], dense[:, 1:2], weight=weight, pos_weight=predicted.new_tensor(4.0)
    )
    object_weight = dense[:, :1]
    distance = functional.smooth_l1_loss(predicted[:, 2:4], dense[:, 2:4], reduction="none")
    centre = (distance * object_weight).sum() / (2 * object_weight.sum() + 1)
    return classes + boundary + centre
