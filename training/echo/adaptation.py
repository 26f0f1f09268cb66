"""One adaptation from a folder of frames to a model folder: label, learn, label again, learn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from fastseg import artifacts
from fastseg.echo.unet import Unet
from fastseg.errors import BackendUnavailableError, ModelError, OutputError
from fastseg.export.model_folder import Card
from fastseg.export.networks.unet import UNet
from fastseg.export.unet import write_unet_folder
from fastseg.inference.sessions import Choice
from fastseg.loading import load_unet
from fastseg.storage.atomic import atomic_file
from training.echo import contact_sheet, labelling, own_frames, self_learning, starting_weights
from training.echo.heart import CHANNELS, CLASSES, View
from training.echo.labelling import Labels, Outcome
from training.echo.own_frames import OwnFrames
from training.echo.self_learning import Epoch, Examples, Schedule
from training.saving import save_weights

NOTICE = "Research use only, not a medical device."

TEACHERS: dict[View, str] = {"a4c": "echo-a2c", "sax": "echo-sax"}
"""Embedded models that label the frames of a view without a watershed."""

TEACHER_VIEWS: dict[View, View] = {"a4c": "a2c", "sax": "sax"}
"""View of the frames that the teacher must have been made for."""

PROGRESS_EVERY = 100
"""Frames between two lines of progress."""


@dataclass(frozen=True, slots=True)
class AdaptationTask:
    """A view, a folder of its frames, and the settings of the adaptation."""

    view: View
    frames: Path
    """The folder of images."""
    out: Path
    """The model folder to write."""
    run: Path
    """A folder for weights, losses and images of labels."""
    cm_per_pixel: float | None = None
    most: int | None = None
    """Greatest number of frames; all if left out."""
    teacher: str | None = None
    """Embedded model or model folder; ``TEACHERS`` of the view if left out."""
    start: str | None = None
    """Weights file, embedded model or model folder to start from; random weights if left out."""
    licence: str = ""
    """Licence of the resulting weights, for the model's card."""
    width: int = 32
    """Width of a network that starts from random weights."""
    device: str = "cpu"
    schedule: Schedule = field(default_factory=Schedule)


Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Round:
    """Number of labels of one round, and its losses."""

    labelled: int
    refused: dict[str, int]
    training: int
    validation: int
    epochs: list[Epoch]


def adapt(task: AdaptationTask, progress: Progress) -> list[Round]:
    """Adapt a network to unlabelled frames and write it as a model folder.

    Two rounds (Ferreira et al., Nat Commun 16, 4070, 2025): weak labels on a part of the accepted
    frames, then the network's own predictions on all of them. ``task.run`` gets ``labels1.png``,
    ``labels2.png``, ``round1.safetensors``, ``round2.safetensors`` and ``report.json``.

    Args:
        task: The settings.
        progress: Called with each line of progress.

    Returns:
        Both rounds.

    Raises:
        ImageError: The folder holds no usable frames, or too few got a label.
        ModelError: Teacher or starting weights are not there, or not for this view.
        BackendUnavailableError: Torch cannot use the device.
        OutputError: ``task.out`` is taken, or a result cannot be written.
        ParityError: The exported graph does not do what the network does.
    """
    _check_free(task.out)
    network = _network(task)
    frames = own_frames.find(
        task.frames, CHANNELS[task.view], cm_per_pixel=task.cm_per_pixel, most=task.most
    )
    progress(f"{len(frames)} frames")
    weak = labelling.collect(_counted(_weak(task, frames), len(frames), progress))
    rounds = [_learn(task, network, frames, weak, [], progress)]
    own = labelling.by_itself(self_learning.predict(network, frames), task.view, weak)
    rounds.append(_learn(task, network, frames, labelling.collect(own), rounds, progress))
    card = Card(
        name=task.out.name,
        licence=task.licence,
        description=f"U-Net for the {task.view} view, adapted to unlabelled frames. {NOTICE}",
        source={"kind": "label-free adaptation", "view": task.view, **_origin(task, rounds)},
    )
    progress(str(write_unet_folder(network, task.out, task.view, card)))
    return rounds


