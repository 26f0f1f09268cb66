"""The mask decoder as it is trained: re-associated attention in bfloat16, masks drawn in places.

The same function as ``MaskDecoder`` with the same weights, up to rounding. Seven tokens and eight
heads are few beside thousands of image tokens, so the projections of a cross attention are taken
on the tokens' side, and no image token is ever projected. A mask is drawn at a sample of image
tokens alone, which is where its loss is taken.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.networks.layers import LayerNorm2d
from fastseg.export.networks.mask_decoder import HEADS, MASK_VECTOR, Attention, MaskDecoder
from fastseg.export.networks.prompt_encoder import WIDTH
from training.sam_nano.devices import full

CELL = 16
"""Mask pixels of one image token: 4 x 4."""

FINE = WIDTH // 4
"""Channels after the first enlargement."""


class Exchanged(NamedTuple):
    """N prompts after the two-way transformer."""

    tokens: Tensor
    """float32 (N, T, 256)."""
    image: Tensor
    """bfloat16 (N, L, 256)."""


def exchange(
    decoder: MaskDecoder, embedding: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor
) -> Exchanged:
    """Run the two-way transformer; arguments as ``MaskDecoder.forward`` takes them."""
    transformer, count = decoder.transformer, sparse.shape[0]
    if dense.shape[0] > 1:
        embedding = embedding.repeat_interleave(count // embedding.shape[0], dim=0)
    image = _rows(embedding + dense)
    where = _rows(positions)
    outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    prompt = torch.cat([outputs.expand(count, -1, -1), sparse], dim=1)
    tokens = prompt
    for layer in transformer.exchanges:
        if layer.first:
            tokens = layer.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + prompt
            tokens = tokens + layer.self_attn(placed, placed, tokens)
        tokens = layer.norm1(tokens.float())
        located = image + where
        tokens = tokens + _look(layer.cross_attn_token_to_image, tokens + prompt, located, image)
        tokens = layer.norm2(tokens)
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        tell = layer.cross_attn_image_to_token
        told = _told(tell, located, image, tokens + prompt, tokens)
        image = _normal(layer.norm4, told, layer.norm4.eps)
    last = transformer.final_attn_token_to_image
    look = _look(last, tokens + prompt, image + where, image)
    return Exchanged(transformer.norm_final_attn(tokens + look), image)


def _rows(planes: Tensor) -> Tensor:
    """Map (B, 256, grid, grid) to bfloat16 (B, L, 256)."""
    return planes.flatten(2).transpose(1, 2).to(torch.bfloat16).contiguous()


def _normal(norm: nn.LayerNorm | LayerNorm2d, x: Tensor, epsilon: float) -> Tensor:
    """The layer norm of bfloat16, without a float32 copy; statistics are float32 inside."""
    normal: Tensor = _Normal.apply(x, norm.weight, norm.bias, epsilon)
    return normal


class _Normal(torch.autograd.Function):
    """Layer norm whose weights' gradient is summed in float32.

    Torch sums that of bfloat16 rows in bfloat16, and over ten thousands of rows loses most of it.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        if x.is_cuda:  # whose kernels take weights of the rows' type alone
            weight, bias = weight.to(x.dtype), bias.to(x.dtype)
        with full(x.device):
            out, mean, scale = torch.native_layer_norm(x, [x.shape[-1]], weight, bias, epsilon)
        context.save_for_backward(x, mean, scale, weight, bias)
        return out

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, mean, scale, weight, bias = context.saved_tensors
        gradient, width = gradients[0].contiguous(), [x.shape[-1]]
        back = torch.ops.aten.native_layer_norm_backward(
            gradient, x, width, mean, scale, weight, bias, [True, False, False]
        )[0]
        normal = (x - mean.to(x.dtype)).mul_(scale.to(x.dtype)).mul_(gradient)
        rows = tuple(range(x.ndim - 1))
        return (
            back,
            normal.sum(dim=rows, dtype=torch.float32),
            gradient.sum(dim=rows, dtype=torch.float32),
            None,
        )


def _heads(x: Tensor) -> Tensor:
    """Map (N, T, 128) to (N, T, heads, 16)."""
    return x.unflatten(-1, (HEADS, -1))


class _Scores(torch.autograd.Function):
    """Products (M, R, L) of rows (M, R, C) with places (M, L, C), their gradients contiguous."""

    @staticmethod
    def forward(context: Any, rows: Tensor, located: Tensor) -> Tensor:
        context.save_for_backward(rows, located)
        return torch.bmm(rows, located.transpose(1, 2))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        rows, located = context.saved_tensors
        (gradient,) = gradients
        return torch.bmm(gradient, located), torch.bmm(gradient.transpose(1, 2), rows)


class _Told(torch.autograd.Function):
    """Image (M, L, C) plus weights (N, R, L), turned, times what is said (N, R, C): (N, L, C)."""

    @staticmethod
    def forward(context: Any, image: Tensor, weights: Tensor, said: Tensor) -> Tensor:
        context.save_for_backward(weights, said)
        context.images = image.shape[0]
        told = torch.bmm(weights.transpose(1, 2), said)
        told.unflatten(0, (context.images, -1)).add_(image[:, None])
        return told

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights, said = context.saved_tensors
        gradient = gradients[0].contiguous()
        image = gradient.unflatten(0, (context.images, -1)).sum(1)
        return (
            image,
            torch.bmm(said, gradient.transpose(1, 2)),
            torch.bmm(weights, gradient),
        )


