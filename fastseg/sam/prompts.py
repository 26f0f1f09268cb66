"""Points, boxes and masks from a user, checked and laid out as batches for a decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg.artifacts.rules import CORNERS_FIRST, TRUNCATED, PromptRules
from fastseg.contract import (
    LABEL_BACKGROUND,
    LABEL_BOX_BOTTOM_RIGHT,
    LABEL_BOX_TOP_LEFT,
    LABEL_FOREGROUND,
    LABEL_PADDING,
)
from fastseg.errors import PromptError
from fastseg.geometry import Frame
from fastseg.inputs.numbers import real_array
from fastseg.inputs.text import texts

LARGEST_COORDINATE = 2**24
"""Pixels from the image's corner that a box may reach; from here on float32 skips integers."""

LARGEST_LOGIT = 1e9
"""Bound on mask prompts. Networks square and sum them, and the largest float32 is 3e38."""

SAM_RULES = PromptRules()
"""The rules of SAM, which takes every kind of prompt."""

_CORNERS = np.array([LABEL_BOX_TOP_LEFT, LABEL_BOX_BOTTOM_RIGHT], np.int32)
_ALLOWED_LABELS = (LABEL_PADDING, LABEL_BACKGROUND, LABEL_FOREGROUND)


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Prompts with equally many points, ready for one run of a decoder."""

    indices: NDArray[np.intp]
    """(n,) position of each prompt in the user's order."""

    point_coords: NDArray[np.float32]
    """(n, points, 2) x before y, in pixels of the model's square."""

    point_labels: NDArray[np.int32]
    """(n, points) -1 padding, 0 background, 1 foreground, 2 and 3 the corners of a box."""

    mask_input: NDArray[np.float32] | None
    """(n, 1, h, w) low-resolution logits, or None without mask prompts."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Any number of prompts for one image, each a run of points in the image's pixels.

    A box is two points with labels of their own, and a prompt without a box ends with one point of
    padding, exactly as the network was trained (Kirillov et al. 2023, prompt encoder).
    """

    points: NDArray[np.float64]
    """(total, 2) points of all prompts, one prompt after the other."""

    labels: NDArray[np.int32]
    """(total,) labels of the points."""

    offsets: NDArray[np.int64]
    """(n + 1,) first index of each prompt in ``points``, and the end of the last."""

    masks: NDArray[np.float32] | None = None
    """(n, h, w) low-resolution logits, or None."""

    names: tuple[str, ...] | None = None
    """Name of each prompt, or None."""
    truncated: bool = False
    """True if coordinates in the square are cut to whole pixels."""

    def __len__(self) -> int:
        """Count the prompts."""
        return len(self.offsets) - 1

    def names_of_masks(self, per_prompt: int) -> tuple[str, ...] | None:
        """Name each mask by its prompt; None where the prompts have no names."""
        if self.names is None:
            return None
        return tuple(name for name in self.names for _ in range(per_prompt))

    def batches(self, frame: Frame, *, limit: int) -> Iterator[PromptBatch]:
        """Yield batches of at most ``limit`` prompts that have equally many points.

        Padding tokens take part in attention, so prompts are never padded to each other's length:
        the mask of a prompt does not depend on the other prompts.
        """
        coords = self._coords(frame)
        lengths = np.diff(self.offsets)
        for length in np.unique(lengths):
            members = np.flatnonzero(lengths == length)
            for start in range(0, len(members), limit):
                indices = members[start : start + limit]
                places = self.offsets[indices, None] + np.arange(length)
                yield PromptBatch(
                    indices=indices,
                    point_coords=coords[places],
                    point_labels=self.labels[places],
                    mask_input=None if self.masks is None else self.masks[indices, None],
                )

    def _coords(self, frame: Frame) -> NDArray[np.float32]:
        if not self.truncated:
            return frame.to_model(self.points)
        scale = frame.side / max(frame.size)
        cut: NDArray[np.float64] = np.trunc((self.points - frame.crop_box[:2]) * scale)
        return cut.astype(np.float32)


