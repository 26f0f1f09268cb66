"""Provenance of a result: the model, and the notice that every result carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fastseg.artifacts.manifest import Manifest

NOTICE = "For research use only; not a medical device."


class LoadedModel(Protocol):
    """A model that says what it is and what it runs on."""

    backend: str
    device: str

    @property
    def manifest(self) -> Manifest:
        """What its folder says about it."""

    @property
    def precision(self) -> str:
        """What it computes in."""

    @property
    def runs(self) -> Mapping[str, str]:
        """What runs each graph, in which precision."""

    @property
    def reason(self) -> str:
        """Why these were chosen."""


def of_model(model: LoadedModel) -> dict[str, Any]:
    """Name a loaded model, and the backend, device and precision that it actually runs in."""
    return {
        "model": model.manifest.name,
        "backend": model.backend,
        "device": model.device,
        "precision": model.precision,
        "runs": dict(model.runs),
        "reason": model.reason,
    }
