"""EfficientSAM written plainly over the weights of its checkpoints, by their published names."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Weights = Mapping[str, Tensor]

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def random_weights(width: int, *, depth: int = 12, seed: int = 0) -> dict[str, Tensor]:
    """Draw weights of an encoder of this width and depth, and of the decoder."""
    shapes: dict[str, tuple[int, ...]] = {
        "image_encoder.pos_embed": (1, 197, width),
        "image_encoder.patch_embed.proj.weight": (width, 3, 16, 16),
        "image_encoder.patch_embed.proj.bias": (width,),
        "image_encoder.neck.0.weight": (256, width, 1, 1),
        "image_encoder.neck.2.weight": (256, 256, 3, 3),
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (2, 128),
        "mask_decoder.iou_token.weight": (1, 256),
        "mask_decoder.mask_tokens.weight": (4, 256),
        "mask_decoder.final_output_upscaling_layers.0.0.weight": (256, 64, 2, 2),
        "mask_decoder.final_output_upscaling_layers.0.0.bias": (64,),
        "mask_decoder.final_output_upscaling_layers.1.0.weight": (64, 32, 2, 2),
        "mask_decoder.final_output_upscaling_layers.1.0.bias": (32,),
    }
    kinds = ("invalid_points", "point", "bbox_top_left", "bbox_bottom_right")
    for kind in kinds:
        name = kind if kind == "invalid_points" else f"{kind}_embeddings"
        shapes[f"prompt_encoder.{name}.weight"] = (1, 256)
    linear = {}
    for at in range(depth):
        block = f"image_encoder.blocks.{at}"
        linear[f"{block}.attn.qkv"] = (3 * width, width)
        linear[f"{block}.attn.proj"] = (width, width)
        linear[f"{block}.mlp.fc1"] = (4 * width, width)
        linear[f"{block}.mlp.fc2"] = (width, 4 * width)
    transformer = "mask_decoder.transformer"
    attentions = {f"{transformer}.final_attn_token_to_image": 128}
    for at in range(2):
        layer = f"{transformer}.layers.{at}"
        attentions |= {
            f"{layer}.self_attn": 256,
            f"{layer}.cross_attn_token_to_image": 128,
            f"{layer}.cross_attn_image_to_token": 128,
        }
        linear[f"{layer}.mlp.layers.0.0"] = (2048, 256)
        linear[f"{layer}.mlp.fc"] = (256, 2048)
    for attention, inner in attentions.items():
        linear |= {f"{attention}.{side}_proj": (inner, 256) for side in "qkv"}
        linear[f"{attention}.out_proj"] = (256, inner)
    for slot in range(4):
        head = f"mask_decoder.output_hypernetworks_mlps.{slot}"
        linear |= {f"{head}.layers.{at}.0": (256, 256) for at in range(2)}
        linear[f"{head}.fc"] = (32, 256)
    head = "mask_decoder.iou_prediction_head"
    linear |= {f"{head}.layers.{at}.0": (256, 256) for at in range(2)}
    linear[f"{head}.fc"] = (4, 256)
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    random = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        fan = math.prod(shape[1:]) if len(shape) > 1 else 256
        # Sharper attention would be chaotic: float32 against float64 would differ by 1e-3.
        scale = 1.0 if name.endswith("matrix") else 0.5 / fan**0.5
        found[name] = scale * torch.randn(shape, generator=random)
    norms = {f"image_encoder.blocks.{at}.norm{n}": width for at in range(depth) for n in (1, 2)}
    norms |= {f"image_encoder.neck.{at}": 256 for at in (1, 3)}
    norms |= {f"{transformer}.layers.{at}.norm{n}": 256 for at in (0, 1) for n in (1, 2, 3, 4)}
    norms[f"{transformer}.norm_final_attn"] = 256
    norms["mask_decoder.final_output_upscaling_layers.0.1"] = 64
    for name, count in norms.items():
        found[f"{name}.weight"] = 1 + 0.1 * torch.randn(count, generator=random)
        found[f"{name}.bias"] = 0.1 * torch.randn(count, generator=random)
    return found


def prepared(image: np.ndarray, side: int = 1024) -> Tensor:
    """Stretch uint8 (H, W, 3) to a normalised (1, 3, side, side)."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    square = functional.interpolate(pixels, (side, side), mode="bilinear", align_corners=False)
    return (square - MEAN[:, None, None]) / STD[:, None, None]


def encode(weights: Weights, image: Tensor, heads: int) -> Tensor:
    """Embed a prepared image (1, 3, side, side) of any side."""
    w = {name.removeprefix("image_encoder."): each for name, each in weights.items()}
    x = functional.conv2d(image, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], 16)
    grid, width = x.shape[-1], x.shape[1]
    learned = w["pos_embed"][:, 1:].reshape(1, 14, 14, width).permute(0, 3, 1, 2)
    x = x + functional.interpolate(learned, (grid, grid), mode="bicubic", align_corners=False)
    x = x.flatten(2).transpose(1, 2)[0]
    at = 0
    while f"blocks.{at}.norm1.weight" in w:
        block = f"blocks.{at}."
        normal = _norm(w, f"{block}norm1", x, 1e-6)
        x = x + _attend(w, f"{block}attn", normal, heads)
        normal = _norm(w, f"{block}norm2", x, 1e-6)
        hidden = functional.gelu(_linear(w, f"{block}mlp.fc1", normal))
        x = x + _linear(w, f"{block}mlp.fc2", hidden)
        at += 1
    x = x.T.reshape(1, width, grid, grid)
    x = _norm_2d(w, "neck.1", functional.conv2d(x, w["neck.0.weight"]))
    return _norm_2d(w, "neck.3", functional.conv2d(x, w["neck.2.weight"], padding=1))


