"""Export of a torch module to an ONNX file that fits the contract on every machine."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx_ir
import torch
from onnx_ir.passes.common import (
    DeduplicateInitializersPass,
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)
from onnxscript import optimizer
from torch import Tensor, nn

from fastseg import contract
from fastseg.contract import GraphSpec
from fastseg.errors import ParityError
from fastseg.export.onnx import external_weights
from fastseg.export.onnx.exporter import shorter_exports
from fastseg.export.onnx.float16_storage import LARGE
from fastseg.export.onnx.repeated_blocks import RepeatedBlocks
from fastseg.export.onnx.scopes import scopes
from fastseg.export.onnx.translation import translate_trace

Store: TypeAlias = Literal["float32", "float16"]
"""Type of the weights in the file; graphs compute in float32 either way."""

INSIDE = 2**31 - 2**26
"""Most bytes of weights that one ONNX file can hold (2 GB) beside its graph."""


@dataclass(frozen=True, slots=True)
class Source:
    """A module, the contract of its graph, and inputs to trace it with."""

    graph: GraphSpec
    module: nn.Module
    inputs: tuple[Tensor, ...]

    batch: str | None = None
    """A size that every tensor of the module leads with, if there is one: it is traced as 1 and
    set free afterwards. Tracing a large network with a symbol for it takes several times as long.
    """

    sizeless: bool = False
    """True if no node of the graph holds a size of its inputs, as of a network of convolutions
    whose resizes are ``enlarge`` and whose norms ``instance_norm``: all open sizes are set free
    after the trace."""

    blocks: str | None = None
    """Attribute with the blocks of the module, as of ``RepeatedBlocks``, if one of each kind is to
    be traced for all of them."""


def write(
    source: Source, path: Path, *, store: Store = "float32", weights: Path | None = None
) -> tuple[Path, ...]:
    """Write one module as an ONNX file.

    Args:
        source: The module; ``forward`` takes and returns tensors in the order of the graph. Sizes
            that the graph names must not be 0 or 1 in the inputs, where those are special, but
            for ``batch``, which must be 1.
        path: The file to write.
        store: ``"float16"`` stores in float16 the weights that lose nothing by it, as those that
            ``float16_storage.prepare`` rounded; the others stay float32.
        weights: A file of ``artifacts.safetensors`` beside ``path``. The graph refers to it for
            every weight that it holds bit for bit.

    Returns:
        Files beside ``path`` that hold weights: ``weights``, and one more if the others exceed
        2 GB.
    """
    graph = source.graph
    with _quiet(), shorter_exports(), torch.no_grad():
        model = translate(source)
        if source.sizeless:
            _forget_sizes(model, graph)
        _optimise(model)
    if source.batch is not None:
        _free_batch(model)
    RemoveUnusedNodesPass()(model)
    DeduplicateInitializersPass()(model)
    _tidy(model, graph)
    if store == "float16":
        _store_as_fp16(model)
    if weights is None:
        return save(model, path)
    external_weights.refer(model, weights)
    return (weights, *save(model, path))


def translate(source: Source) -> onnx_ir.Model:
    """Trace a module and turn its operators into those of ONNX.

    The exporter traces every graph a second time, which takes as long, to replace operators that it
    cannot translate. Networks with such an operator alone are traced again.
    """
    if source.blocks is None:
        return _trace(source)
    blocks = RepeatedBlocks(source.module, source.blocks)
    model = _trace(replace(source, module=blocks.one_of_each()))
    blocks.repeat(model)
    return model


def _trace(source: Source) -> onnx_ir.Model:
    program: Any = torch.export.export(
        source.module, source.inputs, dynamic_shapes=_dynamic_shapes(source), strict=False
    )
    program.run_decompositions = lambda *_, **__: program
    try:
        return translate_trace(program, source.graph)
    except torch.onnx.OnnxExporterError:
        del program.run_decompositions
        return translate_trace(program, source.graph)


def save(model: onnx_ir.Model, path: Path) -> tuple[Path, ...]:
    """Write a graph to a file.

    Returns:
        Files beside ``path`` that hold weights: one if they exceed 2 GB, else none.
    """
    inside = [value.const_value for value in _initializers(model)]
    weights = sum(each.nbytes for each in inside if not isinstance(each, onnx_ir.ExternalTensor))
    if weights <= INSIDE:
        onnx_ir.save(model, path)
        return ()
    outside = path.with_suffix(".weights")
    onnx_ir.save(model, path, external_data=outside.name)
    return (outside,)


def _optimise(model: onnx_ir.Model) -> None:
    """Simplify a graph as the exporter would, which tries every pattern on every node.

    Of an encoder's nodes four fifths compute constants: they are folded first. A second round of
    the patterns would remove the nodes alone that the first one left as identities.
    """
    optimizer.fold_constants(model)
    RemoveUnusedNodesPass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    optimizer.optimize(model, num_iterations=1)
    IdentityEliminationPass()(model)


def _forget_sizes(model: onnx_ir.Model, graph: GraphSpec) -> None:
    """Remove the shapes of the trace, which the optimiser would take for those of every run."""
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    for tensor, value in zip(graph.inputs, model.graph.inputs, strict=True):
        value.shape = onnx_ir.Shape(tensor.shape)


def _dynamic_shapes(source: Source) -> tuple[dict[int, Any], ...]:
    inputs = source.graph.inputs
    if source.sizeless:
        return tuple({} for _ in inputs)
    names = {size for tensor in inputs for size in tensor.shape if isinstance(size, str)}
    sizes = {name: torch.export.Dim(name) for name in sorted(names - {source.batch})}
    return tuple(
        {axis: sizes[size] for axis, size in enumerate(tensor.shape) if size in sizes}
        for tensor in inputs
    )


def _free_batch(model: onnx_ir.Model) -> None:
    """Let the first axis of every reshape follow from the others: the batch is all that varies."""
    for index, node in enumerate(model.graph):
        if node.op_type != "Reshape":
            continue
        sizes = node.outputs[0].shape
        if sizes is None or not sizes.is_static():
            raise ParityError(f"{node.name} reshapes to {sizes}, so its batch cannot be set free")
        name = f"target_{index}"
        target = onnx_ir.tensor(np.array([-1, *sizes.numpy()[1:]], np.int64), name=name)
        value = onnx_ir.Value(name=name, const_value=target)
        model.graph.register_initializer(value)
        node.replace_input_with(1, value)


def _tidy(model: onnx_ir.Model, graph: GraphSpec) -> None:
    """Set the versions and shapes of the contract, and remove metadata of the export."""
    model.ir_version = contract.IR_VERSION
    model.producer_name, model.producer_version = "fastseg", None
    model.graph.name = graph.name
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for value in _initializers(model):
        value.metadata_props.clear()
    for index, node in enumerate(model.graph):
        node.name = f"{_module(node)}/{node.op_type}_{index}"
        # The exporter notes source files and lines here.
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            value.shape = None
    for tensor, value in zip(graph.inputs, model.graph.inputs, strict=True):
        value.shape = onnx_ir.Shape(tensor.shape)
        value.metadata_props.clear()
    for tensor, value in zip(graph.outputs, model.graph.outputs, strict=True):
        value.shape = onnx_ir.Shape(tensor.shape)


def _module(node: onnx_ir.Node) -> str:
    """Find the path of the module that a node was traced in, ``"blocks.0.mlp.lin1"``."""
    return (scopes(node) or [""])[-1]


def _store_as_fp16(model: onnx_ir.Model) -> None:
    """Store weights in float16 where lossless, with a cast that runtimes fold at load."""
    casts = []
    for value in _initializers(model):
        weights = value.const_value.numpy()
        if weights.dtype != np.float32 or weights.size < LARGE:
            continue
        rounded = weights.astype(np.float16)
        if not np.array_equal(rounded.astype(np.float32), weights):
            continue
        name = str(value.name)
        stored = onnx_ir.Value(
            name=f"{name}.half",
            type=onnx_ir.TensorType(onnx_ir.DataType.FLOAT16),
            shape=onnx_ir.Shape(rounded.shape),
            const_value=onnx_ir.tensor(rounded, name=f"{name}.half"),
        )
        cast = onnx_ir.node("Cast", [stored], {"to": onnx_ir.DataType.FLOAT})
        del model.graph.initializers[name]
        model.graph.register_initializer(stored)
        value.replace_all_uses_with(cast.outputs[0])
        cast.outputs[0].name = name
        casts.append(cast)
    first = next(iter(model.graph))
    model.graph.insert_before(first, casts)


def _initializers(model: onnx_ir.Model) -> list[Any]:
    return list(model.graph.initializers.values())


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks about packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
