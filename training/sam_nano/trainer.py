"""The state of a run and the loop over its steps."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from training.sam_nano import calibration, loss_sampling
from training.sam_nano.batches import Batch, PromptBatch
from training.sam_nano.calibration import Calibration
from training.sam_nano.corrections import Prediction, add_correction
from training.sam_nano.depthwise import depthwise_in_float32
from training.sam_nano.devices import autocast_bfloat16, autocast_disabled
from training.sam_nano.losses import MaskLoss, dense_loss, prompt_loss
from training.sam_nano.network import (
    AuxiliaryHead,
    RunningAverage,
    SamNano,
    disc_targets,
    freeze_statistics,
    unfold_statistics,
)
from training.sam_nano.plan import Stage, StagePlan
from training.sam_nano.scene_pool import BatchSource, plan_batches
from training.sam_nano.training_decoder import sampled_logits, unpatchify
from training.saving import save_state, save_weights

KEEP_EVERY_S = 240.0
"""Seconds between two saved states, besides those where a stage ends; the averaged weights of each
are kept."""

ENCODER_RATE = 3.0
"""Learning rate of the encoder over the decoder's: normalised convolutions tolerate more."""

AUXILIARY_WEIGHT = 0.5
"""Weight of the auxiliary loss."""

CPU = torch.device("cpu")

REPORT_EVERY = 25
"""Steps between two lines of the log."""


@dataclass(frozen=True, slots=True)
class Start:
    """Published weights that a run continues from."""

    weights: Path
    calibration: Calibration
    """Calibration that was folded into them after their training."""


