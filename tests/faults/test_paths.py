"""A path that cannot be looked at is a typed error, or, for a cache, an absent one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg import artifacts
from fastseg.artifacts import registry
from fastseg.cli.root import run
from fastseg.errors import FastsegError, ImageError, OutputError
from fastseg.storage.atomic import atomic_file, atomic_folder
from fastseg.storage.paths import is_file, is_folder, names_in
from fastseg.testing import tiny_sam_folder
from tests.helpers.processes import ROOT, finish

BAD_NAMES = ("x" * 300, "nul\0byte", "\ud800")


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that may not be entered, for the superuser too."""
    folder = tmp_path / "closed"
    folder.mkdir()
    for name in ("stat", "lstat", "iterdir", "open", "mkdir"):
        monkeypatch.setattr(Path, name, _refused(getattr(Path, name), folder))
    return folder


def _refused(call: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    def refuse(path: Path, *args: Any, **options: Any) -> Any:
        if folder in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return call(path, *args, **options)

    return refuse


def test_answers_are_typed(tmp_path: Path, closed: Path) -> None:
    assert (is_folder(tmp_path), is_file(tmp_path)) == (True, False)
    (tmp_path / "file").write_text("")
    assert is_file(tmp_path / "file", ImageError)
    assert not is_file(tmp_path / "file" / "below", ImageError)
    assert not is_folder(tmp_path / "absent", ImageError)
    for path in (*(tmp_path / name for name in BAD_NAMES), closed / "a"):
        assert (is_folder(path), is_file(path)) == (False, False)
        for ask in (is_folder, is_file, names_in):
            with pytest.raises(ImageError, match="cannot be looked at"):
                ask(path, ImageError)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_every_entry_refuses_a_bad_name_with_its_own_error(tmp_path: Path, name: str) -> None:
    for call in (
        registry.find,
        artifacts.read,
        artifacts.remove,
        fastseg.load,
        fastseg.read_image,
        fastseg.Embedding.load,
    ):
        with pytest.raises(FastsegError):
            call(tmp_path / name)
    for writing in (atomic_file, atomic_folder, artifacts.write):
        with pytest.raises(OutputError), writing(tmp_path / name):
            pass


@pytest.mark.parametrize(
    "words",
    [
        ("models", "verify", "{}"),
        ("models", "rm", "{}", "--yes"),
        ("everything", "{}"),
        ("segment", "{}", "--box", "1", "1", "9", "9"),
        ("segment", "img.png", "--box", "1", "1", "9", "9", "--model", "{}"),
        ("segment", "img.png", "--box", "1", "1", "9", "9", "--out", "{}"),
        ("segment", "img.png", "--box", "1", "1", "9", "9", "--out", "{}/sub"),
    ],
)
def test_no_verb_ends_in_another_error(tmp_path, monkeypatch, closed, capsys, words) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((30, 40, 3), 100, np.uint8)).save("img.png")
    for path in ("x" * 300, str(closed / "a")):
        code = run([*(word.format(path) for word in words), "--json"])
        document = json.loads(capsys.readouterr().out)
        assert code in (1, 2)
        assert document["exit_code"] == code


def test_a_home_that_cannot_be_entered_is_no_obstacle(tmp_path, monkeypatch, closed) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(closed / "cache"))
    image = np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with fastseg.load(tiny_sam_folder(tmp_path / "tiny")) as model:
        assert len(model.segment(image, boxes=[[1, 1, 20, 20]])) == 3
        cache = fastseg.EmbeddingCache(closed / "embeddings")
        with pytest.warns(RuntimeWarning, match="Permission denied"):
            cache.embed(model, image)


def test_a_working_folder_that_was_removed_is_named(tmp_path) -> None:
    program = """
import os, sys
from fastseg.__main__ import main
os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
sys.exit(main(sys.argv[1:]))
"""
    calls = (("doctor",), ("demo", "--out", "o"), ("everything", "a.png"), ("models", "rm", "m"))
    for words in calls:
        done = finish(
            [sys.executable, "-c", program, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert "Traceback" not in done.stderr
        assert done.returncode in (1, 2)
        assert len(done.stderr.splitlines()) == 1
        assert "standard output" not in done.stderr
