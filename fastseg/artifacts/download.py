"""Download of one large file over HTTP, which goes on where an earlier try stopped."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastseg.errors import CheckpointError, OutputError

Progress = Callable[[int, int | None], None]
"""Is called with the bytes that are there and with all bytes, None where these are not known."""

TIMEOUT_S = 60.0
"""Seconds without an answer or a byte after which a server counts as gone."""

_CHUNK = 1 << 20
_OK, _PARTIAL, _BEYOND_THE_END = 200, 206, 416


def is_url(source: str) -> bool:
    """Tell whether a text is an address of HTTP."""
    return urlsplit(source).scheme in ("http", "https")


def download(url: str, part: Path, *, size: int | None, progress: Progress) -> None:
    """Fetch a file into ``part``, from the byte on that an earlier try stopped at.

    Args:
        url: An address of HTTP.
        part: The file to write. It stays where the transfer ends early, for the next try.
        size: Length of the file in bytes if it is known; a server that states another one is
            refused before anything is written.
        progress: Called as bytes arrive.

    Raises:
        CheckpointError: The server cannot be reached, refuses, states another length, or ends
            early.
        OutputError: ``part`` cannot be written.
    """
    begun = part.stat().st_size if part.is_file() else 0
    if begun and begun == size:
        return None
    try:
        with _opened(url, begun) as answer:
            _store(url, answer, part, begun if answer.status == _PARTIAL else 0, size, progress)
    except urllib.error.HTTPError as error:
        if error.code == _BEYOND_THE_END and begun:
            part.unlink()  # longer than the file, so it is of another one
            return download(url, part, size=size, progress=progress)
        raise CheckpointError(
            f"{url} was not fetched: the server answers {error.code} ({error.reason}). Check the "
            "address"
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as e:
        reason = getattr(e, "reason", None) or e
        raise CheckpointError(
            f"{url} was not fetched: {reason}. Try again; what is there is kept"
        ) from e
    return None


def _opened(url: str, begun: int) -> Any:
    headers = {"User-Agent": "fastseg", "Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - of HTTP, see is_url
    return urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310


def _store(
    url: str, answer: Any, part: Path, begun: int, size: int | None, progress: Progress
) -> None:
    """Write the answer behind the first ``begun`` bytes, and check that all of it came."""
    left = answer.headers.get("Content-Length")
    total = None if left is None else begun + int(left)
    if size is not None and total is not None and total != size:
        raise CheckpointError(
            f"{url} is {total} bytes long, and the file has {size}. It is another file, or a page "
            "that asks for a login: check the address"
        )
    done = begun
    progress(done, total)
    try:
        with part.open("r+b" if begun else "wb") as file:
            file.seek(begun)
            while chunk := _read(answer):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
    except OSError as error:
        if isinstance(error, TimeoutError | ConnectionError):
            raise
        raise OutputError(f"{part} cannot be written: {error.strerror or error}.") from error
    if total is not None and done < total:
        raise CheckpointError(
            f"{url} ended after {done} of {total} bytes. Run the same command again: it goes on "
            "from there"
        )


def _read(answer: Any) -> bytes:
    """Read some bytes; none at the end, early or not."""
    try:
        found: bytes = answer.read(_CHUNK)
    except http.client.IncompleteRead as error:
        return error.partial
    return found
