"""Protocols of the studies: how prompts come from truth, and which mask is scored."""

from collections.abc import Mapping

from fastseg.evaluation.protocols.base import Protocol, Row, Scored
from fastseg.evaluation.protocols.boxes import Boxes
from fastseg.evaluation.protocols.centroid import Centroid
from fastseg.evaluation.protocols.everything import Everything
from fastseg.evaluation.protocols.modes import Modes
from fastseg.evaluation.protocols.phases import Phases
from fastseg.evaluation.protocols.points import Points

BY_NAME: Mapping[str, type[Protocol]] = {
    kind.name: kind for kind in (Points, Modes, Centroid, Phases, Boxes, Everything)
}
"""Every protocol by its name."""

__all__ = [
    "BY_NAME",
    "Boxes",
    "Centroid",
    "Everything",
    "Modes",
    "Phases",
    "Points",
    "Protocol",
    "Row",
    "Scored",
]
