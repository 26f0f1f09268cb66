"""Planes are enlarged by cubic convolution as PyTorch does it."""

from __future__ import annotations

import numpy as np
import pytest

from fastseg import ops
from fastseg.errors import BackendError

PLANES = np.random.default_rng(0).standard_normal((3, 40, 56)).astype(np.float32)


@pytest.mark.parametrize("size", [(120, 171), (40, 56), (13, 300), (1, 1), (1500, 1999)])
def test_the_values_are_those_of_torch(size):
    torch = pytest.importorskip("torch", reason="the reference is torch")
    wanted = torch.nn.functional.interpolate(torch.from_numpy(PLANES)[None], size, mode="bicubic")
    found = ops.enlarge_cubic(PLANES, size)
    np.testing.assert_allclose(found, wanted[0].numpy(), atol=2e-6 * np.abs(PLANES).max())


def test_a_flat_plane_stays_flat():
    enlarged = ops.enlarge_cubic(np.full((1, 20, 30), 2.5, np.float32), (47, 61))
    np.testing.assert_allclose(enlarged, 2.5, rtol=3e-6)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_bits_depend_neither_on_threads_nor_on_the_room_around(threads):
    out = np.full((3, 130, 180), 7, np.float32)
    ops.enlarge_cubic(PLANES, (120, 171), out=out, threads=threads)
    np.testing.assert_array_equal(out[:, :120, :171], ops.enlarge_cubic(PLANES, (120, 171)))
    assert (out[:, 120:] == 7).all()
    assert (out[:, :, 171:] == 7).all()


def test_no_planes_are_no_work():
    assert ops.enlarge_cubic(PLANES[:0], (8, 9)).shape == (0, 8, 9)


def test_what_is_not_a_number_shows_around_itself_alone():
    planes = PLANES[:1].copy()
    planes[0, 20, 20] = np.nan
    missing = np.isnan(ops.enlarge_cubic(planes, (80, 112))[0])
    assert missing[41, 41]
    assert not missing[:36].any()
    assert not missing[47:].any()


@pytest.mark.parametrize(
    ("planes", "size", "out"),
    [
        (PLANES.astype(np.float64), (80, 80), None),
        (PLANES[0], (80, 80), None),
        (PLANES[:, ::2], (80, 80), None),
        (PLANES[:, :0], (80, 80), None),
        (PLANES, (0, 80), None),
        (PLANES, (80, 80), np.empty((3, 79, 80), np.float32)),
        (PLANES, (80, 80), np.empty((2, 80, 80), np.float32)),
        (PLANES, (80, 80), np.empty((3, 80, 80))),
    ],
)
def test_what_contradicts_itself_is_refused(planes, size, out):
    with pytest.raises(BackendError):
        ops.enlarge_cubic(planes, size, out=out)
