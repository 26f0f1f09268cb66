"""A SAM-shaped model folder that prepares, prompts and draws as MedSAM does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastseg import artifacts
from fastseg.artifacts.manifest import to_json
from fastseg.export.checkpoints.preparations import PREPARATIONS


def with_medsam_rules(folder: Path) -> Path:
    """Give the folder MedSAM's preparation, at its own side; return it."""
    manifest = artifacts.read(folder).manifest
    medsam = PREPARATIONS["medsam"]
    preprocessing = replace(medsam.preprocessing, side=manifest.preprocessing.side)
    changed = replace(manifest, preprocessing=preprocessing, rules=medsam.rules)
    (folder / artifacts.MANIFEST_FILE).write_text(to_json(changed))
    return folder
