"""Masks of a frame as writers of files take them, and the structures that frames share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import MaskError

MOST_LABELS = 65_535


class MaskSet(Protocol):
    """Masks of one frame, as models return them."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """Name of each mask, if they have names."""
        ...

    @property
    def prompt(self) -> NDArray[np.int64]:
        """Index of the prompt of each mask."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    def array(self) -> NDArray[np.bool_]:
        """Return the masks, (n, H, W)."""
        ...

    @property
    def areas(self) -> NDArray[np.int64]:
        """Areas in pixels, (n,)."""
        ...

    @property
    def boxes(self) -> NDArray[np.int64]:
        """Outermost pixels x0 y0 x1 y1, (n, 4)."""
        ...

    @property
    def scores(self) -> NDArray[np.float32]:
        """Estimated IoU of each mask, (n,)."""
        ...

    @property
    def logits(self) -> NDArray[np.float32] | None:
        """Low-resolution logits (n, h, w) in the model's square, if they were kept."""
        ...

    def polygons(self) -> list[list[NDArray[np.int32]]]:
        """Trace the rings of each mask."""
        ...

    def records(self, output_mode: Literal["coco_rle"]) -> list[dict[str, Any]]:
        """Describe each mask by SAM's keys."""
        ...

    def __len__(self) -> int: ...


def structures(masks: Sequence[MaskSet]) -> list[str]:
    """Return the name of each structure in the order of its label; masks without names have none.

    Raises:
        MaskError: Some masks have names and others have none, or they are too many.
    """
    named = [one for one in masks if one.names is not None]
    if named and any(len(one) for one in masks if one.names is None):
        raise MaskError("some of the masks have names and others have none. Save them apart.")
    if named:
        found = list(dict.fromkeys(name for one in named for name in one.names or ()))
    else:
        found = [f"mask {number + 1}" for number in range(max(map(len, masks)))]
    if len(found) > MOST_LABELS:
        raise MaskError(f"{len(found):,} structures are more than a label map has numbers for.")
    return found


def by_structure(masks: MaskSet, names: Sequence[str]) -> list[int]:
    """Return the place of each mask of a frame among the structures."""
    if masks.names is None:
        return list(range(len(masks)))
    return [names.index(name) for name in masks.names]
