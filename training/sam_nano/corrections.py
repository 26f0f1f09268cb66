"""The second and third question about an object: a click where the last answer was wrong."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fastseg import contract
from training.sam_nano.batches import Questions

REACH = 5
"""Side, in mask pixels, of the neighbourhood whose errors draw a click to its middle."""

GAIN = (1.0, 4.0)
"""Logits come back as a mask prompt multiplied by this: calibration makes them steeper later."""


class Answer(NamedTuple):
    """What the network said to N prompts, detached."""

    logits: Tensor
    """float32 (N, 4, h, w)."""
    scores: Tensor
    """float32 (N, 4): predicted IoU."""


def corrected(
    questions: Questions, answer: Answer, corner: tuple[int, int], seed: int
) -> Questions:
    """Ask again: with the mask that scored best of three, and a click into its errors.

    Args:
        questions: What was asked; N prompts.
        answer: What came back.
        corner: The window's first token in the square, x and y.
        seed: Decides which wrong pixel is clicked; thick regions of errors are likelier.
    """
    device = answer.logits.device
    random = torch.Generator(device).manual_seed(seed)
    rows = torch.arange(len(answer.logits), device=device)
    drawn = answer.logits[rows, 1 + answer.scores[:, 1:].argmax(dim=1)]
    truth = questions.targets > 0.5
    wrong = ((drawn > 0) != truth).float()
    wrong = torch.where(wrong.sum(dim=(1, 2), keepdim=True) > 0, wrong, truth.float())
    thick = functional.avg_pool2d(wrong[:, None], REACH, stride=1, padding=REACH // 2)[:, 0]
    odds = (wrong * thick**2 + 1e-9 * (wrong.sum(dim=(1, 2), keepdim=True) == 0)).flatten(1)
    picked = torch.multinomial(odds, 1, generator=random)[:, 0]
    width = drawn.shape[2]
    place = torch.stack([picked % width, picked // width], dim=1).float()
    click = (4 * place + 2 + 16 * torch.tensor(corner, device=device))[:, None]
    on_object = truth.flatten(1)[rows, picked][:, None]
    label = torch.where(on_object, contract.LABEL_FOREGROUND, contract.LABEL_BACKGROUND).int()
    # Clicks stand before the box, or before the padding that stands for its absence.
    after = questions.labels.shape[1] - (2 if questions.boxed else 1)
    chances = torch.rand(len(drawn), 1, 1, generator=random, device=device)
    gain = GAIN[0] + (GAIN[1] - GAIN[0]) * chances
    return Questions(
        torch.cat([questions.coords[:, :after], click, questions.coords[:, after:]], dim=1),
        torch.cat([questions.labels[:, :after], label, questions.labels[:, after:]], dim=1),
        (drawn * gain).clamp(-32, 32)[:, None],
        questions.targets,
    )
