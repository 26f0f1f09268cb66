"""Settings of the layers of a Keras file, where the file holds them.

A U-Net with other activations can have the very same arrays. ``model.save`` writes the settings of
each layer; ``save_weights`` does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SAME = {"padding": "same", "strides": [1, 1], "dilation_rate": [1, 1], "activation": "relu"}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "down": SAME,
    "merge": SAME,
    "up": {"strides": [2, 2], "activation": "linear"},
    "head": {"strides": [1, 1], "activation": "sigmoid"},
}
"""Required settings of a layer, by the first word of its name in ``UNet``."""

ACTIVATIONS = frozenset(("Activation", "ReLU"))
"""Layers that leave the activation of the convolution before them linear."""

KINDS = ACTIVATIONS | {
    "InputLayer",
    "Conv2D",
    "Conv2DTranspose",
    "MaxPooling2D",
    "Concatenate",
    "Dropout",
}
"""Keras' layers in such a network; a dropout does nothing outside training."""


def contradiction(model_config: str | bytes, places: Mapping[str, str]) -> str | None:
    """Describe the first layer whose settings are not those of the U-Net; None if there is none.

    Args:
        model_config: The attribute of that name, JSON.
        places: A layer's name in the file to its name in ``UNet``.

    Raises:
        ValueError: The attribute is not JSON.
    """
    config = json.loads(model_config).get("config")
    if not isinstance(config, dict):  # a model that is not made of layers says nothing about them
        return None
    layers = config.get("layers", ())
    apart = any(layer["class_name"] in ACTIVATIONS for layer in layers)
    for layer in layers:
        name, kind = layer["config"]["name"], layer["class_name"]
        if kind not in KINDS:
            return f"layer {name} is a {kind}, and this network has none"
        place = places.get(name, "")
        for setting, wanted in SETTINGS.get(place.split(".")[0], {}).items():
            found = layer["config"].get(setting, wanted)
            elsewhere = apart and setting == "activation" and found == "linear"
            if found != wanted and not elsewhere:
                return f"layer {name} has {setting} {found!r}, and {place} has {wanted!r}"
    return None
