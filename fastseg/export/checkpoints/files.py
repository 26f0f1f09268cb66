"""Weights by name from a file of torch or safetensors, read without running code in it."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastseg.errors import CheckpointError
from fastseg.storage.paths import is_file

SHOWN = 6
"""Names of each kind that an error lists before it only counts."""

WRAPPERS = (
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "weights",
    "network_weights",
)
"""Keys under which training scripts save the weights beside other things."""

PREFIXES = ("module.", "_orig_mod.", "model.", "sam_model.", "sam.")
"""Beginnings of every name that data-parallel training, ``torch.compile`` and modules around the
network leave."""

_NO_CHECKPOINTS = {
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<?xml": "a web page",
    b"version https://git-lfs": "a pointer of Git LFS, without the file that it stands for",
}
"""Beginnings of files, in lower case, that a failed download leaves."""


def load(path: Path, *, remedy: str) -> Any:
    """Read the content of a file, mapped into memory where its format allows that.

    A ``.pt`` or ``.pth`` file is a pickle; only tensors and plain containers in it are accepted,
    and nothing in it is executed.

    Args:
        path: A ``.safetensors`` file, or one of ``torch.save``.
        remedy: What to give instead, for the error.

    Raises:
        CheckpointError: The file is missing, truncated, not readable, or holds code.
    """
    if not is_file(path, CheckpointError):
        raise CheckpointError(f"there is no checkpoint {path}. {remedy}")
    _check_beginning(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # A mapped file is read where and when it is needed; the old format cannot be mapped.
        mapped = zipfile.is_zipfile(path)
        known = _optimiser_classes(path) if mapped else []
        with warnings.catch_warnings(), torch.serialization.safe_globals(known):
            warnings.simplefilter("ignore")  # of pickle protocols that are then refused
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} holds more than tensors, or is damaged. Nothing in it was executed "
            f"({reason}). Ask its author for the bare weights, best as .safetensors"
        ) from error
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # torch, zip and safetensors each raise their own on a bad file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is truncated or no checkpoint at all ({reason}). Download it again"
        ) from error


class _LeftOut:
    """The place of an object beside the weights; it keeps nothing and runs nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take whatever the object was made of."""

    def __setstate__(self, _: object) -> None:
        """Take whatever the object held."""


def _dictionary(*_: object) -> dict[Any, Any]:
    """Stand for a dictionary with defaults, which torch does not fill."""
    return {}


_STAND_INS: Mapping[str, Any] = {
    "builtins.dict": dict,
    "collections.defaultdict": _dictionary,
    "numpy.dtype": _LeftOut,
    "numpy._core.multiarray.scalar": _LeftOut,
    "numpy.core.multiarray.scalar": _LeftOut,
}
"""Classes that training files name; numbers of NumPy, as of a training log, are left out."""


def _optimiser_classes(path: Path) -> list[Any]:
    """List stand-ins for the classes of a training file that saves its optimiser as an object.

    Empty where the file names anything else, which is then refused by its name.
    """
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if not all(name in _STAND_INS or name.startswith("torch.optim.") for name in names):
        return []
    return [(_STAND_INS.get(name, _LeftOut), name) for name in names]


def _check_beginning(path: Path) -> None:
    """Refuse what a failed download leaves under the name of a checkpoint."""
    try:
        with path.open("rb") as file:
            first = file.read(64).lstrip()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    for beginning, what in _NO_CHECKPOINTS.items():
        if first.lower().startswith(beginning):
            shown = first.splitlines()[0].decode(errors="replace")[:40]
            raise CheckpointError(
                f"{path} is no checkpoint but {what}: it begins with {shown!r}. Download it again"
            )


AVERAGES = ("model_ema", "ema", "ema_state_dict", "state_dict_ema", "teacher", "student")
"""Keys under which training scripts save further sets of weights of the same network."""


def unwrap(path: Path, found: Any, *, remedy: str, key: str | None = None) -> dict[str, Tensor]:
    """Remove the wrappers of training scripts around the weights: ``WRAPPERS`` and ``PREFIXES``.

    Args:
        path: Of the file, for errors.
        found: Its content.
        remedy: What to give instead, for errors.
        key: The one set of weights to take, where the file holds several.

    Raises:
        CheckpointError: There is anything but tensors by name, or several sets of weights.
    """
    if key is not None:
        if not isinstance(found, Mapping) or not _is_weights(found.get(key)):
            raise CheckpointError(f"{path} holds no weights under {key!r}. {remedy}")
        found = found[key]
    elif isinstance(found, Mapping):
        sets = [name for name in (*WRAPPERS, *AVERAGES) if _is_weights(found.get(name))]
        if len(sets) > 1:
            raise CheckpointError(
                f"{path} holds several sets of weights: {', '.join(sets)}. Name one of them by "
                "--key"
            )
    for wrapper in (*WRAPPERS, *AVERAGES):
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path} holds {type(found).__name__}, not weights by name. {remedy}")
    others = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    if others or not found:
        held = listed(others) if others else "nothing"
        raise CheckpointError(f"{path} holds {held} where weights were expected. {remedy}")
    weights = {str(name).removeprefix("module."): tensor for name, tensor in found.items()}
    while shared := [each for each in PREFIXES if all(name.startswith(each) for name in weights)]:
        weights = {name.removeprefix(shared[0]): tensor for name, tensor in weights.items()}
    return weights


def _is_weights(found: Any) -> bool:
    """Tell whether a value holds tensors by name, perhaps inside another wrapper."""
    return isinstance(found, Mapping) and any(
        isinstance(value, Tensor) or (name in WRAPPERS and isinstance(value, Mapping))
        for name, value in found.items()
    )


def check_values(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Check that every value is a finite floating-point number.

    Raises:
        CheckpointError: Weights are not floating point, or one of them is NaN or infinite.
    """
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise CheckpointError(f"{name} in {path} is {tensor.dtype}, not floating point")
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{name} in {path} has values that are not finite: the training diverged or the "
                "file is damaged. Take an earlier checkpoint"
            )


def difference(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Say in words how two sets of weights differ, or None if they do not."""
    missing = sorted(set(wanted) - set(found))
    extra = sorted(set(found) - set(wanted))
    misshapen = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(set(wanted) & set(found))
        if found[name].shape != wanted[name].shape
    ]
    parts = (("missing", missing), ("extra", extra), ("of the wrong shape", misshapen))
    said = [f"{len(names)} {kind}: {listed(names)}" for kind, names in parts if names]
    return "; ".join(said) or None


def listed(names: list[str]) -> str:
    """List the first names, and count the others."""
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
