"""Probabilities for tests of the chamber kernels."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import scipy.ndimage
from hypothesis import strategies as st

LEVELS = np.array([0.0, 0.2, 0.27, 0.49, 0.5, 0.51, 0.73, 0.74, 1.0, np.nan], np.float32)

stacks = hnp.arrays(
    np.float32,
    st.tuples(
        st.integers(0, 2),
        st.integers(2, 4),
        st.one_of(st.integers(1, 12), st.just(70)),
        st.one_of(st.integers(1, 12), st.integers(62, 68)),
    ),
    elements=st.sampled_from(LEVELS.tolist()).map(np.float32),
)
"""Small stacks ``(n, channels, h, w)`` of any probabilities, many of them at a threshold."""


def rough(count, channels, size, seed=0, width=2.0):
    """Make fragmented probabilities with holes, islands, ties, and pixels that touch at corners."""
    noise = np.random.default_rng(seed).standard_normal((count, channels, *size))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 0, width, width))
    return (1 / (1 + np.exp(-4 * smooth / smooth.std()))).astype(np.float32)


def echo_probabilities(folder):
    """Read the published outputs of a network for ten real frames, ``(10, 3, 256, 256)``."""
    files = sorted(folder.glob("A2C_*.npz"))
    planes = [np.load(file)["final_prob"].transpose(2, 0, 1) for file in files]
    return np.stack(planes).astype(np.float32)


def echo_masks(folder, view, array):
    """Read the published masks of one stage, ``(10, channels, 256, 256)`` bool."""
    files = sorted(folder.glob(f"{view}_*.npz"))
    return np.stack([np.load(file)[array].transpose(2, 0, 1) != 0 for file in files])
