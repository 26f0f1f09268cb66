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
"""Who labels the frames of a view that has no watershed of its own: embedded models."""

TEACHER_VIEWS: dict[View, View] = {"a4c": "a2c", "sax": "sax"}
"""What the teacher of a view must have been made for."""

TOLD_EVERY = 100
"""Frames between two lines about how far it is."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be adapted to what."""

    view: View
    frames: Path
    """The folder of pictures."""
    out: Path
    """The model folder to write."""
    run: Path
    """A folder for weights, losses and pictures of labels."""
    cm_per_pixel: float | None = None
    most: int | None = None
    """Use no more frames than these; all if left out."""
    teacher: str | None = None
    """Embedded model or model folder; ``TEACHERS`` of the view if left out."""
    start: str | None = None
    """Weights file, embedded model or model folder to start from; random weights if left out."""
    licence: str = ""
    """Of the weights that come out, for the model's card."""
    width: int = 32
    """Of a network that starts from random weights."""
    device: str = "cpu"
    schedule: Schedule = field(default_factory=Schedule)


Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round learnt from, and how it went."""

    labelled: int
    refused: dict[str, int]
    training: int
    validation: int
    epochs: list[Epoch]


def adapt(task: Task, say: Say) -> list[Round]:
    """Adapt a network to unlabelled frames and write it as a model folder.

    Two rounds (Ferreira et al., Nat Commun 16, 4070, 2025): weak labels on a part of the accepted
    frames, then the network's own answers on all of them. ``task.run`` gets ``labels1.png``,
    ``labels2.png``, ``round1.safetensors``, ``round2.safetensors`` and ``report.json``.

    Args:
        task: What is to be done.
        say: Told in a line how far it is.

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
    say(f"{len(frames)} frames")
    weak = labelling.collect(_counted(_weak(task, frames), len(frames), say))
    rounds = [_learn(task, network, frames, weak, [], say)]
    own = labelling.by_itself(self_learning.predict(network, frames), task.view, weak)
    rounds.append(_learn(task, network, frames, labelling.collect(own), rounds, say))
    card = Card(
        name=task.out.name,
        licence=task.licence,
        description=f"U-Net for the {task.view} view, adapted to unlabelled frames. {NOTICE}",
        source={"kind": "label-free adaptation", "view": task.view, **_origin(task, rounds)},
    )
    say(str(write_unet_folder(network, task.out, task.view, card)))
    return rounds


def _check_free(out: Path) -> None:
    """Refuse a name before hours of work that could not take it afterwards."""
    if out.exists() and not artifacts.is_model_folder(out):
        raise OutputError(f"{out} exists and is no model folder. Choose another name.")


def _network(task: Task) -> UNet:
    """The network that learns, with random weights or with those that it is to start from."""
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


def _weak(task: Task, frames: OwnFrames) -> Iterator[Outcome]:
    """Labels of the first round."""
    if task.view == "a2c":
        yield from labelling.by_watershed(frames)
        return
    with closing(_teacher(task)) as teacher:
        yield from labelling.by_teacher(frames, task.view, teacher, seed=task.schedule.seed)


def _teacher(task: Task) -> Unet:
    name = task.teacher or TEACHERS[task.view]
    teacher = load_unet(name, Choice(device="cpu"))
    if teacher.view != TEACHER_VIEWS[task.view]:
        raise ModelError(
            f"{name} is for {teacher.view} frames and cannot teach {task.view}. That takes a "
            f"network for {TEACHER_VIEWS[task.view]} frames, such as {TEACHERS[task.view]}."
        )
    if teacher.manifest.frame_preprocessing.side != own_frames.SIDE:
        raise ModelError(
            f"{name} sees frames of {teacher.manifest.frame_preprocessing.side} pixels, and labels have "
            f"{own_frames.SIDE}. Choose a teacher such as {TEACHERS[task.view]}."
        )
    return teacher


def _counted(outcomes: Iterable[Outcome], of: int, say: Say) -> Iterator[Outcome]:
    for number, outcome in enumerate(outcomes, 1):
        yield outcome
        if number % TOLD_EVERY == 0:
            say(f"  {number} of {of} frames looked at")


def _learn(
    task: Task, network: UNet, frames: OwnFrames, labels: Labels, before: list[Round], say: Say
) -> Round:
    """Teach the network the next round, and keep what it came to."""
    number, schedule = len(before) + 1, task.schedule
    say(f"round {number}: {len(labels)} frames have a label, {labels.refused.total()} have none")
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
        say(f"  loss {epoch.training:.4f}, on frames kept back {epoch.validation:.4f}")
    sizes = len(parts.training), len(parts.validation)
    done = Round(len(labels), dict(labels.refused), *sizes, curve)
    _save(task, network, [*before, done])
    return done


def _save(task: Task, network: UNet, rounds: list[Round]) -> None:
    """Keep the weights and the report of the rounds so far."""
    with atomic_file(task.run / f"round{len(rounds)}.safetensors") as path:
        save_weights(network, path)
    report = {"notice": NOTICE, "view": task.view, **_origin(task, rounds)}
    with atomic_file(task.run / "report.json") as path:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _origin(task: Task, rounds: list[Round]) -> dict[str, Any]:
    """What the weights come from; no name of a file, which might be a patient's."""
    return {
        "start": Path(task.start).name if task.start else "random weights",
        "labels": "watershed" if task.view == "a2c" else (task.teacher or TEACHERS[task.view]),
        "schedule": asdict(task.schedule),
        "rounds": [asdict(done) for done in rounds],
    }