class _Taken(torch.autograd.Function):
    """Rows (R,) of a matrix, each at most once, so that the gradient is a copy."""

    @staticmethod
    def forward(context: Any, matrix: Tensor, rows: Tensor) -> Tensor:
        context.save_for_backward(rows)
        context.count = matrix.shape[0]
        return matrix.index_select(0, rows)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (rows,) = context.saved_tensors
        (gradient,) = gradients
        matrix = gradient.new_zeros(context.count, gradient.shape[1])
        return matrix.index_copy_(0, rows, gradient.contiguous()), None


def _look(attention: Attention, queries: Tensor, located: Tensor, image: Tensor) -> Tensor:
    """Tokens (N, T, 256) attend to image tokens (M, L, 256), M dividing N: (N, T, 256).

    The bias of the keys cancels in the softmax over them.
    """
    q = _heads(attention.q_proj(queries))
    n, t, _, width = q.shape
    keys = attention.k_proj.weight.unflatten(0, (HEADS, width)).to(q.dtype)
    asked = torch.einsum("nthd,hdc->nhtc", q, keys) * width**-0.5
    rows = asked.to(torch.bfloat16).reshape(image.shape[0], -1, WIDTH)
    weights = torch.softmax(_Scores.apply(rows, located), dim=-1).to(image.dtype)
    seen = torch.bmm(weights, image).reshape(n, HEADS, t, WIDTH)
    values = attention.v_proj.weight.unflatten(0, (HEADS, width)).to(seen.dtype)
    merged = torch.einsum("nhtc,hdc->nthd", seen, values).flatten(2) + attention.v_proj.bias
    out: Tensor = attention.out_proj(merged)
    return out.float()


def _told(
    attention: Attention, located: Tensor, image: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """Image tokens (M, L, 256) attend to tokens (N, T, 256), and are added: (N, L, 256)."""
    k, v = _heads(attention.k_proj(keys)), _heads(attention.v_proj(values))
    n, t, _, width = k.shape
    queries = attention.q_proj.weight.unflatten(0, (HEADS, width)).to(k.dtype)
    asked = torch.einsum("nthd,hdc->nhtc", k, queries) * width**-0.5
    bias = attention.q_proj.bias.unflatten(0, (HEADS, width)).to(k.dtype)
    level = torch.einsum("nthd,hd->nht", k, bias) * width**-0.5
    rows = asked.to(torch.bfloat16).reshape(image.shape[0], -1, WIDTH)
    scores = _Scores.apply(rows, located).reshape(n, HEADS, t, -1)
    weights = torch.softmax(scores + level[..., None].to(scores.dtype), dim=2)
    out = attention.out_proj.weight.unflatten(1, (HEADS, width)).to(v.dtype)
    # The weights of every head sum to one: so an eighth of the bias from each is the bias.
    said = torch.einsum("nthd,chd->nhtc", v, out) + attention.out_proj.bias / HEADS
    parts = (part.flatten(1, 2).to(image.dtype) for part in (weights, said))
    told: Tensor = _Told.apply(image, *parts)
    return told


def sketch(decoder: MaskDecoder, exchanged: Exchanged, places: Tensor | None) -> Tensor:
    """Logits (N, 4, K, 16) of the mask pixels of K image tokens a prompt, ordered as ``cells`` are.

    Args:
        decoder: Whose weights are used.
        exchanged: What ``exchange`` returned.
        places: int64 (N, K), which image tokens, each at most once; None for all.
    """
    image = exchanged.image
    n, tokens = image.shape[:2]
    if places is not None:
        rows = (places + tokens * torch.arange(n, device=places.device)[:, None]).flatten()
        image = _Taken.apply(image.flatten(0, 1), rows).unflatten(0, (n, -1))
    first, norm, _, second, _ = decoder.output_upscaling
    assert isinstance(norm, LayerNorm2d)
    fine = functional.gelu(_normal(norm, _enlarged(first, image), 1e-6))
    canvas = functional.gelu(_enlarged(second, fine))
    vectors = decoder.mask_vectors(exchanged.tokens).to(torch.bfloat16)
    logits: Tensor = _Scores.apply(vectors, canvas.reshape(n, -1, MASK_VECTOR))
    return logits.unflatten(2, (-1, CELL)).float()


def _enlarged(convolution: nn.Module, x: Tensor) -> Tensor:
    """A transposed convolution of kernel and stride 2 on single places: (..., C) to (..., 4, D)."""
    weight, bias = convolution.weight, convolution.bias
    channels = weight.shape[1]
    matrix = weight.permute(2, 3, 1, 0).reshape(4 * channels, -1).to(x.dtype)
    return functional.linear(x, matrix, bias.repeat(4).to(x.dtype)).unflatten(-1, (4, channels))


def whole(logits: Tensor) -> Tensor:
    """Put the logits (N, M, L, 16) of all image tokens together: (N, M, 4 * grid, 4 * grid)."""
    n, m, tokens, _ = logits.shape
    grid = round(tokens**0.5)
    nested = logits.reshape(n, m, grid, grid, 2, 2, 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return nested.reshape(n, m, 4 * grid, 4 * grid)


def cells(planes: Tensor) -> Tensor:
    """The inverse of ``whole`` for planes (N, h, w): (N, L, 16), 2 x 2 of 2 x 2 pixels a token."""
    n, height, width = planes.shape
    split = planes.reshape(n, height // 4, 2, 2, width // 4, 2, 2).permute(0, 1, 4, 2, 5, 3, 6)
    return split.reshape(n, -1, CELL)
