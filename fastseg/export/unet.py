"""Export of an echo view's U-Net to a model folder, compared with its source."""

from __future__ import annotations

import os
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fastseg import artifacts, contract
from fastseg.artifacts import ModelFolder, safetensors
from fastseg.artifacts.manifest import UNET, Manifest
from fastseg.artifacts.preprocessing import FramePreprocessing
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.contract import GraphSpec
from fastseg.echo import views
from fastseg.errors import CheckpointError
from fastseg.export.checkpoints.unet import read_unet_weights
from fastseg.export.fp16 import convert as fp16_convert
from fastseg.export.model_folder import (
    Card,
    Progress,
    parameter_count,
    require_parity,
    require_precision,
    silent,
    versions,
)
from fastseg.export.networks.unet import UNet
from fastseg.export.onnx import float16_storage
from fastseg.export.onnx.writer import Source, Store, write
from fastseg.validation import parity
from fastseg.validation.parity import Difference, Table

WEIGHTS = "network.safetensors"
"""The weights under the names of ``UNet``'s state dict: the native kernel and the graph read it."""

BATCHES = (1, 3)
"""Frames in each run of the comparison: a batch is free in the graph."""


def export_unet(
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str],
    view: str,
    *,
    store: Store = "float32",
    precision: str = "fp32",
    card: Card | None = None,
    progress: Progress | None = None,
) -> Table:
    """Turn the weights of a view's U-Net into a model folder.

    The folder appears whole, and only if the graph, run in ONNX Runtime, agrees with the torch
    module. Its ``model.json`` holds the differences.

    Args:
        weights: A ``.pt``, ``.pth``, ``.safetensors`` or Keras ``.h5`` file; see
            ``checkpoints.unet.read_unet_weights``.
        out: The folder to write. A model folder of that name is replaced, another one never.
        view: ``"a2c"``, ``"a4c"`` or ``"sax"``.
        store: Type of the weights in the folder: ``"float16"`` rounds them and halves its size.
        precision: ``"fp32"``, or ``"fp16"`` for a mixed-precision graph beside the float32 one.
        card: Name, licence and description; file, hash and view are added to its source. An empty
            name becomes that of the folder, an empty description a plain one.
        progress: Called with a few words as each step begins.

    Returns:
        The differences between graph and module, a row a batch.

    Raises:
        CheckpointError: The file is not such weights.
        OutputError: The folder cannot be written.
        ParityError: The graph does not do what the module does, or the masks of the
            mixed-precision one are too far from the others; nothing is left.
    """
    require_precision(precision)
    step = progress or silent
    step("reading the weights")
    network, path = load_unet(weights, view), Path(weights)
    origin = {"file": path.name, "sha256": artifacts.sha256(path), "kind": "unet", "view": view}
    asked = card or Card("")
    complete = replace(
        asked,
        name=asked.name or Path(out).name,
        description=asked.description or f"U-Net of width {network.width} for the {view} view",
        source={**asked.source, **origin},
    )
    return write_unet_folder(
        network, out, view, complete, store=store, precision=precision, progress=step
    )


def load_unet(weights: str | os.PathLike[str], view: str) -> UNet:
    """Build a view's network around its weights.

    Raises:
        CheckpointError: The file is not such weights.
    """
    found, width = read_unet_weights(weights, view)
    expected = views.find(view)
    with torch.device("meta"):
        network = UNet(expected.channels, len(expected.classes), width)
    network.load_state_dict(found, assign=True)
    return network


