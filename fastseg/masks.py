"""Masks of one picture: run lengths and logits kept small, everything else on demand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.errors import MaskError
from fastseg.ops import Rle
from fastseg.timings import Timings

OutputMode: TypeAlias = Literal["binary_mask", "uncompressed_rle", "coco_rle"]
Index: TypeAlias = int | slice | str | NDArray[np.integer[Any]] | NDArray[np.bool_] | list[int]


@dataclass(frozen=True, eq=False)
class Masks:
    """A flat sequence of masks of one picture; indexing and slicing give ``Masks`` again.

    ``len(masks)`` is prompts x masks per prompt, ordered by prompt. Masks are held as run lengths,
    a few KB each; ``array()`` and the other forms are made when asked for.
    """

    runs: Rle
    """Run lengths, the one truth that every other form is made from."""

    scores: NDArray[np.float32]
    """(n,) the network's own estimate of each mask's IoU; a raw regression, about 0..1."""

    stability: NDArray[np.float32]
    """(n,) area at a higher over area at a lower threshold, 0..1; NaN where both are empty."""

    boxes: NDArray[np.int64]
    """(n, 4) x0 y0 x1 y1, the outermost pixels of each mask, inclusive; zeros if it is empty."""

    areas: NDArray[np.int64]
    """(n,) in pixels."""

    prompt: NDArray[np.int64]
    """(n,) index of the prompt that each mask answers."""

    timings: Timings
    """Measured for the whole call; indexing keeps it."""

    logits: NDArray[np.float32] | None = None
    """(n, h, w) low-resolution logits in the model's square; None after ``everything``.

    ``masks.best().logits`` can be handed back as ``mask_logits``.
    """

    points: NDArray[np.float64] | None = None
    """(n, 2) the click that each mask answers, x before y in pixels, if one click made it."""

    crop_boxes: NDArray[np.int64] | None = None
    """(n, 4) x0 y0 x1 y1, end-exclusive: the part of the picture looked at; None is all of it."""

    names: tuple[str, ...] | None = None
    """What each mask shows, for networks that know."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture in pixels."""
        return self.runs.size

    def __len__(self) -> int:
        """The number of masks."""
        return len(self.scores)

    def __getitem__(self, index: Index) -> Masks:
        """Take some of the masks: by position, slice, positions, a boolean each, or name.

        Raises:
            MaskError: There is no mask of that name.
        """
        chosen = np.arange(len(self))
        if isinstance(index, str):
            index = self._named(index)
        if isinstance(index, list):
            index = np.array(index, np.int64)
        chosen = np.atleast_1d(chosen[index])
        return Masks(
            runs=self.runs[chosen],
            scores=self.scores[chosen],
            stability=self.stability[chosen],
            boxes=self.boxes[chosen],
            areas=self.areas[chosen],
            prompt=self.prompt[chosen],
            timings=self.timings,
            logits=None if self.logits is None else self.logits[chosen],
            points=None if self.points is None else self.points[chosen],
            crop_boxes=None if self.crop_boxes is None else self.crop_boxes[chosen],
            names=None if self.names is None else tuple(self.names[i] for i in chosen),
        )

    def _named(self, name: str) -> list[int]:
        places = [place for place, found in enumerate(self.names or ()) if found == name]
        if not places:
            known = ", ".join(dict.fromkeys(self.names or ())) or "none of them has a name"
            raise MaskError(f"there is no mask {name!r} here: {known}.")
        return places

    def __iter__(self) -> Iterator[Masks]:
        """Each mask as ``Masks`` of length one."""
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        """Count and size; the arrays would fill the screen."""
        height, width = self.size
        return f"<Masks: {len(self)} of {height} x {width} pixels>"

    def best(self) -> Masks:
        """The best-scoring mask of each prompt, in the order of prompts; ties keep the first."""
        order = np.lexsort((-self.scores, self.prompt))
        _, first = np.unique(self.prompt[order], return_index=True)
        return self[order[first]]

    def array(self) -> NDArray[np.bool_]:
        """The masks as bool (n, H, W), full resolution: n x H x W bytes."""
        return ops.rle_to_array(self.runs)

    def rle(self) -> list[dict[str, Any]]:
        """COCO's uncompressed form, ``{"size": [H, W], "counts": [...]}`` column by column."""
        bounds = zip(self.runs.offsets[:-1], self.runs.offsets[1:], strict=True)
        return [
            {"size": list(self.size), "counts": self.runs.counts[start:end].tolist()}
            for start, end in bounds
        ]

    def coco(self) -> list[dict[str, Any]]:
        """COCO's compressed form, ``{"size": [H, W], "counts": str}``, ready for JSON."""
        return [
            {"size": list(self.size), "counts": code.decode("ascii")}
            for code in ops.rle_to_strings(self.runs)
        ]

    def polygons(self) -> list[list[NDArray[np.int32]]]:
        """For each mask its rings, (k, 2) pixel corners, x before y: outlines, then holes.

        The rings follow the pixels' edges, so that filling them by the even-odd rule gives the
        mask back exactly.
        """
        return ops.rle_polygons(self.runs)

    def records(self, output_mode: OutputMode = "binary_mask") -> list[dict[str, Any]]:
        """One dictionary for each mask, with the keys and types of SAM's automatic mask generator.

        Args:
            output_mode: What ``segmentation`` holds: ``"binary_mask"`` bool (H, W),
                ``"uncompressed_rle"`` as ``rle()``, ``"coco_rle"`` as ``coco()``.

        Raises:
            MaskError: There is no such output mode.
        """
        if output_mode not in get_args(OutputMode):
            raise MaskError(f"output_mode is one of {get_args(OutputMode)}, not {output_mode!r}.")
        forms = {"binary_mask": self.array, "uncompressed_rle": self.rle, "coco_rle": self.coco}
        segmentations = cast("list[Any]", forms[output_mode]())
        height, width = self.size
        whole = np.broadcast_to(np.array([0, 0, width, height]), (len(self), 4))
        crops = whole if self.crop_boxes is None else self.crop_boxes
        return [
            {
                "segmentation": segmentations[i],
                "area": int(self.areas[i]),
                "bbox": _xywh(self.boxes[i]),
                "predicted_iou": float(self.scores[i]),
                "point_coords": [] if self.points is None else [self.points[i].tolist()],
                "stability_score": float(self.stability[i]),
                "crop_box": _xywh(crops[i]),
            }
            for i in range(len(self))
        ]

    def with_timings(self, timings: Timings) -> Masks:
        """The same masks with other timings."""
        return replace(self, timings=timings)


def _xywh(box: NDArray[np.int64]) -> list[int]:
    """SAM's box: the far corner minus the near one, without the last pixel."""
    x0, y0, x1, y1 = box.tolist()
    return [x0, y0, x1 - x0, y1 - y0]


def concatenate(parts: list[Masks], timings: Timings) -> Masks:
    """Join masks of one picture, keeping an optional field only where every part has it.

    Args:
        parts: At least one.
        timings: Of the call that made all of them.
    """

    def join(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if any(array is None for array in arrays) else np.concatenate(arrays)

    required = ("scores", "stability", "boxes", "areas", "prompt")
    optional = ("logits", "points", "crop_boxes")
    return Masks(
        runs=Rle.concatenate([part.runs for part in parts]),
        timings=timings,
        **{name: join(name) for name in (*required, *optional)},
    )
