"""Times that people took to prompt and to choose masks, from the page of ``fastseg serve``."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastseg.errors import MeasurementError
from fastseg.inputs.text import printable

PROMPTED = frozenset(("drawn", "corrected"))
"""Status of masks that a person drew with prompts, and perhaps corrected."""

CHOSEN = PROMPTED | {"chosen"}
"""Status of masks that a person chose among those of the model."""

_COLUMNS = ("item", "status", "prompt_s", "choose_s")


@dataclass(frozen=True, slots=True)
class AnnotationTimes:
    """Mean times of a mask."""

    prompted: int
    """Masks that were prompted; at least one."""

    seconds_prompting: float
    """Mean seconds to prompt one of them."""

    chosen: int
    """Masks that were chosen; at least one."""

    seconds_choosing: float
    """Mean seconds to choose one of them."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def read_annotation_times(paths: Iterable[Path]) -> AnnotationTimes:
    """Read the files of the page's clock ("Export times"); the columns are in docs/server.md.

    Masks that were painted without the model do not count, nor do images of a folder as a whole.

    Args:
        paths: CSV files; their masks count alike.

    Raises:
        MeasurementError: A file cannot be read, is of another kind, or no mask was prompted.
    """
    rows = [row for path in paths for row in _rows(path)]
    prompting = [row["prompt_s"] for status, row in rows if status in PROMPTED]
    choosing = [row["choose_s"] for status, row in rows if status in CHOSEN]
    if not prompting:
        raise MeasurementError(
            "the times hold no mask that was drawn by prompts. Export them from the page after "
            "some masks were kept."
        )
    return AnnotationTimes(len(prompting), _mean(prompting), len(choosing), _mean(choosing))


def _rows(path: Path) -> list[tuple[str, dict[str, float]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise MeasurementError(
                    f"{printable(str(path))} is no table of the page's times: it has no column "
                    f"{', '.join(missing)}."
                )
            return [_row(path, row) for row in reader if row["item"] != "sum"]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MeasurementError(f"{printable(str(path))} cannot be read: {error}.") from error


def _row(path: Path, row: Mapping[str, str | None]) -> tuple[str, dict[str, float]]:
    seconds = {}
    for name in ("prompt_s", "choose_s"):
        try:
            seconds[name] = float(row[name] or 0)
        except (TypeError, ValueError):
            seconds[name] = math.nan
        if not 0 <= seconds[name] < math.inf:
            raise MeasurementError(
                f"{printable(str(path))} has the {name} {row[name]!r} in row {row['item']}. Times "
                "are seconds from 0."
            )
    return str(row["status"]), seconds


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
