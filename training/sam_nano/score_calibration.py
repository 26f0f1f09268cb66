"""Score calibration after training: predicted IoU fitted to whole masks, all else frozen.

While the network trains, its scores learn an IoU that is estimated from a sample of each mask,
and of masks that change with every step. Here masks no longer change and are measured whole; the
score head alone learns, so no mask changes.

``python -m training.sam_nano.score_calibration RUN/kept/STEP.safetensors fitted.safetensors``
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from training.sam_nano.batches import Batch
from training.sam_nano.devices import autocast_bfloat16
from training.sam_nano.losses import measured_iou
from training.sam_nano.network import SamNano
from training.sam_nano.plan import FULL, StagePlan
from training.sam_nano.scene_pool import plan_batches
from training.sam_nano.stored_pool import StoredPool
from training.sam_nano.training_decoder import sampled_logits, unpatchify
from training.saving import save_weights

SEED = 1906
"""Seed of the scenes that scores are fitted to; masks were trained on others."""

PROMPTS = 24
"""Prompts for every scene."""

HELD_OUT_SHARE = 0.15
"""Share of the examples that only select the best state."""

RATE = 1e-3
BATCH = 512


@dataclass(frozen=True, slots=True)
class ScoreExamples:
    """Inputs and targets of the score head, one row a prompt."""

    tokens: Tensor
    """float32 (N, 256)."""
    ious: Tensor
    """float32 (N, 4), of whole masks."""

    def select(self, rows: slice | Tensor) -> ScoreExamples:
        """Return some of the rows."""
        return ScoreExamples(self.tokens[rows], self.ious[rows])

    def error(self, head: nn.Module) -> Tensor:
        """Return the mean distance of predicted from measured IoU."""
        return functional.l1_loss(head(self.tokens), self.ious)


@torch.no_grad()
def score_examples(network: SamNano, batch: Batch) -> ScoreExamples:
    """Decode the prompts of a batch as training does, and measure every mask whole."""
    tokens, ious = [], []
    with autocast_bfloat16(batch.images.device):
        embedding = network.image_encoder(batch.images)
        for prompts in batch.prompts:
            transformed, _ = network.transform(embedding, prompts, batch.corner)
            drawn = unpatchify(sampled_logits(network.mask_decoder, transformed, None))
            tokens.append(transformed.tokens[:, 0].float())
            ious.append(measured_iou(drawn, prompts.targets))
    return ScoreExamples(torch.cat(tokens), torch.cat(ious))


def collect_examples(network: SamNano, batches: Iterable[Batch]) -> ScoreExamples:
    """Collect the examples of scenes that the network was not trained on."""
    network.eval()
    parts = [score_examples(network, batch) for batch in batches]
    return ScoreExamples(
        torch.cat([part.tokens for part in parts]), torch.cat([part.ious for part in parts])
    )


def fit(head: nn.Module, examples: ScoreExamples, rounds: int) -> tuple[float, float]:
    """Fit the head in place, keep its best state; return its held-out error before and after.

    The rows of a scene stand together, and the last rows are held out, so that no scene is on both
    sides.
    """
    count = round(len(examples.tokens) * (1 - HELD_OUT_SHARE))
    training, held_out = examples.select(slice(count)), examples.select(slice(count, None))
    random = torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, rounds)
    before = best = float(held_out.error(head).detach())
    kept = copy.deepcopy(head.state_dict())
    for _ in range(rounds):
        for rows in torch.randperm(count, generator=random).split(BATCH):
            optimiser.zero_grad(set_to_none=True)
            training.select(rows).error(head).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()
        error = float(held_out.error(head).detach())
        if error < best:
            best, kept = error, copy.deepcopy(head.state_dict())
    head.load_state_dict(kept)
    return before, best


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, fit, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="weights that a run kept, not calibrated")
    parser.add_argument("out", type=Path, help="the weights to write")
    parser.add_argument("--scenes", type=int, default=600, help="generated scenes to fit to")
    parser.add_argument("--pool", type=Path, help="a pool of scenes of 1024 px to fit to instead")
    parser.add_argument("--rounds", type=int, default=40, help="passes over the examples")
    arguments = parser.parse_args(argv)
    network = SamNano()
    network.load_state_dict(load_file(arguments.weights))
    last = replace(FULL.stages[-1], steps=arguments.scenes, prompts=PROMPTS, area_exponent=0.4)
    if arguments.pool:
        batches = StoredPool(arguments.pool).each(last, SEED)
    else:  # a process of its own draws them
        batches = plan_batches(StagePlan((last,), seed=SEED), 0, 1, torch.device("cpu"))
    examples = collect_examples(network, batches)
    before, after = fit(network.mask_decoder.iou_prediction_head, examples, arguments.rounds)
    print(f"{len(examples.tokens)} prompts; scores off by {before:.4f} before, {after:.4f} after")
    save_weights(network, arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
