"""The echo U-Net of Keras in NumPy alone: its layers, its files and its forward pass.

Arrays are (height, width, channels). Nothing here knows torch's order of axes or names of layers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

PARTS = ("kernel", "bias", "moving_mean", "moving_variance")
"""Names of a layer's arrays, of which a convolution has two."""

CLASSES = {
    "input": "InputLayer",
    "conv2d": "Conv2D",
    "conv2d_transpose": "Conv2DTranspose",
    "max_pooling2d": "MaxPooling2D",
    "concatenate": "Concatenate",
    "re_lu": "ReLU",
    "leaky_re_lu": "LeakyReLU",
}
"""Keras' classes by the names that it derives from them."""


@dataclass
class KerasLayer:
    """One layer; ``arrays`` is empty for those without weights."""

    kind: str
    arrays: tuple[Array, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


def unet(channels: int, classes: int, width: int, seed: int = 0) -> list[KerasLayer]:
    """Make all layers in the order in which they run, with random weights."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        fan = 9 * max(shape[2:]) if len(shape) == 4 else 1
        return (random.standard_normal(shape) / fan**0.5).astype(np.float32)

    def convolution(size: int, before: int, after: int) -> KerasLayer:
        settings = {
            "activation": "relu" if size == 3 else "sigmoid",
            "padding": "same" if size == 3 else "valid",
            "strides": [1, 1],
            "dilation_rate": [1, 1],
        }
        return KerasLayer("conv2d", (draw(size, size, before, after), draw(after)), settings)

    widths = [width * 2**level for level in range(5)]
    layers = [KerasLayer("input")]
    before = channels
    for level, after in enumerate(widths):
        if level:
            layers.append(KerasLayer("max_pooling2d"))
        layers += [convolution(3, before, after), convolution(3, after, after)]
        before = after
    for after in reversed(widths[:-1]):
        kernel = draw(2, 2, after, 2 * after)  # out before in
        settings = {"activation": "linear", "padding": "valid", "strides": [2, 2]}
        layers.append(KerasLayer("conv2d_transpose", (kernel, draw(after)), settings))
        layers.append(KerasLayer("concatenate"))
        layers += [convolution(3, 2 * after, after), convolution(3, after, after)]
    layers.append(convolution(1, width, classes))
    return layers


def forward(layers: list[KerasLayer], frame: Array) -> Array:
    """Compute logits (height, width, classes) of one frame (height, width, channels)."""
    features, finer, last = frame, [], layers[-1]
    for layer in layers:
        if layer.kind == "conv2d":
            features = convolve(features, *layer.arrays)
            if layer is not last:
                features = np.maximum(features, 0)
        elif layer.kind == "conv2d_transpose":
            features = upsample(features, *layer.arrays)
        elif layer.kind == "max_pooling2d":
            finer.append(features)
            height, width, channels = features.shape
            features = features.reshape(height // 2, 2, width // 2, 2, channels).max((1, 3))
        elif layer.kind == "concatenate":
            features = np.concatenate([features, finer.pop()], axis=2)
    return features


def convolve(features: Array, kernel: Array, bias: Array) -> Array:
    """Convolve, stride 1, zero padding; the kernel (height, width, in, out) is not mirrored."""
    height, width, _ = features.shape
    margin = kernel.shape[0] // 2
    padded = np.pad(features, ((margin, margin), (margin, margin), (0, 0)))
    out = np.zeros((height, width, kernel.shape[3]), np.float32) + bias
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            out += padded[row : row + height, column : column + width] @ kernel[row, column]
    return out


def upsample(features: Array, kernel: Array, bias: Array) -> Array:
    """Convolve transposed with a 2x2 kernel (out before in) and stride 2."""
    height, width, _ = features.shape
    out = np.zeros((2 * height, 2 * width, kernel.shape[2]), np.float32) + bias
    for row in range(2):
        for column in range(2):
            out[row::2, column::2] += features @ kernel[row, column].T
    return out


def named(layers: list[KerasLayer], *, made_before: int = 0) -> Iterator[tuple[str, KerasLayer]]:
    """Name layers as Keras does, whose counters run on through a session."""
    counts: dict[str, int] = {}
    for layer in layers:
        count = counts.get(layer.kind, made_before)
        counts[layer.kind] = count + 1
        yield (f"{layer.kind}_{count}" if count else layer.kind), layer


def write(path: Path, layers: list[KerasLayer], *, whole: bool, made_before: int = 0) -> Path:
    """Write a file as ``model.save`` (``whole``) or ``save_weights`` lays it out."""
    import h5py

    with h5py.File(path, "w") as file:
        root: Any = file.create_group("model_weights") if whole else file
        names = dict(named(layers, made_before=made_before))
        root.attrs["layer_names"] = np.array([name.encode() for name in names])
        root.attrs["backend"], root.attrs["keras_version"] = b"tensorflow", b"2.4.0"
        for name, layer in names.items():
            group = root.create_group(name)
            found = [f"{name}/{part}:0" for part in PARTS[: len(layer.arrays)]]
            group.attrs["weight_names"] = np.array([inner.encode() for inner in found])
            for inner, array in zip(found, layer.arrays, strict=True):
                group.create_dataset(inner, data=array)
        if whole:
            described = [
                {"class_name": CLASSES[layer.kind], "config": {"name": name, **layer.settings}}
                for name, layer in names.items()
            ]
            model = {"class_name": "Functional", "config": {"layers": described}}
            file.attrs["model_config"] = json.dumps(model)
            _write_optimiser(file.create_group("optimizer_weights"), names)
    return path


def _write_optimiser(group: Any, names: dict[str, KerasLayer]) -> None:
    """Make Adam's moments, which have the shapes of the weights and must not be taken for them."""
    moments = {
        f"training/Adam/{name}/{part}/{moment}:0": np.full_like(array, 7.0)
        for name, layer in names.items()
        for part, array in zip(PARTS, layer.arrays, strict=False)
        for moment in ("m", "v")
    }
    group.attrs["weight_names"] = np.array([name.encode() for name in moments])
    for name, array in moments.items():
        group.create_dataset(name, data=array)
