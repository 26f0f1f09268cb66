"""Exports that several tests need alike, traced once for all of them.

Tracing takes seconds, and depends on nothing but the module with its weights, the shapes of the
inputs and the options. Everything that the writer does with the traced graph is done every time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from fastseg.export.onnx import writer
from fastseg.export.onnx.writer import Source

_models: dict[str, Any] = {}


@contextmanager
def remembered_exports() -> Iterator[None]:
    """Let ``writer.translate`` return a copy of what it returned for an equal module."""
    with mock.patch.object(writer, "translate", _remembering(writer.translate)):
        yield


def _remembering(translate: Any) -> Any:
    def remembering(source: Source) -> Any:
        key = _key(source)
        if key is None:
            return translate(source)
        if key not in _models:
            _models[key] = translate(source)
        return _models[key].clone()

    return remembering


def _key(source: Source) -> str | None:
    """Name everything that a traced graph depends on; None for a module with unknown parts."""
    module = source.module
    told = [
        repr((source.graph, source.batch, source.sizeless)),
        *(f"{one.dtype} {tuple(one.shape)}" for one in source.inputs),
    ]
    for path, part in module.named_modules(remove_duplicate=False):
        own = {name: value for name, value in vars(part).items() if not name.startswith("_")}
        if not all(_is_plain(value) for value in own.values()):
            return None
        told.append(f"{path} {type(part)} {id(type(part))} {own}")
    digest = hashlib.sha256("\n".join(told).encode())
    first: dict[int, str] = {}
    for name, weight in (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ):
        shared = first.setdefault(id(weight), name)
        shape = f"{weight.dtype} {tuple(weight.shape)} {weight.stride()}"
        digest.update(f"{name} {shared} {shape}".encode())
        digest.update(weight.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _is_plain(value: object) -> bool:
    """Tell whether the representation of an attribute tells all of it."""
    if isinstance(value, tuple):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, (bool, int, float, str))