def single_points(points: NDArray[np.float64], rules: PromptRules = SAM_RULES) -> Prompts:
    """Make one prompt, a foreground point, of each of the (n, 2) ``points``."""
    count, length = len(points), rules.length or 2
    padded = np.zeros((count, length, 2))
    padded[:, 0] = points
    labels = np.full((count, length), LABEL_PADDING, np.int32)
    labels[:, 0] = LABEL_FOREGROUND
    offsets = np.arange(count + 1, dtype=np.int64) * length
    return Prompts(padded.reshape(-1, 2), labels.reshape(-1), offsets)


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """The prompts as given to ``segment``, not yet checked. See ``Sam.segment`` for the forms."""

    points: ArrayLike | Sequence[ArrayLike] | None = None
    labels: ArrayLike | Sequence[ArrayLike] | None = None
    boxes: ArrayLike | None = None
    mask_logits: ArrayLike | None = None
    names: str | Sequence[str] | None = None

    def check(self, frame: Frame, *, mask_side: int, rules: PromptRules = SAM_RULES) -> Prompts:
        """Check the request against one image.

        Args:
            frame: The image; points must lie in it and boxes must touch it.
            mask_side: Height and width of the low-resolution logits of the model.
            rules: The prompts that the model takes.

        Raises:
            PromptError: Something is malformed, outside, not finite, or not taken by the model, or
                counts disagree.
        """
        self._require(rules)
        points = _points(self.points, self.labels, frame)
        boxes = _boxes(self.boxes, frame)
        masks = _masks(self.mask_logits, mask_side)
        counts = {
            name: len(part)
            for name, part in (("points", points), ("boxes", boxes), ("mask_logits", masks))
            if part is not None
        }
        if not rules.any:
            counts = {"the image": 1}
        if not counts:
            if not rules.points:
                raise PromptError(f"segment needs prompts. This model takes {rules.taken}.")
            raise PromptError(
                "segment needs points, boxes or mask_logits. Use everything() to segment a "
                "image without a prompt."
            )
        if len(set(counts.values())) > 1:
            given = ", ".join(f"{name} for {count}" for name, count in counts.items())
            raise PromptError(
                f"The numbers of prompts differ: {given}. For n prompts give points "
                "(n, points, 2), boxes (n, 4) and mask_logits (n, height, width)."
            )
        count = next(iter(counts.values()))
        names = None if self.names is None else texts(self.names, "names", PromptError)
        if names is not None and len(names) != count:
            raise PromptError(
                f"names for {len(names)} prompts, but there are {count}. Give each prompt a name, "
                "or leave names out."
            )
        if points is not None and not rules.background and (points.labels == 0).any():
            raise PromptError(
                "This model was not trained for points of the background, label 0. Give points of "
                "the foreground, label 1, or a box."
            )
        assembled = _assemble(count, points, boxes, rules)
        if rules.length:
            assembled = _filled_up(assembled, rules.length)
        return replace(
            assembled, masks=masks, names=names, truncated=rules.coordinates == TRUNCATED
        )

    def _require(self, rules: PromptRules) -> None:
        """Refuse a kind of prompt that the model was not trained for."""
        given = {
            "points": rules.points or self.points is None,
            "boxes": rules.boxes or self.boxes is None,
            "mask_logits": rules.masks or self.mask_logits is None,
        }
        refused = [name for name, fits in given.items() if not fits]
        if refused and not rules.any:
            raise PromptError(
                f"This model segments an image without a prompt and was not trained for "
                f"{' and '.join(refused)}. It takes no prompt: give the image alone."
            )
        if refused:
            raise PromptError(
                f"This model was not trained for {' and '.join(refused)}, and would draw masks "
                f"that mean nothing. It takes {rules.taken}."
            )


