"""Weak labels of unlabelled frames, and the reasons of frames without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.echo.unet import Unet
from training.echo import four_chambers, ring_labels, weak_labels
from training.echo.acceptance import refusal_reason
from training.echo.heart import CLASSES, View
from training.echo.own_frames import SIDE, OwnFrames

Mask = NDArray[np.bool_]

Outcome = Mask | str
"""A label, bool (classes, 256, 256), or the reason why there is none, in a few words."""

FRAMES_PER_RUN = 8
"""Frames of one run of a teacher."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of some of the frames, eight pixels a byte."""

    frames: tuple[int, ...]
    """Index of each label's frame."""
    packed: tuple[NDArray[np.uint8], ...]
    """uint8 (classes, 256 * 256 / 8) each."""
    refused: Counter[str]
    """Reasons of the frames without a label, and their number."""

    def __len__(self) -> int:
        """Return the number of labels."""
        return len(self.frames)

    def __getitem__(self, index: int) -> Mask:
        """Return one label, bool (classes, 256, 256)."""
        bits = np.unpackbits(self.packed[index], axis=1)
        return bits.reshape(-1, SIDE, SIDE).astype(bool)


def collect(outcomes: Iterable[Outcome]) -> Labels:
    """Pack the outcomes of the frames, in their order."""
    frames, packed, refused = [], [], Counter[str]()
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, str):
            refused[outcome] += 1
        else:
            frames.append(number)
            packed.append(np.packbits(outcome.reshape(len(outcome), -1), axis=1))
    return Labels(tuple(frames), tuple(packed), refused)


def by_watershed(frames: OwnFrames) -> Iterator[Outcome]:
    """Label two-chamber frames without a network."""
    for frame in frames:
        found = weak_labels.two_chambers(frame[0])
        yield _accepted("a2c", clean(found[None].astype(np.float32), "a2c")[0])


def by_teacher(frames: OwnFrames, view: View, teacher: Unet, *, seed: int = 0) -> Iterator[Outcome]:
    """Label frames with the chambers that another network finds.

    Args:
        frames: Frames of ``view``.
        view: ``"a4c"``, whose teacher is a two-chamber network, or ``"sax"``, whose teacher finds
            a cavity.
        teacher: The network.
        seed: Seed of the muscle's thickness.
    """
    random = np.random.default_rng(seed)
    for first in range(0, len(frames), FRAMES_PER_RUN):
        paths = list(frames.paths[first : first + FRAMES_PER_RUN])
        for probabilities in teacher.probabilities(paths, cm_per_pixel=frames.cm_per_pixel):
            if view == "a4c":
                yield _four(probabilities)
            else:
                yield _ring(probabilities[0], random)


def _four(probabilities: NDArray[np.float32]) -> Outcome:
    four = four_chambers.split_sides(probabilities > 0.5)
    if four is None:
        return "no atrium and ventricle on both sides"
    # As published, the limits hold for what was found and not for what was added to it.
    outcome = _accepted("a4c", four)
    return outcome if isinstance(outcome, str) else four_chambers.stretch_right_ventricle(outcome)


def _ring(probabilities: NDArray[np.float32], random: np.random.Generator) -> Outcome:
    found = ring_labels.cavity(probabilities)
    return refusal_reason("sax", {"cavity": found}) or ring_labels.add_ring(found, random)


def _accepted(view: View, label: Mask) -> Outcome:
    return refusal_reason(view, dict(zip(CLASSES[view], label, strict=True))) or label


def by_itself(
    probabilities: Iterable[NDArray[np.float32]], view: View, before: Labels
) -> Iterator[Outcome]:
    """Take a network's own predictions for labels where it found every chamber.

    Elsewhere a frame keeps its label, so that a network that has learnt too little does not run out
    of labels.

    Args:
        probabilities: Batches of its probabilities, float32 (n, classes, 256, 256), in order.
        view: The view of the frames.
        before: The labels that the network was trained with.
    """
    indices = {number: index for index, number in enumerate(before.frames)}
    predictions = (label for batch in probabilities for label in clean(batch, view))
    for number, label in enumerate(predictions):
        missing = [name for name, mask in zip(CLASSES[view], label, strict=True) if not mask.any()]
        if not missing:
            yield label
        elif number in indices:
            yield before[indices[number]]
        else:
            yield f"{missing[-1]}: not found"


def clean(probabilities: NDArray[np.float32], view: View) -> Mask:
    """Clean labels as the networks' output is cleaned, bool (n, classes, 256, 256)."""
    return ops.clean_chambers(probabilities, exclusive=view != "sax", threads=1)
