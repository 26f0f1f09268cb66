"""Archives of DICOM files, unpacked one file at a time within limits."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from fastseg.errors import ImageError
from fastseg.images.reader_faults import reader_faults
from fastseg.imaging.dicom.content import MAGIC, PREAMBLE, unpacked
from fastseg.imaging.dicom.series import Opened

_AT_ONCE = 1 << 20
_MOST_FILES = 100_000


def dicom_members(path: Path, max_pixels: int | None) -> list[tuple[str, Opened]]:
    """List the DICOM files of an archive with what opens each.

    Raises:
        ImageError: It is no archive, or has none or too many files in it.
    """
    with reader_faults(str(path)), zipfile.ZipFile(path) as archive:
        members = [one for one in archive.infolist() if not one.is_dir()]
        if len(members) > _MOST_FILES:
            raise ImageError(f"{path} has {len(members):,} files. Give an archive of one series.")
        found = [one for one in members if _is_dicom(archive, one)]
    if not found:
        raise ImageError(f"{path} has no DICOM file in it. Unpack it, and give a file of it.")
    return [
        (f"{path}/{one.filename}", partial(_open_member, path, one, max_pixels)) for one in found
    ]


def _is_dicom(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    with archive.open(member) as file:
        return file.read(PREAMBLE + len(MAGIC))[PREAMBLE:] == MAGIC


@contextmanager
def _open_member(path: Path, member: zipfile.ZipInfo, max_pixels: int | None) -> Iterator[BinaryIO]:
    """Unpack one file, no larger than its own header explains."""
    what = f"{path}/{member.filename}"
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        chunks = iter(partial(file.read, _AT_ONCE), b"")
        yield unpacked(chunks, max(member.compress_size, 1), what, max_pixels)
