"""The facts about a model that are known before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """A published weights file, known by its content."""

    file: str
    bytes: int | None
    """None where it is not known."""

    sha256: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The facts about a model that are known before it is loaded."""

    name: str
    family: str
    """Pipeline of the model: ``"sam"`` and ``"ritm"`` take prompts, ``"unet"`` takes frames."""

    description: str
    licence: str
    """Licence of the weights."""

    page: str = ""
    """Page on which its authors describe it and offer the weights."""

    checkpoint: PublishedCheckpoint | None = None
    """The published weights; None for a model that was trained for fastseg."""

    exportable: bool = False
    """True if this version exports the published weights to a model folder."""

    preparation: str = "sam"
    """Preparation of images and prompts of the published weights: a word of ``fastseg export
    --preprocess``."""

    prompts: str = "points, boxes, masks"
    """The kinds of prompts that it takes; empty for a model of frames."""

    modality: str = "photographs"
    """The images that it was trained on."""

    folder: Path | None = None
    """The model folder, for a model that comes with fastseg; ``load`` takes its name."""

    @property
    def embedded(self) -> bool:
        """True if the model comes with fastseg."""
        return self.folder is not None

    @property
    def ran_here(self) -> str:
        """The weights that ran on the machines of this project, in words."""
        return "these weights" if self.embedded else "random weights of its shape"
