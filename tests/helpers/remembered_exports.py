"""Exports that several tests need alike, traced once for all of them.

Tracing takes seconds, and depends on nothing but the module with its weights, the shapes of the
inputs and the options. Everything that the writer does with the traced graph is done every time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

_models: dict[str, Any] = {}


@contextmanager
def remembered_exports() -> Iterator[None]:
    """Let ``torch.onnx.export`` return a copy of what it returned for an equal module."""
    with mock.patch.object(torch.onnx, "export", _remembering(torch.onnx.export)):
        yield


def _remembering(export: Any) -> Any:
    def remembering(module: nn.Module, inputs: tuple[Tensor, ...], **options: Any) -> Any:
        key = _key(module, inputs, options)
        if key is None:
            return export(module, inputs, **options)
        if key not in _models:
            _models[key] = export(module, inputs, **options).model
        return SimpleNamespace(model=_models[key].clone())

    return remembering


def _key(module: nn.Module, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> str | None:
    """Name everything that a traced graph depends on; None for a module with unknown parts."""
    told = [repr(sorted(options.items())), *(f"{one.dtype} {tuple(one.shape)}" for one in inputs)]
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
