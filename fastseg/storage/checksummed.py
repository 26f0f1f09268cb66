"""A file that begins with the hash of the rest, so that damage shows before anybody trusts it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

_DIGEST_BYTES = sha256().digest_size


def write_digested(path: Path, content: bytes) -> None:
    """Write ``content`` behind its hash."""
    with path.open("wb") as file:
        file.write(sha256(content).digest())
        file.write(content)


def read_digested(path: Path) -> bytes:
    """Read what ``write_digested`` wrote.

    Raises:
        ValueError: The file is damaged, or something else wrote it.
    """
    kept = path.read_bytes()
    digest, content = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
    if sha256(content).digest() != digest:
        raise ValueError(f"{path} is damaged")
    return content
