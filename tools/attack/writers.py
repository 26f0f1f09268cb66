"""Writers to be killed or starved: ``python -m tools.attack.writers KIND MODEL FOLDER [often]``.

A writer ends with 0 when it has written, 3 when a typed error says that it has not, and by a
traceback for any other error. With ``often`` it prints a line and writes until it is killed.
"""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

import fastseg
from fastseg import artifacts
from fastseg.artifacts.folder import MANIFEST_FILE
from fastseg.cli import root
from fastseg.errors import FastsegError
from fastseg.storage.owned import RECORD, UNFINISHED, owned_files, read_record
from tools.attack.campaign import require

REFUSED = 3
NOTES = "notes.txt"
"""A file of the user beside what is written."""

IMAGE = "image.png"
"""The image of ``results``, beside the model."""

HIDDEN = ".fastseg-"
"""Beginning of the names of unfinished files."""

_IMAGES = 6


def write_image(folder: Path) -> None:
    """Write the image of ``results``."""
    Image.fromarray(_image(0)).save(folder / IMAGE)


def results(model: Path, folder: Path) -> None:
    """Write a result folder by the command line."""
    image = model.parent / IMAGE
    words = ["everything", image, "--model", model, "--points-per-side", 4, "--out", folder / "out"]
    code = root.run([*map(str, words), "--pred-iou-thresh", "0.5", "--overwrite"])
    if code:
        sys.exit(REFUSED)


def model_folder(model: Path, folder: Path) -> None:
    """Write a model folder."""
    with artifacts.write(folder / "out", overwrite=True) as temporary:
        for path in model.iterdir():
            if path.name != RECORD:
                shutil.copy(path, temporary)


def embedding(model: Path, folder: Path) -> None:
    """Write an embedding to a file."""
    with fastseg.load(model, backend="onnxruntime", threads=1) as loaded:
        made = loaded.embed(_image(0))
        for _ in range(_IMAGES):
            made.save(folder / "out.npz")


def cache(model: Path, folder: Path) -> None:
    """Write embeddings to a cache; one that cannot be written is a warning."""
    with fastseg.load(model, backend="onnxruntime", threads=1) as loaded:
        embeddings = fastseg.EmbeddingCache(folder / "out")
        embeddings.clear()
        for seed in range(_IMAGES):
            embeddings.embed(loaded, _image(seed))


WRITERS: Mapping[str, Callable[[Path, Path], None]] = {
    "results": results,
    "model": model_folder,
    "embedding": embedding,
    "cache": cache,
}


def check(kind: str, folder: Path, *, complete: bool, killed: bool = False) -> None:
    """Check that what is in a folder is whole, or absent unless ``complete``.

    A writer that was killed may leave hidden files, and a folder that has no record yet.

    Raises:
        BrokenPromiseError: It is not.
    """
    require((folder / NOTES).read_text() == NOTES, "a file of the user stays as it was")
    hidden = [path for path in folder.rglob(f"{HIDDEN}*") if path.name != RECORD]
    require(killed or not hidden, f"nothing unfinished is left, but {hidden}")
    out = folder / "out"
    if kind in ("results", "model"):
        there = out.exists() and any(path.name != UNFINISHED for path in out.iterdir())
        recorded = read_record(out / RECORD) is not None
        require(killed or recorded == there, "a folder is complete or absent")
        require(recorded or not complete, "the folder was written")
        if recorded:
            listed = {one.file for one in read_record(out / RECORD) or ()}
            found = {one.file for one in owned_files(out, without=UNFINISHED)}
            require(found == listed, "a folder with a record holds all of its files")
            _read(kind, out)
    for path in [folder / "out.npz", *out.glob("[!.]*.npz")]:
        if path.exists():
            fastseg.Embedding.load(path)
    if complete and kind == "cache":
        require(len(list(out.glob("[!.]*.npz"))) == _IMAGES, "all embeddings were written")
    require(not complete or kind != "embedding" or (folder / "out.npz").exists(), "it was written")


def _read(kind: str, out: Path) -> None:
    if kind == "model":
        artifacts.read(out)
        require((out / MANIFEST_FILE).exists(), "a model folder holds its manifest")
        return
    for name in ("masks.json", "results.json"):
        json.loads((out / name).read_text(encoding="utf-8"))


def _image(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def main(kind: str, model: str, folder: str, often: str = "") -> int:
    """Write once, or until the process is killed."""
    warnings.simplefilter("ignore")
    write = WRITERS[kind]
    try:
        write(Path(model), Path(folder))
        print("ready", flush=True)
        while often:
            write(Path(model), Path(folder))
    except FastsegError as error:
        print(error, file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
