"""Interactive corrections: a second and third prompt with a point in the error region."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fastseg import contract
from training.sam_nano.batches import PromptBatch

NEIGHBOURHOOD = 5
"""Side in mask pixels of the neighbourhood whose errors make its middle likelier."""

GAIN = (1.0, 4.0)
"""Range of the factor of the logits as a mask prompt: calibration makes them steeper later."""


class Prediction(NamedTuple):
    """The network's output for N prompts, detached."""

    logits: Tensor
    """float32 (N, 4, h, w)."""
    scores: Tensor
    """float32 (N, 4): predicted IoU."""


def add_correction(
    prompts: PromptBatch, prediction: Prediction, corner: tuple[int, int], seed: int
) -> PromptBatch:
    """Add the best-scored mask of three as a mask prompt, and a point in its error region.

    Args:
        prompts: The N prompts so far.
        prediction: The network's output for them.
        corner: The window's first token in the square, x and y.
        seed: Decides the wrong pixel of the point; thick error regions are likelier.
    """
    device = prediction.logits.device
    random = torch.Generator(device).manual_seed(seed)
    rows = torch.arange(len(prediction.logits), device=device)
    drawn = prediction.logits[rows, 1 + prediction.scores[:, 1:].argmax(dim=1)]
    truth = prompts.targets > 0.5
    wrong = ((drawn > 0) != truth).float()
    wrong = torch.where(wrong.sum(dim=(1, 2), keepdim=True) > 0, wrong, truth.float())
    thick = functional.avg_pool2d(
        wrong[:, None], NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2
    )[:, 0]
    odds = (wrong * thick**2 + 1e-9 * (wrong.sum(dim=(1, 2), keepdim=True) == 0)).flatten(1)
    picked = torch.multinomial(odds, 1, generator=random)[:, 0]
    width = drawn.shape[2]
    place = torch.stack([picked % width, picked // width], dim=1).float()
    point = (4 * place + 2 + 16 * torch.tensor(corner, device=device))[:, None]
    on_object = truth.flatten(1)[rows, picked][:, None]
    label = torch.where(on_object, contract.LABEL_FOREGROUND, contract.LABEL_BACKGROUND).int()
    # Points stand before the box, or before the padding that stands for its absence.
    after = prompts.labels.shape[1] - (2 if prompts.has_boxes else 1)
    chances = torch.rand(len(drawn), 1, 1, generator=random, device=device)
    gain = GAIN[0] + (GAIN[1] - GAIN[0]) * chances
    return PromptBatch(
        torch.cat([prompts.coords[:, :after], point, prompts.coords[:, after:]], dim=1),
        torch.cat([prompts.labels[:, :after], label, prompts.labels[:, after:]], dim=1),
        (drawn * gain).clamp(-32, 32)[:, None],
        prompts.targets,
    )
