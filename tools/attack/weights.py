"""Weights: safetensors, checkpoints of torch and Keras, and pickles that would run code."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import fastseg
from fastseg.artifacts import safetensors
from tools.attack.campaign import (
    BrokenPromiseError,
    Campaign,
    Case,
    Counts,
    packages_missing,
    typed,
)
from tools.attack.model_folders import rehash, use
from tools.attack.mutations import damaged, with_hostile_values

REMEDY = "Give another file."

_EMBEDDED = Path(fastseg.__file__).parent / "models" / "sam-nano"


def _altered(content: bytes, case: Case) -> bytes:
    """Change bytes of a safetensors file, or values of its header."""
    if case.random.random() < 0.5:
        return damaged(content, case.random)
    end = 8 + int.from_bytes(content[:8], "little")
    header = with_hostile_values(json.loads(content[8:end]), case.random)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + content[end:]


class Safetensors(Campaign):
    """Files of arrays that native kernels read."""

    name = "safetensors"
    cases, short_cases = 20_000, 1500
    budget, short_budget = 15.0, 6.0

    def prepare(self, folder: Path) -> None:
        """Write a small file."""
        rng = np.random.default_rng(0)
        arrays = {f"layer.{i}": rng.random((i + 1, 5), dtype=np.float32) for i in range(6)}
        safetensors.write(folder / "weights.safetensors", arrays, lossless_fp16=True)
        self.content = (folder / "weights.safetensors").read_bytes()

    def attack(self, case: Case) -> Counts:
        """Read the file and its header."""
        path = case.folder / "weights.safetensors"
        path.write_bytes(_altered(self.content, case))
        return typed(lambda: safetensors.entries(path)) + typed(lambda: safetensors.read(path))


class NativeWeights(Campaign):
    """Altered weights of the native decoder of the embedded model, with right hashes."""

    name = "weights of the native decoder"
    cases, short_cases = 160, 8
    budget, short_budget = 30.0, 6.0

    def missing(self) -> str:
        """Name the runtime of the encoder."""
        return "" if find_spec("onnxruntime") else "needs onnxruntime"

    def attack(self, case: Case) -> Counts:
        """Load the model, and segment an image if that succeeds."""
        folder = Path(shutil.copytree(_EMBEDDED, case.folder / "model"))
        path = folder / "decoder.safetensors"
        path.write_bytes(_altered(path.read_bytes(), case))
        rehash(folder, path)
        return typed(lambda: use(folder, "native"))


class Checkpoints(Campaign):
    """Damaged checkpoints of each format."""

    name = "checkpoints (.pth, .safetensors, .h5)"
    cases, short_cases = 6000, 200
    budget, short_budget = 40.0, 6.0

    def missing(self) -> str:
        """Name the packages of the export."""
        return packages_missing("torch", "safetensors", "h5py")

    def prepare(self, folder: Path) -> None:
        """Write a small checkpoint of each format."""
        import torch
        from safetensors.torch import save_file

        from tests.helpers import keras_unet

        weights = {f"layer.{i}.weight": torch.ones(i + 1, 3) for i in range(4)}
        torch.save({"model": weights}, folder / "zip.pth")
        torch.save(weights, folder / "old.pth", _use_new_zipfile_serialization=False)
        save_file(weights, folder / "a.safetensors")
        keras_unet.write(folder / "a.h5", keras_unet.unet(1, 2, width=1), whole=True)
        self.seeds = [folder / name for name in ("zip.pth", "old.pth", "a.safetensors", "a.h5")]

    def attack(self, case: Case) -> Counts:
        """Read the weights as the exports do."""
        seed = self.seeds[case.index % len(self.seeds)]
        path = case.folder / seed.name
        path.write_bytes(damaged(seed.read_bytes(), case.random))
        return typed(lambda: _read(path))


class Pickles(Campaign):
    """Pickles that would write a file if they were executed, under names of checkpoints."""

    name = "pickles that would run code"
    cases, short_cases = 40, 40
    budget, short_budget = 20.0, 10.0

    def missing(self) -> str:
        """Name the packages of the export."""
        return Checkpoints().missing()

    def attack(self, case: Case) -> Counts:
        """Give the file to the readers, which have to refuse it unexecuted."""
        from fastseg.export.checkpoints import sam, unet

        marker = case.folder / "executed"
        suffix = (".pth", ".pt", ".safetensors", ".h5")[case.index % 4]
        content = pickle.dumps(_Opens(marker), protocol=case.index // 4 % 5)
        path = case.folder / f"weights{suffix}"
        path.write_bytes(_archive(content) if case.index >= 20 else content)
        refused = [
            typed(lambda: sam.read(path)),
            typed(lambda: unet.read_unet_weights(path, "a4c")),
        ]
        if marker.exists():
            raise BrokenPromiseError("a checkpoint ran code")
        if not all(counts.refused for counts in refused):
            raise BrokenPromiseError("a pickle of code was accepted as weights")
        return refused[0] + refused[1]


class _Opens:
    """Object whose pickle opens a file for writing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self._path), "w")


def _archive(content: bytes) -> bytes:
    """Put a pickle where torch.save puts its own."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return stream.getvalue()


def _read(path: Path) -> None:
    from fastseg.export.checkpoints import files, keras

    if path.suffix == ".h5":
        keras.read(path, remedy=REMEDY)
        return
    weights = files.unwrap(path, files.load(path, remedy=REMEDY), remedy=REMEDY)
    files.check_values(path, weights)