@dataclass(frozen=True, slots=True)
class _Points:
    coords: NDArray[np.float64]  # (total, 2)
    labels: NDArray[np.int32]  # (total,)
    lengths: NDArray[np.int64]  # (n,) points of each prompt

    def __len__(self) -> int:
        return len(self.lengths)


def _assemble(
    count: int,
    given: _Points | None,
    boxes: NDArray[np.float64] | None,
    rules: PromptRules,
) -> Prompts:
    """Write the points, corners and padding of each prompt in the order of the layout."""
    none = np.zeros((count, 0, 2)), np.zeros(0, np.int32)
    padding = np.zeros((count, 1, 2)), np.full(1, LABEL_PADDING, np.int32)
    if rules.length:
        padding = none  # each prompt gets its own number of them, see ``_filled_up``
    corners = none if boxes is None else (boxes.reshape(count, 2, 2), _CORNERS)
    anything = given is not None or boxes is not None
    if rules.layout == CORNERS_FIRST:
        head, tail = corners, padding if anything else none
    else:
        head, tail = none, corners if boxes is not None else padding if anything else none
    lengths = np.zeros(count, np.int64) if given is None else given.lengths
    around = len(head[1]) + len(tail[1])
    offsets = np.concatenate([[0], np.cumsum(lengths + around)])
    points, labels = np.zeros((offsets[-1], 2)), np.zeros(offsets[-1], np.int32)
    if given is not None:
        shift = offsets[:-1] - np.concatenate([[0], np.cumsum(lengths)])[:-1] + len(head[1])
        places = np.arange(len(given.labels)) + np.repeat(shift, lengths)
        points[places], labels[places] = given.coords, given.labels
    starts = (offsets[:-1], offsets[1:] - len(tail[1]))
    for first, (coords, marks) in zip(starts, (head, tail), strict=True):
        places = first[:, None] + np.arange(len(marks))
        points[places], labels[places] = coords, marks
    return Prompts(points, labels, offsets)


def _filled_up(prompts: Prompts, length: int) -> Prompts:
    """Fill every prompt up to the same number of points by padding.

    Raises:
        PromptError: A prompt has more.
    """
    lengths, count = np.diff(prompts.offsets), len(prompts)
    if (lengths > length).any():
        raise PromptError(
            f"a prompt has {lengths.max()} points, and this model takes {length} at most, of which "
            "a box is two. Give fewer."
        )
    points, labels = np.zeros((count, length, 2)), np.full((count, length), LABEL_PADDING, np.int32)
    there = np.arange(length) < lengths[:, None]
    points[there], labels[there] = prompts.points, prompts.labels
    offsets = np.arange(count + 1, dtype=np.int64) * length
    return replace(
        prompts, points=points.reshape(-1, 2), labels=labels.reshape(-1), offsets=offsets
    )


def _ragged(values: object, what: str, axes: int) -> list[NDArray[np.float64]]:
    """Split ``values`` into one array of ``axes`` axes for each prompt."""
    try:
        array = real_array(values, what, PromptError)
    except PromptError:
        if not isinstance(values, Sequence) or isinstance(values, str | bytes | range):
            raise
        # Prompts of different lengths; one that is wrong in itself is named by its number.
        return [real_array(value, f"{what}[{at}]", PromptError) for at, value in enumerate(values)]
    if array.ndim > axes or (array.ndim and len(array) == 0):
        return list(array)
    return [array.reshape((1,) * (axes - array.ndim) + array.shape)]


