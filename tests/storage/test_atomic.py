"""A result is there whole, or not there at all."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from fastseg.errors import OutputError
from fastseg.storage.atomic import atomic_file, atomic_folder
from fastseg.storage.owned import RECORD, UNFINISHED, read_record
from tests.helpers.processes import finish

FULL = OSError(errno.ENOSPC, "No space left on device")


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def written(folder: Path, *names: str) -> Path:
    """Write a folder of files that hold nothing."""
    with atomic_folder(folder) as temporary:
        for name in names:
            (temporary / name).parent.mkdir(exist_ok=True)
            (temporary / name).write_text("")
    return folder


def fill_and_stop(writing, stop: BaseException) -> None:
    """Write something, and then do not get to the end."""
    with writing as place:
        if place.is_dir():
            (place / "sub").mkdir()
            (place / "sub" / "masks.json").write_text("half")
        else:
            place.write_text("half")
        raise stop


def test_a_file_appears_whole_under_its_name_with_its_suffix(tmp_path):
    with atomic_file(tmp_path / "masks.json") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".json"
        temporary.write_text("{}")
        assert not (tmp_path / "masks.json").exists()
    assert below(tmp_path) == ["masks.json"]


def test_a_file_replaces_the_one_before_and_only_when_it_is_done(tmp_path):
    target = tmp_path / "masks.json"
    target.write_text("old")
    with pytest.raises(ValueError, match="stop"):
        fill_and_stop(atomic_file(target), ValueError("stop"))
    assert target.read_text() == "old"
    with atomic_file(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert below(tmp_path) == ["masks.json"]


def test_the_longest_name_that_a_folder_takes_can_be_written(tmp_path):
    with atomic_file(tmp_path / ("x" * 250 + ".json")) as temporary:
        temporary.write_text("{}")
    with atomic_folder(tmp_path / ("y" * 255)):
        pass
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_stays_and_the_file_it_points_to_is_replaced(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    with atomic_file(tmp_path / "link.json") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"


def test_missing_parents_are_made_only_for_what_is_written(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "a" / "b" / "c.json"):
        raise KeyboardInterrupt
    assert below(tmp_path) == []
    with atomic_file(tmp_path / "a" / "b" / "c.json") as temporary:
        temporary.write_text("{}")
    assert below(tmp_path) == ["a", "a/b", "a/b/c.json"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(1), ValueError(), FULL])
def test_nothing_is_left_of_a_block_that_does_not_end(tmp_path, stop):
    for writing in (atomic_file(tmp_path / "masks.json"), atomic_folder(tmp_path / "out")):
        with pytest.raises((type(stop), OutputError)):
            fill_and_stop(writing, stop)
    assert below(tmp_path) == []


def test_a_full_disk_error_names_the_file_and_the_remedy(tmp_path):
    with pytest.raises(OutputError, match=r"masks\.json.*No space left.*make room"):
        fill_and_stop(atomic_file(tmp_path / "masks.json"), FULL)


def test_a_disk_that_fills_up_while_writing_leaves_nothing(tmp_path):
    """The same from the operating system itself, which lets the process write 4 KB a file."""
    program = """
import resource, signal, sys
from pathlib import Path
from fastseg.errors import OutputError
from fastseg.storage.atomic import atomic_file, atomic_folder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
out = Path(sys.argv[1])
for write in (atomic_file, atomic_folder):
    try:
        with write(out / "result") as place:
            (place / "part" if place.is_dir() else place).write_bytes(bytes(100_000))
    except OutputError as error:
        print(error)
"""
    pytest.importorskip("resource", reason="needs POSIX file size limits")
    done = finish([sys.executable, "-c", program, tmp_path])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("File too large") == 2
    assert below(tmp_path) == []


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere"
)
def test_a_folder_without_write_permission_is_an_output_error(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    for write in (atomic_file, atomic_folder):
        with pytest.raises(OutputError, match="Permission denied"), write(closed / "out") as place:
            place.write_text("")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_place_where_nobody_may_write_is_an_output_error():
    for write in (atomic_file, atomic_folder):
        with pytest.raises(OutputError, match="can be written"), write("/proc/out") as place:
            place.write_text("")


def test_a_parent_that_is_a_file_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    for write in (atomic_file, atomic_folder):
        with pytest.raises(OutputError, match="file"), write(tmp_path / "file" / "out") as place:
            place.write_text("")
    assert below(tmp_path) == ["file"]


def test_what_is_no_plain_file_is_never_replaced(tmp_path):
    with pytest.raises(OutputError, match="not a plain file"), atomic_file(tmp_path):
        pass
    with pytest.raises(OutputError, match="not a plain file"), atomic_file(os.devnull):
        pass
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file has this name"), atomic_folder(tmp_path / "file"):
        pass


def test_the_files_of_a_folder_appear_when_the_block_ends_also_where_an_empty_one_is(tmp_path):
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "masks.json").write_text("{}")
        assert {path.name for path in (tmp_path / "out").iterdir()} == {UNFINISHED}
    assert below(tmp_path) == ["out", f"out/{RECORD}", "out/masks.json"]


def test_a_full_folder_is_replaced_on_demand_and_as_a_whole(tmp_path):
    target = written(tmp_path / "out", "sub/old")
    with pytest.raises(OutputError, match="not empty"), atomic_folder(target):
        pass
    assert below(target) == [RECORD, "sub", "sub/old"]
    with atomic_folder(target, replace=True) as temporary:
        (temporary / "new").write_text("")
    assert below(tmp_path) == ["out", f"out/{RECORD}", "out/new"]


def test_the_folder_before_comes_back_when_the_last_rename_fails(tmp_path, monkeypatch):
    target = written(tmp_path / "out", "sub/old", "same")
    before = read_record(target / RECORD)
    rename = Path.replace

    def fails_on_the_last_file(path: Path, to: Path) -> Path:
        if path.name == "z":
            raise FULL
        return rename(path, to)

    monkeypatch.setattr(Path, "replace", fails_on_the_last_file)

    def replace_it() -> None:
        with atomic_folder(target, replace=True) as temporary:
            for name in ("same", "new", "z"):
                (temporary / name).write_text("")

    with pytest.raises(OutputError, match="No space"):
        replace_it()
    assert below(target) == [RECORD, "same", "sub", "sub/old"]
    assert read_record(target / RECORD) == before


def test_files_get_the_permissions_that_the_user_gives_new_files(tmp_path):
    mask = os.umask(0o022)
    try:
        with atomic_file(tmp_path / "file") as temporary:
            temporary.write_text("")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o755


KILLED = """
import os, signal, sys
from fastseg.storage.atomic import atomic_file
with atomic_file(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_beside_a_file_is_removed_an_hour_later(tmp_path):
    for name in ("a.npz", "b.npz"):
        finish([sys.executable, "-c", KILLED, tmp_path / name])
    old, fresh = tmp_path.iterdir()
    os.utime(old, (0, 0))
    others = [".fastseg-0", ".fastseg-files.json", ".fastseg-0123456789abcdef.npz.old", "old.npz"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / ".fastseg-0123456789abcdef").symlink_to(tmp_path / "old.npz")
    kept = {fresh.name, ".fastseg-0123456789abcdef", *others}
    with atomic_file(tmp_path / "c.npz") as temporary:
        temporary.write_bytes(b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "c.npz"}
