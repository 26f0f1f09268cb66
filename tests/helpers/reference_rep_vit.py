"""EdgeSAM's encoder written plainly over the weights of its checkpoints, by their names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

Weights = Mapping[str, Tensor]


def encode(weights: Weights, image: Tensor) -> Tensor:
    """Embed a normalised image (1, 3, side, side) of any side; every branch as it was trained."""
    w = {name.removeprefix("image_encoder."): each for name, each in weights.items()}
    x = functional.gelu(_conv(w, "features.0.0", image, stride=2))
    x = _conv(w, "features.0.2", x, stride=2)
    number, outputs = 1, {}
    for stage, depth in enumerate((3, 4, 16, 3)):
        for place in range(depth):
            block = f"features.{number}."
            halves = stage > 0 and place == 0
            if halves:
                x = _conv(w, f"{block}token_mixer.0", x, stride=2, depthwise=True)
            else:
                wide = _conv(w, f"{block}token_mixer.0.conv", x, depthwise=True)
                x = wide + _conv(w, f"{block}token_mixer.0.conv1", x, depthwise=True) + x
            if f"{block}token_mixer.1.fc1.weight" in w:
                gate = x.mean((2, 3), keepdim=True)
                gate = functional.relu(_plain(w, f"{block}token_mixer.1.fc1", gate))
                x = x * torch.sigmoid(_plain(w, f"{block}token_mixer.1.fc2", gate))
            if halves:
                x = _conv(w, f"{block}token_mixer.2", x)
            hidden = functional.gelu(_conv(w, f"{block}channel_mixer.m.0", x))
            x = x + _conv(w, f"{block}channel_mixer.m.2", hidden)
            number += 1
        outputs[stage] = x
    fine = functional.conv2d(outputs[2], w["fuse_stage2.weight"])
    coarse = functional.conv2d(outputs[3], w["fuse_stage3.op_list.0.weight"])
    x = fine + functional.interpolate(coarse, scale_factor=2, mode="bicubic", align_corners=False)
    x = _norm(w, "neck.1", functional.conv2d(x, w["neck.0.weight"]))
    return _norm(w, "neck.3", functional.conv2d(x, w["neck.2.weight"], padding=1))


def _conv(w: Weights, name: str, x: Tensor, *, stride: int = 1, depthwise: bool = False) -> Tensor:
    kernel = w[f"{name}.c.weight"]
    groups, padding = (x.shape[1] if depthwise else 1), kernel.shape[-1] // 2
    made = functional.conv2d(x, kernel, None, stride, padding, groups=groups)
    norm = (w[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(made, *norm, eps=1e-5)


def _plain(w: Weights, name: str, x: Tensor) -> Tensor:
    return functional.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _norm(w: Weights, name: str, x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    normal = (x - mean) / torch.sqrt(((x - mean) ** 2).mean(1, keepdim=True) + 1e-6)
    return normal * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]
