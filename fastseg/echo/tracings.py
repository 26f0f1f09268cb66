"""Tracings of the left ventricle as EchoNet-Dynamic publishes them: lines across it, by frame."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import ImageError, MaskError

COLUMNS = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
"""Heads of the columns of a file of tracings, in any order and case."""

_LEAST_LINES = 4  # the long axis, and enough disks for a shape


@dataclass(frozen=True, slots=True)
class Tracing:
    """A ventricle traced in one frame, measured in pixels.

    The first line of a frame is the long axis, and the others are the disks across it.
    """

    file: str
    frame: int
    length_px: float
    area_px: float
    """Inside of the polygon through the ends of the lines."""

    volume_px3: float
    """Method of disks, each a circle: pi/4 * L/n * sum of D^2."""


def read_tracings(path: str | os.PathLike[str]) -> list[Tracing]:
    """Read a file of tracings (``VolumeTracings.csv``).

    Args:
        path: CSV with the columns of ``COLUMNS``, in pixels.

    Returns:
        One tracing for each frame of each file, in their order.

    Raises:
        ImageError: The file cannot be read.
        MaskError: It has other columns, no lines, or a frame of fewer than four.
    """
    lines: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            heads = {str(head).strip().lower(): head for head in reader.fieldnames or ()}
            if not all(column.lower() in heads for column in COLUMNS):
                raise MaskError(
                    f"{path} has the columns {', '.join(map(str, heads.values())) or 'none'}. "
                    f"Tracings have {', '.join(COLUMNS)}."
                )
            for row in reader:
                values = [row[heads[column.lower()]] for column in COLUMNS]
                key = (str(values[0]), int(float(values[5])))
                ends = tuple(float(value) for value in values[1:5])
                if not all(map(math.isfinite, ends)):
                    raise ValueError(f"a line of {key[0]} has an end that is no number")
                lines.setdefault(key, []).append(ends)
    except MaskError:
        raise
    except (OSError, ValueError, TypeError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"{path} holds no tracings that can be read: {reason}. Give CSV with the columns "
            f"{', '.join(COLUMNS)}."
        ) from error
    if not lines:
        raise MaskError(f"{path} holds no tracing: it has heads and no lines.")
    return [_measured(name, frame, ends) for (name, frame), ends in lines.items()]


def _measured(name: str, frame: int, lines: Sequence[tuple[float, ...]]) -> Tracing:
    if len(lines) < _LEAST_LINES:
        raise MaskError(
            f"frame {frame} of {name} has {len(lines)} lines, and a tracing is the long axis and "
            "at least three disks. Trace it again."
        )
    axis, disks = np.array(lines[0]).reshape(2, 2), np.array(lines[1:]).reshape(-1, 2, 2)
    length = float(np.linalg.norm(axis[1] - axis[0]))
    if not length > 0:
        raise MaskError(f"the long axis of frame {frame} of {name} has no length. Trace it again.")
    widths = np.linalg.norm(disks[:, 1] - disks[:, 0], axis=1)
    volume = math.pi / 4 * length / len(widths) * float((widths**2).sum())
    return Tracing(name, frame, length, _area(axis, disks), volume)


def _area(axis: NDArray[Any], disks: NDArray[Any]) -> float:
    """Compute the area of the polygon down one side of the disks and up the other."""
    along = axis[1] - axis[0]
    across = np.array([-along[1], along[0]])
    # The ends of each line in one order, and the lines from one end of the axis to the other.
    sides = (disks - axis[0]) @ across
    left = np.where((sides[:, :1] <= sides[:, 1:]), disks[:, 0], disks[:, 1])
    right = np.where((sides[:, :1] <= sides[:, 1:]), disks[:, 1], disks[:, 0])
    order = np.argsort((disks.mean(axis=1) - axis[0]) @ along, kind="stable")
    ring = np.concatenate([axis[:1], left[order], axis[1:], right[order][::-1]])
    x, y = ring[:, 0], ring[:, 1]
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
