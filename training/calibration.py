"""After training: edges as steep and scores as wide as SAM's thresholds expect.

The thresholds of everything mode (predicted IoU 0.88, stability 0.95) are made for a network whose
logits jump at an edge and whose scores reach one. A small network trained briefly is less sure of
itself. Both are a matter of scale, measured here on generated scenes and folded into the weights:
no mask changes, and no order of scores does.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from training.batches import make_batch
from training.losses import measured_iou
from training.network import SamNano, rounded
from training.plan import Stage

GOOD_IOU = 0.85
"""Masks from this IoU on should count as stable."""

STABLE_SHARE = 0.75
"""The share of good masks that should pass the stability threshold."""

STABILITY = 0.95
SEED = 4711
"""Of the scenes that calibration looks at; training uses others."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the weights were multiplied with."""

    steepness: float
    """Factor of all logits."""
    score_scale: float
    score_shift: float


@torch.inference_mode()
def observe(network: SamNano, scenes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (N, h, w), scores (N,) and measured IoU (N,) of the masks that score best."""
    stage = Stage(1, 512, 1, 8, (0.0, 0.0))
    network.eval()
    logits, scores, ious = [], [], []
    for index in range(scenes):
        batch = make_batch(stage, (SEED, index))
        embedding = network.image_encoder(batch.images)
        for questions in batch.questions:
            drawn, predicted = network.answer(embedding, questions, batch.corner)
            iou = measured_iou(drawn, questions.targets)[:, 1:]
            chosen = predicted[:, 1:].argmax(dim=1)
            rows = torch.arange(len(chosen))
            logits.append(drawn[rows, 1 + chosen])
            scores.append(predicted[rows, 1 + chosen])
            ious.append(iou[rows, chosen])
    return torch.cat(logits), torch.cat(scores), torch.cat(ious)


def stability(logits: torch.Tensor, steepness: float) -> torch.Tensor:
    """SAM's stability score (N,) with offset 1, of logits (N, h, w) multiplied by ``steepness``."""
    sure = (logits * steepness > 1).sum(dim=(1, 2))
    possible = (logits * steepness > -1).sum(dim=(1, 2))
    return sure / possible.clamp(min=1)


def calibrate(network: SamNano, scenes: int = 24) -> Calibration:
    """Measure on generated scenes, change the weights in place, and say by how much."""
    logits, scores, ious = observe(network, scenes)
    good = logits[ious >= GOOD_IOU]
    candidates = np.geomspace(1, 16, 33)
    shares = [float((stability(good, c) >= STABILITY).float().mean()) for c in candidates]
    enough = [c for c, share in zip(candidates, shares, strict=True) if share >= STABLE_SHARE]
    steepness = float(enough[0] if enough else candidates[-1])
    # Regression makes scores timid; matching the spread of what was measured undoes that.
    scale = float(ious.std() / scores.std())
    shift = float(ious.mean() - scale * scores.mean())
    apply(network, Calibration(steepness, scale, shift))
    return Calibration(steepness, scale, shift)


@torch.no_grad()
def apply(network: SamNano, calibration: Calibration) -> None:
    """Fold factors into the last layers of the mask and score heads."""
    decoder = network.mask_decoder
    for head in decoder.output_hypernetworks_mlps:
        head.layers[-1].weight *= calibration.steepness
        head.layers[-1].bias *= calibration.steepness
    last = decoder.iou_prediction_head.layers[-1]
    last.weight *= calibration.score_scale
    last.bias *= calibration.score_scale
    last.bias += calibration.score_shift


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, calibrate, write the new weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="sam_nano.safetensors of a run")
    parser.add_argument("out", type=Path, help="the calibrated weights to write")
    parser.add_argument("--scenes", type=int, default=24, help="generated scenes to look at")
    arguments = parser.parse_args(argv)
    network = SamNano()
    network.load_state_dict(load_file(arguments.weights))
    print(calibrate(network, arguments.scenes))
    save_file(rounded(network), str(arguments.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
