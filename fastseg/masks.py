"""Masks of one image: run lengths and logits kept small, everything else on demand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg import ops
from fastseg.environment import needs_extra
from fastseg.errors import MaskError
from fastseg.imaging import preview
from fastseg.inputs.numbers import one_of, real_array, shown
from fastseg.inputs.text import texts
from fastseg.ops import Rle
from fastseg.timings import Timings

if TYPE_CHECKING:
    from fastseg.imaging.dicom.segmentation import SegmentationKind
    from fastseg.imaging.image import MedicalImage

OutputMode: TypeAlias = Literal["binary_mask", "uncompressed_rle", "coco_rle"]
Index: TypeAlias = (
    int | slice | str | NDArray[np.integer[Any]] | NDArray[np.bool_] | list[int] | list[bool]
)


@dataclass(frozen=True, eq=False)
class Masks:
    """A flat sequence of masks of one image; indexing and slicing give ``Masks`` again.

    ``len(masks)`` is prompts x masks per prompt, ordered by prompt. Masks are held as run lengths,
    a few KB each; ``array()`` and the other forms are made when asked for.
    """

    runs: Rle
    """Run lengths, from which every other form is made."""

    scores: NDArray[np.float32]
    """(n,) the network's own estimate of each mask's IoU; a raw regression, about 0..1."""

    stability: NDArray[np.float32]
    """(n,) area at a higher over area at a lower threshold, 0..1; NaN where both are empty."""

    boxes: NDArray[np.int64]
    """(n, 4) x0 y0 x1 y1, the outermost pixels of each mask, inclusive; zeros if it is empty."""

    areas: NDArray[np.int64]
    """(n,) in pixels."""

    prompt: NDArray[np.int64]
    """(n,) index of the prompt of each mask."""

    timings: Timings
    """Measured for the whole call; indexing keeps it."""

    logits: NDArray[np.float32] | None = None
    """(n, h, w) low-resolution logits in the model's square; None after ``everything``.

    ``masks.best().logits`` can be handed back as ``mask_logits``.
    """

    points: NDArray[np.float64] | None = None
    """(n, 2) the point prompt of each mask, x before y in pixels, if it had one point alone."""

    crop_boxes: NDArray[np.int64] | None = None
    """(n, 4) x0 y0 x1 y1, end-exclusive: the encoded part of the image; None is all of it."""

    names: tuple[str, ...] | None = None
    """Name of each mask, if the network, the prompts or a classifier gave names."""

    name_scores: NDArray[np.float32] | None = None
    """(n,) how sure the classifier was of each name, on its own scale, if it said so."""

    search: str | None = None
    """``"full"`` or ``"coarse-to-fine"`` where everything mode found the masks."""

    points_decoded: int | None = None
    """Points of the grid, over all crops, that everything mode decoded."""

    @classmethod
    def from_rle(
        cls,
        runs: Rle,
        *,
        scores: NDArray[np.float32],
        stability: NDArray[np.float32],
        boxes: NDArray[np.int64] | None = None,
        areas: NDArray[np.int64] | None = None,
        prompt: NDArray[np.int64] | None = None,
        timings: Timings | None = None,
        **optional: Any,
    ) -> Masks:
        """Make masks of their run lengths, and measure what is not given.

        Args:
            runs: Run lengths of n masks.
            scores: (n,) float32.
            stability: (n,) float32.
            boxes: (n, 4) int64; None measures them.
            areas: (n,) int64 in pixels; None measures them.
            prompt: (n,) int64; None numbers the masks from 0.
            timings: Of the call; None is zero.
            optional: The fields ``logits``, ``points``, ``crop_boxes``, ``names`` and
                ``name_scores``.
        """
        return cls(
            runs=runs,
            scores=scores,
            stability=stability,
            boxes=ops.rle_boxes(runs) if boxes is None else boxes,
            areas=ops.rle_areas(runs) if areas is None else areas,
            prompt=np.arange(len(runs)) if prompt is None else prompt,
            timings=timings or Timings(),
            **optional,
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        return self.runs.size

    def __len__(self) -> int:
        """Count the masks."""
        return len(self.scores)

    def __getitem__(self, index: Index) -> Masks:
        """Take some of the masks: by position, slice, positions, a boolean each, or name.

        The rules are those of NumPy for an array of one axis.

        Raises:
            MaskError: There is no mask of that name, or the index has more than one axis or is a
                masked array.
            IndexError: There is no such position, there are not as many booleans as masks, or the
                index is of another type.
        """
        chosen = np.arange(len(self))
        if isinstance(index, str):
            index = self._named(index)
        if isinstance(index, np.ma.MaskedArray):
            raise MaskError("masks cannot be indexed by a masked array. Fill it: index.filled(0).")
        given: object = index
        if isinstance(given, range) and len(given) > len(self):
            raise IndexError(f"{index} are more positions than {len(self)} masks have.")
        try:
            chosen = np.atleast_1d(chosen[index])
        except IndexError:
            raise
        except Exception as error:  # whatever an object raises that NumPy asks for positions
            raise IndexError(f"{shown(index)} is no index of {len(self)} masks.") from error
        if chosen.ndim != 1:
            raise MaskError(
                f"masks are one row, and this index gives {chosen.ndim} axes. Give a position, a "
                "slice, positions, a boolean each, or a name."
            )
        taken: dict[str, Any] = {}
        for name in _PER_MASK:
            array = getattr(self, name)
            taken[name] = None if array is None else array[chosen]
        names = None if self.names is None else tuple(self.names[i] for i in chosen)
        return replace(self, **taken, names=names)

    def _named(self, name: str) -> list[int]:
        places = [place for place, found in enumerate(self.names or ()) if found == name]
        if not places:
            known = ", ".join(dict.fromkeys(self.names or ())) or "none of them has a name"
            raise MaskError(f"there is no mask {name!r} here: {known}.")
        return places

    def __iter__(self) -> Iterator[Masks]:
        """Yield each mask as ``Masks`` of length one."""
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        """Name count and size; the arrays would fill the screen."""
        height, width = self.size
        return f"<Masks: {len(self)} of {height} x {width} pixels>"

    def _repr_png_(self) -> bytes:
        """Draw the masks in distinct colours, larger ones below, for a notebook."""
        below = np.argsort(-self.areas, kind="stable").tolist()
        return preview.paint((self[at].array()[0] for at in below), len(below), self.size)

    def best(self) -> Masks:
        """Take the best-scoring mask of each prompt, in their order; ties keep the first."""
        order = np.lexsort((-self.scores, self.prompt))
        _, first = np.unique(self.prompt[order], return_index=True)
        return self[order[first]]

    def array(self) -> NDArray[np.bool_]:
        """Return the masks as bool (n, H, W), full resolution: n x H x W bytes."""
        return ops.rle_to_array(self.runs)

    def rle(self) -> list[dict[str, Any]]:
        """Return COCO's uncompressed form, ``{"size": [H, W], "counts": [...]}``, by columns."""
        bounds = zip(self.runs.offsets[:-1], self.runs.offsets[1:], strict=True)
        return [
            {"size": list(self.size), "counts": self.runs.counts[start:end].tolist()}
            for start, end in bounds
        ]

    def coco(self) -> list[dict[str, Any]]:
        """Return COCO's compressed form, ``{"size": [H, W], "counts": str}``, ready for JSON."""
        return [
            {"size": list(self.size), "counts": code.decode("ascii")}
            for code in ops.rle_to_strings(self.runs)
        ]

    def polygons(self) -> list[list[NDArray[np.int32]]]:
        """Trace the rings of each mask, (k, 2) pixel corners, x before y: outlines, then holes.

        The rings follow the pixels' edges, so that filling them by the even-odd rule gives the
        mask back exactly.
        """
        return ops.rle_polygons(self.runs)

    def records(self, output_mode: OutputMode = "binary_mask") -> list[dict[str, Any]]:
        """Make one dictionary a mask, with the keys and types of SAM's automatic mask generator.

        Masks that have names get one more key, ``name``, and those whose names have scores
        ``name_score``.

        Args:
            output_mode: Form of ``segmentation``: ``"binary_mask"`` bool (H, W),
                ``"uncompressed_rle"`` as ``rle()``, ``"coco_rle"`` as ``coco()``.

        Raises:
            MaskError: There is no such output mode.
        """
        one_of(output_mode, get_args(OutputMode), "output_mode", MaskError)
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
                **self._name_record(i),
            }
            for i in range(len(self))
        ]

    def _name_record(self, index: int) -> dict[str, Any]:
        record: dict[str, Any] = {} if self.names is None else {"name": self.names[index]}
        if self.name_scores is not None:
            record["name_score"] = float(self.name_scores[index])
        return record

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        source: MedicalImage | None = None,
        keep_patient: bool = False,
        segmentation: SegmentationKind = "binary",
    ) -> Path:
        """Write the masks of one frame as a label map, as outlines, as a table or as DICOM SEG.

        Args:
            path: The file; its suffix chooses the format: .nii, .nii.gz, .nrrd, .tiff, .png,
                .json (COCO), .geojson, .csv or .dcm.
            source: The image of the masks, whose geometry the file gets; DICOM SEG needs it.
            keep_patient: As in ``fastseg.imaging.save``, which writes masks of many frames.
            segmentation: Type of a DICOM SEG: ``"binary"``, ``"fractional"`` or ``"labelmap"``.

        Returns:
            The path.

        Raises:
            BackendUnavailableError: The package for the format is not installed.
            MaskError: The masks overlap in a label map, or do not fit their source.
            OutputError: The suffix is of no such format, or the file cannot be written.
        """
        from fastseg.imaging.saving import save

        about: dict[str, Any] = {"keep_patient": keep_patient, "segmentation": segmentation}
        return save(path, [self], source=source, **about)

    def to_supervision(self) -> Any:
        """Convert the masks to ``supervision.Detections``, in their order.

        Names become the data ``class_name``, and numbers by their first appearance ``class_id``.
        The confidence is ``scores``, and ``xyxy`` are ``boxes``, as supervision measures masks.

        Raises:
            BackendUnavailableError: The package supervision is not installed.
        """
        with needs_extra("supervision", "a conversion to supervision"):
            import supervision
        named: dict[str, Any] = {}
        if self.names is not None:
            places = {name: place for place, name in enumerate(dict.fromkeys(self.names))}
            named["class_id"] = np.array([places[name] for name in self.names], np.int64)
            named["data"] = {"class_name": np.array(self.names, np.str_)}
        return supervision.Detections(
            xyxy=self.boxes.astype(np.float64), mask=self.array(), confidence=self.scores, **named
        )

    def with_names(self, names: Sequence[str], scores: ArrayLike | None = None) -> Masks:
        """Return the same masks with a name each, as a classifier or a detector gives them.

        Args:
            names: A name for each mask.
            scores: (n,) how sure each name is, on any scale, or None.

        Raises:
            MaskError: The names are no texts that show something, the scores are no real numbers,
                or either are not as many as the masks.
        """
        found = texts(names, "names", MaskError)
        if len(found) != len(self):
            raise MaskError(f"{len(self)} masks need as many names, not {len(found)}.")
        sure = None if scores is None else real_array(scores, "scores of names", MaskError)
        if sure is not None and sure.shape != (len(self),):
            raise MaskError(f"{len(self)} names need scores ({len(self)},), not {sure.shape}.")
        numbers = None if sure is None else sure.astype(np.float32)
        return replace(self, names=found, name_scores=numbers)

    def with_timings(self, timings: Timings) -> Masks:
        """Return the same masks with other timings."""
        return replace(self, timings=timings)


_WHOLE = ("timings", "names", "search", "points_decoded")

_PER_MASK = tuple(field.name for field in fields(Masks) if field.name not in _WHOLE)
"""Fields that have an entry for each mask and are indexed as arrays are."""


def _xywh(box: NDArray[np.int64]) -> list[int]:
    """Make SAM's box: the far corner minus the near one, without the last pixel."""
    x0, y0, x1, y1 = box.tolist()
    return [x0, y0, x1 - x0, y1 - y0]


def concatenate(parts: list[Masks], timings: Timings) -> Masks:
    """Join masks of one image, keeping an optional field only where every part has it.

    Args:
        parts: At least one.
        timings: Of the call that made all of them.
    """
    joined: dict[str, Any] = {"runs": Rle.concatenate([part.runs for part in parts])}
    for name in _PER_MASK[1:]:
        arrays = [getattr(part, name) for part in parts]
        joined[name] = None if any(array is None for array in arrays) else np.concatenate(arrays)
    named = all(part.names is not None for part in parts)
    names = tuple(name for part in parts for name in part.names or ()) if named else None
    return Masks(**joined, names=names, timings=timings)
