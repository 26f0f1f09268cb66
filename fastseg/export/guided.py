"""Export of networks whose prompts are channels of their input, compared with their source."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from fastseg import artifacts
from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import Manifest
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.contract import GraphSpec
from fastseg.export.checkpoints.preparations import Preparation
from fastseg.export.fp16 import convert as fp16_convert
from fastseg.export.model_folder import (
    Card,
    Progress,
    parameter_count,
    require_parity,
    silent,
    versions,
)
from fastseg.export.networks.guided import GuidedModules
from fastseg.export.onnx.writer import Source, write
from fastseg.validation import parity
from fastseg.validation.parity import Table

SIZES = ((1, 97, 131), (2, 160, 128))
"""Images, height and width in the runs of the comparison, where the graph leaves them open."""


def write_guided_folder(
    modules: GuidedModules,
    out: str | os.PathLike[str],
    card: Card,
    *,
    preparation: Preparation,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> Table:
    """Write a network as a model folder and compare its graph with it.

    Args:
        modules: The network, which is set to evaluation and frozen.
        out: The folder to write. A model folder of that name is replaced, another one never.
        card: Name, licence and origin.
        preparation: Family, preprocessing and rules.
        precision: ``"fp16"`` for a mixed-precision graph beside the float32 one; see
            ``fp16.convert``.
        progress: Called with a few words as each step begins.

    Returns:
        The differences between graph and module, a row for each size of the input.

    Raises:
        OutputError: The folder cannot be written.
        ParityError: The graph does not do what its module does, or the masks of the
            mixed-precision one are too far from the others; nothing is left.
    """
    step = progress or silent
    network, graph = modules.network.eval().requires_grad_(False), modules.graph
    with artifacts.write(out, overwrite=True) as folder:
        step(f"writing {graph.name}")
        path = folder / f"{graph.name}.onnx"
        example = _inputs(graph, (2, 64, 96), torch.Generator().manual_seed(1))
        outside = write(Source(graph, network, example, sizeless=True), path)
        step("comparing the graph with its source")
        table = compare(modules, path)
        require_parity(card.name, table)
        manifest = Manifest(
            family=preparation.family,
            name=card.name,
            preprocessing=preparation.preprocessing,
            rules=preparation.rules,
            graphs={graph.name: artifacts.graph_file(graph, path, data=outside)},
            source={**card.source, "parameters": parameter_count(network)},
            licence=card.licence,
            description=card.description,
            written_by=versions(),
            parity=tuple(table.as_rows()),
        )
        if precision == fp16_convert.PRECISION:
            _, manifest = fp16_convert.write_fp16(ModelFolder(folder, manifest), progress=step)
        artifacts.write_manifest(folder, manifest)
    return table


def compare(modules: GuidedModules, path: Path) -> Table:
    """Run the graph in ONNX Runtime on the CPU and compare it with the module, a row a size."""
    random = torch.Generator().manual_seed(0)
    network, graph = modules.network.eval(), modules.graph
    with closing(OrtBackend(path, graph)) as backend, torch.inference_mode():
        rows = []
        for size in _sizes(graph):
            image, guidance = _inputs(graph, size, random)
            expected = network(image, guidance).numpy()
            found = backend.run({"image": image.numpy(), "guidance": guidance.numpy()})["logits"]
            name = f"logits, {size[0]} of {expected.shape[2]} x {expected.shape[3]}"
            rows.append(parity.compare_logits(name, found, expected))
    return Table(tuple(rows))


def _sizes(graph: GraphSpec) -> Iterator[tuple[int, int, int]]:
    """Yield the sizes of the comparison; sides that the graph fixes are its own."""
    for count, *sides in SIZES:
        yield _fixed(graph, (count, sides[0], sides[1]))


def _fixed(graph: GraphSpec, size: tuple[int, int, int]) -> tuple[int, int, int]:
    count, height, width = size
    rows, columns = graph.inputs[0].shape[2:]
    return (
        count,
        rows if isinstance(rows, int) else height,
        columns if isinstance(columns, int) else width,
    )


def _inputs(
    graph: GraphSpec, size: tuple[int, int, int], random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Generate images between photographs and noise, and guidance of smooth maps in 0..1."""
    count, *sides = _fixed(graph, size)
    image, guidance = (
        _smooth(count, int(one.shape[1]), (sides[0], sides[1]), random) for one in graph.inputs
    )
    return image + 0.1 * torch.randn(image.shape, generator=random), torch.sigmoid(3 * guidance)


def _smooth(count: int, channels: int, sides: tuple[int, int], random: torch.Generator) -> Tensor:
    coarse = torch.randn(count, channels, 6, 6, generator=random)
    return functional.interpolate(coarse, sides, mode="bilinear")
