"""Model repositories of the Triton Inference Server, written from model folders."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from fastseg import artifacts
from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile
from fastseg.contract import DType, TensorSpec
from fastseg.errors import OutputError
from fastseg.storage.atomic import atomic_folder

CONFIG_FILE = "config.pbtxt"

_VERSION = "1"
_MODEL_FILE = "model.onnx"

_TYPES: dict[DType, str] = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "int32": "TYPE_INT32"}


def write_repository(
    model: str | os.PathLike[str], out: str | os.PathLike[str], *, precision: str = "fp32"
) -> tuple[str, ...]:
    """Write the graphs of a model folder as a model repository of Triton, one model a graph.

    Inputs and outputs keep their names, so that what one graph gives is handed to the next by
    name. Reading images, placing prompts and drawing masks remain the caller's.

    Args:
        model: A model folder.
        out: The folder to write; it must be empty or absent.
        precision: Precision of the graphs that the folder holds in it; the others are FP32.

    Returns:
        The names of Triton's models.

    Raises:
        ModelError: The model folder is none, or is damaged.
        OutputError: The folder is taken, or cannot be written.
    """
    folder = artifacts.read(model)
    graphs = _graphs(folder, precision)
    prefix = re.sub(r"[^\w.-]", "_", folder.manifest.name)
    names = tuple(f"{prefix}-{stored.graph.name}" for stored in graphs)
    with atomic_folder(out) as temporary:
        for name, stored in zip(names, graphs, strict=True):
            version = temporary / name / _VERSION
            version.mkdir(parents=True)
            _copy_files(folder, stored, version)
            (temporary / name / CONFIG_FILE).write_text(config(name, stored), encoding="utf-8")
    return names


def config(name: str, stored: GraphFile) -> str:
    """Return the configuration of a graph, ``config.pbtxt``, with every size that may vary as -1.

    Args:
        name: Triton's name of the model.
        stored: The graph.
    """
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f'default_model_filename: "{_MODEL_FILE}"',
    ]
    lines += ["max_batch_size: 0"]
    lines += _tensors("input", stored.graph.inputs)
    lines += _tensors("output", stored.graph.outputs)
    return "\n".join(lines) + "\n"


def _graphs(folder: ModelFolder, precision: str) -> list[GraphFile]:
    """Choose one file for each graph: in the precision, else the one that ``"auto"`` prefers."""
    found: dict[str, GraphFile] = {}
    for stored in folder.manifest.graphs.values():
        name = stored.graph.name
        if name not in found or stored.precision == precision:
            found[name] = folder.graph_file(name)
        if stored.precision == precision:
            found[name] = stored
    return list(found.values())


def _copy_files(folder: ModelFolder, stored: GraphFile, version: Path) -> None:
    for file in stored.files:
        name = _MODEL_FILE if file.file == stored.file else file.file
        if Path(name).name != name:
            raise OutputError(
                f"{file.file} lies in a folder of its own, where Triton finds it not."
            )
        shutil.copyfile(folder.file(file), version / name)


def _tensors(kind: str, tensors: Iterable[TensorSpec]) -> list[str]:
    rows = []
    for tensor in tensors:
        sizes = [str(size) if isinstance(size, int) else "-1" for size in tensor.shape]
        shape = f"dims: [{', '.join(sizes) or '1'}]"
        if not sizes:
            shape += ", reshape: { shape: [] }"
        rows.append(f'  {{ name: "{tensor.name}", data_type: {_TYPES[tensor.dtype]}, {shape} }}')
    return [f"{kind} [", ",\n".join(rows), "]"]
