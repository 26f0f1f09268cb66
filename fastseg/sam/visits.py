"""The record of the slices that a propagation has been to, in memory and in a file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.errors import FastsegError, MaskError
from fastseg.masks import Masks
from fastseg.ops import Rle
from fastseg.storage.atomic import atomic_file
from fastseg.storage.paths import is_file, user_path

Visit: TypeAlias = tuple[int, int, int]
"""Slice of the prompt, direction (0 at the prompt itself), slice."""

FORMAT = 1
_EVERY = 8
"""Visits after which the file is written again."""


class Visits:
    """The masks that were found at every visit of a slice, before any rule refuses them.

    A call that finds a visit here takes its masks and runs nothing, so a call that continues gives
    the masks of one that was never interrupted.

    Args:
        path: File that keeps the record between calls; None keeps none.
        of: Hash of volume, model, prompts and settings. A file of another one is refused.

    Raises:
        MaskError: The file is damaged, or belongs to another call.
    """

    def __init__(self, path: str | os.PathLike[str] | None, of: str) -> None:
        self._path, self._of = path, of
        self._found: dict[Visit, Masks] = {}
        self._new = 0
        if path is not None and is_file(user_path(path)):
            self._found = dict(_read(path, of))

    def get(self, visit: Visit) -> Masks | None:
        """Return the masks of a visit that was made before."""
        return self._found.get(visit)

    def add(self, visit: Visit, masks: Masks) -> None:
        """Record a visit, and now and then write the file."""
        start, step, place = visit
        before = (start, step, place - step)
        if step and before in self._found:
            # Only the last slice of a direction prompts the next one.
            self._found[before] = replace(self._found[before], logits=None)
        self._found[visit] = masks
        self._new += 1
        if self._new >= _EVERY:
            self.write()

    def write(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            OutputError: It cannot be written.
        """
        if self._path is None or not self._new:
            return
        arrays: dict[str, Any] = {}
        for number, masks in enumerate(self._found.values()):
            kept = (masks.runs.counts, masks.runs.offsets, masks.scores, masks.stability)
            arrays |= {f"{number}.{name}": one for name, one in zip(_ARRAYS, kept, strict=True)}
            if masks.logits is not None:
                arrays[f"{number}.logits"] = masks.logits
        size = next(iter(self._found.values())).size
        with atomic_file(self._path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                format=np.int64(FORMAT),
                of=np.array(self._of),
                size=np.array(size, np.int64),
                visits=np.array(list(self._found), np.int64),
                **arrays,
            )
        self._new = 0

    def forget(self) -> None:
        """Remove the file: the work is done."""
        if self._path is not None:
            user_path(self._path).unlink(missing_ok=True)


_ARRAYS = ("counts", "offsets", "scores", "stability")


def _read(path: str | os.PathLike[str], of: str) -> Iterator[tuple[Visit, Masks]]:
    try:
        with zipfile.ZipFile(user_path(path)) as archive:
            # What is not packed takes no more memory than the file has bytes.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise MaskError("it is packed, which fastseg does not do")
        with np.load(user_path(path), allow_pickle=False) as entries:
            if int(entries["format"]) != FORMAT:
                raise MaskError("its format is of another version")
            if str(entries["of"]) != of:
                raise MaskError("it belongs to another volume, model, prompt or setting")
            size = (int(entries["size"][0]), int(entries["size"][1]))
            found = [
                ((int(start), int(step), int(place)), _masks(entries, number, size))
                for number, (start, step, place) in enumerate(entries["visits"])
            ]
    except Exception as error:  # readers fail on damage in many ways
        reason = str(error) if isinstance(error, FastsegError) else f"it is damaged: {error}"
        raise MaskError(
            f"{path} cannot be continued from: {reason}. Name another checkpoint, or remove it."
        ) from error
    yield from found


def _masks(entries: Mapping[str, NDArray[Any]], number: int, size: tuple[int, int]) -> Masks:
    counts, offsets, scores, stability = (entries[f"{number}.{name}"] for name in _ARRAYS)
    runs = Rle(counts, offsets, size)
    ops.rle_check(runs)
    if len(scores) != len(runs) or len(stability) != len(runs):
        raise MaskError("its masks contradict their scores")
    logits = f"{number}.logits"
    return Masks.from_rle(
        runs,
        scores=scores.astype(np.float32),
        stability=stability.astype(np.float32),
        logits=entries.get(logits),
    )