def _points(points: object, labels: object, frame: Frame) -> _Points | None:
    if points is None:
        if labels is not None:
            raise PromptError("labels were given without points.")
        return None
    coords = _ragged(points, "points", 2)
    if labels is None:
        marks = [np.full(each.shape[:1], float(LABEL_FOREGROUND)) for each in coords]
    else:
        marks = _ragged(labels, "labels", 1)
    if len(coords) != len(marks):
        raise PromptError(f"points for {len(coords)} prompts, but labels for {len(marks)}.")
    for each, mark in zip(coords, marks, strict=True):
        if each.ndim != 2 or each.shape[1] != 2 or len(each) == 0:
            raise PromptError(
                f"points of a prompt must be (points, 2) with x before y, not {each.shape}; "
                "many prompts are (prompts, points, 2) or a list."
            )
        if mark.shape != each.shape[:1]:
            raise PromptError(f"{len(each)} points need as many labels, not {mark.shape}.")
    lengths = np.array([len(each) for each in coords], np.int64)
    return _checked_points(
        np.concatenate([np.zeros((0, 2)), *coords]), np.concatenate([[], *marks]), lengths, frame
    )


def _checked_points(
    coords: NDArray[np.float64],
    labels: NDArray[np.float64],
    lengths: NDArray[np.int64],
    frame: Frame,
) -> _Points:
    wrong = ~np.isin(labels, _ALLOWED_LABELS)
    if wrong.any():
        raise PromptError(
            f"label {labels[wrong][0]:g} is none of 1 (foreground), 0 (background) and "
            "-1 (padding). Boxes have an argument of their own."
        )
    marks = labels.astype(np.int32)
    real = coords[marks != LABEL_PADDING]
    if not np.isfinite(real).all():
        raise PromptError("points must be finite numbers.")
    height, width = frame.image
    outside = ((real < 0) | (real > [width, height])).any(axis=1)
    if outside.any():
        raise PromptError(
            f"point {real[outside][0].tolist()} lies outside the image of "
            f"{width} x {height} pixels; points are x before y."
        )
    return _Points(np.where(marks[:, None] == LABEL_PADDING, 0.0, coords), marks, lengths)


def _boxes(boxes: object, frame: Frame) -> NDArray[np.float64] | None:
    if boxes is None:
        return None
    array = real_array(boxes, "boxes", PromptError)
    if array.shape == (4,):
        array = array[None]
    if array.size == 0 and len(array) == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise PromptError(f"boxes must be (prompts, 4) as x0 y0 x1 y1, not {array.shape}.")
    if not np.isfinite(array).all():
        raise PromptError("boxes must be finite numbers.")
    large = (np.abs(array) > LARGEST_COORDINATE).any(axis=1)
    if large.any():
        raise PromptError(
            f"box {array[large][0].tolist()} reaches beyond {LARGEST_COORDINATE} pixels, where "
            "networks in float32 do not tell one pixel from the next. Clip it to the image."
        )
    flat = (array[:, 2:] <= array[:, :2]).any(axis=1)
    if flat.any():
        raise PromptError(
            f"box {array[flat][0].tolist()} is reversed or empty; "
            "it must be x0 y0 x1 y1 with x0 < x1 and y0 < y1."
        )
    height, width = frame.image
    away = ((array[:, :2] >= [width, height]) | (array[:, 2:] <= 0)).any(axis=1)
    if away.any():
        raise PromptError(
            f"box {array[away][0].tolist()} lies outside the image of {width} x {height} pixels."
        )
    return array


def _masks(mask_logits: object, side: int) -> NDArray[np.float32] | None:
    if mask_logits is None:
        return None
    array = real_array(mask_logits, "mask_logits", PromptError)
    if array.shape == (side, side):
        array = array[None]
    if array.ndim != 3 or array.shape[1:] != (side, side):
        raise PromptError(
            f"mask_logits must be (prompts, {side}, {side}) low-resolution logits, "
            f"not {array.shape}. Masks.logits has this form."
        )
    if not np.isfinite(array).all():
        raise PromptError("mask_logits must be finite numbers.")
    if array.size and np.abs(array).max() > LARGEST_LOGIT:
        raise PromptError(
            f"mask_logits must lie within plus and minus {LARGEST_LOGIT:g}, as networks square "
            "them in float32. Masks.logits are some tens at most: clip them."
        )
    return array.astype(np.float32)
