"""Checkpoints from a folder or an address that the user names, checked by their hash."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from fastseg.artifacts import published_models
from fastseg.artifacts.download import Progress, download, is_url
from fastseg.artifacts.model_card import ModelCard
from fastseg.errors import CheckpointError, ModelNotFoundError, OutputError
from fastseg.storage.cache import user_cache_folder
from fastseg.storage.owned import sha256 as hash_of
from fastseg.storage.paths import user_path

OFFLINE = "FASTSEG_OFFLINE"
"""Environment variable: any value but an empty one and ``0`` forbids downloads."""

SUFFIXES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True, slots=True)
class Pulled:
    """A checkpoint that is on this machine with the right content."""

    card: ModelCard
    path: Path
    sha256: str
    fresh: bool
    """False if it was there already."""


def pull(
    name: str,
    source: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    out: str | os.PathLike[str] | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Pulled:
    """Copy or download the weights of a published model, and check their hash.

    The file appears whole, with the right content, or not at all. A download that was interrupted
    goes on where it stopped.

    Args:
        name: A published model of ``published_models.KNOWN``.
        source: A folder that holds the file, the file, or its address; an address that ends with
            ``/`` is that of a folder.
        sha256: Of the file, 64 hexadecimal digits; needed where none is known.
        out: Folder for the file; the user's cache if left out.
        offline: Refuse addresses, as the environment variable ``FASTSEG_OFFLINE`` does.
        progress: Called with the bytes that are there and with all bytes.

    Raises:
        ModelNotFoundError: No published model has this name.
        CheckpointError: The hash is not known, or differs; the file is not there, or ends early; or
            an address is refused.
        OutputError: The folder cannot be written.
    """
    card = _card(name)
    wanted = _wanted_hash(card, sha256)
    given = os.fspath(source)
    remote = is_url(given)
    if remote and (offline or os.environ.get(OFFLINE, "0") not in ("", "0")):
        why = "--offline was given" if offline else f"{OFFLINE} is set"
        raise CheckpointError(
            f"{given} is not fetched: {why}. Name a folder that holds the file, or allow downloads"
        )
    file = _file_name(card, given) if remote else _local(card, user_path(given))
    target = _target(card, file, out)
    known = card.checkpoint.bytes if card.checkpoint else None
    with _locked(target):
        if target.is_file() and hash_of(target) == wanted:
            return Pulled(card, target, wanted, fresh=False)
        part = target.with_name(f".{target.name}.{wanted[:16]}.part")
        tell = progress or _silent
        if remote:
            address = given + file.name if given.endswith("/") else given
            download(address, part, size=known if sha256 is None else None, progress=tell)
        else:
            _copy(file, part)
        found = hash_of(part)
        if found != wanted:
            length = part.stat().st_size
            part.unlink()
            raise CheckpointError(
                f"{given} holds another file than {card.name}: its sha256 is {found}, not "
                f"{wanted}, of {length} bytes. It was not kept; check where it comes from"
            )
        try:
            part.replace(target)
        except OSError as error:
            raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from error
    return Pulled(card, target, wanted, fresh=True)


def pulled_file(card: ModelCard) -> Path | None:
    """Return the checkpoint of a published model in the user's cache; None if it is not there.

    Its content was checked when it was pulled, and is not read again.
    """
    root = user_cache_folder()
    if root is None or not (folder := root / "checkpoints" / card.name).is_dir():
        return None
    return next((path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES), None)


def _card(name: str) -> ModelCard:
    card = next((card for card in published_models.KNOWN if card.name == name), None)
    if card is None:
        names = ", ".join(card.name for card in published_models.KNOWN)
        raise ModelNotFoundError(
            f"there is no published model {name!r} to pull. Those that fastseg knows: {names}."
        )
    return card


def _wanted_hash(card: ModelCard, given: str | None) -> str:
    if given is not None:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", given):
            raise CheckpointError(f"a sha256 is 64 hexadecimal digits, not {given!r}")
        return given.lower()
    if card.checkpoint is None:
        raise CheckpointError(
            f"no hash of the weights of {card.name} is known to fastseg. Take it from their "
            f"authors ({card.page}) and give it by --sha256"
        )
    return card.checkpoint.sha256


def _file_name(card: ModelCard, url: str) -> Path:
    """Return the name of the file at an address."""
    if url.endswith("/"):
        if card.checkpoint is None:
            raise CheckpointError(
                f"the file of {card.name} has no known name. Give the address of the file itself"
            )
        return Path(card.checkpoint.file)
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    if Path(name).suffix not in SUFFIXES:
        # An address may name a file in its query alone.
        name = card.checkpoint.file if card.checkpoint else f"{card.name}.pth"
    return Path(name)


def _local(card: ModelCard, source: Path) -> Path:
    """Find the file in a folder.

    Raises:
        CheckpointError: It is not there, or one of several that may be meant.
    """
    if source.is_file():
        return source
    if not source.is_dir():
        raise CheckpointError(
            f"there is no folder, file or address {str(source)!r}. Name where the weights are; an "
            "address begins with https://"
        )
    if card.checkpoint is not None and (source / card.checkpoint.file).is_file():
        return source / card.checkpoint.file
    inside = sorted(path for path in source.iterdir() if path.suffix in SUFFIXES)
    if card.checkpoint is None and len(inside) == 1:
        return inside[0]
    wanted = card.checkpoint.file if card.checkpoint else "one checkpoint"
    held = ", ".join(path.name for path in inside) or "none"
    raise CheckpointError(f"{source} does not hold {wanted}. Checkpoints in it: {held}")


def _target(card: ModelCard, file: Path, out: str | os.PathLike[str] | None) -> Path:
    if out is not None:
        folder = user_path(out)
    else:
        root = user_cache_folder()
        if root is None:
            raise OutputError("there is no home folder to keep checkpoints in. Give --out FOLDER.")
        folder = root / "checkpoints" / card.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {folder}: {error.strerror or error}. Give another --out."
        ) from error
    return folder / file.name


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Let one process at a time write a file; the system frees the lock of one that is killed."""
    path = target.with_name(f".{target.name}.lock")
    try:
        file = path.open("wb")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}.") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _copy(source: Path, part: Path) -> None:
    try:
        shutil.copyfile(source, part)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{part} cannot be written: {error.strerror or error}.") from error


def _silent(_: int, __: int | None) -> None:
    """Ignore the progress."""
