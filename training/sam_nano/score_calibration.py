"""After training: predicted IoU fitted to whole masks, everything else at rest.

While the network trains, its scores learn an IoU that is estimated from a sample of each mask's
places, and of masks that change with every step. Here masks no longer change and are measured
whole; the score head alone learns, so no mask is drawn differently afterwards.

``python -m training.sam_nano.score_calibration RUN/kept/STEP.safetensors fitted.safetensors``
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from training.sam_nano.batches import Batch
from training.sam_nano.devices import half
from training.sam_nano.losses import measured_iou
from training.sam_nano.network import SamNano
from training.sam_nano.plan import FULL, Plan
from training.sam_nano.scene_pool import feed
from training.sam_nano.training_decoder import sketch, whole
from training.saving import save_weights

SEED = 1906
"""Of the scenes that scores are fitted to; masks were trained on others."""

PROMPTS = 24
"""Prompts for every scene."""

ASIDE = 0.15
"""Share of the scenes that only say when to stop."""

RATE = 1e-3
BATCH = 512


@dataclass(frozen=True, slots=True)
class Seen:
    """What the score head saw and should have said, one row a prompt."""

    tokens: Tensor
    """float32 (N, 256)."""
    ious: Tensor
    """float32 (N, 4), of whole masks."""

    def part(self, rows: slice | Tensor) -> Seen:
        """Some of the rows."""
        return Seen(self.tokens[rows], self.ious[rows])

    def error(self, head: nn.Module) -> Tensor:
        """Mean distance of predicted from measured IoU."""
        return functional.l1_loss(head(self.tokens), self.ious)


@torch.no_grad()
def look(network: SamNano, batch: Batch) -> Seen:
    """Answer the prompts of a batch as training does, and measure every mask whole."""
    tokens, ious = [], []
    with half(batch.images.device):
        embedding = network.image_encoder(batch.images)
        for questions in batch.questions:
            exchanged, _ = network.consider(embedding, questions, batch.corner)
            drawn = whole(sketch(network.mask_decoder, exchanged, None))
            tokens.append(exchanged.tokens[:, 0].float())
            ious.append(measured_iou(drawn, questions.targets))
    return Seen(torch.cat(tokens), torch.cat(ious))


def observe(network: SamNano, plan: Plan) -> Seen:
    """Look at the scenes of a plan; a process of its own draws them."""
    network.eval()
    seen = [look(network, batch) for batch in feed(plan, 0, 1, torch.device("cpu"))]
    return Seen(torch.cat([one.tokens for one in seen]), torch.cat([one.ious for one in seen]))


def fit(head: nn.Module, seen: Seen, rounds: int) -> tuple[float, float]:
    """Fit the head in place and keep its best state; its error on rows set aside, before and after.

    The rows of a scene stand together, and the last rows are those set aside, so that no scene is
    on both sides.
    """
    learned = round(len(seen.tokens) * (1 - ASIDE))
    lessons, aside = seen.part(slice(learned)), seen.part(slice(learned, None))
    random = torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.02)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, rounds)
    before = best = float(aside.error(head).detach())
    kept = copy.deepcopy(head.state_dict())
    for _ in range(rounds):
        for rows in torch.randperm(learned, generator=random).split(BATCH):
            optimiser.zero_grad(set_to_none=True)
            lessons.part(rows).error(head).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        falling.step()
        error = float(aside.error(head).detach())
        if error < best:
            best, kept = error, copy.deepcopy(head.state_dict())
    head.load_state_dict(kept)
    return before, best


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, fit, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="weights that a run kept, not calibrated")
    parser.add_argument("out", type=Path, help="the weights to write")
    parser.add_argument("--scenes", type=int, default=600, help="generated scenes to look at")
    parser.add_argument("--rounds", type=int, default=40, help="passes over what was seen")
    arguments = parser.parse_args(argv)
    network = SamNano()
    network.load_state_dict(load_file(arguments.weights))
    last = replace(FULL.stages[-1], steps=arguments.scenes, prompts=PROMPTS, leaning=0.4)
    seen = observe(network, Plan((last,), seed=SEED))
    before, after = fit(network.mask_decoder.iou_prediction_head, seen, arguments.rounds)
    print(f"{len(seen.tokens)} prompts; scores off by {before:.4f} before, {after:.4f} after")
    save_weights(network, arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
