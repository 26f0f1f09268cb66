"""Pairs of image and truth to learn from, and the group of patients that each belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import FastsegError, ImageError, MaskError
from fastseg.evaluation.dataset import Case, Dataset, LoadedExample, ViewSettings
from fastseg.evaluation.prompts import seeded
from training.finetune.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One image and its objects, in memory."""

    name: str
    group: str
    """Patient, or what else must not be on both sides of the split."""

    image: NDArray[np.uint8]  # (H, W, 3)
    masks: NDArray[np.bool_]  # (objects, H, W)


@dataclass(frozen=True, slots=True)
class Split:
    """Pairs to train on, and pairs to choose the best epoch by."""

    training: tuple[Pair, ...]
    validation: tuple[Pair, ...]


def read_pairs(
    dataset: Dataset, settings: Settings, *, patient: str | None = None
) -> tuple[list[Pair], list[str]]:
    """Read the pairs of a dataset; those that cannot be read are named.

    Without a prompt all objects of an image are one mask, so they must be of one class.

    Args:
        dataset: From ``fastseg.evaluation.dataset.read_dataset``.
        settings: Its classes and prompt count.
        patient: Regular expression whose first group, or whole match, in an image's name is the
            patient. The file of the image if left out; a case of the dataset is always a patient.

    Returns:
        The pairs, and a sentence for each image that makes none.

    Raises:
        MaskError: There are several classes for one mask, or a class that is not there.
        ImageError: No pair is left, or the expression fits no name.
    """
    pattern = _pattern(patient)
    pairs: list[Pair] = []
    faults = list(dataset.faults)
    held: set[str] = set()
    for example in dataset.examples:
        try:
            loaded = example.load(ViewSettings())
        except FastsegError as error:
            faults.append(str(error))
            continue
        group = example.name if isinstance(example, Case) else _group(example, pattern)
        for phase in loaded.phases or (loaded,):
            held |= {truth.task for truth in phase.truths}
            pair = _pair(phase, group, settings)
            if pair is None:
                faults.append(f"{phase.name} has no object of a class that is learnt.")
            else:
                pairs.append(pair)
    _check_classes(held, settings)
    if not pairs:
        raise ImageError(f"{dataset.name} has no pair to learn from. {faults[0]}")
    return pairs, faults


def split(pairs: Sequence[Pair], settings: Settings) -> Split:
    """Keep whole groups back for validation, drawn by the seed.

    Raises:
        ImageError: There are too few groups to keep one back.
    """
    groups = sorted({pair.group for pair in pairs})
    random = seeded(settings.seed, "validation")
    kept: set[str] = set()
    for group in random.permutation(groups).tolist():
        if sum(pair.group in kept for pair in pairs) >= settings.validation * len(pairs):
            break
        kept.add(group)
    found = Split(
        tuple(pair for pair in pairs if pair.group not in kept),
        tuple(pair for pair in pairs if pair.group in kept),
    )
    if not found.training or not found.validation:
        raise ImageError(
            f"{len(pairs)} pairs of {len(groups)} patients are too few to train on some and keep "
            "others back. Give pairs of more patients."
        )
    return found


def subset(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """Draw pairs, whole groups at a time; fewer are the first of more.

    Raises:
        ImageError: There are fewer than ``count``.
    """
    if count > len(pairs):
        raise ImageError(f"{count} pairs were asked for, and there are {len(pairs)}.")
    found: list[Pair] = []
    groups = sorted({pair.group for pair in pairs})
    for group in seeded(seed, "subset").permutation(groups).tolist():
        found += [pair for pair in pairs if pair.group == group]
    return found[:count]


def _pattern(patient: str | None) -> re.Pattern[str] | None:
    try:
        return None if patient is None else re.compile(patient)
    except re.error as error:
        raise ImageError(f"the patient {patient!r} is no regular expression: {error}.") from error


def _group(example: object, pattern: re.Pattern[str] | None) -> str:
    name, path = getattr(example, "name"), getattr(example, "path")  # noqa: B009
    if pattern is None:
        return str(path)
    match = pattern.search(name)
    if match is None:
        raise ImageError(
            f"the name {name} holds no patient by the expression {pattern.pattern!r}. Correct it."
        )
    return match[1] if pattern.groups else match[0]


def _pair(example: LoadedExample, group: str, settings: Settings) -> Pair | None:
    masks = list(_masks(example, settings))
    if not masks:
        return None
    stacked = np.stack(masks)
    if settings.prompt == "none":
        stacked = stacked.any(axis=0, keepdims=True)
    return Pair(example.name, group, example.image, stacked)


def _masks(example: LoadedExample, settings: Settings) -> Iterator[NDArray[np.bool_]]:
    for truth in example.truths:
        if not settings.classes or truth.task in settings.classes:
            yield truth.mask


def _check_classes(held: set[str], settings: Settings) -> None:
    if missing := sorted(set(settings.classes) - held):
        raise MaskError(
            f"no object is of the class {', '.join(missing)}. There are {', '.join(sorted(held))}."
        )
    learnt = set(settings.classes) or held
    if settings.prompt == "none" and len(learnt) > 1:
        raise MaskError(
            f"without a prompt one mask is drawn, and there are the classes "
            f"{', '.join(sorted(learnt))}. Name one by --class, or learn from a prompt."
        )
