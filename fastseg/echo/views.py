"""The views of the heart that the U-Nets are trained for: their channels, classes and chambers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fastseg.errors import CheckpointError

UNION = "union"
"""The class that is no chamber but all of them; chambers beside it exclude each other."""

RING, DISC, CAVITY = "ring", "disc", "cavity"
"""The wall of a ventricle in the short axis, and the two outlines that it lies between."""


@dataclass(frozen=True, slots=True)
class EchoView:
    """Input and output of a view's network."""

    title: str
    """The view in words."""

    channels: int
    """3: luma and chroma; 1: luma alone."""

    classes: tuple[str, ...]
    """Names of the output channels, in order."""

    @property
    def chambers(self) -> tuple[str, ...]:
        """Names of the masks, in order: the classes without the union."""
        return tuple(name for name in self.classes if name != UNION)


VIEWS: Mapping[str, EchoView] = MappingProxyType(
    {
        "a2c": EchoView("apical two-chamber view", 3, (UNION, "LA", "LV")),
        "a4c": EchoView("apical four-chamber view", 3, (UNION, "LA", "LV", "RA", "RV")),
        "sax": EchoView("short-axis view", 1, (CAVITY, RING, DISC)),
    }
)
"""Apical two and four chambers, and the short axis at mid-ventricle, by name."""


CODES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("SCT", "399232001"): "a2c",
        ("SCT", "399214001"): "a4c",
        ("SCT", "399271003"): "sax",
        ("SRT", "G-A19B"): "a2c",
        ("SRT", "G-A19C"): "a4c",
        ("SRT", "G-039B"): "sax",
        ("SNM3", "G-A19B"): "a2c",
        ("SNM3", "G-A19C"): "a4c",
        ("SNM3", "G-039B"): "sax",
    }
)
"""View by scheme and value of the code in a DICOM header (PS3.16, CID 12226)."""


def find(view: str) -> EchoView:
    """Return the view of that name.

    Raises:
        CheckpointError: There is none.
    """
    if view not in VIEWS:
        raise CheckpointError(f"there is no view {view!r}. The views are {', '.join(VIEWS)}")
    return VIEWS[view]


def described(view: str) -> str:
    """Describe a view by its sizes, for messages: ``"a4c (3 channels in, 5 out)"``."""
    found = VIEWS[view]
    return f"{view} ({found.channels} channels in, {len(found.classes)} out)"
