"""Datasets in a CSV file: pairs of image and mask with the names of their classes."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fastseg.errors import FastsegError, ImageError, MaskError
from fastseg.evaluation.dataset.example import Case, Dataset, Example, TruthSource
from fastseg.evaluation.dataset.folders import frame_count, stem
from fastseg.evaluation.dataset.label_maps import LabelMap, OneLabel

COLUMNS = ("image", "mask", "class", "value", "domain", "case", "phase")
"""Columns of the file; all but the first two may be left out."""


def read_pairs(path: Path) -> Dataset:
    """Read a CSV with a row for each object or label map.

    ``class`` names the object, ``value`` the label that it has in the mask (anything but 0 if
    empty), ``domain`` the group that its image belongs to. Paths count from the CSV's folder. Rows
    of one image make one example; a file of several frames makes an example of each. Images of one
    ``case`` are joined, each as a ``phase`` of it.

    Raises:
        ImageError: The file cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [{key: (row.get(key) or "").strip() for key in COLUMNS} for row in _rows(file)]
    except (OSError, ValueError, csv.Error) as error:
        raise ImageError(
            f"{path} is no CSV of pairs: {error}. Write the columns image and mask, and class, "
            "value and domain where they are known."
        ) from error
    by_image: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_image.setdefault(row["image"], []).append(row)
    examples: list[Example] = []
    faults = []
    for name, given in by_image.items():
        found, fault = _tried(path.parent, name, given)
        examples += found
        faults += fault
    joined = _cases(examples, {row["image"]: row for row in rows})
    return Dataset(path.stem, joined, tuple(faults))


def _cases(
    examples: Sequence[Example], rows: Mapping[str, Mapping[str, str]]
) -> tuple[Example | Case, ...]:
    """Join the images of a case; images without one stay as they are."""
    held: dict[str, list[Example]] = {}
    found: list[Example | Case] = []
    for example in examples:
        row = rows.get(example.name)
        if row is None or not row["case"]:
            found.append(example)
            continue
        phase = row["phase"] or f"phase {len(held.get(row['case'], ())) + 1}"
        held.setdefault(row["case"], []).append(replace(example, domain=phase))
    return (*found, *(Case(name, tuple(phases)) for name, phases in held.items()))


def _rows(file: Iterable[str]) -> list[dict[str, str]]:
    reader = csv.DictReader(file)
    missing = [name for name in COLUMNS[:2] if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"it has no column {' and no column '.join(missing)}")
    return list(reader)


def _tried(folder: Path, name: str, rows: list[dict[str, str]]) -> tuple[list[Example], list[str]]:
    try:
        return _examples(folder, name, rows), []
    except FastsegError as error:
        return [], [str(error)]


def _examples(folder: Path, name: str, rows: list[dict[str, str]]) -> list[Example]:
    image = folder / name
    if not name or not image.exists():
        raise ImageError(f"{image} is named as an image and is not there.")
    frames = frame_count(image)
    for row in rows:
        mask = folder / row["mask"]
        if not row["mask"] or not mask.is_file():
            raise MaskError(f"{mask} is named as the mask of {name} and is not there.")
        if frame_count(mask) != frames:
            raise MaskError(f"{mask} and {image} have different numbers of frames.")
    domain = rows[0]["domain"]
    return [
        Example(
            name if frame is None else f"{stem(name)}:{frame:04d}",
            image,
            frame,
            tuple(_source(folder, row, frame) for row in rows),
            domain,
        )
        for frame in ([None] if frames is None else range(frames))
    ]


def _source(folder: Path, row: dict[str, str], frame: int | None) -> TruthSource:
    path, task = folder / row["mask"], row["class"] or None
    if not row["value"]:
        return LabelMap(path, frame, None, task)
    try:
        value = int(row["value"])
    except ValueError as error:
        raise MaskError(
            f"{path}: the value {row['value']!r} is no label. Write a number."
        ) from error
    return OneLabel(path, frame, value, task or f"class {value}")
