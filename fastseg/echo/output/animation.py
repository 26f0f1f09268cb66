"""A clip with its chambers drawn in as a animation."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Literal, TypeAlias

from PIL import Image

from fastseg.errors import OutputError
from fastseg.inputs.numbers import one_of, real_number

AnimationFormat: TypeAlias = Literal["webp", "gif"]

UNKNOWN_FRAME_MS = 40.0
"""Time that a frame is shown where the clip does not say how far its frames are apart."""

_SHORTEST_MS, _LONGEST_MS = 20.0, 1000.0  # viewers slow down what is faster
_QUALITY = 72


def animation(
    frames: Iterable[Image.Image],
    *,
    frame_ms: float | None = None,
    format: AnimationFormat = "webp",  # noqa: A002 - as Pillow calls it
) -> bytes:
    """Encode drawn frames of one size as an endless animation.

    Args:
        frames: RGB images.
        frame_ms: Time between frames; None shows 25 a second.
        format: ``"webp"``, or ``"gif"``, which is larger and has 256 colours.

    Raises:
        OutputError: There is no frame, or no such format.
    """
    one_of(format, ("webp", "gif"), "format", OutputError)
    time = UNKNOWN_FRAME_MS if frame_ms is None else frame_ms
    time = real_number(time, "frame_ms", OutputError, positive=True)
    duration = round(min(max(time, _SHORTEST_MS), _LONGEST_MS))
    shown = list(frames)
    if not shown:
        raise OutputError("a clip without frames cannot be drawn. Give at least one.")
    stream = BytesIO()
    options = {"save_all": True, "append_images": shown[1:], "duration": duration, "loop": 0}
    if format == "gif":
        shown[0].save(stream, "GIF", **options)
    else:
        # The fastest method: a clip is looked at once, and 65 frames take a second.
        shown[0].save(stream, "WEBP", quality=_QUALITY, method=0, **options)
    return stream.getvalue()
