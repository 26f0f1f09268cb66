"""Results are written into the folder that was given, which stays what it was."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from fastseg import EmbeddingCache, results
from fastseg.errors import OutputError
from fastseg.storage.atomic import atomic_file, atomic_folder
from fastseg.storage.owned import RECORD, UNFINISHED
from tests.helpers.processes import finish, running

WRITER = """
import os, signal, sys, time
from pathlib import Path
from fastseg.storage import staging
from fastseg.storage.atomic import atomic_folder
moves, stop, kill = [], int(sys.argv[2]), staging._move
def move(source, place):
    if len(moves) == stop:
        os.kill(os.getpid(), signal.SIGKILL)
    moves.append(place)
    kill(source, place)
staging._move = move
with atomic_folder(sys.argv[1], replace=True) as temporary:
    for name in ("new", "same", "changed"):
        (temporary / name).write_text("same" if name == "same" else "new")
    if stop < 0:
        print("ready", flush=True)
        time.sleep(600)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def write(folder: Path | str, **files: str) -> None:
    with atomic_folder(folder) as temporary:
        for name, text in files.items():
            (temporary / name).write_text(text)


def test_the_folder_keeps_its_mode_group_and_inode(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o2700)
    before = out.stat()
    write(out, a="1")
    after = out.stat()
    assert stat.S_IMODE(after.st_mode) == stat.S_IMODE(before.st_mode)
    assert (after.st_ino, after.st_gid) == (before.st_ino, before.st_gid)
    assert names(out) == {"a", RECORD}


def test_nothing_is_made_beside_the_folder(tmp_path):
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out"):
        assert names(tmp_path) == {"out"}


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere"
)
def test_a_folder_in_a_parent_that_cannot_be_written_is_written(tmp_path):
    (tmp_path / "out").mkdir()
    tmp_path.chmod(0o500)
    try:
        write(tmp_path / "out", a="1")
    finally:
        tmp_path.chmod(0o700)


def test_the_working_folder_can_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = Path().stat().st_ino
    write(".", a="1")
    assert Path().stat().st_ino == here
    assert names(Path()) == {"a", RECORD}


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path))
    write("~/out", a="1")
    with atomic_file("~/file") as temporary:
        temporary.write_text("")
    with results.write("~/results", {}):
        pass
    results.refuse_foreign(Path("~/results"))
    cache = EmbeddingCache("~/cache")
    assert cache._folder is not None
    assert cache._folder.folder == tmp_path / "cache"
    assert names(tmp_path) == {"work", "out", "file", "results"}
    assert names(tmp_path / "work") == set()


@pytest.mark.parametrize("stop", range(9))
def test_a_folder_whose_writer_was_killed_is_as_before_or_complete(tmp_path, stop):
    """The moves are: the record, two files before; three new files, the record."""
    out = tmp_path / "out"
    write(out, same="same", changed="old")
    done = finish([sys.executable, "-c", WRITER, out, str(stop)])
    assert done.returncode == (0 if stop >= 7 else -signal.SIGKILL)
    if stop and stop < 7:
        assert not (out / RECORD).exists(), "a folder without a record is not complete"
    with pytest.raises(OutputError, match="not empty"), atomic_folder(out):
        pass
    kept = {path.name: path.read_text() for path in out.iterdir() if path.name != RECORD}
    after = {"new": "new", "same": "same", "changed": "new"}
    assert kept == ({"same": "same", "changed": "old"} if stop < 7 else after)
    with atomic_folder(out, replace=True):
        pass
    assert names(out) == {RECORD}


@pytest.mark.parametrize("stop", range(4))
def test_what_a_killed_writer_left_in_a_new_folder_is_removed(tmp_path, stop):
    out = tmp_path / "out"
    finish([sys.executable, "-c", WRITER, out, str(stop)])
    assert UNFINISHED in names(out)
    write(out, a="1")
    assert names(out) == {"a", RECORD}


def test_two_writers_of_a_folder_do_not_mix(tmp_path):
    out = tmp_path / "out"
    with running([sys.executable, "-c", WRITER, out, "-1"]) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        with pytest.raises(OutputError, match="another process is writing"):
            write(out, a="1")
    write(out, a="1")
    assert names(out) == {"a", RECORD}


def test_files_of_others_in_the_unfinished_folder_are_not_removed(tmp_path):
    (tmp_path / UNFINISHED).mkdir()
    (tmp_path / UNFINISHED / "thesis").write_text("mine")
    with pytest.raises(OutputError, match="thesis"):
        write(tmp_path, a="1")
    assert (tmp_path / UNFINISHED / "thesis").read_text() == "mine"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_process_that_is_told_to_end_leaves_nothing(tmp_path, number):
    program = """
import os, sys
from fastseg import __main__ as command
import fastseg.cli.root as root
from fastseg.storage.atomic import atomic_folder
def run(argv):
    with atomic_folder(argv[0]) as temporary:
        (temporary / "half").write_text("")
        os.kill(os.getpid(), int(argv[1]))
root.run = run
sys.exit(command.main(sys.argv[1:]))
"""
    done = finish([sys.executable, "-c", program, tmp_path / "out", str(int(number))])
    assert done.returncode == 128 + number
    assert names(tmp_path) == set()
