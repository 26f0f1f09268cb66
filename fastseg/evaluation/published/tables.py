"""Figures that the studies print, each with its source, to stand beside measured ones."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_FOLDER = Path(__file__).parent

POINTS, MEAN_POINTS, MODES = (
    "mazurowski_points_iou",
    "mazurowski_points_mean_iou",
    "mazurowski_modes_iou",
)
ZERO_SHOT, AGREEMENT, RESOURCES = "shi_zero_shot", "ferreira_agreement", "ferreira_resources"
MEASUREMENTS = "ferreira_measurements"
LIVER, VESSELS = "hu_liver_examples", "shi_vessel_finetune"

TABLES = tuple(sorted(path.stem for path in _FOLDER.glob("*.csv")))
"""Names of the published tables, for ``read_table``."""

ALL_TASKS = ""
"""Task of a figure that is a mean over all tasks of its study."""

_METHODS = {
    "sam": ("SAM ViT-H", "first"),
    "sam_oracle": ("SAM ViT-H", "oracle"),
    "ritm": ("RITM", "only"),
    "simpleclick": ("SimpleClick", "only"),
    "focalclick": ("FocalClick", "only"),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One printed figure."""

    method: str
    task: str
    """Task as the study names it; ``ALL_TASKS`` for a mean over all of them."""

    score: str
    """Name of the same score in our rows."""

    variant: str
    slot: str
    value: float
    source: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@cache
def read_table(name: str) -> tuple[dict[str, str], ...]:
    """Read a published table, a dictionary a row; the column ``source`` says where it stands.

    Args:
        name: One of ``TABLES``.
    """
    with (_FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def study_measurements() -> tuple[str, ...]:
    """List the names of the 25 measurements of Ferreira and Arnaout, as ``fastseg echo`` has them.

    The text of the study does not print its list; the table says what ours is made from.
    """
    return tuple(row["measurement"] for row in read_table(MEASUREMENTS))


def figures(protocol: str) -> tuple[Figure, ...]:
    """List the figures that studies print for a protocol; none for protocols without any."""
    readers = {
        "points": _points,
        "modes": _modes,
        "centroid": _centroid,
        "adapter": _adapter,
        "phases": _phases,
    }
    return readers[protocol]() if protocol in readers else ()


@cache
def _points() -> tuple[Figure, ...]:
    found = []
    for row in (*read_table(MEAN_POINTS), *read_table(POINTS)):
        method, slot = _METHODS[row["method"]]
        for number in range(1, 10):
            value = row[f"n{number}"]
            if value:
                place = (row.get("task", ALL_TASKS), f"iou {number}", "points", slot)
                found.append(Figure(method, *place, float(value), row["source"]))
    return tuple(found)


@cache
def _modes() -> tuple[Figure, ...]:
    rows = read_table(MODES)
    found = []
    for mode in range(1, 6):
        for slot, column in (("first", f"mode{mode}"), ("oracle", f"mode{mode}_oracle")):
            place = ("iou", f"mode {mode}", slot)
            values = [float(row[column]) for row in rows]
            source = f"mean of the {len(rows)} tasks in {rows[0]['source']}"
            found.append(Figure("SAM ViT-H", ALL_TASKS, *place, float(np.mean(values)), source))
            found += [
                Figure("SAM ViT-H", row["task"], *place, float(row[column]), row["source"])
                for row in rows
            ]
    return tuple(found)


@cache
def _centroid() -> tuple[Figure, ...]:
    found = []
    for row in read_table(ZERO_SHOT):
        if not row["method"].startswith("SAM"):
            continue
        task = f"{row['dataset']} {row['modality']}: {row['class']}"
        for score in ("dice", "iou"):
            if row[score]:
                place = (task, score, "centroid", "argmax")
                found.append(Figure(row["method"], *place, float(row[score]), row["source"]))
    return tuple(found)


@cache
def _adapter() -> tuple[Figure, ...]:
    return tuple(
        Figure(
            "SAM-Adapter on ViT-B, 20 pairs of DRIVE",
            *(row["dataset"], score, "no prompt", "only"),
            float(row[f"{score}_finetuned"]),
            row["source"],
        )
        for row in read_table(VESSELS)
        for score in ("dice", "iou")
    )


@cache
def _phases() -> tuple[Figure, ...]:
    """List the captions of single images; the study prints no mean over patients."""
    found = []
    for row in read_table(LIVER):
        encoder = row["encoder"].replace("vit_", "ViT-").replace("ViT-b", "ViT-B")
        encoder = encoder.replace("ViT-l", "ViT-L").replace("ViT-h", "ViT-H")
        variant = f"P {row['points']}, R {row['resolution']}, {row['phase_mode']}"
        method = f"SAM {encoder}, one image".replace("SAM ,", "SAM,")
        place = (ALL_TASKS, "dice", variant, "oracle")
        found.append(Figure(method, *place, float(row["score"]), row["source"]))
    return tuple(found)
