"""The echo U-Net as a native kernel, in float32 or with bfloat16 products."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastseg import _core
from fastseg.errors import BackendError
from fastseg.ops import checks
from fastseg.ops.sam_decoder import computes_in_bf16, kernel_tables
from fastseg.ops.weights import Floats, opened

UNET_KERNEL_TABLE = "amx-bf16"
"""Name of the kernel table that the U-Net needs for bfloat16, one of ``kernel_tables()``."""


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

    With a table in float32 all is float32, and convolutions with 3 x 3 neighbours are Winograd's
    F(4 x 4, 3 x 3) (Lavin and Gray, CVPR 2016): results are those of the network but for rounding.
    With AMX, operands of products and what passes from layer to layer are bfloat16; sums and the
    sigmoid are float32. For one processor and table the bits are always the same, for any number
    of threads and frames.

    Args:
        weights: Float32 arrays by their names in the state dict of ``export.networks.unet.UNet``.
            ``unet_unsupported_reason`` says which sizes they may have. A table in float32 keeps
            nearly four times their memory.
        side: Of the square frames in pixels.
        kernel_table: One of ``kernel_tables()``: ``UNET_KERNEL_TABLE``, or any that computes in
            float32.

    Raises:
        BackendError: This processor lacks the table, or the table computes in bfloat16 without
            AMX.
        ModelFolderError: A weight is missing or has another shape, or the network has sizes that
            the kernel was not made for, or a weight in float32 is not finite; the message says
            which.
    """

    def __init__(
        self,
        weights: Mapping[str, Floats],
        *,
        side: int,
        kernel_table: str = UNET_KERNEL_TABLE,
    ) -> None:
        if kernel_table not in kernel_tables():
            lacks = "AMX" if kernel_table == UNET_KERNEL_TABLE else f"the table {kernel_table!r}"
            raise BackendError(
                f"The native U-Net needs {lacks}, which this processor does not have. "
                f"It has {', '.join(kernel_tables())}."
            )
        if computes_in_bf16(kernel_table) and kernel_table != UNET_KERNEL_TABLE:
            raise BackendError(
                f"The native U-Net needs AMX for bfloat16, not the table {kernel_table!r}. "
                "Name a table that computes in float32."
            )
        self._unet = opened(_core.unet_open, weights, side, kernel_table, network="the echo U-Net")
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
