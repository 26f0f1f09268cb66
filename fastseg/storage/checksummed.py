"""Checksummed files, which begin with the hash of their content, so that damage is detected."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

_DIGEST_BYTES = sha256().digest_size


def write_checksummed(path: Path, content: bytes) -> None:
    """Write the SHA-256 hash of ``content``, then ``content``."""
    with path.open("wb") as file:
        file.write(sha256(content).digest())
        file.write(content)


def read_checksummed(path: Path) -> bytes:
    """Read and verify a file of ``write_checksummed``; return its content.

    Raises:
        ValueError: The file is damaged, or something else wrote it.
    """
    kept = path.read_bytes()
    digest, content = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
    if sha256(content).digest() != digest:
        raise ValueError(f"{path} is damaged")
    return content
