"""Weights of the echo U-Net in Keras' .h5 files, whose arrays have their channels last.

Two layouts exist: ``model.save`` puts the layers under ``model_weights``, beside the state of the
optimiser, and ``save_weights`` at the root. In both an attribute ``layer_names`` lists the layers
in the order in which they run, and an attribute ``weight_names`` of each layer says where its
arrays are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastseg.environment import install_hint
from fastseg.errors import BackendUnavailableError, CheckpointError
from fastseg.export.checkpoints import keras_layers
from fastseg.export.networks.unet import LEVELS, UNet
from fastseg.storage.paths import is_file

DOWN = [f"down.{level}.{index}" for level in range(LEVELS) for index in range(2)]
LEVELS_UP = range(LEVELS - 2, -1, -1)
ORDER: Mapping[str, list[str]] = {
    "3x3": [*DOWN, *(f"merge.{level}.{index}" for level in LEVELS_UP for index in range(2))],
    "2x2": [f"up.{level}" for level in LEVELS_UP],
    "1x1": ["head"],
}
"""The layers of ``UNet`` in the order in which they run, by the size of their kernels.

Names in the file say nothing: Keras counts layers through a whole session (``conv2d_23``).
"""


@dataclass(frozen=True, slots=True)
class KerasLayer:
    """A layer with weights, as the file holds it."""

    name: str
    kernel: Any  # an h5py dataset, (height, width, in, out); transposed: (height, width, out, in)
    bias: Any

    @property
    def size(self) -> str:
        """Size of the kernel, ``"3x3"``."""
        return f"{self.kernel.shape[0]}x{self.kernel.shape[1]}"


def read(path: Path, *, remedy: str) -> dict[str, Tensor]:
    """Read a file that Keras wrote by ``model.save`` or ``save_weights``.

    Kernel sizes and the order tell the layers apart; every shape is compared before an array is
    read. The state of the optimiser is ignored. Activations and padding are
    compared where the file tells of them, which is after ``model.save``.

    Args:
        path: The ``.h5`` file.
        remedy: What to give instead, for the error.

    Returns:
        The state dict of a ``UNet`` with the file's own channels, classes and width.

    Raises:
        CheckpointError: The file is missing, truncated, not from Keras, or of another network.
        BackendUnavailableError: h5py is not installed.
    """
    if not is_file(path, CheckpointError):
        raise CheckpointError(f"there is no checkpoint {path}. {remedy}")
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            layers = list(_layers(path, file.get("model_weights", file), remedy))
            placed = _placed(path, layers, remedy)
            _check_behaviour(path, file.attrs.get("model_config"), placed)
            return _arrays(placed)
    except CheckpointError:
        raise
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # a damaged file can make h5py raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is truncated or no .h5 file of Keras ({reason}). Download it again"
        ) from error


def _h5py() -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise BackendUnavailableError(
            "a .h5 file of weights",
            reason="h5py is not installed",
            remedy=install_hint("export"),
        ) from error
    return h5py


def _layers(path: Path, group: Any, remedy: str) -> Iterator[KerasLayer]:
    """Yield the layers with weights, in the order in which they run."""
    if "layer_names" not in group.attrs:
        raise CheckpointError(
            f"{path} does not list its layers, as model.save and save_weights of Keras 2 do. From "
            f'Keras 3 save it by model.save("weights.h5"). {remedy}'
        )
    for name in _texts(group.attrs["layer_names"]):
        arrays = [group[name][inner] for inner in _texts(group[name].attrs["weight_names"])]
        if not arrays:  # an input, a pooling, a concatenation
            continue
        shapes = [array.shape for array in arrays]
        kernels = [array for array in arrays if len(array.shape) == 4]
        biases = [array for array in arrays if len(array.shape) == 1]
        if len(arrays) != 2 or len(kernels) != 1 or len(biases) != 1:
            held = ", ".join(map(str, shapes))
            raise CheckpointError(
                f"{path} is not this U-Net: layer {name} holds {held}, and every layer of it is a "
                f"convolution with one kernel and one bias. {remedy}"
            )
        yield KerasLayer(name, kernels[0], biases[0])


def _texts(values: Any) -> list[str]:
    return [text.decode() if isinstance(text, bytes) else str(text) for text in values]


def _placed(path: Path, layers: list[KerasLayer], remedy: str) -> dict[str, KerasLayer]:
    """Give every layer its name in ``UNet``, or raise for the first one without."""
    by_size: dict[str, list[KerasLayer]] = {size: [] for size in ORDER}
    for layer in layers:
        if layer.size not in by_size:
            raise CheckpointError(
                f"{path} is not this U-Net: layer {layer.name} has a {layer.size} kernel, and "
                f"this network has only {', '.join(ORDER)}. {remedy}"
            )
        by_size[layer.size].append(layer)
    for size in ("3x3", "1x1"):  # the first layer and the last: they imply the others
        if not by_size[size]:
            raise CheckpointError(
                f"{path} is not this U-Net: it has no {size} convolution. {remedy}"
            )
    wanted = _shapes(first=by_size["3x3"][0], last=by_size["1x1"][0])
    placed = {}
    for size, names in ORDER.items():
        for name, layer in zip_longest(names, by_size[size]):
            if (complaint := _complaint(name, layer, wanted)) is not None:
                raise CheckpointError(f"{path} is not this U-Net: {complaint}. {remedy}")
            placed[name] = layer
    return placed


def _shapes(*, first: KerasLayer, last: KerasLayer) -> dict[str, tuple[int, ...]]:
    """Compute the kernel shapes, as Keras stores them, that the first and last layer imply."""
    channels, width = first.kernel.shape[2:]
    with torch.device("meta"):
        weights = UNet(channels, last.kernel.shape[3], width).state_dict()
    return {
        name.removesuffix(".weight"): tuple(kernel.permute(2, 3, 1, 0).shape)
        for name, kernel in weights.items()
        if name.endswith(".weight")
    }


def _complaint(
    name: str | None, layer: KerasLayer | None, wanted: Mapping[str, tuple[int, ...]]
) -> str | None:
    """Say why a layer cannot have a name of ``UNet``; None if it can."""
    if name is None:
        return f"layer {layer.name} is one {layer.size} convolution too many" if layer else None
    if layer is None:
        return f"a layer with a kernel of {wanted[name]} is missing, {name}"
    if tuple(layer.kernel.shape) != wanted[name]:
        return (
            f"layer {layer.name} has a kernel of {tuple(layer.kernel.shape)}, and {name}, which "
            f"is at its place, has {wanted[name]}"
        )
    # A transposed convolution has its output channels third, and the others last.
    outputs = wanted[name][2 if name.startswith("up.") else 3]
    if layer.bias.shape != (outputs,):
        return f"layer {layer.name} has a bias of {layer.bias.shape}, and {name} has {(outputs,)}"
    return None


def _check_behaviour(path: Path, config: Any, placed: Mapping[str, KerasLayer]) -> None:
    """Refuse a network that has the arrays of this one but other activations or padding."""
    if config is None:
        return
    said = keras_layers.contradiction(config, {layer.name: name for name, layer in placed.items()})
    if said is not None:
        raise CheckpointError(
            f"{path} is not this U-Net: {said}. If it computes the same in another way, give what "
            "save_weights writes of it"
        )


def _arrays(placed: Mapping[str, KerasLayer]) -> dict[str, Tensor]:
    """Read every array, with its axes in torch's order."""
    weights = {}
    for name, layer in placed.items():
        # (h, w, in, out) -> (out, in, h, w). A transposed convolution has out before in, here as
        # there, so that the same permutation is right for it.
        kernel = np.asarray(layer.kernel).transpose(3, 2, 0, 1)
        weights[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel))
        weights[f"{name}.bias"] = torch.from_numpy(np.asarray(layer.bias))
    return weights
