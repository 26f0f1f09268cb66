"""Model folders with other values in model.json and other bytes in their files."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np

import fastseg
from tools.attack.campaign import (
    BrokenPromiseError,
    Campaign,
    Case,
    Counts,
    packages_missing,
    typed,
)
from tools.attack.mutations import damaged, with_hostile_values

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


class _Folders(Campaign):
    """Attacks on the two tiny models."""

    budget, short_budget = 30.0, 6.0

    def missing(self) -> str:
        """Name the packages that make and run the tiny models."""
        return packages_missing("onnx", "onnxruntime")

    def prepare(self, folder: Path) -> None:
        """Make the two models."""
        from fastseg.testing import tiny_sam_folder, tiny_unet_folder

        self.models = [tiny_sam_folder(folder / "sam"), tiny_unet_folder(folder / "unet")]

    def copy(self, case: Case) -> Path:
        """Copy one of the models into the folder of a case."""
        return Path(
            shutil.copytree(self.models[case.index % len(self.models)], case.folder / "model")
        )


class ManifestFields(_Folders):
    """Values of model.json that nobody wrote; the hashes of the files still hold."""

    name = "model.json, values"
    cases, short_cases = 2400, 200

    def attack(self, case: Case) -> Counts:
        """Load the folder and segment an image."""
        folder = self.copy(case)
        document = json.loads((folder / "model.json").read_text())
        changed = with_hostile_values(document, case.random)
        (folder / "model.json").write_text(json.dumps(changed))
        return typed(lambda: use(folder))


class AlteredFiles(_Folders):
    """Altered files whose hashes in model.json are the old ones, and altered bytes of it."""

    name = "model files, hashes kept"
    cases, short_cases = 3000, 200

    def attack(self, case: Case) -> Counts:
        """Load the folder, which may succeed only if no file but model.json was altered."""
        folder = self.copy(case)
        path = case.random.choice(sorted(folder.iterdir()))
        before = path.read_bytes()
        path.write_bytes(damaged(before, case.random))
        counts = typed(lambda: use(folder))
        listed = path.suffix == ".onnx" and path.read_bytes() != before
        if listed and not counts.refused:
            raise BrokenPromiseError(f"{path.name} was altered, and the model was loaded")
        return counts


class Graphs(_Folders):
    """Altered graphs whose hashes in model.json are right, so that the runtime parses them."""

    name = "graphs, hashes rewritten"
    cases, short_cases = 1600, 100

    def attack(self, case: Case) -> Counts:
        """Load the folder and segment an image."""
        folder = self.copy(case)
        path = case.random.choice(sorted(folder.glob("*.onnx")))
        path.write_bytes(damaged(path.read_bytes(), case.random))
        rehash(folder, path)
        return typed(lambda: use(folder))


def rehash(folder: Path, path: Path) -> None:
    """Write the hash and length of one file into model.json, as an attacker would."""
    document = json.loads((folder / "model.json").read_text())
    graphs = list(document["graphs"].values())
    outside = [one for graph in graphs for one in graph["data"]]
    for stored in (*graphs, *outside, *document.get("weights", {}).values()):
        if stored["file"] == path.name:
            stored["sha256"] = sha256(path.read_bytes()).hexdigest()
            stored["bytes"] = path.stat().st_size
    (folder / "model.json").write_text(json.dumps(document))


def use(folder: Path, backend: str = "onnxruntime") -> None:
    """Load a model and segment one image with it."""
    with fastseg.load(folder, backend=backend, threads=1) as model:
        if isinstance(model, fastseg.Sam):
            model.segment(IMAGE, boxes=[[8, 8, 40, 40]])
        else:
            model.segment(IMAGE)
