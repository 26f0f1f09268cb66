"""A folder of what can be made again: never too large, never half there, never in the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fastseg.errors import OutputError
from fastseg.storage.cache import CacheFolder, user_cache_folder


@pytest.fixture
def kept(tmp_path) -> CacheFolder:
    return CacheFolder(tmp_path / "cache", 100, ".kept")


def put(kept: CacheFolder, key: str, length: int = 40) -> None:
    kept.put(key, lambda path: path.write_bytes(key[:1].encode() * length))


def get(kept: CacheFolder, key: str) -> bytes | None:
    return kept.get(key, Path.read_bytes)


def test_what_was_kept_is_found_and_nothing_else(kept):
    assert get(kept, "a") is None
    put(kept, "a")
    assert get(kept, "a") == b"a" * 40
    assert get(kept, "b") is None
    assert kept.bytes == 40


def test_a_key_that_is_kept_again_is_replaced(kept):
    put(kept, "a", 40)
    put(kept, "a", 10)
    assert get(kept, "a") == b"a" * 10
    assert kept.bytes == 10


def test_what_was_not_used_for_longest_goes_first(kept):
    put(kept, "a")
    put(kept, "b")
    get(kept, "a")
    put(kept, "c")
    assert [get(kept, key) is not None for key in "abc"] == [True, False, True]
    put(kept, "d")
    assert [get(kept, key) is not None for key in "abcd"] == [False, False, True, True]


def test_the_folder_is_never_larger_than_its_limit(kept):
    for number in range(20):
        put(kept, f"{number}", 5 * number)
        assert kept.bytes <= 100


def test_a_file_larger_than_the_limit_is_not_kept(kept):
    put(kept, "a", 101)
    assert get(kept, "a") is None
    assert kept.bytes == 0


def test_what_a_reader_refuses_is_removed(kept):
    def refuse(path: Path) -> bytes:
        raise ValueError("damaged")

    put(kept, "a")
    assert kept.get("a", refuse) is None
    assert list(kept.folder.iterdir()) == []


def test_files_of_others_are_neither_counted_nor_removed(kept):
    put(kept, "a")
    (kept.folder / "letter.txt").write_bytes(b"x" * 1000)
    put(kept, "b")
    kept.clear()
    assert [path.name for path in kept.folder.iterdir()] == ["letter.txt"]


def test_old_temporary_files_go_and_fresh_ones_stay(kept):
    put(kept, "a")
    left, written = (kept.folder / f".fastseg-{digit * 16}.kept" for digit in "01")
    for path in (left, written):
        path.write_bytes(b"x" * 90)
    os.utime(left, (0, 0))
    put(kept, "b")
    assert not left.exists()
    assert written.exists()
    assert kept.bytes == 80


def test_a_file_that_another_process_removed_is_no_error(kept, monkeypatch):
    put(kept, "a")
    unlink = Path.unlink

    def twice(path: Path) -> None:
        unlink(path)
        unlink(path)

    monkeypatch.setattr(Path, "unlink", twice)
    kept.clear()
    assert kept.bytes == 0


def test_a_folder_that_cannot_be_written_says_so(kept, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert get(kept, "a") is None
    assert kept.bytes == 0
    with pytest.raises(OutputError, match="cannot write"):
        put(kept, "a")


def test_nothing_is_left_when_the_disk_is_full(kept):
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        kept.put("a", full)
    assert list(kept.folder.iterdir()) == []


def test_a_users_programs_cache_where_the_system_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert user_cache_folder() == tmp_path / "elsewhere" / "fastseg"
    for unusable in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert user_cache_folder() == tmp_path / ".cache" / "fastseg"


def test_a_user_without_a_home_caches_nowhere(monkeypatch):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert user_cache_folder() is None
