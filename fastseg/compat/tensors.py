"""Tensors of torch in and out: the one place of this package that imports torch.

It is imported only when a caller hands tensors over or asks for one, and so has it anyway.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.environment import needs_extra


def to_tensor(array: NDArray[Any], device: object) -> Any:
    """Copy an array to a tensor on ``device``.

    Raises:
        BackendUnavailableError: torch is not installed.
    """
    with needs_extra("export", "a torch tensor"):
        import torch
    return torch.tensor(np.ascontiguousarray(array)).to(device)  # type: ignore[call-overload]


def to_array(tensor: Any) -> NDArray[Any]:
    """Return a tensor, or what else is an array, as one of NumPy."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
    return np.asarray(tensor)


def device(name: str) -> Any:
    """Return a ``torch.device`` where torch is loaded, else its name, which torch takes too."""
    torch = sys.modules.get("torch")
    return name if torch is None else torch.device(name)
