"""Calibration after training: edges as steep and scores as high as SAM's thresholds expect.

The thresholds of everything mode (predicted IoU 0.88, stability 0.95) are made for a network whose
logits jump at an edge and whose scores approach one. A small network trained briefly is
less certain. One factor for all logits and one shift for all scores, measured here on
generated scenes, are folded into the weights: no mask changes, and no order of scores does.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from training.sam_nano.batches import make_batch
from training.sam_nano.losses import measured_iou
from training.sam_nano.network import SamNano, compact
from training.sam_nano.plan import Stage

GOOD_IOU = 0.85
"""Masks from this IoU on should count as stable."""

STABLE_SHARE = 0.9
"""The share of good masks that should pass the stability threshold."""

STABILITY = 0.95
PASSING_IOU = 0.88
"""SAM's default thresholds of everything mode."""

SEED = 4711
"""Seed of the calibration scenes; training uses others."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A factor of all logits and a shift of all scores."""

    steepness: float
    """Factor of all logits."""
    score_shift: float
    """Addend of all scores."""

    @property
    def inverse(self) -> Calibration:
        """The calibration that takes this one back."""
        return Calibration(1 / self.steepness, -self.score_shift)


@torch.inference_mode()
def observe(network: SamNano, scenes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits (N, h, w), scores (N,) and measured IoU (N,) of the best-scored masks."""
    stage = Stage(1, 1024, 1, 12, (0.0, 0.0), boxes=0.0, mask_prompts=0.0, all_kinds=True)
    network.eval()
    logits, scores, ious = [], [], []
    for index in range(scenes):
        batch = make_batch(stage, (SEED, index))
        embedding = network.image_encoder(batch.images)
        for prompts in batch.prompts[:1]:  # single points, as in everything mode
            drawn, predicted = network.predict(embedding, prompts, batch.corner)
            iou = measured_iou(drawn, prompts.targets)[:, 1:]
            chosen = predicted[:, 1:].argmax(dim=1)
            rows = torch.arange(len(chosen))
            logits.append(drawn[rows, 1 + chosen])
            scores.append(predicted[rows, 1 + chosen])
            ious.append(iou[rows, chosen])
    return torch.cat(logits), torch.cat(scores), torch.cat(ious)


def stability(logits: torch.Tensor, steepness: float) -> torch.Tensor:
    """Return SAM's stability scores (N,), offset 1, of logits (N, h, w) times ``steepness``."""
    inner = (logits * steepness > 1).sum(dim=(1, 2))
    outer = (logits * steepness > -1).sum(dim=(1, 2))
    return inner / outer.clamp(min=1)


def calibrate(network: SamNano, scenes: int = 32) -> Calibration:
    """Measure on generated scenes, change the weights in place, and return the change."""
    logits, scores, ious = observe(network, scenes)
    good = logits[ious >= GOOD_IOU]
    candidates = np.geomspace(1, 16, 33)
    shares = [float((stability(good, c) >= STABILITY).float().mean()) for c in candidates]
    enough = [c for c, share in zip(candidates, shares, strict=True) if share >= STABLE_SHARE]
    steepness = float(enough[0] if enough else candidates[-1])
    # Regression lowers high scores: let as many masks pass the threshold as truly reach it.
    reaching = float((ious >= PASSING_IOU).float().mean())
    shift = PASSING_IOU - float(scores.quantile(1 - reaching))
    calibration = Calibration(steepness, shift)
    apply(network, calibration)
    return calibration


@torch.no_grad()
def apply(network: SamNano, calibration: Calibration) -> None:
    """Fold the factor and the shift into the last layers of the mask and score heads."""
    decoder = network.mask_decoder
    for head in decoder.output_hypernetworks_mlps:
        head.layers[-1].weight *= calibration.steepness
        head.layers[-1].bias *= calibration.steepness
    decoder.iou_prediction_head.layers[-1].bias += calibration.score_shift


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, calibrate, write the new weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="sam_nano.safetensors of a run")
    parser.add_argument(
        "out", type=Path, help="the calibrated weights to write, large ones in float16"
    )
    parser.add_argument("--scenes", type=int, default=32, help="generated scenes to measure on")
    arguments = parser.parse_args(argv)
    network = SamNano()
    network.load_state_dict(load_file(arguments.weights))
    print(calibrate(network, arguments.scenes))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(compact(network), str(arguments.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
