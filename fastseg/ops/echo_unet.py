"""The echo U-Net as a native kernel with bfloat16 products."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastseg import _core
from fastseg.errors import BackendError
from fastseg.ops import checks
from fastseg.ops.sam_decoder import kernel_tables
from fastseg.ops.weights import Floats, opened

UNET_KERNEL_TABLE = "amx-bf16"
"""Name of the kernel table that the U-Net needs, one of ``kernel_tables()``."""


def unet_unsupported_reason(*, width: int, channels: int, classes: int, side: int) -> str:
    """Say why ``UnetKernel`` does not support a network of such sizes; empty if it does.

    Args:
        width: Channels of the finest level.
        channels: Of a frame.
        classes: Planes of probabilities.
        side: Of a frame in pixels.
    """
    return str(_core.unet_unsupported_reason(width, channels, classes, side))


class UnetKernel:
    """The U-Net of Ferreira et al. (2025) with its weights in the kernel's own layout.

    Operands of products, and what passes from layer to layer, are bfloat16; sums and the sigmoid
    float32. For one processor the bits are always the same, for any number of threads and frames.

    Args:
        weights: Float32 arrays by their names in the state dict of ``export.networks.unet.UNet``.
            ``unet_unsupported_reason`` says which sizes they may have.
        side: Of the square frames in pixels.

    Raises:
        BackendError: This processor has no AMX.
        ModelFolderError: A weight is missing or has another shape, or the network has sizes that
            the kernel was not made for; the message says which.
    """

    def __init__(self, weights: Mapping[str, Floats], *, side: int) -> None:
        if UNET_KERNEL_TABLE not in kernel_tables():
            raise BackendError("The native U-Net needs AMX, which this processor does not have.")
        self._unet = opened(_core.unet_open, weights, side, network="the echo U-Net")
        self.side = side
        """Of a frame in pixels."""
        self.channels = _core.unet_channels(self._unet)
        """Of a frame."""
        self.classes = _core.unet_classes(self._unet)
        """Planes of probabilities."""

    def probabilities(self, frames: Floats, *, threads: int = 0) -> Floats:
        """Run the network.

        Args:
            frames: ``(n, channels, side, side)`` float32, from 0 to 1.
            threads: Most threads to use, 0 for all cores.

        Returns:
            ``(n, classes, side, side)`` float32, from 0 to 1.

        Raises:
            BackendError: The frames have another shape.
        """
        wanted = (len(frames), self.channels, self.side, self.side)
        if frames.shape != wanted:
            raise BackendError(f"frames must be {wanted}, not {frames.shape}.")
        found = np.empty((len(frames), self.classes, self.side, self.side), np.float32)
        pixels = np.ascontiguousarray(frames, np.float32)
        _core.unet_run(self._unet, pixels, found, checks.threads(threads))
        return found
