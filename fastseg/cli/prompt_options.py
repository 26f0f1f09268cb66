"""The check of the boxes, points and labels that a command takes as options."""

from __future__ import annotations

from collections.abc import Sequence

import click

Box = tuple[float, float, float, float]
Point = tuple[float, float]


def check_prompts(boxes: Sequence[Box], points: Sequence[Point], labels: Sequence[int]) -> None:
    """Refuse options that are no prompt, or of which it is not clear what belongs to what.

    Raises:
        click.UsageError: There is no prompt, or the options are ambiguous.
    """
    if not boxes and not points:
        raise click.UsageError("give at least one --box x0 y0 x1 y1 or --point x y")
    if len(boxes) > 1 and points:
        raise click.UsageError(
            f"{len(boxes)} boxes and {len(points)} points: it is not clear which box the points "
            "belong to. Give one --box with its points; for several, call once for each"
        )
    if labels and len(labels) != len(points):
        raise click.UsageError(
            f"{len(points)} points and {len(labels)} labels: give each --point one --label, or none"
        )
