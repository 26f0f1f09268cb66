"""The views of the heart that the U-Net is trained for: what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fastseg.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class EchoView:
    """Input and output of a view's network."""

    channels: int
    """3: luma and chroma; 1: luma alone."""

    classes: tuple[str, ...]
    """What each output channel shows, in order."""


VIEWS: Mapping[str, EchoView] = MappingProxyType(
    {
        "a2c": EchoView(3, ("union", "LA", "LV")),
        "a4c": EchoView(3, ("union", "LA", "LV", "RA", "RV")),
        "sax": EchoView(1, ("cavity", "ring", "disc")),
    }
)
"""Apical two and four chambers, and the short axis at mid-ventricle."""


def find(view: str) -> EchoView:
    """The view of that name.

    Raises:
        CheckpointError: There is none.
    """
    if view not in VIEWS:
        raise CheckpointError(f"there is no view {view!r}. The views are {', '.join(VIEWS)}")
    return VIEWS[view]


def described(view: str) -> str:
    """A view by its sizes, for messages: ``"a4c (3 channels in, 5 out)"``."""
    found = VIEWS[view]
    return f"{view} ({found.channels} channels in, {len(found.classes)} out)"
