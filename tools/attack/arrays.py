"""Damaged files of arrays, and damaged embeddings."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fastseg import Embedding
from fastseg.echo import files as echo_files
from fastseg.geometry import Frame
from tools.attack.campaign import BrokenPromiseError, Campaign, Case, Counts, typed
from tools.attack.images import BOUND, MAX_PIXELS
from tools.attack.mutations import damaged

_HEADERS = (
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000, 3)}",
    "{'descr': '|u1', 'fortran_order': True, 'shape': (-1, 48, 64)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (2**70,)}",
    "{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': ()}",
    "[" * 5000,
    "{'descr': [('a', '|u1', (99999, 99999))], 'fortran_order': False, 'shape': (9,)}",
)


class Arrays(Campaign):
    """Files of ``numpy.save`` and ``numpy.savez``."""

    name = "arrays (.npy, .npz)"
    cases, short_cases = 12_000, 800
    budget, short_budget = 25.0, 6.0
    memory_bound = BOUND

    def prepare(self, folder: Path) -> None:
        """Write a clip in each form."""
        del folder
        clip = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
        self.seeds = []
        for array in (clip, clip[..., 0], clip[0] / np.float32(255), np.asfortranarray(clip[0])):
            plain, packed = io.BytesIO(), io.BytesIO()
            np.save(plain, array)
            np.savez_compressed(packed, image=array)
            self.seeds += [("clip.npy", plain.getvalue()), ("clip.npz", packed.getvalue())]

    def attack(self, case: Case) -> Counts:
        """Read the file as frames."""
        name, content = self.seeds[case.index % len(self.seeds)]
        if case.index < len(_HEADERS):
            name, content = "clip.npy", _with_header(_HEADERS[case.index])
        path = case.folder / name
        path.write_bytes(damaged(content, case.random) if case.index >= len(_HEADERS) else content)
        return typed(lambda: echo_files.read(path, channels=None, max_pixels=MAX_PIXELS))


class Embeddings(Campaign):
    """Files of ``Embedding.save``."""

    name = "embedding files"
    cases, short_cases = 8000, 500
    budget, short_budget = 25.0, 6.0

    def prepare(self, folder: Path) -> None:
        """Save an embedding."""
        rng = np.random.default_rng(0)
        self.saved = Embedding(
            rng.random((256, 2, 2), dtype=np.float32), Frame((30, 40), 32), "0" * 64
        )
        self.saved.save(folder / "a.npz")
        self.content = (folder / "a.npz").read_bytes()

    def attack(self, case: Case) -> Counts:
        """Load the file; what is loaded has to be what was saved."""
        path = case.folder / "a.npz"
        path.write_bytes(damaged(self.content, case.random))
        return typed(lambda: self._load(path))

    def _load(self, path: Path) -> None:
        loaded = Embedding.load(path)
        if not np.array_equal(loaded.features, self.saved.features):
            raise BrokenPromiseError("a damaged embedding was loaded")


def _with_header(header: str) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x02\0" + len(text).to_bytes(4, "little") + text + bytes(64)
