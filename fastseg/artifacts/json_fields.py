"""JSON objects of ``model.json`` whose fields are read by name and type."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NoReturn, TypeAlias, TypeVar

from fastseg.errors import ModelFolderError

REMEDY = "Copy the folder again, or export the model again."

Value = TypeVar("Value")

Triple: TypeAlias = tuple[float, float, float]
"""A number for each of R, G, B."""


class JsonFields:
    """A JSON object whose fields are read by name and type."""

    def __init__(self, document: object, where: str) -> None:
        self.where = where
        if not isinstance(document, dict):
            self.refuse(f"is {type(document).__name__}, not an object")
        self.document: dict[str, Any] = document

    def get(self, name: str, kind: type[Value], default: Value | None = None) -> Value:
        """Read the field ``name``, which must be a ``kind``; ``default``, if any, where absent."""
        if name not in self.document:
            if default is not None:
                return default
            self.refuse(f"has no field {name!r}")
        value = self.document[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.refuse(f"{name} is {type(value).__name__}, not {kind.__name__}")
        return value

    def objects(self, name: str) -> list[JsonFields]:
        """Read the field ``name``, a list of objects."""
        return [JsonFields(value, f"{self.where} {name}") for value in self.get(name, list)]

    def refuse(self, reason: str) -> NoReturn:
        """Raise an error for this object."""
        raise ModelFolderError(f"{self.where} {reason}. {REMEDY}")

    def word(self, name: str, what: str, known: Collection[str], default: str | None = None) -> str:
        """Read the field ``name``, one of the known words; another is of a newer fastseg."""
        word = self.get(name, str, default)
        if word not in known:
            raise ModelFolderError(
                f"model.json asks for the {what} {word!r}, and this fastseg knows only "
                f"{', '.join(map(repr, known))}. Upgrade fastseg."
            )
        return word

    def triple(self, name: str, *, positive: bool = False) -> Triple:
        """Read the field ``name``, three finite numbers."""
        values = self.get(name, list)
        if len(values) != 3 or not all(type(value) in (int, float) for value in values):
            self.refuse(f"{name} must be three numbers, not {values}")
        try:
            red, green, blue = (float(value) for value in values)
        except OverflowError:  # an integer beyond every float
            self.refuse(f"{name} must be three finite numbers")
        if not all(math.isfinite(value) for value in (red, green, blue)):
            self.refuse(f"{name} must be finite: {values}")
        if positive and min(red, green, blue) <= 0:
            self.refuse(f"{name} must be positive: {values}")
        return red, green, blue
