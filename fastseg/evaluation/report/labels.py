"""Labels of an evaluation's tables and figures: scores and numbers as people write them."""

from __future__ import annotations

import math
from functools import cache

from fastseg.evaluation.published import MEASUREMENTS, read_table


def number(value: float) -> str:
    """Write a number of a table; a dash where there is none."""
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def label(score: str) -> str:
    """Return a score's name as people write it."""
    words = {"iou": "IoU", "dice": "Dice", "surface dice": "surface Dice", "hd95": "HD95"}
    kind, _, rest = score.partition(" ")
    if score.startswith("noc"):
        return f"points to IoU 0.{score[3:]}"
    if kind == "iou" and rest.isdigit():
        return f"IoU, {rest} point{'s' if rest != '1' else ''}"
    if kind == "surface":
        return f"surface Dice, {rest.removeprefix('dice ')}"
    if kind == "recall":
        return f"found at IoU {rest}"
    return f"{words.get(kind, kind)} {rest}".strip()


def measurement(name: str) -> str:
    """Return what a measurement of ``fastseg echo`` is, and its unit; other names as they are."""
    return _measurements().get(name, name)


@cache
def _measurements() -> dict[str, str]:
    return {row["measurement"]: row["label"] for row in read_table(MEASUREMENTS)}
