"""Weights that a training starts from: a file of weights, or an exported model folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastseg import artifacts
from fastseg.artifacts import registry
from fastseg.artifacts.manifest import UNET
from fastseg.contract import UNET_GRAPH
from fastseg.errors import ModelFolderError
from fastseg.export.checkpoints.unet import read_unet_weights
from fastseg.export.networks.unet import UNet
from training.echo.heart import CHANNELS, CLASSES, View


def network(start: str, view: View) -> UNet:
    """Build a view's network with existing weights.

    Args:
        start: A file that ``fastseg export unet`` reads, an embedded model, or a model folder that
            was exported by fastseg.
        view: View that the network must have been made for.

    Raises:
        CheckpointError: The file holds no weights of this network.
        ModelNotFoundError: There is no such file, name or folder.
        ModelFolderError: The folder is damaged, or its network is another one.
    """
    if Path(start).is_file():
        weights, width = read_unet_weights(start, view)
    else:
        weights = _from_folder(start, view)
        width = len(weights["down.0.0.weight"])
    built = UNet(CHANNELS[view], len(CLASSES[view]), width)
    built.load_state_dict(weights)
    return built


def _from_folder(start: str, view: View) -> dict[str, Tensor]:
    folder = artifacts.read(registry.find(start))
    if folder.manifest.family != UNET or folder.manifest.view != view:
        raise ModelFolderError(
            f"{start} is no network for {view} frames. Start from one that is, or from nothing."
        )
    weights = _of_graph(folder.path / folder.manifest.graphs[UNET_GRAPH].file)
    with torch.device("meta"):
        names = UNet(CHANNELS[view], len(CLASSES[view])).state_dict().keys()
    if weights.keys() != names:
        raise ModelFolderError(
            f"{start} does not name its weights as fastseg's export does. Start from the file of "
            "weights that it was made from."
        )
    return weights


def _of_graph(path: Path) -> dict[str, Tensor]:
    """Read kernels and biases of every convolution under the names of ``UNet``'s state dict."""
    import onnx

    graph = onnx.load(path).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
    found: dict[str, Tensor] = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        kernel = values[node.input[1]]
        # The exporter leaves out a bias of zeros.
        outputs = kernel.shape[0 if node.op_type == "Conv" else 1]
        bias = values[node.input[2]] if len(node.input) > 2 else np.zeros(outputs)
        # Only a kernel keeps its name in a graph.
        name = node.input[1].removeprefix("network.").removesuffix(".weight")
        found[f"{name}.weight"], found[f"{name}.bias"] = _tensor(kernel), _tensor(bias)
    return found


def _tensor(array: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))
