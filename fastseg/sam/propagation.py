"""Propagation of masks through a volume: each slice is prompted by what its neighbour showed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.images import read_image
from fastseg.masks import Masks, concatenate
from fastseg.ops import Rle
from fastseg.sam.embedding import Embedding
from fastseg.sam.visits import Visit, Visits
from fastseg.sam.volume_masks import Stop, StopReason, VolumeMasks
from fastseg.sam.volume_prompts import Anchor, PropagationSettings
from fastseg.sam.volume_slices import VolumeSlices
from fastseg.timings import Timings

Progress = Callable[[int, int], object]
"""Told after each slice how many are done and how many there are at most; False cancels."""

ADVANTAGE = 0.3
"""Score by which the mask of the last mask's box must be better than that of the given box. Scores
err by less than that, and a chain of boxes adds up the errors of its masks."""

LEAST_DEVIATION = 10.0
"""Levels of 0..255 that brightness always may vary by, where an object is of one shade."""


@dataclass(slots=True)
class _Walk:
    """Some objects that leave one anchor in one direction and end at the same slice."""

    start: int
    step: int
    end: int
    """Last slice that may be visited."""

    border: StopReason
    alive: dict[int, _Trace]


@dataclass(slots=True)
class _Trace:
    """The latest of an object on its walk."""

    given: NDArray[np.float64]
    """(4,) box of the user's prompt."""

    anchored: Masks
    """Its mask on the slice of the prompt."""

    brightness: tuple[float, float]
    """Mean and standard deviation of the levels in that mask."""

    last: Masks
    place: int


