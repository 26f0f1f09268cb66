"""Archives of arrays, ``.npz``, read without executing anything in them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import FastsegError
from fastseg.inputs.numbers import shown
from fastseg.storage.paths import is_file, user_path


def read_archive(
    path: str | os.PathLike[str],
    entries: Iterable[str],
    *,
    what: str,
    remedy: str,
    error: type[FastsegError],
    also: Callable[[str], bool] | None = None,
) -> dict[str, NDArray[Any]]:
    """Read arrays of a file of ``numpy.savez``.

    Args:
        path: The file.
        entries: Names of the arrays.
        what: What the file should be, ``"an embedding"``.
        remedy: What to do if it is not, a sentence.
        error: The error to raise.
        also: Tells by its name whether a further array of the file is read.

    Raises:
        FastsegError: ``error``: there is no such file, it is damaged, or lacks an entry.
    """
    name = path if isinstance(path, str | os.PathLike) else shown(path)
    try:
        if not is_file(user_path(path)):
            raise ValueError("No such file, or a pipe, a device or a folder")
        # np.load would also take a pickle or a bare array; only an archive is ours.
        with zipfile.ZipFile(user_path(path)) as archive:
            # What is not packed takes no more memory than the file has bytes.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("It is packed, which save does not do")
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"{damaged} is damaged")
        with np.load(user_path(path), allow_pickle=False) as arrays:
            further = [name for name in arrays.files if also is not None and also(name)]
            return {entry: arrays[entry] for entry in (*entries, *further)}
    except Exception as reason:  # readers fail on damage in many ways
        raise error(f"{name} is not {what} that can be read: {reason}. {remedy}") from reason
