"""Errors of third-party readers as typed errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastseg.errors import FastsegError, ImageError


@contextmanager
def reader_faults(what: str) -> Iterator[None]:
    """Turn every exception of a reader into an ``ImageError``; readers raise whatever they meet.

    Args:
        what: Name of the file in the message.

    Raises:
        ImageError: The file is missing, cannot be opened, or is damaged.
    """
    try:
        yield
    except FastsegError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{what}: no such file. Check the path.") from error
    except Exception as error:
        told = getattr(error, "strerror", None)
        if told:
            raise ImageError(f"{what} cannot be read: {told}. Check the path.") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"{what} cannot be read: {reason}. Check the path, or copy the file again."
        ) from error
