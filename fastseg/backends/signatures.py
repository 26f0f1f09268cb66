"""The inputs and outputs that a file declares, compared with the contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fastseg.contract import GraphSpec, TensorSpec
from fastseg.errors import ModelFolderError


class TensorSignature(NamedTuple):
    """An input or output as the file declares it."""

    names: frozenset[str]
    """All of its names; most runtimes have one."""

    dtype: str
    shape: tuple[int | str | None, ...]
    """A size that is not a number is chosen by the call."""


def check_signature(
    path: Path,
    graph: GraphSpec,
    inputs: Sequence[TensorSignature],
    outputs: Sequence[TensorSignature],
) -> None:
    """Compare the contract with what a file declares.

    Raises:
        ModelFolderError: The file is another graph; the message names the first difference.
    """
    _check(path, graph.inputs, inputs, kind="input")
    _check(path, graph.outputs, outputs, kind="output")


def in_one_line(error: Exception) -> str:
    """Make the message of a runtime a part of a sentence."""
    return " ".join(str(error).split()).rstrip(".")


def _check(
    path: Path, wanted: Sequence[TensorSpec], found: Sequence[TensorSignature], *, kind: str
) -> None:
    by_name = {name: one for one in found for name in one.names}
    names = [tensor.name for tensor in wanted]
    if len(found) != len(wanted) or not by_name.keys() >= set(names):
        declared = [min(one.names, default="") for one in found]
        raise _not_the_graph(path, f"its {kind}s are {declared}, not {names}")
    for tensor in wanted:
        one = by_name[tensor.name]
        if one.dtype != tensor.dtype:
            raise _not_the_graph(path, f"{kind} {tensor.name} is {one.dtype}, not {tensor.dtype}")
        if len(one.shape) != len(tensor.shape) or not all(map(_fits, tensor.shape, one.shape)):
            raise _not_the_graph(
                path, f"{kind} {tensor.name} has shape {one.shape}, not {tensor.shape}"
            )


def _fits(wanted: int | str, declared: int | str | None) -> bool:
    """Tell whether a declared size allows the wanted one; a file may leave more open."""
    return wanted == declared or not isinstance(declared, int)


def _not_the_graph(path: Path, reason: str) -> ModelFolderError:
    return ModelFolderError(
        f"{path} is not the graph that model.json describes: {reason}. Export the model again."
    )
