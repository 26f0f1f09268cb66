"""Windows of a map of tokens, within which vision transformers attend."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def pad_to_windows(x: Tensor, window: int) -> Tensor:
    """Pad (B, h, w, C) below and right by zeros to multiples of the window."""
    height, width = x.shape[1:3]
    return functional.pad(x, (0, 0, 0, -width % window, 0, -height % window))


def partition(x: Tensor, window: int) -> Tensor:
    """Split (B, h, w, C), multiples of the window, into windows (B * n * m, window, window, C)."""
    batch, height, width, channels = x.shape
    rows, columns = height // window, width // window
    x = x.reshape(batch, rows, window, columns, window, channels).transpose(2, 3)
    return x.reshape(batch * rows * columns, window, window, channels)


def merge(windows: Tensor, batch: int, size: tuple[int, int]) -> Tensor:
    """Join windows to (B, *size, C), without the padding."""
    window, channels = windows.shape[1], windows.shape[3]
    rows, columns = -(-size[0] // window), -(-size[1] // window)
    x = windows.reshape(batch, rows, columns, window, window, channels).transpose(2, 3)
    return x.reshape(batch, rows * window, columns * window, channels)[:, : size[0], : size[1]]
