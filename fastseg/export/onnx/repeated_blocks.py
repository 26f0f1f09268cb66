"""Graphs of networks with blocks alike: one block of each kind is traced, and then repeated."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import onnx_ir
from onnx_ir.tensor_adapters import TorchTensor
from torch import Tensor, nn

from fastseg.errors import ParityError
from fastseg.export.onnx.scopes import moved, scopes


@dataclass(frozen=True, slots=True)
class RepeatedBlocks:
    """The blocks of a network, which its ``forward`` calls one after another.

    Each takes what the one before returned, which goes nowhere else.
    """

    module: nn.Module
    name: str
    """Of the module's attribute that lists them."""

    def kinds(self) -> list[int]:
        """Return the kind of each block, numbered in the order in which they come first."""
        found: dict[str, int] = {}
        return [found.setdefault(_kind(block), len(found)) for block in _children(self)]

    def one_of_each(self) -> nn.Module:
        """Return a copy of the module with the first block of each kind; it shares its weights."""
        shared: dict[int, object] = {id(weight): weight for weight in _weights(self).values()}
        kinds, shorter = self.kinds(), deepcopy(self.module, shared)
        blocks = list(shorter.get_submodule(self.name).children())
        firsts = [block for i, block in enumerate(blocks) if kinds[i] not in kinds[:i]]
        setattr(shorter, self.name, nn.ModuleList(firsts))
        return shorter

    def repeat(self, model: onnx_ir.Model) -> None:
        """Turn the graph of ``one_of_each`` into that of the module.

        Raises:
            ParityError: A block in the graph has more inputs or outputs than one.
        """
        graph, weights, kinds = model.graph, _weights(self), self.kinds()
        templates = [_Template.find(graph, f"{self.name}.{kind}") for kind in sorted({*kinds})]
        for template in templates:
            template.drop_weights(graph)
        value, place = templates[0].entry, templates[-1].nodes[-1]
        for number, kind in enumerate(kinds):
            copies, value = templates[kind].copy(f"{self.name}.{number}", value, weights, graph)
            graph.insert_after(place, copies)
            place = copies[-1]
        templates[-1].exit.replace_all_uses_with(value)
        graph.remove([node for one in templates for node in one.nodes], safe=True)


@dataclass(frozen=True, slots=True)
class _Template:
    """A traced block: its nodes in their order, the value that it takes, the one it returns."""

    scope: str
    nodes: list[onnx_ir.Node]
    entry: onnx_ir.Value
    exit: onnx_ir.Value

    @classmethod
    def find(cls, graph: onnx_ir.Graph, scope: str) -> _Template:
        """Find the nodes that were traced within a module, but constants, which blocks share."""
        nodes = [node for node in graph if scope in scopes(node) and node.op_type != "Constant"]
        within = {*nodes}
        given = {
            value
            for node in nodes
            for value in node.inputs
            if value is not None and value.producer() not in within and not _is_constant(value)
        }
        made = {
            value
            for node in nodes
            for value in node.outputs
            if any(use.node not in within for use in value.uses())
        }
        if len(given) != 1 or len(made) != 1:
            raise ParityError(f"{scope} takes {len(given)} values and gives {len(made)}, not one")
        return cls(scope, nodes, given.pop(), made.pop())

    def drop_weights(self, graph: onnx_ir.Graph) -> None:
        """Remove the weights of the block from the graph, so that their names are free."""
        for name in [name for name in graph.initializers if name.startswith(f"{self.scope}.")]:
            del graph.initializers[name]

    def copy(
        self,
        scope: str,
        entry: onnx_ir.Value,
        weights: Mapping[str, Tensor],
        graph: onnx_ir.Graph,
    ) -> tuple[list[onnx_ir.Node], onnx_ir.Value]:
        """Copy the nodes for a block of the same kind; return them and what they return.

        Args:
            scope: Path of the block; ``weights`` holds its weights by their paths.
            entry: What it takes.
            weights: Of the whole network.
            graph: It gets the weights, but not the nodes.
        """
        now: dict[onnx_ir.Value | None, onnx_ir.Value] = {self.entry: entry}
        # Each once, in the order of the graph: the same export writes the same bytes.
        inputs = dict.fromkeys(value for node in self.nodes for value in node.inputs)
        for value in filter(None, inputs):
            inside = str(value.name).removeprefix(f"{self.scope}.")
            if value.producer() is None and inside != value.name:
                now[value] = _weight(f"{scope}.{inside}", weights)
                graph.register_initializer(now[value])
        return [self._copied(node, scope, now) for node in self.nodes], now[self.exit]

    def _copied(
        self, node: onnx_ir.Node, scope: str, now: dict[onnx_ir.Value | None, onnx_ir.Value]
    ) -> onnx_ir.Node:
        outputs = [
            onnx_ir.Value(name=f"{scope}/{value.name}", type=value.type, shape=value.shape)
            for value in node.outputs
        ]
        now.update(zip(node.outputs, outputs, strict=True))
        return onnx_ir.Node(
            node.domain,
            node.op_type,
            [now.get(value, value) for value in node.inputs],
            node.attributes.values(),
            overload=node.overload,
            outputs=outputs,
            version=node.version,
            metadata_props=moved(node, self.scope, scope),
        )


def _children(blocks: RepeatedBlocks) -> list[nn.Module]:
    return list(blocks.module.get_submodule(blocks.name).children())


def _weights(blocks: RepeatedBlocks) -> dict[str, Tensor]:
    return dict((*blocks.module.named_parameters(), *blocks.module.named_buffers()))


def _is_constant(value: onnx_ir.Value) -> bool:
    """Tell whether a value is a weight or a constant of the graph."""
    node = value.producer()
    return value.is_initializer() if node is None else node.op_type == "Constant"


def _weight(name: str, weights: Mapping[str, Tensor]) -> onnx_ir.Value:
    tensor = TorchTensor(weights[name].detach(), name=name)
    kind = onnx_ir.TensorType(tensor.dtype)
    return onnx_ir.Value(name=name, type=kind, shape=tensor.shape, const_value=tensor)


def _kind(block: nn.Module) -> str:
    """Name all that a trace depends on: types, attributes and shapes, and no weight."""
    told = []
    for path, part in block.named_modules():
        own = {name: value for name, value in vars(part).items() if not name.startswith("_")}
        told.append(f"{path} {type(part)} {id(type(part))} {own}")
    for name, weight in (*block.named_parameters(), *block.named_buffers()):
        told.append(f"{name} {weight.dtype} {tuple(weight.shape)} {weight.stride()}")
    return "\n".join(told)
