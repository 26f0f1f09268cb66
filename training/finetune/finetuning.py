"""One fine-tuning from pairs of image and mask to a model folder: read, train, save, export."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fastseg import artifacts
from fastseg.errors import BackendUnavailableError, OutputError
from fastseg.evaluation.dataset import read_dataset
from fastseg.export.checkpoints.completion import (
    NO_PROMPT,
    PROMPT,
    describe_part,
    with_adapter,
    with_decoder,
    with_lora,
)
from fastseg.export.checkpoints.preparations import Preparation
from fastseg.export.model_folder import Card
from fastseg.export.networks.sam import SamModules
from fastseg.export.sam import write_sam_folder
from fastseg.storage.atomic import atomic_file
from fastseg.validation.parity import Table
from training.finetune.pairs import Pair, read_pairs, split
from training.finetune.settings import Settings
from training.finetune.start import Start, read_start
from training.finetune.trainer import Epoch, Trainer
from training.finetune.tuned_network import TunedNetwork

NOTICE = "Research use only, not a medical device."

STATE, REPORT = "state.pt", "report.json"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """Data, base and places of one fine-tuning."""

    model: str
    """Checkpoint, embedded model or model folder to start from."""

    out: Path
    """The model folder to write."""

    run: Path
    """Folder for the state, the tuned weights and the report."""

    preprocess: str | None = None
    patient: str | None = None
    """As for ``pairs.read_pairs``."""

    resume: bool = False
    device: str = "cpu"
    licence: str | None = None
    """Licence of the tuned weights; that of the base if left out."""

    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class Tuned:
    """Result of a fine-tuning."""

    weights: Path
    """File that ``fastseg export`` takes over the base, by the name of the method."""

    curve: tuple[Epoch, ...]
    best_epoch: int
    """Number of the epoch, from 0, whose weights were kept."""

    parity: Table
    """Differences of the exported graphs from the tuned modules."""


def fine_tune(data: str | Path, task: FineTuning, progress: Progress) -> Tuned:
    """Fine-tune a network on a dataset with truth and write it as a model folder.

    Args:
        data: As for ``fastseg.evaluation.dataset.read_dataset``.
        task: Base, places and settings.
        progress: Called with a line as each step is done.

    Raises:
        FastsegError: As ``read_pairs``, ``split``, ``read_start`` and ``tune`` raise them.
    """
    check_places(task)
    pairs, faults = read_pairs(read_dataset(data), task.settings, patient=task.patient)
    for fault in faults:
        progress(f"left out: {fault}")
    return tune(pairs, task, progress)


def check_places(task: FineTuning) -> None:
    """Refuse an occupied path and a missing device before hours of work.

    Raises:
        OutputError: ``out`` exists and is no model folder.
        BackendUnavailableError: torch has no such device here.
    """
    if task.out.exists() and not artifacts.is_model_folder(task.out):
        raise OutputError(f"{task.out} exists and is no model folder. Choose another name.")
    try:
        torch.zeros(1, device=task.device)
    except (RuntimeError, AssertionError) as error:  # torch's own ways to refuse a device
        raise BackendUnavailableError(
            f"device {task.device!r} of torch",
            reason=str(error).splitlines()[0],
            remedy="Use --device cpu.",
        ) from error


def tune(pairs: Sequence[Pair], task: FineTuning, progress: Progress) -> Tuned:
    """Fine-tune a network on pairs and write it as a model folder.

    A seed gives the same bits on one machine with one number of threads. ``task.run`` gets
    ``tuned.safetensors`` and ``report.json``, and ``state.pt`` until the model folder is written.

    Raises:
        ImageError: The pairs are too few to keep some back.
        CheckpointError: The base cannot be read.
        ModelError: The losses are no longer finite.
        OutputError: A file cannot be written, or the state is of another run.
        ParityError: A graph does not do what its module does.
    """
    start = read_start(task.model, preprocess=task.preprocess)
    if task.settings.method == "adapter":
        start = start.adapted(task.settings.seed)
    parts = split(pairs, task.settings)
    progress(
        f"{len(parts.training)} pairs to train on, {len(parts.validation)} kept back; "
        f"{start.kind.title}, {task.settings.method}, prompt: {task.settings.prompt}"
    )
    task.run.mkdir(parents=True, exist_ok=True)
    network = TunedNetwork(
        start.modules(), task.settings, start.kind.published_name, torch.device(task.device)
    )
    trainer = Trainer(network, start.preparation, parts, task.run / STATE, start.source)
    if task.resume:
        trainer.resume()
    trainer.run(progress)
    weights = task.run / "tuned.safetensors"
    with atomic_file(weights) as partial:
        save_file(network.saved(), partial, {PROMPT: task.settings.prompt})
    _save_report(task, start, trainer)
    parity = _export(task, start, weights, trainer)
    progress(str(parity))
    (task.run / STATE).unlink(missing_ok=True)
    return Tuned(weights, tuple(trainer.curve), trainer.best_epoch, parity)


def tuned_modules(start: Start, weights: Path, settings: Settings) -> SamModules:
    """Put tuned weights over their base, as ``fastseg export`` does."""
    parts = {"decoder": with_decoder, "lora": with_lora, "adapter": with_adapter}
    completed = parts[settings.method]
    modules = start.kind.fill(completed(start.weights, weights))
    return modules.without_prompts() if settings.prompt == NO_PROMPT else modules


def _preparation(start: Start, settings: Settings) -> Preparation:
    prepared = start.preparation
    return prepared.without_prompts() if settings.prompt == NO_PROMPT else prepared


def _export(task: FineTuning, start: Start, weights: Path, trainer: Trainer) -> Table:
    settings = task.settings
    card = Card(
        name=task.out.name,
        licence=start.licence if task.licence is None else task.licence,
        description=f"{start.kind.title}, fine-tuned ({settings.method}). {NOTICE}",
        source={
            **start.source,
            settings.method: describe_part(weights),
            "tuning": _tuning(task, trainer),
        },
    )
    modules = tuned_modules(start, weights, settings)
    return write_sam_folder(modules, task.out, card, preparation=_preparation(start, settings))


def _tuning(task: FineTuning, trainer: Trainer) -> dict[str, Any]:
    """Describe the training for the card; names of images might be patients' and stay out."""
    return {
        **task.settings.as_dict(),
        "pairs": len(trainer.parts.training),
        "pairs_kept_back": len(trainer.parts.validation),
        "best_epoch": trainer.best_epoch + 1,
        "device": task.device,
    }


def _save_report(task: FineTuning, start: Start, trainer: Trainer) -> None:
    report = {
        "notice": NOTICE,
        "base": dict(start.source),
        **_tuning(task, trainer),
        "epochs": [asdict(epoch) for epoch in trainer.curve],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    with atomic_file(task.run / REPORT) as path:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