@dataclass(slots=True)
class Propagation:
    """One call of ``propagate`` in work."""

    embed: Callable[[Any], Embedding]
    segment: Callable[..., Masks]
    slices: VolumeSlices
    anchors: Sequence[Anchor]
    settings: PropagationSettings
    visits: Visits
    tell: Progress | None
    kept: dict[int, dict[int, Masks]] = field(default_factory=dict)
    """The mask of each object, by slice."""

    stops: list[Stop] = field(default_factory=list)
    timings: Timings = field(default_factory=Timings)
    embedded: int = 0
    seen: set[int] = field(default_factory=set)
    latest: tuple[int, NDArray[np.uint8]] | None = None

    def run(self) -> VolumeMasks:
        """Prompt the anchors, then walk from each of them to both sides."""
        cancelled = False
        try:
            for walk in self._all_walks():
                if cancelled:
                    self._stop(walk, list(walk.alive), "cancelled")
                elif not self._follow(walk):
                    cancelled = True
        finally:
            # Also after an error or Ctrl-C, so that a later call can continue.
            self.visits.write()
        if not cancelled:
            self.visits.forget()
        return self._result(complete=not cancelled)

    def _all_walks(self) -> Iterator[_Walk]:
        traces = {anchor.place: self._begin(anchor) for anchor in self.anchors}
        for anchor in self.anchors:
            for step in (1, -1):
                yield from self._walks(anchor, step, traces[anchor.place])

    def _begin(self, anchor: Anchor) -> dict[int, _Trace]:
        """Segment the prompts of an anchor."""
        found = self._visit((anchor.place, 0, anchor.place), anchor.prompts, len(anchor.objects))
        boxes = anchor.prompts.get("boxes")
        given = None if boxes is None else np.atleast_2d(np.asarray(boxes, np.float64))
        traces = {}
        for row, number in enumerate(anchor.objects):
            mask = found[row]
            self.kept.setdefault(anchor.place, {})[number] = mask
            box = self._box_of(mask) if given is None else given[row]
            brightness = _brightness(mask, self._pixels(anchor.place))
            traces[number] = _Trace(box, mask, brightness, mask, anchor.place)
        return traces

    def _walks(self, anchor: Anchor, step: int, traces: Mapping[int, _Trace]) -> Iterator[_Walk]:
        """Group the objects of an anchor by the slice at which they end in one direction."""
        walks: dict[tuple[int, StopReason], _Walk] = {}
        for number in anchor.objects:
            end, border = self._end(anchor.place, step, number)
            new = _Walk(anchor.place, step, end, border, {})
            walk = walks.setdefault((end, border), new)
            walk.alive[number] = replace(traces[number])
        yield from walks.values()

    def _end(self, place: int, step: int, number: int) -> tuple[int, StopReason]:
        """Return the last slice of an object in a direction: halfway to its next prompt."""
        others = [one.place for one in self.anchors if number in one.objects]
        ahead = [one for one in others if (one - place) * step > 0]
        if not ahead:
            return (len(self.slices) - 1 if step > 0 else 0), "end of the volume"
        low, high = sorted((place, min(ahead, key=lambda one: abs(one - place))))
        middle = (low + high) // 2
        return (middle if step > 0 else middle + 1), "next prompt"

    def _follow(self, walk: _Walk) -> bool:
        """Walk slice by slice until no object is left; False if the caller cancels."""
        empty = [number for number, trace in walk.alive.items() if not trace.last.areas[0]]
        self._stop(walk, empty, "empty")
        place = walk.start
        while walk.alive and place != walk.end:
            place += walk.step
            self._look(walk, place)
            if self._cancelled():
                self._stop(walk, list(walk.alive), "cancelled")
                return False
        self._stop(walk, list(walk.alive), walk.border)
        return True

    def _look(self, walk: _Walk, place: int) -> None:
        """Segment the objects of a walk on its next slice, and stop those that got lost."""
        numbers = list(walk.alive)
        visit = (walk.start, walk.step, place)
        found = self._visit(visit, self._next_prompts(walk), len(numbers))
        for mask, number in zip(found, numbers, strict=True):
            trace = walk.alive[number]
            reason = self._lost(mask, trace, place)
            if reason is None:
                self.kept.setdefault(place, {})[number] = mask
                trace.last, trace.place = mask, place
            else:
                self._stop(walk, [number], reason, mask)

    def _next_prompts(self, walk: _Walk) -> dict[str, Any]:
        """Make the prompts of all objects of a walk, by the rule."""
        rule, traces = self.settings.rule, list(walk.alive.values())
        if rule == "repeat":
            return {"boxes": np.stack([trace.given for trace in traces])}
        boxes = [self._box_of(trace.last) for trace in traces]
        if rule == "box":
            return {"boxes": np.stack(boxes)}
        if rule == "logits":
            logits = np.concatenate([trace.last.logits for trace in traces])
            return {"boxes": np.stack(boxes), "mask_logits": logits}
        pairs = zip(boxes, traces, strict=True)
        return {"boxes": np.stack([one for box, trace in pairs for one in (box, trace.given)])}

    def _box_of(self, mask: Masks) -> NDArray[np.float64]:
        """Return the box of a mask with the margin, cut to the slice."""
        height, width = self.slices.size
        margin = self.settings.margin * max(height, width)
        x0, y0, x1, y1 = mask.boxes[0].astype(np.float64)
        box = np.array([x0 - margin, y0 - margin, x1 + 1 + margin, y1 + 1 + margin])
        cut: NDArray[np.float64] = np.clip(box, 0, [width, height, width, height])
        return cut

    def _lost(self, mask: Masks, trace: _Trace, place: int) -> StopReason | None:
        """Return the rule by which a mask is not that of the object any more."""
        area, last = int(mask.areas[0]), int(trace.last.areas[0])
        if not area:
            return "empty"
        if float(mask.scores[0]) < self.settings.min_score * float(trace.anchored.scores[0]):
            return "score"
        if area * self.settings.max_change < last:
            return "collapse"
        if area > last * self.settings.max_change:
            return "explosion"
        mean, deviation = trace.brightness
        shift = abs(_brightness(mask, self._pixels(place))[0] - mean)
        far = shift > self.settings.max_shift * max(deviation, LEAST_DEVIATION)
        return "brightness" if far else None

    def _visit(self, visit: Visit, prompts: Mapping[str, Any], objects: int) -> Masks:
        """Return the best mask of each object on a slice: the one on record, or a new one."""
        place = visit[2]
        self.seen.add(place)
        known = self.visits.get(visit)
        if known is not None:
            return known
        embedding = self.embed(self._pixels(place))
        found = self.segment(embedding, multimask=self.settings.multimask, **prompts)
        self.embedded += 1
        self.timings += embedding.timings + found.timings
        # Every object has equally many alternatives, one after the other.
        each = found.scores.reshape(objects, -1)
        if visit[1] and self.settings.rule == "best":
            # The first half are the alternatives of the last mask's box.
            half = each.shape[1] // 2
            each = each - np.where(np.arange(each.shape[1]) < half, ADVANTAGE, 0).astype(np.float32)
        best = found[np.argmax(each, axis=1) + np.arange(objects) * each.shape[1]]
        if self.settings.rule != "logits":
            best = replace(best, logits=None)
        self.visits.add(visit, best)
        return best

    def _pixels(self, place: int) -> NDArray[np.uint8]:
        """Return the levels of a slice, (H, W, 3); those of the latest are kept."""
        if self.latest is None or self.latest[0] != place:
            self.latest = (place, read_image(self.slices[place], max_pixels=None))
        return self.latest[1]

    def _cancelled(self) -> bool:
        return self.tell is not None and self.tell(len(self.seen), len(self.slices)) is False

    def _stop(
        self, walk: _Walk, numbers: Sequence[int], reason: StopReason, refused: Masks | None = None
    ) -> None:
        for number in numbers:
            trace = walk.alive.pop(number)
            score, area = (
                (None, None)
                if refused is None
                else (float(refused.scores[0]), int(refused.areas[0]))
            )
            last = trace.place
            self.stops.append(Stop(number, walk.start, walk.step, last, reason, score, area))

    def _result(self, *, complete: bool) -> VolumeMasks:
        objects = 1 + max(number for one in self.anchors for number in one.objects)
        volume = self.slices.volume
        return VolumeMasks(
            slices=tuple(
                self._slice(self.kept.get(place, {}), objects) for place in range(len(self.slices))
            ),
            axis=self.slices.axis,
            stops=tuple(sorted(self.stops, key=lambda one: (one.object, one.start, -one.step))),
            voxel_ml=volume.voxel_ml,
            timings=self.timings,
            embedded=self.embedded,
            is_complete=complete,
        )

    def _slice(self, masks: Mapping[int, Masks], objects: int) -> Masks:
        """Join the masks of a slice, with empty ones for objects that are not there."""
        height, width = self.slices.size
        nothing = Masks.from_rle(
            Rle.from_lists([[height * width]], (height, width)),
            scores=np.full(1, np.nan, np.float32),
            stability=np.full(1, np.nan, np.float32),
        )
        parts = [masks.get(number, nothing) for number in range(objects)]
        timings = [part.timings for part in parts if part is not nothing]
        joined = concatenate(parts, timings[0] if timings else Timings())
        return replace(joined, prompt=np.arange(objects))


def _brightness(mask: Masks, pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Return mean and standard deviation of the levels in one mask; zeros if it is empty."""
    if not mask.areas[0]:
        return 0.0, 0.0
    x0, y0, x1, y1 = mask.boxes[0].tolist()
    part = (slice(y0, y1 + 1), slice(x0, x1 + 1))
    levels = pixels[part][mask.array()[0][part]].astype(np.float64).mean(axis=-1)
    return float(levels.mean()), float(levels.std())