def write_unet_folder(
    network: UNet,
    out: str | os.PathLike[str],
    view: str,
    card: Card,
    *,
    store: Store = "float32",
    precision: str = "fp32",
    progress: Progress | None = None,
) -> Table:
    """Write a view's network as a model folder and compare its graph with it.

    Args:
        network: On any device, in any mode and precision; it is copied and left as it is.
        out: The folder to write. A model folder of that name is replaced, another one never.
        view: ``"a2c"``, ``"a4c"`` or ``"sax"``; its channels and classes must be the network's.
        card: Name, licence, description and origin.
        store: Type of the weights in the folder. With ``"float16"`` the large ones are rounded
            first, and the comparison is with the rounded network.
        precision: ``"fp16"`` for a mixed-precision graph beside the float32 one; see
            ``fp16.convert``.
        progress: Called with a few words as each step begins.

    Returns:
        The differences between graph and module, a row a batch: in probability, whose scale is 1
        whatever the frame, and in the masks above one half.

    Raises:
        CheckpointError: The network is not one of this view.
        OutputError: The folder cannot be written.
        ParityError: The graph does not do what the module does, or the masks of the
            mixed-precision one are too far from the others; nothing is left.
    """
    step = progress or silent
    expected = views.find(view)
    if (network.channels, network.classes) != (expected.channels, len(expected.classes)):
        raise CheckpointError(
            f"a network of {network.channels} channels and {network.classes} classes is not one "
            f"of view {views.described(view)}"
        )
    frozen = deepcopy(network).cpu().float().eval().requires_grad_(False)
    if store == "float16":
        float16_storage.prepare(frozen)
    preprocessing = FramePreprocessing(channels=expected.channels)
    graph = contract.unet_network(preprocessing.side, network.channels, network.classes)
    module = Probabilities(frozen)
    with artifacts.write(out, overwrite=True) as folder:
        step(f"writing {graph.name}")
        path, weights = folder / f"{graph.name}.onnx", folder / WEIGHTS
        _write_weights(frozen, weights, store)
        example = torch.zeros(1, network.channels, preprocessing.side, preprocessing.side)
        source = Source(graph, module, (example,), batch="batch")
        outside = write(source, path, store=store, weights=weights)
        step("comparing the graph with its source")
        table = compare(module, path, graph)
        require_parity(card.name, table)
        manifest = Manifest(
            family=UNET,
            name=card.name,
            preprocessing=preprocessing,
            graphs={graph.name: artifacts.graph_file(graph, path, data=outside)},
            weights={graph.name: artifacts.stored_file(weights)},
            source={**card.source, "parameters": parameter_count(network)},
            licence=card.licence,
            description=card.description,
            written_by=versions(),
            parity=tuple(table.as_rows()),
            extra={"view": view, "classes": list(expected.classes)},
        )
        if precision == fp16_convert.PRECISION:
            _, manifest = fp16_convert.write_fp16(ModelFolder(folder, manifest), progress=step)
        artifacts.write_manifest(folder, manifest)
    return table


def _write_weights(network: UNet, path: Path, store: Store) -> None:
    """Write the state dict, which the native kernel reads and the graph refers to."""
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    safetensors.write(path, arrays, lossless_fp16=store == "float16")


class Probabilities(nn.Module):
    """A U-Net followed by a sigmoid, as the graph holds it."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames (batch, channels, side, side) to probabilities (batch, classes, ...)."""
        return torch.sigmoid(self.network(frames))


def compare(module: Probabilities, path: Path, graph: GraphSpec) -> Table:
    """Run the graph in ONNX Runtime on the CPU and compare it with the module, a row a batch."""
    side = int(graph.inputs[0].shape[-1])
    random = torch.Generator().manual_seed(0)
    with closing(OrtBackend(path, graph)) as backend, torch.inference_mode():
        rows = []
        for batch in BATCHES:
            frames = _frames(batch, module.network.channels, side, random)
            found = backend.run({"frames": frames.numpy()})["probabilities"]
            rows.append(_difference(batch, found, module(frames).numpy()))
    return Table(tuple(rows))


def _difference(
    batch: int, found: NDArray[np.float32], expected: NDArray[np.float32]
) -> Difference:
    """Compare probabilities as such, and the masks above one half."""
    name = f"probabilities, batch {batch}"
    numbers = parity.compare_arrays(name, found, expected)
    masks = parity.compare_logits(name, found - 0.5, expected - 0.5)
    # Where a network sees nothing all probabilities are near 0, and so is the largest of them:
    # they are measured by the scale that they have everywhere.
    return replace(masks, max_abs=numbers.max_abs, relative=numbers.max_abs, nmse=numbers.nmse)


def _frames(batch: int, channels: int, side: int, random: torch.Generator) -> Tensor:
    """Generate frames between speckle and shapes in [0, 1], each with other contrasts."""
    coarse = torch.rand(batch, channels, 6, 6, generator=random)
    smooth = functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    grain = torch.rand(smooth.shape, generator=random)
    contrast = torch.rand(batch, 1, 1, 1, generator=random)
    frames: Tensor = smooth ** (1 + contrast) * (0.5 + 0.5 * grain)
    return frames