def decode(
    weights: Weights, embedding: Tensor, points: Tensor, labels: Tensor, side: int = 1024
) -> tuple[Tensor, Tensor]:
    """Draw the four masks of one prompt; points (p, 2) in the square are filled up to six."""
    points = torch.cat([points, -torch.ones(6 - len(points), 2)])
    labels = torch.cat([labels, -torch.ones(6 - len(labels), dtype=labels.dtype)])
    w = {name.split(".", 1)[1]: each for name, each in weights.items() if name[:5] != "image"}
    matrix = w["pe_layer.positional_encoding_gaussian_matrix"]
    types = {
        -1: "invalid_points",
        1: "point_embeddings",
        2: "bbox_top_left_embeddings",
        3: "bbox_bottom_right_embeddings",
    }
    sparse = _positions((points + 0.5) / side, matrix)
    for row, label in zip(sparse, labels.tolist(), strict=True):
        row += w[f"{types[label]}.weight"][0]
    grid = embedding.shape[-1]
    centres = (torch.arange(grid) + 0.5) / grid
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    dense = _positions(torch.stack([columns, rows], dim=-1).reshape(-1, 2), matrix)
    image = embedding[0].flatten(1).T
    prompt = torch.cat([w["iou_token.weight"], w["mask_tokens.weight"], sparse])
    tokens = prompt
    for at in range(2):
        layer = f"transformer.layers.{at}."
        if at == 1:
            tokens = tokens + prompt
        tokens = tokens + _cross(w, f"{layer}self_attn", tokens, tokens, tokens)
        tokens = _norm(w, f"{layer}norm1", tokens)
        seen = _cross(w, f"{layer}cross_attn_token_to_image", tokens + prompt, image + dense, image)
        tokens = _norm(w, f"{layer}norm2", tokens + seen)
        hidden = functional.gelu(_linear(w, f"{layer}mlp.layers.0.0", tokens))
        tokens = _norm(w, f"{layer}norm3", tokens + _linear(w, f"{layer}mlp.fc", hidden))
        seen = _cross(
            w, f"{layer}cross_attn_image_to_token", image + dense, tokens + prompt, tokens
        )
        image = _norm(w, f"{layer}norm4", image + seen)
    name = "transformer.final_attn_token_to_image"
    seen = _cross(w, name, tokens + prompt, image + dense, image)
    tokens = _norm(w, "transformer.norm_final_attn", tokens + seen)
    x = image.T.reshape(1, 256, grid, grid)
    up = "final_output_upscaling_layers."
    x = functional.conv_transpose2d(x, w[f"{up}0.0.weight"], w[f"{up}0.0.bias"], stride=2)
    x = functional.gelu(functional.group_norm(x, 1, w[f"{up}0.1.weight"], w[f"{up}0.1.bias"]))
    x = functional.conv_transpose2d(x, w[f"{up}1.0.weight"], w[f"{up}1.0.bias"], stride=2)
    x = functional.gelu(x)[0]
    vectors = [_head(w, f"output_hypernetworks_mlps.{slot}", tokens[1 + slot]) for slot in range(4)]
    masks = torch.stack([(vector[:, None, None] * x).sum(0) for vector in vectors])
    return masks, _head(w, "iou_prediction_head", tokens[0])


def enlarged(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize logits (n, h, w) to the image."""
    return functional.interpolate(logits[None], size, mode="bicubic", align_corners=False)[0]


def _positions(places: Tensor, matrix: Tensor) -> Tensor:
    angles = 2 * math.pi * ((2 * places - 1) @ matrix)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _norm(w: Weights, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    scale, shift = w[f"{name}.weight"], w[f"{name}.bias"]
    return functional.layer_norm(x, scale.shape, scale, shift, eps)


def _norm_2d(w: Weights, name: str, x: Tensor) -> Tensor:
    return _norm(w, name, x.permute(0, 2, 3, 1), 1e-6).permute(0, 3, 1, 2)


def _attend(w: Weights, name: str, x: Tensor, heads: int) -> Tensor:
    queries, keys, values = _linear(w, f"{name}.qkv", x).chunk(3, dim=-1)
    return _linear(w, f"{name}.proj", _by_head(queries, keys, values, heads))


def _cross(w: Weights, name: str, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    q, k, v = (
        _linear(w, f"{name}.{side}_proj", each)
        for side, each in zip("qkv", (queries, keys, values), strict=True)
    )
    return _linear(w, f"{name}.out_proj", _by_head(q, k, v, 8))


def _by_head(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    mixed = []
    parts = (each.chunk(heads, dim=-1) for each in (queries, keys, values))
    for q, k, v in zip(*parts, strict=True):
        mixed.append(torch.softmax(q @ k.T / q.shape[-1] ** 0.5, dim=-1) @ v)
    return torch.cat(mixed, dim=-1)


def _head(w: Weights, name: str, token: Tensor) -> Tensor:
    hidden = functional.gelu(_linear(w, f"{name}.layers.0.0", token))
    hidden = functional.gelu(_linear(w, f"{name}.layers.1.0", hidden))
    return _linear(w, f"{name}.fc", hidden)
