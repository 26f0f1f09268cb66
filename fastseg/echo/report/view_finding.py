"""The view of frames that nobody named, found by the networks of all views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastseg.echo.findings import Place, find
from fastseg.echo.frames import FrameChannels, read_frame
from fastseg.echo.report.view_check import CLEARLY, expected_iou, layout_doubts
from fastseg.echo.views import VIEWS
from fastseg.errors import MeasurementError
from fastseg.masks import Masks
from fastseg.measure import FIELD_OF_VIEW_CM

if TYPE_CHECKING:
    from fastseg.echo.unet import Unet

FOUND_BY_NETWORKS = "view found by the networks, not stated by the file"
"""The caution of everything that is made from frames whose view was found."""

COMPARED_FRAMES = 15
"""Frames of a clip, evenly apart, that are compared with the views."""

BEYOND_SHORT_AXIS = 0.05
"""Mean IoU by which an apical network must expect better masks than that of the short axis."""

RIGHT_HEART_SHOWN, RIGHT_HEART_MISSED = 0.6, 0.42
"""Expected IoU of RA and RV from which they are there, and up to which they are not."""

LEAST_FOUR_CHAMBER_FIT, LEAST_CHAMBER_FIT = 0.65, 0.6
"""Expected IoU: mean of the four chambers, and of each chamber of the other views."""

_BRIGHTENING = 0.5  # exponent of the luma: the right heart is often too dark to be drawn


def find_view(
    frames: Sequence[NDArray[Any]],
    network: Callable[[str], Unet],
    *,
    channels: FrameChannels = "rgb",
    cm_per_pixel: float | None = None,
    max_pixels: int | None = None,
) -> str:
    """Find the view of a clip by the networks of all views.

    Each network draws up to 15 frames, whose luma is brightened by a square root; ``view_of``
    compares the masks. The networks know three views and no others: what a person says comes first.

    Args:
        frames: Frames of one clip, each (H, W), (H, W, 1) or (H, W, 3), as ``Unet.stream`` takes.
        network: Returns the network of a view by its name.
        channels: Order of the channels.
        cm_per_pixel: Side of a pixel in cm; None is 20 cm for the longer side.
        max_pixels: Largest height x width; None for no limit.

    Raises:
        ImageError: A frame cannot be read.
        MeasurementError: There are no frames, or no view clearly fits.
    """
    if not len(frames):
        raise MeasurementError("a view is found in frames, and there are none.")
    some = np.linspace(0, len(frames) - 1, min(len(frames), COMPARED_FRAMES)).round().astype(int)
    bright = [
        _brightened(read_frame(frames[at], wanted=3, channels=channels, max_pixels=max_pixels))
        for at in some.tolist()
    ]
    return view_of(
        {
            view: list(network(view).stream(bright, channels="ycbcr", cm_per_pixel=cm_per_pixel))
            for view in VIEWS
        }
    )


def view_of(seen: Mapping[str, Sequence[Masks]]) -> str:
    """Return the view that clearly fits the masks of the same frames by the network of each view.

    The mean expected IoU tells the short axis from the apical views. Both apical networks draw the
    left heart wherever they see it, so these two are told apart by the right heart: RA and RV by
    the network of four chambers. ``docs/echo.md`` says how often this is right.

    Args:
        seen: Masks of the frames by the network of each view, all views.

    Raises:
        MeasurementError: A network's masks are missing, or no view clearly fits.
    """
    if missing := [view for view in VIEWS if not seen.get(view)]:
        raise MeasurementError(f"masks of the network for {missing[0]} are needed to compare with.")
    fits = {view: expected_iou(seen[view]) for view in VIEWS}
    told = ", ".join(f"{view} {fit:.2f}" for view, fit in fits.items())
    apical = max(fits["a2c"], fits["a4c"])
    if fits["sax"] > apical + CLEARLY and _shows_each_chamber("sax", seen):
        return "sax"
    if apical > fits["sax"] + BEYOND_SHORT_AXIS:
        right_heart = expected_iou([masks[_right_heart(masks)] for masks in seen["a4c"]])
        if right_heart >= RIGHT_HEART_SHOWN and fits["a4c"] >= LEAST_FOUR_CHAMBER_FIT:
            if _lies_right("a4c", seen):
                return "a4c"
        elif (
            right_heart <= RIGHT_HEART_MISSED
            and _shows_each_chamber("a2c", seen)
            and _lies_right("a2c", seen)
        ):
            return "a2c"
    raise MeasurementError(f"no view clearly fits the frames (expected mean IoU: {told}).")


def _brightened(frame: NDArray[Any]) -> NDArray[np.float32]:
    """Return luma and chroma 0..1, the luma to the power of ``_BRIGHTENING``."""
    bright: NDArray[np.float32] = frame.astype(np.float32)
    if frame.dtype == np.uint8:
        bright /= 255
    bright[..., 0] **= _BRIGHTENING
    return bright


def _right_heart(masks: Masks) -> list[int]:
    """Return the positions of the right heart's chambers among the masks."""
    return [(masks.names or ()).index(name) for name in ("RA", "RV")]


def _shows_each_chamber(view: str, seen: Mapping[str, Sequence[Masks]]) -> bool:
    least = np.median([masks.scores for masks in seen[view]], axis=0).min()
    return bool(least >= LEAST_CHAMBER_FIT)


def _lies_right(view: str, seen: Mapping[str, Sequence[Masks]]) -> bool:
    """Tell if the chambers lie as they do in the view; scale does not matter for it."""
    findings = [
        one
        for number, masks in enumerate(seen[view])
        for one in find(masks, Place(view, number), cm_per_pixel=FIELD_OF_VIEW_CM / max(masks.size))
    ]
    return not any(layout_doubts(findings))
