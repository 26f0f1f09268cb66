"""Warnings of other packages, whose texts quote headers, are not shown."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from fastseg.imaging import read
from fastseg.imaging.dicom.quiet import QUIET
from tests.helpers.dicom_files import write

pytest.importorskip("pydicom", reason="DICOM files need pydicom")


def test_nothing_is_warned_of_while_a_file_is_read(tmp_path: Path) -> None:
    file = write(tmp_path / "a.dcm", np.zeros((1, 4, 4), np.uint8))
    content = file.read_bytes()
    # A character set that is misspelt, and bytes after the pixels.
    place = content.index(b"\x08\0\x16\0UI")
    spelt = b"\x08\0\x05\0CS\x0a\0ISO-IR 100"
    file.write_bytes(content[:place] + spelt + content[place:])
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        read(file)
    assert not found


def test_overlapping_threads_leave_the_filters_as_they_were() -> None:
    before = list(warnings.filters)
    inside, outside = threading.Event(), threading.Event()

    def other() -> None:
        with QUIET:
            inside.set()
            outside.wait(10)

    thread = threading.Thread(target=other)
    with QUIET:
        thread.start()
        assert inside.wait(10)
    assert list(warnings.filters) != before, "the other thread is still inside"
    outside.set()
    thread.join()
    assert list(warnings.filters) == before