def _check_free(out: Path) -> None:
    """Refuse an occupied path before hours of work."""
    if out.exists() and not artifacts.is_model_folder(out):
        raise OutputError(f"{out} exists and is no model folder. Choose another name.")


def _network(task: AdaptationTask) -> UNet:
    """Return the network to train, with random weights or with those of ``task.start``."""
    if task.start is not None:
        network = starting_weights.network(task.start, task.view)
    else:
        torch.manual_seed(task.schedule.seed)
        network = UNet(CHANNELS[task.view], len(CLASSES[task.view]), task.width)
    try:
        return network.to(task.device)
    except (RuntimeError, AssertionError) as error:  # torch's own ways to refuse a device
        raise BackendUnavailableError(
            f"device {task.device!r} of torch",
            reason=str(error).splitlines()[0],
            remedy="Use --device cpu.",
        ) from error


def _weak(task: AdaptationTask, frames: OwnFrames) -> Iterator[Outcome]:
    """Yield the labels of the first round."""
    if task.view == "a2c":
        yield from labelling.by_watershed(frames)
        return
    with closing(_teacher(task)) as teacher:
        yield from labelling.by_teacher(frames, task.view, teacher, seed=task.schedule.seed)


def _teacher(task: AdaptationTask) -> Unet:
    name = task.teacher or TEACHERS[task.view]
    teacher = load_unet(name, Choice(device="cpu"))
    if teacher.view != TEACHER_VIEWS[task.view]:
        raise ModelError(
            f"{name} is for {teacher.view} frames and cannot teach {task.view}. That takes a "
            f"network for {TEACHER_VIEWS[task.view]} frames, such as {TEACHERS[task.view]}."
        )
    side = teacher.manifest.frame_preprocessing.side
    if side != own_frames.SIDE:
        raise ModelError(
            f"{name} sees frames of {side} pixels, and labels have {own_frames.SIDE}. "
            f"Choose a teacher such as {TEACHERS[task.view]}."
        )
    return teacher


def _counted(outcomes: Iterable[Outcome], of: int, progress: Progress) -> Iterator[Outcome]:
    for number, outcome in enumerate(outcomes, 1):
        yield outcome
        if number % PROGRESS_EVERY == 0:
            progress(f"  {number} of {of} frames labelled")


def _learn(
    task: AdaptationTask,
    network: UNet,
    frames: OwnFrames,
    labels: Labels,
    before: list[Round],
    progress: Progress,
) -> Round:
    """Train the network for the next round, and save the result."""
    number, schedule = len(before) + 1, task.schedule
    progress(
        f"round {number}: {len(labels)} frames have a label, {labels.refused.total()} have none"
    )
    if len(labels):
        contact_sheet.save(task.run / f"labels{number}.png", frames, labels)
    share = schedule.share if number == 1 else 1.0
    parts = self_learning.split(labels, frames.groups, schedule, share=share)
    examples = (
        Examples(frames, labels, parts.training),
        Examples(frames, labels, parts.validation),
    )
    curve = self_learning.learn(network, examples, schedule, schedule.epochs[number - 1])
    for epoch in curve:
        progress(f"  loss {epoch.training:.4f}, on frames kept back {epoch.validation:.4f}")
    sizes = len(parts.training), len(parts.validation)
    done = Round(len(labels), dict(labels.refused), *sizes, curve)
    _save(task, network, [*before, done])
    return done


def _save(task: AdaptationTask, network: UNet, rounds: list[Round]) -> None:
    """Save the weights and the report of the rounds so far."""
    with atomic_file(task.run / f"round{len(rounds)}.safetensors") as path:
        save_weights(network, path)
    report = {"notice": NOTICE, "view": task.view, **_origin(task, rounds)}
    with atomic_file(task.run / "report.json") as path:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _origin(task: AdaptationTask, rounds: list[Round]) -> dict[str, Any]:
    """Return the origin of the weights; no file name of a frame, which might be a patient's."""
    return {
        "start": Path(task.start).name if task.start else "random weights",
        "labels": "watershed" if task.view == "a2c" else (task.teacher or TEACHERS[task.view]),
        "schedule": asdict(task.schedule),
        "rounds": [asdict(done) for done in rounds],
    }
