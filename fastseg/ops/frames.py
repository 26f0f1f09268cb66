"""Input of a network from ultrasound frames, and its masks in the pixels of a frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastseg import _core
from fastseg.errors import ImageError
from fastseg.ops import checks
from fastseg.ops.rle import Rle, mask_size


def frame_input(
    frame: checks.FramePixels,
    window: tuple[int, int, int, int],
    side: int,
    *,
    threads: int = 0,
) -> NDArray[np.float32]:
    """Make the input of a network without prompts from a window of a frame.

    The window is brought to 400 x 400 pixels by area, then to ``side`` x ``side`` by cubic
    convolution with a = -0.75, as OpenCV's ``INTER_AREA`` and ``INTER_CUBIC`` do (area: wherever
    OpenCV shrinks both axes or enlarges both). Bytes stay bytes in between; each step is within one
    level of OpenCV's, whose own arithmetic is coarser. A window of ``side`` x ``side`` pixels is
    taken as it is. Then ``(x - min) / (max - min)`` in single precision, with the least and the
    greatest value of all channels. The steps are those of Ferreira et al., Nat Commun 16, 4070
    (2025).

    Args:
        frame: ``(height, width, channels)`` uint8, or float32 from -1e30 to 1e30.
        window: x0, y0, x1, y1 in the frame's pixels, end-exclusive; zeros where it reaches beyond
            the frame.
        side: of the network's square in pixels.
        threads: cores to use at most; 0 is all.

    Returns:
        ``(channels, side, side)`` float32 from 0 to 1; zeros if the window holds one value only.

    Raises:
        ImageError: the frame is not of that shape and dtype, or holds a number that is not finite
            or too large; or the window shows no part of it.
    """
    pixels = checks.frame(frame)
    box = checks.window(window, (pixels.shape[0], pixels.shape[1]))
    if side < 1:
        raise ImageError(f"side must be at least 1, not {side}")
    out = np.empty((pixels.shape[2], side, side), np.float32)
    try:
        _core.frame_input(pixels, box, out, checks.threads(threads))
    except ValueError as error:
        raise ImageError(str(error)) from error
    return out


def masks_to_frame(
    masks: NDArray[np.bool_],
    window: tuple[int, int, int, int],
    size: tuple[int, int],
    *,
    threads: int = 0,
) -> Rle:
    """Resample masks of a window to the pixels of its frame.

    A mask is 0 or 1 at its pixels' centres, interpolated bilinearly at the centres of the frame's
    pixels (beyond the outermost centres the border repeats), and set from one half on. Everything
    is counted in whole numbers, so a half is a half.

    Args:
        masks: ``(n, h, w)`` bool.
        window: x0, y0, x1, y1 in the frame's pixels, end-exclusive, which the masks fill.
        size: height and width of the frame in pixels; outside the window is background.
        threads: cores to use at most; 0 is all.

    Returns:
        ``n`` masks of ``size``; the same pixels if the window is the frame and of the masks' size.

    Raises:
        MaskError: the masks are not of that shape and dtype.
        ImageError: the window shows no part of the frame.
    """
    masks = checks.mask_planes(masks)
    size = mask_size(size)
    offsets = np.zeros(len(masks) + 1, np.int64)
    counts = _core.masks_to_frame(
        masks.view(np.uint8), checks.window(window, size), size, offsets, checks.threads(threads)
    )
    return Rle(counts, offsets, size)
