"""Datasets in the form of COCO: one JSON file of images, categories and annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.errors import ImageError, MaskError
from fastseg.evaluation.dataset.example import Dataset, Example, Size, Truth
from fastseg.evaluation.dataset.folders import IMAGES
from fastseg.ops import Rle


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object of a COCO file."""

    identifier: int
    task: str
    segmentation: Any
    """Polygons, uncompressed run lengths or COCO's string of them."""

    def read(self, size: Size) -> tuple[list[Truth], list[str]]:
        """Draw the object, as ``TruthSource`` says.

        Raises:
            MaskError: The segmentation has another size, or cannot be drawn.
        """
        name = f"annotation {self.identifier}"
        try:
            mask = draw(self.segmentation, size)
        except (KeyError, TypeError, ValueError) as error:
            raise MaskError(f"{name} cannot be drawn: {error}. Export it again.") from error
        return ([Truth(self.task, name, mask, mask)], []) if mask.any() else ([], [name])


def read_coco(path: Path) -> Dataset:
    """Read a COCO file; images lie beside it, or in ``images`` beside it.

    Annotations of groups (``iscrowd``) are left out.

    Raises:
        ImageError: The file is not of COCO's form.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        categories = {one["id"]: str(one["name"]) for one in document["categories"]}
        held: dict[Any, list[Annotation]] = {one["id"]: [] for one in document["images"]}
        for one in document["annotations"]:
            if not one.get("iscrowd"):
                task = categories[one["category_id"]]
                annotation = Annotation(int(one["id"]), task, one["segmentation"])
                held[one["image_id"]].append(annotation)
        named = [(one["id"], str(one["file_name"])) for one in document["images"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageError(
            f"{path} is no COCO file: {error!r}. It needs images, categories and annotations."
        ) from error
    examples, faults = [], []
    for identifier, name in named:
        places = [folder / name for folder in (path.parent, path.parent / IMAGES)]
        place = next((one for one in places if one.is_file()), None)
        if place is None:
            faults.append(f"{path} names {name}, which lies neither beside it nor in {IMAGES}/.")
        elif not held[identifier]:
            faults.append(f"{place} has no annotation in {path.name}.")
        else:
            examples.append(Example(name, place, None, tuple(held[identifier])))
    return Dataset(path.stem, tuple(examples), tuple(faults))


def draw(segmentation: Any, size: Size) -> NDArray[np.bool_]:
    """Turn a segmentation of COCO into a mask, bool (H, W).

    A pixel belongs to a polygon if its middle lies inside by the even-odd rule.

    Raises:
        MaskError: It has another size than the image, or its run lengths contradict it.
        TypeError, ValueError, KeyError: It is of no form that COCO knows.
    """
    if isinstance(segmentation, Mapping):
        height, width = (int(side) for side in segmentation["size"])
        if (height, width) != size:
            raise MaskError(f"a segmentation is {width} x {height} pixels, its image {size[::-1]}.")
        counts = segmentation["counts"]
        if isinstance(counts, str | bytes):
            text = counts.encode("ascii") if isinstance(counts, str) else counts
            runs = ops.rle_from_strings([text], size)
        else:
            runs = Rle.from_lists([counts], size)
        drawn: NDArray[np.bool_] = ops.rle_to_array(runs)[0]
        return drawn
    mask = np.zeros(size, np.bool_)
    for polygon in segmentation:
        mask |= _fill(np.asarray(polygon, np.float64).reshape(-1, 2), size)
    return mask


def _fill(corners: NDArray[np.float64], size: Size) -> NDArray[np.bool_]:
    height, width = size
    mask = np.zeros(size, np.bool_)
    begins, ends = corners, np.roll(corners, -1, axis=0)
    for row in range(height):
        middle = row + 0.5
        crossed = (begins[:, 1] <= middle) != (ends[:, 1] <= middle)
        (x0, y0), (x1, y1) = begins[crossed].T, ends[crossed].T
        crossings: Sequence[float] = np.sort(x0 + (middle - y0) / (y1 - y0) * (x1 - x0)).tolist()
        for left, right in zip(crossings[::2], crossings[1::2], strict=True):
            first, last = np.clip([np.ceil(left - 0.5), np.ceil(right - 0.5)], 0, width)
            mask[row, int(first) : int(last)] = True
    return mask
