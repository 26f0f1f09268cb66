"""The order of sub-pixels in which mask heads upscale an embedding, and planes of pixels."""

from __future__ import annotations

from torch import Tensor


def by_subpixel(planes: Tensor, levels: int) -> Tensor:
    """Order a map of 2^levels times the embedding's resolution as ``MaskHead`` orders sub-pixels.

    Args:
        planes: float (B, C, 2^levels * grid, 2^levels * grid).
        levels: 1 or 2.

    Returns:
        float (B, 4 * L, C) or, for two levels, (B, 4 * L, 4 * C).
    """
    batch, channels, side, _ = planes.shape
    grid = side // 2**levels
    if levels == 1:
        parts = planes.reshape(batch, channels, grid, 2, grid, 2)
        # row, column, x, y, channel
        return parts.permute(0, 2, 4, 5, 3, 1).reshape(batch, 4 * grid * grid, channels)
    parts = planes.reshape(batch, channels, grid, 2, 2, grid, 2, 2)
    # row, column, x, y of the first doubling, then y, x of the second, channel
    return parts.permute(0, 2, 5, 6, 3, 4, 7, 1).reshape(batch, 4 * grid * grid, 4 * channels)


def by_plane(ordered: Tensor, channels: int) -> Tensor:
    """Undo ``by_subpixel``: float (B, 4 * L, C or 4 * C) to (B, C, side, side)."""
    batch, places, _ = ordered.shape
    grid = round((places // 4) ** 0.5)
    if ordered.shape[2] == channels:
        parts = ordered.reshape(batch, grid, grid, 2, 2, channels).permute(0, 5, 1, 4, 2, 3)
        return parts.reshape(batch, channels, 2 * grid, 2 * grid)
    parts = ordered.reshape(batch, grid, grid, 2, 2, 2, 2, channels)
    return parts.permute(0, 7, 1, 4, 5, 2, 3, 6).reshape(batch, channels, 4 * grid, 4 * grid)
