"""Weights of the echo views' U-Net, from a file of torch, safetensors or Keras."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fastseg.echo import views
from fastseg.errors import CheckpointError
from fastseg.export.checkpoints import files as checkpoint_files
from fastseg.export.checkpoints import keras as keras_checkpoint
from fastseg.export.networks.unet import UNet

REMEDY = (
    "Give weights of the echo U-Net: .pt, .pth or .safetensors with the names of UNet's state "
    "dict, or a Keras .h5"
)

KERAS_SUFFIXES = (".h5", ".hdf5")


def read_unet_weights(path: str | os.PathLike[str], view: str) -> tuple[Mapping[str, Tensor], int]:
    """Read the weights of a view's network; nothing in the file is executed.

    Args:
        path: A ``.pt``, ``.pth`` or ``.safetensors`` file with the names of ``UNet``'s state dict,
            which may stand under one of ``checkpoints.files.WRAPPERS`` and after ``"module."``;
            or a Keras ``.h5`` file, see ``checkpoints.keras.read``.
        view: ``"a2c"``, ``"a4c"`` or ``"sax"``.

    Returns:
        The state dict of a ``UNet``, float32, and the ``width`` of that network.

    Raises:
        CheckpointError: The file is missing, truncated or holds code; the network in it is another
            one or of another view; a value is not finite. The message names the weight.
        BackendUnavailableError: A ``.h5`` file needs h5py, which is not installed.
    """
    expected, path = views.find(view), Path(path)
    if path.suffix.lower() in KERAS_SUFFIXES:
        weights = keras_checkpoint.read(path, remedy=REMEDY)
    else:
        weights = checkpoint_files.unwrap(
            path, checkpoint_files.load(path, remedy=REMEDY), remedy=REMEDY
        )
    network = _network(path, weights)
    if (network.channels, network.classes) != (expected.channels, len(expected.classes)):
        raise CheckpointError(f"{path} is not of view {view}: {_seen(network)}")
    checkpoint_files.check_values(path, weights)
    return {name: tensor.detach().float() for name, tensor in weights.items()}, network.width


def _network(path: Path, weights: Mapping[str, Tensor]) -> UNet:
    """Build the network, without memory, whose names and shapes are those of the weights."""
    first, last = weights.get("down.0.0.weight"), weights.get("head.weight")
    if first is None or last is None or first.ndim != 4 or last.ndim != 4:
        raise CheckpointError(
            f"{path} lacks the kernel down.0.0.weight or head.weight, so it is not this U-Net. "
            f"It begins with {checkpoint_files.listed(sorted(weights))}. {REMEDY}"
        )
    with torch.device("meta"):
        network = UNet(first.shape[1], last.shape[0], first.shape[0])
    complaint = checkpoint_files.difference(network.state_dict(), weights)
    if complaint is not None:
        raise CheckpointError(
            f"{path} is not a U-Net of width {network.width}: {complaint}. {REMEDY}"
        )
    return network


def _seen(network: UNet) -> str:
    """Name the view of a network, by its sizes alone."""
    for name, view in views.VIEWS.items():
        if (network.channels, network.classes) == (view.channels, len(view.classes)):
            return f"it is of {views.described(name)}. Ask for view {name}"
    known = ", ".join(map(views.described, views.VIEWS))
    return f"it has {network.channels} channels in and {network.classes} out. Views are {known}"
