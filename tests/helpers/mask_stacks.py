"""Masks to try the run-length kernels on."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import scipy.ndimage
from hypothesis import strategies as st

stacks = hnp.arrays(np.bool_, st.tuples(st.integers(0, 4), st.integers(1, 17), st.integers(1, 17)))
"""Small stacks of any masks."""


def blobs(count, size, seed=0, width=2.0):
    """Random masks with outlines, holes, islands and pixels that touch at corners."""
    noise = np.random.default_rng(seed).standard_normal((count, *size))
    return scipy.ndimage.gaussian_filter(noise, (0, width, width)) > 0.02
