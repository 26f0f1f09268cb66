"""Ultrasound regions that do not fit their frames, or show another depth than hearts lie in."""

from __future__ import annotations

from dataclasses import replace

from fastseg.imaging import UltrasoundRegion

_SCREENS = frozenset(
    ((640, 480), (720, 576), (768, 576), (800, 600), (1024, 768), (1280, 960), (1280, 1024),
     (1280, 720), (1600, 1200), (1920, 1080))
)  # fmt: skip
"""Width and height of the screens of ultrasound machines."""

_REDUCTIONS = (2, 3, 4)

SHALLOWEST_CM, DEEPEST_CM = 3.0, 30.0
"""Depths that machines for the heart are set to."""


def fit_region(
    region: UltrasoundRegion | None, size: tuple[int, int]
) -> tuple[UltrasoundRegion | None, tuple[str, ...]]:
    """Reduce a region that speaks of a larger screen than its frames (height, width).

    It is reduced only where the frames are a half, third or fourth of a screen that machines have,
    and the region fits that screen; its pixels grow by as much.

    Returns:
        The region, and sentences of caution.
    """
    cautions = []
    if region is not None and region.corners is not None:
        height, width = size
        x0, y0, x1, y1 = region.corners
        factor = next(
            (
                one
                for one in _REDUCTIONS
                if (one * width, one * height) in _SCREENS
                and x1 <= one * width
                and y1 <= one * height
            ),
            None,
        )
        if (x1 > width or y1 > height) and factor is not None:
            region = replace(
                region,
                # Whole pixels that lie inside.
                corners=(
                    -(-x0 // factor),
                    -(-y0 // factor),
                    (x1 + 1) // factor - 1,
                    (y1 + 1) // factor - 1,
                ),
                pixel_cm=_grown(region.pixel_cm, factor),
            )
            cautions.append(
                f"the region is that of a screen {factor * width} x {factor * height}, and the "
                f"frames are {width} x {height}: region and scale were reduced {factor} times"
            )
        if region.kind == "colour flow":
            cautions.append("the region shows colour flow, which the networks have not seen")
    return region, tuple(cautions)


def _grown(pixel_cm: tuple[float, float] | None, factor: int) -> tuple[float, float] | None:
    return None if pixel_cm is None else (factor * pixel_cm[0], factor * pixel_cm[1])


def depth_cautions(depth_cm: float) -> tuple[str, ...]:
    """Return a sentence about a depth that no machine is set to for a heart."""
    if SHALLOWEST_CM <= depth_cm <= DEEPEST_CM:
        return ()
    return (
        f"the frame would be {depth_cm:.1f} cm deep, and hearts are shown {SHALLOWEST_CM:g} to "
        f"{DEEPEST_CM:g} cm deep: its scale is probably wrong",
    )
