"""Conversion of a network's weights to a native kernel's layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import ModelFolderError

Floats = NDArray[np.float32]


def opened(
    opener: Callable[..., Any], weights: Mapping[str, Floats], *settings: object, network: str
) -> Any:
    """Copy weights into a kernel's own layout.

    Args:
        opener: The kernel's function that does it.
        weights: Float32 arrays by name, in any order of their axes' strides.
        settings: Further arguments of ``opener``.
        network: Name of the network, for the message.

    Raises:
        ModelFolderError: A weight is missing or has another shape, or the network has sizes that
            the kernel was not made for; the message says which.
    """
    contiguous = {name: np.asarray(array, np.float32, order="C") for name, array in weights.items()}
    try:
        return opener(contiguous, *settings)
    except ValueError as error:
        raise ModelFolderError(
            f"These are not the weights of {network}: {error}. Export the model again."
        ) from error
