"""Only files that fastseg wrote, and knows by name and hash, are replaced or removed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg import artifacts
from fastseg.cli.root import run
from fastseg.errors import OutputError
from fastseg.storage import owned
from fastseg.storage.atomic import atomic_folder
from fastseg.storage.owned import RECORD
from fastseg.testing import tiny_sam_folder


def save_noise(file: Path) -> Path:
    pixels = np.random.default_rng(7).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def contents(folder: Path) -> dict[str, bytes | str]:
    """Read everything below a folder; a link is its target."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = "folder"
    return found


def add_notes(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")


def add_below(folder: Path) -> None:
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "notes.txt").write_text("mine")


def add_empty_folder(folder: Path) -> None:
    (folder / "empty").mkdir()


def add_hidden(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("mine")


def add_link(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent)


def change(folder: Path) -> None:
    (folder / "a").write_text("mine")


def replace_by_link(folder: Path) -> None:
    (folder / "a").rename(folder.parent / "elsewhere")
    (folder / "a").symlink_to(folder.parent / "elsewhere")


def replace_by_folder(folder: Path) -> None:
    (folder / "a").unlink()
    (folder / "a").mkdir()


def replace_folder_by_link(folder: Path) -> None:
    (folder / "sub").rename(folder.parent / "elsewhere")
    (folder / "sub").symlink_to(folder.parent / "elsewhere")


def damage_record(folder: Path) -> None:
    (folder / RECORD).write_text("{")


FOREIGN = {
    add_notes: "notes.txt",
    add_below: "sub/notes.txt",
    add_empty_folder: "empty",
    add_hidden: r"\.git",
    add_link: "link",
    change: "a,",
    replace_by_link: "a,",
    replace_by_folder: "a,",
    replace_folder_by_link: "sub,",
    damage_record: RECORD,
}


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    with atomic_folder(tmp_path / "ours") as temporary:
        (temporary / "a").write_text("a")
        (temporary / "sub").mkdir()
        (temporary / "sub" / "b").write_text("b")
    return tmp_path / "ours"


@pytest.mark.parametrize("alter", FOREIGN)
def test_a_folder_that_holds_anything_else_stays_whole_and_the_thing_is_named(ours, alter):
    alter(ours)
    before = contents(ours.parent)
    with pytest.raises(OutputError, match=FOREIGN[alter]):
        owned.remove(ours)
    with pytest.raises(OutputError, match=FOREIGN[alter]), atomic_folder(ours, replace=True):
        pass
    assert contents(ours.parent) == before


def test_a_file_that_is_put_there_while_the_block_runs_stays(ours):
    before = {**contents(ours), "notes.txt": b"mine"}

    def replace() -> None:
        with atomic_folder(ours, replace=True) as temporary:
            (temporary / "notes.txt").write_text("ours")
            add_notes(ours)

    with pytest.raises(OutputError, match=r"notes\.txt"):
        replace()
    assert contents(ours) == before


def test_nothing_is_removed_through_a_link(ours):
    (ours.parent / "link").symlink_to("ours")
    before = contents(ours.parent)
    with pytest.raises(OutputError, match="is a link"):
        owned.remove(ours.parent / "link")
    with (
        pytest.raises(OutputError, match="is a link"),
        atomic_folder(ours.parent / "link", replace=True),
    ):
        pass
    assert contents(ours.parent) == before


def test_a_record_cannot_name_files_outside_its_folder(ours):
    (ours.parent / "precious").write_text("mine")
    (ours / RECORD).unlink()
    outside = [
        owned.OwnedFile(name, owned.sha256(ours.parent / "precious"))
        for name in ("../precious", str(ours.parent / "precious"))
    ]
    owned.write_record(ours / RECORD, [*owned.describe(ours), *outside])
    owned.remove(ours)
    assert not ours.exists()
    assert (ours.parent / "precious").read_text() == "mine"


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = run([str(word) for word in (*words, "--json")])
    document = json.loads(capsys.readouterr().out)
    return code, document.get("error", {}).get("message", "")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny")


def test_overwrite_keeps_notes_foreign_folders_and_inputs(tiny, tmp_path, capsys) -> None:
    image, out = save_noise(tmp_path / "noise.png"), tmp_path / "out"
    options = ("--model", tiny, "--point", 9, 9, "--out", out)
    assert call(capsys, "segment", image, *options)[0] == 0
    before = contents(out)
    overlay = out / "overlays" / "noise.png"
    for given in (overlay, out / ".." / "out" / "overlays" / "noise.png"):
        code, message = call(capsys, "segment", given, *options, "--overwrite")
        assert (code, "is an input" in message) == (2, True)
    code, message = call(
        capsys, "everything", out / "overlays", "--model", tiny, "--out", out, "--overwrite"
    )
    assert (code, "is an input" in message) == (2, True)
    assert contents(out) == before
    add_notes(out)
    code, message = call(capsys, "segment", image, *options, "--overwrite")
    assert (code, "notes.txt" in message) == (2, True)
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("marker", ["masks.json", "model.json"])
def test_a_marker_file_alone_gives_nothing_away(tiny, tmp_path, capsys, marker) -> None:
    image, data = save_noise(tmp_path / "noise.png"), tmp_path / "data"
    data.mkdir()
    (data / marker).write_text('{"from": "another tool"}')
    add_notes(data)
    before = contents(data)
    place = ("--out", data, "--overwrite")
    assert call(capsys, "segment", image, "--model", tiny, "--point", 9, 9, *place)[0] == 2
    assert call(capsys, "demo", "--model", tiny, "--out", data)[0] == 2
    assert call(capsys, "models", "rm", data, "--yes")[0] == 2
    with pytest.raises(OutputError), artifacts.write(data, overwrite=True) as temporary:
        shutil.copytree(tiny, temporary, dirs_exist_ok=True)
    assert contents(data) == before


def test_a_model_folder_with_notes_is_neither_removed_nor_replaced(tiny, tmp_path, capsys) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny, model)
    (model / RECORD).unlink()  # as an earlier version wrote it
    add_notes(model)
    before = contents(model)
    code, message = call(capsys, "models", "rm", model, "--yes")
    assert (code, "notes.txt" in message) == (2, True)
    with (
        pytest.raises(OutputError, match=r"notes\.txt"),
        artifacts.write(model, overwrite=True),
    ):
        pass
    assert contents(model) == before
    (model / "notes.txt").unlink()
    assert call(capsys, "models", "rm", model, "--yes")[0] == 0
    assert not model.exists()


def test_removing_a_link_to_a_model_says_that_it_is_a_link(tiny, tmp_path, capsys) -> None:
    (tmp_path / "link").symlink_to(tiny)
    code, message = call(capsys, "models", "rm", tmp_path / "link", "--yes")
    assert (code, "is a link" in message) == (2, True)
    assert artifacts.read(tiny).path == tiny
