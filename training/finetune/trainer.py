"""The loop over epochs: a step a pair, validation, early stop, and a state to resume from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastseg.errors import ModelError, OutputError
from fastseg.evaluation.prompts import seeded
from fastseg.export.checkpoints.preparations import Preparation
from training.finetune.losses import hard_scores, prompt_loss
from training.finetune.pairs import Pair, Split
from training.finetune.settings import LEAST_RATE, WEIGHT_DECAY, Settings
from training.finetune.squares import (
    Points,
    Square,
    make_square,
    training_prompts,
    validation_prompts,
)
from training.finetune.tuned_network import TunedNetwork
from training.saving import save_state

OBJECTS_A_STEP = 8
"""Most prompts of one step; of an image with more objects some are drawn anew in each epoch."""

MOST_KEPT = 256
"""Most pairs whose embeddings are kept in memory, 4 MB each in SAM."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """Losses of one pass over the training pairs."""

    training: float
    validation: float
    dice: float
    """Mean Dice of the single mask on the pairs that are kept back, at the logits' resolution."""


class Trainer:
    """The state of one fine-tuning.

    Args:
        network: The network, a part of which is trained.
        place: Preparation of its images and prompts.
        parts: Pairs to train on and to choose the best epoch by.
        state_file: File that the state is kept in.
        base: What identifies the base, so that a state is not resumed over another.
    """

    def __init__(
        self,
        network: TunedNetwork,
        place: Preparation,
        parts: Split,
        state_file: Path,
        base: Mapping[str, Any],
    ) -> None:
        self.network = network
        self.place = place
        self.parts = parts
        self.state_file = state_file
        self.base = base
        self.settings: Settings = network.settings
        trained = list(network.trained().values())
        self.optimiser = torch.optim.AdamW(
            trained, lr=self.settings.rate, weight_decay=WEIGHT_DECAY
        )
        self.curve: list[Epoch] = []
        self.best = network.state()
        self._kept: dict[str, tuple[Square, tuple[Tensor, ...] | None]] = {}

    @property
    def best_epoch(self) -> int:
        """Number of the epoch, from 0, whose validation loss is least."""
        return int(np.argmin([epoch.validation for epoch in self.curve]))

    @property
    def is_finished(self) -> bool:
        """True after the last epoch, or after ``patience`` epochs that were no better."""
        done = len(self.curve)
        if not done or done >= self.settings.epochs:
            return done > 0
        return done - 1 - self.best_epoch >= self.settings.patience

    def run(self, progress: Callable[[str], None]) -> None:
        """Train until it is finished, and leave the network as after its best epoch.

        Raises:
            ModelError: The losses are no longer finite.
        """
        while not self.is_finished:
            epoch = self._epoch(len(self.curve))
            if not math.isfinite(epoch.training + epoch.validation):
                raise ModelError(
                    f"the losses of epoch {len(self.curve) + 1} are not finite. Lower --rate."
                )
            if not self.curve or epoch.validation < self.curve[self.best_epoch].validation:
                self.best = self.network.state()
            self.curve.append(epoch)
            progress(
                f"epoch {len(self.curve)} of {self.settings.epochs}: loss {epoch.training:.4f}, on "
                f"pairs kept back {epoch.validation:.4f}, Dice {epoch.dice:.4f}"
            )
            self.save()
        self.network.load_state(self.best)

    def save(self) -> None:
        """Write the state whole or not at all."""
        state = {
            "run": self._fingerprint(),
            "trained": self.network.state(),
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "curve": [asdict(epoch) for epoch in self.curve],
        }
        save_state(state, self.state_file)

    def resume(self) -> None:
        """Restore the saved state, if there is one.

        Raises:
            OutputError: It is of another base, other settings or other pairs.
        """
        if not self.state_file.exists():
            return
        state: dict[str, Any] = torch.load(
            self.state_file, weights_only=True, map_location=self.network.device
        )
        if state["run"] != self._fingerprint():
            raise OutputError(
                f"{self.state_file} is of a run with another base, other settings or other pairs. "
                "Name another --out, or start anew without --resume."
            )
        self.network.load_state(state["trained"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best = state["best"]
        self.curve = [Epoch(**epoch) for epoch in state["curve"]]

    def _fingerprint(self) -> dict[str, Any]:
        names = [
            [pair.name for pair in part] for part in (self.parts.training, self.parts.validation)
        ]
        return {"base": dict(self.base), "settings": self.settings.as_dict(), "pairs": names}

    def _epoch(self, number: int) -> Epoch:
        order = seeded(self.settings.seed, "order", number).permutation(len(self.parts.training))
        losses = []
        for step, index in enumerate(order.tolist()):
            done = (number + step / len(order)) / self.settings.epochs
            low, high = LEAST_RATE, self.settings.rate
            for group in self.optimiser.param_groups:
                group["lr"] = low + (high - low) * (1 + math.cos(math.pi * done)) / 2
            losses.append(self._step(self.parts.training[index], number))
        validation, dice = self._validate()
        return Epoch(float(np.mean(losses)), validation, dice)

    def _step(self, pair: Pair, epoch: int) -> float:
        seed = self.settings.seed
        drawn = seeded(seed, "objects", epoch, pair.name).permutation(len(pair.masks))
        objects = drawn[:OBJECTS_A_STEP].tolist()
        points = training_prompts(pair, objects, self.settings.prompt, self.place, (seed, epoch))
        loss = self._loss(pair, objects, points)[0]
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach())

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        losses, dices = [], []
        for pair in self.parts.validation:
            for first in range(0, len(pair.masks), OBJECTS_A_STEP):
                objects = list(range(len(pair.masks)))[first : first + OBJECTS_A_STEP]
                points = validation_prompts(pair, objects, self.settings.prompt, self.place)
                loss, dice = self._loss(pair, objects, points)
                losses += [float(loss)] * len(objects)
                dices += dice.tolist()
        return float(np.mean(losses)), float(np.mean(dices))

    def _loss(
        self, pair: Pair, objects: Sequence[int], points: Points | None
    ) -> tuple[Tensor, Tensor]:
        """Return the loss, and the Dice (prompts,) of the single masks."""
        square, encoded = self._square(pair)
        device = self.network.device
        targets, valid = square.targets[list(objects)].to(device), square.valid.to(device)
        logits, scores = self.network.decode(encoded, points)
        loss = prompt_loss(logits, scores, targets, valid, alternatives=points is not None)
        _, dice = hard_scores(logits[:, :1], targets, valid)
        return loss, dice[:, 0]

    def _square(self, pair: Pair) -> tuple[Square, tuple[Tensor, ...]]:
        """Prepare and encode a pair; what stays the same is kept."""
        if pair.name in self._kept:
            square, encoded = self._kept[pair.name]
            return square, encoded or self.network.encode(square.pixels)
        square = make_square(pair, self.place.preprocessing)
        encoded = self.network.encode(square.pixels)
        if len(self._kept) < MOST_KEPT:
            stays = encoded if self.network.encoder_is_frozen else None
            self._kept[pair.name] = square, stays
        return square, encoded
