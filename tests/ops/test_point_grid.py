"""Point grids equal SAM's."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg import ops
from fastseg.errors import PromptError


@pytest.mark.parametrize("per_side", [1, 2, 3, 7, 16, 32, 64, 100])
def test_the_grid_has_the_bits_of_sams_own(per_side):
    offset = 1 / (2 * per_side)
    line = np.linspace(offset, 1 - offset, per_side)
    expected = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    np.testing.assert_array_equal(ops.point_grid(per_side), expected)


def test_the_grid_runs_along_x_first():
    np.testing.assert_array_equal(
        ops.point_grid(2), [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    )


@pytest.mark.parametrize("per_side", [0, -3])
def test_a_grid_without_points_is_refused(per_side):
    with pytest.raises(PromptError, match=str(per_side)):
        ops.point_grid(per_side)
