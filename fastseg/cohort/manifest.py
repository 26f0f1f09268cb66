"""Items of a cohort: images and their prompts, from a CSV or JSON Lines file, a folder, a glob."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from fastseg.cohort.addresses import is_address, list_images, read_text
from fastseg.errors import CohortError
from fastseg.imaging.folders import expand_folders
from fastseg.inputs.numbers import shown
from fastseg.inputs.text import file_stem
from fastseg.storage.paths import is_file, is_folder, user_path

_CSV_COLUMNS = ("image", "box", "points", "labels", "name", "window", "frame", "patient")
_SUFFIXES = (".csv", ".jsonl", ".ndjson")
_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a cohort, with all that is asked of it."""

    image: str
    """The file as the manifest or the caller names it."""

    boxes: Any = None
    """Boxes as ``Sam.segment`` takes them; likewise the other prompts."""

    points: Any = None
    labels: Any = None
    names: Any = None
    window: str | None = None
    """Values that are seen of a medical file."""

    frame: int | None = None
    """Frame of a file that has several, from 0."""

    patient: str | None = None
    """Carried into the result, and not read by fastseg."""

    folder: str = ""
    """Folder that a relative ``image`` is in."""

    @property
    def is_remote(self) -> bool:
        """True for an image at an address, ``s3://bucket/image.png``."""
        return is_address(self.address)

    @property
    def address(self) -> str:
        """The image where it is: an address, or a path."""
        if is_address(self.image) or not is_address(self.folder):
            return self.image
        return f"{self.folder}/{self.image}"

    @property
    def path(self) -> Path:
        """The file; of an image at an address the address as a path, which names it."""
        if self.is_remote:
            return Path(self.address)
        return Path(self.folder, user_path(self.image))

    @property
    def key(self) -> str:
        """Identity of the item in its cohort: the image, and the frame if one is named."""
        return self.image if self.frame is None else f"{self.image}#{self.frame}"

    @property
    def stem(self) -> str:
        """Name of the files of its results without suffix, which depends on the key alone."""
        digest = hashlib.sha256(self.key.encode(errors="surrogateescape")).hexdigest()
        return f"{file_stem(Path(self.image).stem)[:80]}-{digest[:12]}"

    @property
    def asked(self) -> str:
        """Hash of what is asked of the image; a result of another one is made again."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        del given["folder"]
        text = json.dumps(given, sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


Sources: TypeAlias = str | os.PathLike[str] | Item | Iterable[str | os.PathLike[str] | Item]
"""Manifests, folders, globs and images, or items."""


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def read_items(sources: Sources) -> list[Item]:
    """List the items of manifests, folders, globs and images, in their order.

    A CSV file (.csv) has a row a prompt, and rows of one image and frame make one item. Its columns
    are ``image``, and any of ``box`` (x0 y0 x1 y1), ``points`` (x y x y ...), ``labels``, ``name``,
    ``window``, ``frame`` and ``patient``. A JSON Lines file (.jsonl) has an object an item with the
    fields of ``Item``. Relative images are in the folder of the manifest. Manifests, folders, globs
    and images may be addresses that fsspec opens.

    Args:
        sources: One of these, or several; items are taken as they are.

    Raises:
        CohortError: A manifest cannot be read, has unknown columns or fields, or names no image;
            a glob finds nothing; or two items are of one image and frame.
        ImageError: A folder has no image in it.
    """
    if isinstance(sources, str | os.PathLike | Item):
        sources = [sources]
    if not isinstance(sources, Iterable) or isinstance(sources, np.ndarray | bytes):
        raise CohortError(f"sources must be paths or items, not {shown(sources)}.")
    items = [item for source in sources for item in _items(source)]
    seen: set[str] = set()
    for item in items:
        if item.key in seen:
            raise CohortError(f"{item.key} is in the cohort twice. Give each image and frame once.")
        seen.add(item.key)
    if not items:
        raise CohortError("the cohort has no item. Name images, a folder or a manifest.")
    return items


def _items(source: object) -> Iterator[Item]:
    if isinstance(source, Item):
        yield source
        return
    if not isinstance(source, str | os.PathLike):
        raise CohortError(f"an item is a path or an Item, not {shown(source)}.")
    if isinstance(source, str) and is_address(source):
        yield from _remote_items(source)
        return
    path = user_path(source)
    if path.suffix.lower() in _SUFFIXES:
        yield from _manifest(path)
    elif is_folder(path):
        yield from (Item(str(image)) for image in expand_folders([path])[0])
    elif _WILD & set(str(path)) and not path.exists():
        found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - also absolute ones
        images = [each for each in found if is_file(Path(each))]
        if not images:
            raise CohortError(f"{source} finds no file. Check the pattern, and quote it.")
        yield from map(Item, images)
    else:
        yield Item(str(source))


def _remote_items(address: str) -> list[Item]:
    if not address.lower().endswith(_SUFFIXES):
        return [Item(image) for image in list_images(address, CohortError)]
    folder, _, name = address.rpartition("/")
    return _parsed(io.StringIO(read_text(address, CohortError), newline=""), Path(name), folder)


def _parsed(file: Iterable[str], path: Path, folder: str) -> list[Item]:
    read = _csv_items if path.suffix.lower() == ".csv" else _json_items
    return [replace(item, folder=folder) for item in read(file, path)]


def _manifest(path: Path) -> list[Item]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parsed(file, path, str(path.parent))
    except (OSError, UnicodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CohortError(
            f"the manifest {path} cannot be read: {reason}. Give a CSV or JSON Lines file in UTF-8."
        ) from error


def _csv_items(file: Iterable[str], path: Path) -> list[Item]:
    rows = csv.DictReader(file, strict=True)
    _check_names(rows.fieldnames or (), _CSV_COLUMNS, path, "columns")
    found: dict[str, Item] = {}
    for row in rows:
        where = f"{path} line {rows.line_num}"
        if None in row:
            raise CohortError(f"{where} has more cells than columns. Quote cells with commas.")
        item = _csv_item({name: (cell or "").strip() for name, cell in row.items()}, where)
        before = found.get(item.key)
        found[item.key] = item if before is None else _joined(before, item, where)
    return list(found.values())


def _csv_item(row: Mapping[str, str], where: str) -> Item:
    def numbers(column: str, group: int) -> list[list[float]] | None:
        words = row.get(column, "").replace(",", " ").replace(";", " ").split()
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            raise CohortError(f"{where}: {column} must be numbers, not {row[column]!r}.") from error
        if len(values) % group or (column == "box" and len(values) not in (0, 4)):
            raise CohortError(f"{where}: {column} has {len(values)} numbers. Give {group} each.")
        return [values[at : at + group] for at in range(0, len(values), group)] or None

    points = numbers("points", 2)
    labels = numbers("labels", 1)
    return _checked(
        {
            "image": row["image"],
            "boxes": numbers("box", 4),
            "points": None if points is None else [points],
            "labels": None if labels is None else [[label for (label,) in labels]],
            "names": [row["name"]] if row.get("name") else None,
            "window": row.get("window") or None,
            "frame": _whole(row.get("frame", ""), where),
            "patient": row.get("patient") or None,
        },
        where,
    )


def _whole(text: str, where: str) -> int | None:
    try:
        return int(text) if text else None
    except ValueError as error:
        raise CohortError(f"{where}: frame must be a whole number, not {text!r}.") from error


def _joined(before: Item, item: Item, where: str) -> Item:
    """Add the prompt of one more row of an image."""
    for name in ("window", "patient"):
        if getattr(before, name) != getattr(item, name):
            raise CohortError(f"{where}: the rows of {item.image} differ in {name}.")
    prompts: dict[str, Any] = {}
    for name in ("boxes", "points", "labels", "names"):
        first, second = getattr(before, name), getattr(item, name)
        if (first is None) != (second is None):
            raise CohortError(
                f"{where}: some rows of {item.image} have {name} and others have none. Each row is "
                "a prompt, and all prompts of an image are of one form."
            )
        prompts[name] = None if first is None else [*first, *second]
    return replace(before, **prompts)


def _json_items(file: Iterable[str], path: Path) -> Iterator[Item]:
    known = [field.name for field in fields(Item) if field.name != "folder"]
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CohortError(f"{where} is no JSON: {error}. Give one object a line.") from error
        if not isinstance(row, dict):
            raise CohortError(f"{where} is no JSON object, but {shown(row)}.")
        _check_names(row, known, Path(where), "fields")
        yield _checked(row, where)


def _check_names(names: Iterable[str], known: Iterable[str], path: Path, what: str) -> None:
    names, known = list(names), list(known)
    unknown = [name for name in names if name not in known]
    if unknown or "image" not in names or len(set(names)) < len(names):
        wrong = f"the {what} {', '.join(map(repr, unknown))}" if unknown else "these"
        raise CohortError(
            f"{path}: {what} must be image and any of {', '.join(known[1:])}, each once, and "
            f"{wrong if unknown else f'these {what} are {names}'} are not."
        )


def _checked(row: dict[str, Any], where: str) -> Item:
    texts = {name: row.get(name) for name in ("image", "window", "patient")}
    for name, value in texts.items():
        if not isinstance(value, str if name == "image" else str | None) or value == "":
            raise CohortError(f"{where}: {name} must be text, not {shown(value)}.")
    frame = row.get("frame")
    if frame is not None and (type(frame) is not int or frame < 0):
        raise CohortError(f"{where}: frame must be a whole number from 0, not {shown(frame)}.")
    return Item(**row)
