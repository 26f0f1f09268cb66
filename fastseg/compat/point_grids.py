"""Arguments of the reference's automatic mask generators, checked as the references check them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fastseg.masks import OutputMode
from fastseg.sam.grid_settings import GridSettings


def checked_point_grids(
    given: Mapping[str, Any], names: Iterable[str]
) -> list[NDArray[np.float64]]:
    """Check the arguments of a generator, and return the grid of points of each layer of crops.

    Args:
        given: The arguments by name.
        names: Those that ``GridSettings`` takes, beside the grids and ``points_per_batch``.

    Raises:
        AssertionError: Both or neither of ``points_per_side`` and ``point_grids`` are given, or
            there is no such output mode.
        PromptError: A setting cannot be used.
    """
    if (given["points_per_side"] is None) == (given["point_grids"] is None):
        raise AssertionError("Exactly one of points_per_side or point_grid must be provided.")
    if given["output_mode"] not in get_args(OutputMode):
        raise AssertionError(f"Unknown output_mode {given['output_mode']}.")
    taken = ("points_per_side", "points_per_batch", "point_grids", *names)
    settings = GridSettings(**{name: given[name] for name in taken})
    return [settings.grid(layer) for layer in range(given["crop_n_layers"] + 1)]
