"""Addresses that fsspec opens, such as ``s3://bucket/images``, with typed errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastseg import environment
from fastseg.errors import FastsegError
from fastseg.imaging.folders import IMAGE_SUFFIXES

_SCHEME = re.compile(r"[A-Za-z][\w+.-]*(::[A-Za-z][\w+.-]*)*://")
_WILD = frozenset("*?[")


def is_address(text: str) -> bool:
    """Tell if a text begins with the name of a file system and ``://``."""
    return _SCHEME.match(text) is not None


def open_address(address: str, error: type[FastsegError]) -> tuple[Any, str]:
    """Open the file system of an address.

    Returns:
        The file system, and the path of the address in it.

    Raises:
        BackendUnavailableError: fsspec is not installed.
        FastsegError: Of the type ``error``: there is no such file system, its package is not
            installed, or it cannot be reached.
    """
    with environment.needs_extra("cohort", f"opening {address}"):
        import fsspec
    try:
        files, path = fsspec.core.url_to_fs(address)
    except ImportError as failure:
        raise error(
            f"{address} needs a package that is not installed: {failure}. Install it with pip."
        ) from failure
    except Exception as failure:  # client libraries have errors of their own
        raise error(f"{address} cannot be opened: {failure}. Check it.") from failure
    return files, str(path)


@contextmanager
def address_faults(address: str, error: type[FastsegError]) -> Iterator[None]:
    """Turn whatever a file system raises inside the block into one error.

    Raises:
        FastsegError: Of the type ``error``.
    """
    try:
        yield
    except FastsegError:
        raise
    except FileNotFoundError as failure:
        raise error(f"{address}: no such file. Check the address.") from failure
    except Exception as failure:  # client libraries have errors of their own
        raise error(f"{address} cannot be used: {failure}. Check address and rights.") from failure


def list_images(address: str, error: type[FastsegError]) -> list[str]:
    """List the addresses that an address stands for.

    Args:
        address: A pattern, whose files count; a folder, in which files with a suffix of images
            count; or a file, which may be absent.
        error: The error to raise.

    Raises:
        FastsegError: Of the type ``error``: nothing is found, or the address cannot be opened.
    """
    files, path = open_address(address, error)
    with address_faults(address, error):
        if _WILD & set(path):
            found = [one for one in files.glob(path) if not files.isdir(one)]
        elif files.isdir(path):
            listed = files.ls(path, detail=False)
            found = [one for one in listed if _has_image_suffix(one)]
        else:
            return [address]
    if not found:
        raise error(f"{address} finds no image. Check the address.")
    return sorted(files.unstrip_protocol(one) for one in found)


def read_text(address: str, error: type[FastsegError]) -> str:
    """Read a text in UTF-8.

    Raises:
        FastsegError: Of the type ``error``: it cannot be read.
    """
    files, path = open_address(address, error)
    with address_faults(address, error):
        text: str = files.cat_file(path).decode("utf-8-sig")
    return text


def _has_image_suffix(path: str) -> bool:
    name = path.rpartition("/")[2]
    return not name.startswith(".") and f".{name.rpartition('.')[2].lower()}" in IMAGE_SUFFIXES
