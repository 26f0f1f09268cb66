"""A check that frames look like the view that they are called."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from fastseg.echo.findings import Finding
from fastseg.echo.views import VIEWS
from fastseg.errors import MeasurementError
from fastseg.masks import Masks

CLEARLY = 0.1
"""IoU by which the network of another view must expect better masks before a caution is given."""

_MOSTLY = 0.5  # share of the frames that must lie otherwise before a caution is given
_ABOVE = (("LV", "LA"), ("RV", "RA"))
_LEFT_OF = (("RV", "LV"), ("RA", "LA"))


def view_doubt(view: str, seen: Mapping[str, Sequence[Masks]]) -> str:
    """Say that frames look more like another view than like the one they are called.

    The networks of all views draw the same frames. That of the right view expects better masks:
    the mean over its chambers of the median over the frames of ``Masks.scores``. Of 30 published
    frames with known views one was doubted under its own name, in which the network found no
    atrium; under wrong names 52 of 60 were.

    Args:
        view: The view that the frames are called.
        seen: Masks of the same frames by the network of each view.

    Returns:
        A sentence; empty if no other view fits better by ``CLEARLY``.

    Raises:
        MeasurementError: There are no masks by the network of the view itself.
    """
    if view not in seen or not seen[view]:
        raise MeasurementError(f"the masks of the network for {view} are needed to compare with.")
    fits = {name: expected_iou(masks) for name, masks in seen.items() if masks}
    best = max(fits, key=lambda name: fits[name])
    if not fits[best] > fits[view] + CLEARLY:
        return ""
    return (
        f"the frames called {view} look more like {best}, the {VIEWS[best].title}: the network of "
        f"{best} expects a mean IoU of {fits[best]:.2f}, that of {view} {fits[view]:.2f}"
    )


def expected_iou(masks: Sequence[Masks]) -> float:
    """Compute the mean over the chambers of the median expected IoU over the frames."""
    return float(np.median([one.scores for one in masks], axis=0).mean())


def layout_doubts(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield a sentence for each view whose chambers do not lie as they do in that view.

    In the apical views ventricles lie above atria, and in that of four chambers the right heart
    lies at the left of the image; the networks have seen no others. A sentence is given where two
    chambers lie otherwise in more than half of the frames that show both.
    """
    frames: dict[str, dict[tuple[str, int], dict[str, tuple[float, float]]]] = {}
    for one in findings:
        centre, place = one.measurement.centroid_px, one.place
        if not math.isnan(centre[0]):
            frames.setdefault(place.view, {}).setdefault((place.clip, place.frame), {})[
                one.measurement.name
            ] = centre
    for view, chambers in frames.items():
        wrong = [
            *_wrong(chambers.values(), _ABOVE, 1, "below"),
            *_wrong(chambers.values(), _LEFT_OF, 0, "right of"),
        ]
        if wrong:
            yield (
                f"the frames called {view} do not look like the {VIEWS[view].title}: "
                f"{' and '.join(wrong)}. The image may be turned, mirrored or of another view"
            )


def _wrong(
    frames: Iterable[Mapping[str, tuple[float, float]]],
    pairs: Sequence[tuple[str, str]],
    axis: int,
    words: str,
) -> Iterator[str]:
    shown = list(frames)
    for first, second in pairs:
        both = [one for one in shown if first in one and second in one]
        count = sum(one[first][axis] > one[second][axis] for one in both)
        if count > _MOSTLY * len(both):
            yield f"{first} lies {words} {second}"
