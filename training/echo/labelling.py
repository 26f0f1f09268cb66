"""From unlabelled frames to labels that a network can learn from, and why the others got none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.echo.unet import Unet
from training.echo import four_chambers, ring_labels, weak_labels
from training.echo.acceptance import refusal
from training.echo.heart import CLASSES, View
from training.echo.own_frames import SIDE, OwnFrames

Mask = NDArray[np.bool_]

Outcome = Mask | str
"""A label, bool (classes, 256, 256), or in a few words why there is none."""

TOGETHER = 8
"""Frames that go through a teacher at once."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of some of the frames, eight pixels a byte."""

    frames: tuple[int, ...]
    """Which of the frames each label belongs to."""
    packed: tuple[NDArray[np.uint8], ...]
    """uint8 (classes, 256 * 256 / 8) each."""
    refused: Counter[str]
    """Why other frames got none, and how many of them."""

    def __len__(self) -> int:
        """How many frames have one."""
        return len(self.frames)

    def __getitem__(self, index: int) -> Mask:
        """One label, bool (classes, 256, 256)."""
        bits = np.unpackbits(self.packed[index], axis=1)
        return bits.reshape(-1, SIDE, SIDE).astype(bool)


def collect(outcomes: Iterable[Outcome]) -> Labels:
    """Pack what came of the frames, in their order."""
    frames, packed, refused = [], [], Counter[str]()
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, str):
            refused[outcome] += 1
        else:
            frames.append(number)
            packed.append(np.packbits(outcome.reshape(len(outcome), -1), axis=1))
    return Labels(tuple(frames), tuple(packed), refused)


def by_watershed(frames: OwnFrames) -> Iterator[Outcome]:
    """Label two-chamber frames from nothing."""
    for frame in frames:
        found = weak_labels.two_chambers(frame[0])
        yield _accepted("a2c", clean(found[None].astype(np.float32), "a2c")[0])


def by_teacher(frames: OwnFrames, view: View, teacher: Unet, *, seed: int = 0) -> Iterator[Outcome]:
    """Label frames with what another network finds in them.

    Args:
        frames: Frames of ``view``.
        view: ``"a4c"``, whose teacher is a two-chamber network, or ``"sax"``, whose teacher finds
            a cavity.
        teacher: The network.
        seed: Of the muscle's thickness.
    """
    random = np.random.default_rng(seed)
    for first in range(0, len(frames), TOGETHER):
        paths = list(frames.paths[first : first + TOGETHER])
        for chances in teacher.probabilities(paths, cm_per_pixel=frames.cm_per_pixel):
            if view == "a4c":
                yield _four(chances)
            else:
                yield _donut(chances[0], random)


def _four(chances: NDArray[np.float32]) -> Outcome:
    four = four_chambers.split_sides(chances > 0.5)
    if four is None:
        return "no atrium and ventricle on both sides"
    # As published, the limits hold for what was found and not for what was added to it.
    outcome = _accepted("a4c", four)
    return outcome if isinstance(outcome, str) else four_chambers.stretch_right_ventricle(outcome)


def _donut(chances: NDArray[np.float32], random: np.random.Generator) -> Outcome:
    found = ring_labels.cavity(chances)
    return refusal("sax", {"cavity": found}) or ring_labels.donut(found, random)


def _accepted(view: View, label: Mask) -> Outcome:
    return refusal(view, dict(zip(CLASSES[view], label, strict=True))) or label


def by_itself(
    chances: Iterable[NDArray[np.float32]], view: View, before: Labels
) -> Iterator[Outcome]:
    """Take a network's own answers for labels where it found every chamber.

    Elsewhere a frame keeps the label that it had, so that a network that has learnt too little yet
    is taught on and not left without labels.

    Args:
        chances: Batches of its probabilities, float32 (n, classes, 256, 256), in order.
        view: What the frames show.
        before: The labels that it was taught with.
    """
    places = {number: place for place, number in enumerate(before.frames)}
    answers = (label for batch in chances for label in clean(batch, view))
    for number, label in enumerate(answers):
        missing = [name for name, mask in zip(CLASSES[view], label, strict=True) if not mask.any()]
        if not missing:
            yield label
        elif number in places:
            yield before[places[number]]
        else:
            yield f"{missing[-1]}: not found"


def clean(chances: NDArray[np.float32], view: View) -> Mask:
    """Clean labels as the networks' output is cleaned, bool (n, classes, 256, 256)."""
    return ops.clean_chambers(chances, exclusive=view != "sax", threads=1)