class Trainer:
    """The state of a run: network, its average, optimiser, and the next step."""

    def __init__(self, plan: StagePlan, out: Path, device: torch.device = CPU) -> None:
        self.plan = plan
        self.out = out
        self.device = device
        self.network = SamNano(plan.seed).to(device)
        self.auxiliary_head = AuxiliaryHead().to(device)
        self.average = RunningAverage(self.network)
        self.network.image_encoder.to(memory_format=torch.channels_last)
        if device == CPU:
            depthwise_in_float32(self.network)
        else:
            torch.backends.cudnn.benchmark = True
        encoder = [*self.network.image_encoder.parameters(), *self.auxiliary_head.parameters()]
        known = {id(parameter) for parameter in encoder}
        decoder = [p for p in self.network.parameters() if id(p) not in known]
        groups = []
        for parameters, share in ((encoder, ENCODER_RATE), (decoder, 1.0)):
            for decay, chosen in (
                (0.02, [p for p in parameters if p.ndim > 1]),
                (0.0, [p for p in parameters if p.ndim <= 1]),
            ):
                groups.append({"params": chosen, "weight_decay": decay, "share": share})
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        self.step = 0

    def start_from(self, start: Start) -> None:
        """Begin from published weights instead of random ones."""
        stored = load_file(start.weights)
        missing, unknown = self.network.load_state_dict(
            {name: tensor.float() for name, tensor in stored.items()}, strict=False
        )
        if unknown or any(not name.endswith("num_batches_tracked") for name in missing):
            raise KeyError(f"{start.weights} is no sam-nano: {[*missing, *unknown][:4]}")
        calibration.apply(self.network, start.calibration.inverse)
        unfold_statistics(self.network)
        self.average = RunningAverage(self.network)

    @property
    def state_file(self) -> Path:
        """The file of the run's state."""
        return self.out / "state.pt"

    @property
    def kept(self) -> Path:
        """The folder of averaged weights to compare, one file a saved state."""
        return self.out / "kept"

    def save(self) -> None:
        """Write the state whole or not at all, and the averaged weights beside it."""
        state = {
            "network": self.network.state_dict(),
            "auxiliary_head": self.auxiliary_head.state_dict(),
            "average": self.average.network.state_dict(),
            "updates": self.average.updates,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        save_state(state, self.state_file)
        save_weights(self.average.network, self.out / "sam_nano.safetensors")
        self.kept.mkdir(exist_ok=True)
        shutil.copy(self.out / "sam_nano.safetensors", self.kept / f"{self.step:06d}.safetensors")

    def resume(self) -> None:
        """Restore the saved state, if there is one."""
        if not self.state_file.exists():
            return
        state: dict[str, Any] = torch.load(
            self.state_file, weights_only=True, map_location=self.device
        )
        self.network.load_state_dict(state["network"])
        self.auxiliary_head.load_state_dict(state["auxiliary_head"])
        self.average.network.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def loss(self, batch: Batch) -> tuple[torch.Tensor, list[MaskLoss]]:
        """Return the loss of one batch, and the first loss of each group of prompts."""
        stage = self.plan.stage(self.step)
        with autocast_bfloat16(self.device):
            if stage.discs:
                noise = torch.Generator().manual_seed(self.step)
                embedding, targets = disc_targets(batch, noise)
                total = torch.zeros((), device=self.device)
            else:
                images = batch.images.contiguous(memory_format=torch.channels_last)
                embedding = self.network.image_encoder(images)
                targets = tuple(prompts.targets for prompts in batch.prompts)
                total = AUXILIARY_WEIGHT * dense_loss(
                    self.auxiliary_head(embedding).float(), batch.dense
                )
            masks = []
            corrections = self.corrections(stage)
            for prompts, target, count in zip(batch.prompts, targets, corrections, strict=True):
                losses = self.losses(embedding, replace(prompts, targets=target), batch, count)
                masks.append(losses[0])
                total = total + torch.stack([loss.total for loss in losses]).sum()
        return total, masks

    def losses(
        self, embedding: torch.Tensor, prompts: PromptBatch, batch: Batch, corrections: int
    ) -> list[MaskLoss]:
        """Return the loss of the prompts, and those of ``corrections`` rounds of correction."""
        losses, style = [], self.plan.stage(self.step).style
        for number in range(1 + corrections):
            seed = 8 * self.step + number
            sample = loss_sampling.sample_tokens(
                prompts.targets, torch.Generator().manual_seed(seed)
            )
            transformed, scores = self.network.transform(embedding, prompts, batch.corner)
            logits = sampled_logits(self.network.mask_decoder, transformed, sample.indices)
            targets = loss_sampling.gather_pixels(prompts.targets, sample)
            counts = sample.weights[..., None].expand_as(targets)
            losses.append(
                prompt_loss(
                    logits, scores, targets, counts, unambiguous=prompts.is_unambiguous, style=style
                )
            )
            if number < corrections:
                with torch.no_grad():
                    drawn = unpatchify(sampled_logits(self.network.mask_decoder, transformed, None))
                prediction = Prediction(drawn, scores.detach())
                with autocast_disabled(self.device):
                    prompts = add_correction(prompts, prediction, batch.corner, seed)
        return losses

    def corrections(self, stage: Stage) -> tuple[int, int]:
        """Draw the rounds of correction of each half of the prompts: one half, two at most."""
        random = np.random.default_rng((self.plan.seed, self.step, 1))
        first, second = random.random(2) < stage.corrections
        count = int(first) + int(first and second)
        return (count, 0) if random.random() < 0.5 else (0, count)

    def train_step(self, batch: Batch) -> list[float]:
        """Update once; return the loss, and best, chosen and single IoU of either group."""
        stage, rate = self.plan.stage(self.step), self.plan.rate(self.step)
        self.network.train()
        if stage.frozen_statistics:
            freeze_statistics(self.network)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        total, masks = self.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        for part in (self.network.image_encoder, self.network.mask_decoder):
            torch.nn.utils.clip_grad_norm_(part.parameters(), 2.0)
        self.optimiser.step()
        self.step += 1
        self.average.update(self.network)
        numbers = [float(total.detach())]
        for mask in masks:
            numbers += [mask.best_iou, mask.chosen_iou, mask.single_iou]
        return numbers


def train(
    plan: StagePlan,
    out: Path,
    *,
    start: Start | None = None,
    workers: int = 1,
    device: torch.device = CPU,
    stored: BatchSource | None = None,
) -> Trainer:
    """Run a plan to its end, or continue a stopped run; the log is ``log.jsonl``.

    Args:
        plan: Stages of the training.
        out: Folder of the run.
        start: Weights to begin from where there is no state yet; random ones if None.
        workers: Processes that draw scenes.
        device: The device that trains the network.
        stored: Scenes on disk, for a plan that takes its scenes from there.
    """
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(plan, out, device)
    if start is not None and not trainer.state_file.exists():
        trainer.start_from(start)
        trainer.save()  # of step 0, which may be averaged with those of the end
    trainer.resume()
    saved, reported, numbers = time.monotonic(), time.monotonic(), []
    for batch in plan_batches(plan, trainer.step, workers, device, stored):
        numbers.append(trainer.train_step(batch))
        if trainer.step % REPORT_EVERY == 0 or trainer.step == plan.steps:
            now = time.monotonic()
            means = torch.tensor(numbers).mean(dim=0)
            row = {
                "step": trainer.step,
                "loss": means[0],
                "point_best": means[1],
                "point_chosen": means[2],
                "second_best": means[4],
                "second_single": means[6],
                "seconds_per_step": (now - reported) / len(numbers),
                "rate": plan.rate(trainer.step),
            }
            line = json.dumps({key: round(float(value), 5) for key, value in row.items()})
            print(line, flush=True)
            with (out / "log.jsonl").open("a") as log:
                log.write(line + "\n")
            numbers, reported = [], now
        ended = plan.stage(trainer.step) is not plan.stage(trainer.step - 1)
        if ended or time.monotonic() - saved > KEEP_EVERY_S:
            trainer.save()
            saved = time.monotonic()
    trainer.save()
    return trainer
