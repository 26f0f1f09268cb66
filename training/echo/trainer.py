"""The state of a task and the loop over its steps."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from fastseg.export.networks.unet import UNet
from training.echo.batches import Batch, Batches
from training.echo.heart import View
from training.echo.losses import chamber_loss
from training.echo.network import RunningAverage, joint_network, output_channels, view_network
from training.echo.plan import TaskPlan, TrainingTask
from training.saving import save_state, save_weights

KEEP_EVERY_S = 120.0
"""Seconds between two saved states."""

REPORT_EVERY = 50
"""Steps between two lines of the log."""


class Trainer:
    """The state of one task: network, its average, optimiser, and the next step."""

    def __init__(self, network: UNet, task: TrainingTask, out: Path, *, seed: int) -> None:
        self.task, self.out, self.seed = task, out, seed
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = RunningAverage(network)
        self.optimiser = torch.optim.Adam(network.parameters(), lr=task.rate, betas=(0.9, 0.99))
        self.step = 0

    @property
    def state_file(self) -> Path:
        """The file of the task's state."""
        return self.out / f"{self.task.name}.pt"

    @property
    def weights_file(self) -> Path:
        """The averaged weights, under the names of ``UNet``."""
        return self.out / f"echo-{self.task.name}.safetensors"

    def save(self) -> None:
        """Write the state whole or not at all, and the averaged weights beside it."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "updates": self.average.updates,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        save_state(state, self.state_file)
        save_weights(self.average.network, self.weights_file)

    def resume(self) -> None:
        """Restore the saved state, if there is one."""
        if not self.state_file.exists():
            return
        state: dict[str, Any] = torch.load(self.state_file, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Update once; return the loss and the soft Dice of every view."""
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.task.rate_at(self.step)
        frames = batch.frames.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.network(frames)
        total, start = torch.zeros(()), 0
        numbers: dict[str, float] = {}
        for (view, count), masks in zip(self.task.views, batch.masks, strict=True):
            outputs = logits[start : start + count].float()
            if len(self.task.views) > 1:
                outputs = outputs[:, output_channels(view)]
            loss, numbers[view] = chamber_loss(outputs, masks)
            total, start = total + loss * count / self.task.frames, start + count
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        self.average.update(self.network)
        return {"loss": float(total.detach()), **numbers}

    def run(self) -> None:
        """Continue the task where it was stopped, and finish it; the log is ``log.jsonl``."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.resume()
        if self.step >= self.task.steps:
            return
        batches = Batches(self.task, self.seed, self.step)
        loader = DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=6)
        saved, reported = time.monotonic(), time.monotonic()
        rows: list[dict[str, float]] = []
        for batch in loader:
            rows.append(self.train_step(batch))
            now = time.monotonic()
            if self.step % REPORT_EVERY == 0 or self.step == self.task.steps:
                self._report(rows, (now - reported) / len(rows))
                rows, reported = [], now
            if now - saved > KEEP_EVERY_S:
                self.save()
                saved = now
        self.save()

    def _report(self, rows: list[dict[str, float]], seconds: float) -> None:
        means = {key: round(sum(row[key] for row in rows) / len(rows), 4) for key in rows[0]}
        images = self.step * self.task.frames
        progress = {"task": self.task.name, "step": self.step, "images": images}
        line = json.dumps({**progress, **means, "seconds_per_step": round(seconds, 3)})
        print(line, flush=True)
        with (self.out / "log.jsonl").open("a") as log:
            log.write(line + "\n")


def train(
    plan: TaskPlan, views: list[View], out: Path, *, start: UNet | None = None
) -> dict[View, Path]:
    """Train one network for all views, then each view's own; return the files of their weights.

    Args:
        plan: The tasks.
        views: Views to train a network for.
        out: Folder of the run.
        start: A joint network to go on from, instead of a random one.
    """
    torch.manual_seed(plan.seed)
    joint = joint_network(plan.width) if start is None else start
    for task in plan.together:
        joint = _run_task(joint, task, out, seed=plan.seed).average.network
    files = {}
    for view in views:
        start = view_network(joint, view, plan.width)
        files[view] = _run_task(start, plan.single[view], out, seed=plan.seed).weights_file
    return files


def _run_task(network: UNet, task: TrainingTask, out: Path, *, seed: int) -> Trainer:
    trainer = Trainer(network.requires_grad_(True), task, out, seed=seed)
    trainer.run()
    return trainer
