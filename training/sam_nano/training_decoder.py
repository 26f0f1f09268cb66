"""The mask decoder in training: re-associated attention, masks at sampled tokens.

The same function as ``MaskDecoder`` with the same weights, up to rounding. Seven tokens and eight
heads are few beside thousands of image tokens, so the projections of a cross attention are taken
on the tokens' side, and no image token is ever projected. A mask is computed only at the sample
of image tokens that its loss takes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.networks.layers import LayerNorm2d
from fastseg.export.networks.mask_decoder import HEADS, MASK_VECTOR, Attention, MaskDecoder
from fastseg.export.networks.prompt_encoder import WIDTH
from training.sam_nano.devices import autocast_disabled, row_dtype

PATCH_PIXELS = 16
"""Mask pixels of one image token: 4 x 4."""


class TransformerOutput(NamedTuple):
    """N prompts after the two-way transformer."""

    tokens: Tensor
    """float32 (N, T, 256)."""
    image: Tensor
    """(N, L, 256) of ``row_dtype``."""


def run_transformer(
    decoder: MaskDecoder, embedding: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor
) -> TransformerOutput:
    """Run the two-way transformer; arguments as ``MaskDecoder.forward`` takes them."""
    transformer, count = decoder.transformer, sparse.shape[0]
    if dense.shape[0] > 1:
        embedding = embedding.repeat_interleave(count // embedding.shape[0], dim=0)
    image = _rows(embedding + dense)
    position_rows = _rows(positions)
    outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    prompt = torch.cat([outputs.expand(count, -1, -1), sparse], dim=1)
    tokens = prompt
    for layer in transformer.two_way_layers:
        if layer.first:
            tokens = layer.self_attn(tokens, tokens, tokens)
        else:
            positioned = tokens + prompt
            tokens = tokens + layer.self_attn(positioned, positioned, tokens)
        tokens = layer.norm1(tokens.float())
        keys = image + position_rows
        attention = layer.cross_attn_token_to_image
        tokens = tokens + _token_to_image(attention, tokens + prompt, keys, image)
        tokens = layer.norm2(tokens)
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        attention = layer.cross_attn_image_to_token
        updated = _image_to_token(attention, keys, image, tokens + prompt, tokens)
        image = _layer_norm(layer.norm4, updated, layer.norm4.eps)
    last = transformer.final_attn_token_to_image
    attended = _token_to_image(last, tokens + prompt, image + position_rows, image)
    return TransformerOutput(transformer.norm_final_attn(tokens + attended), image)


def _rows(planes: Tensor) -> Tensor:
    """Map (B, 256, grid, grid) to (B, L, 256) of ``row_dtype``."""
    return planes.flatten(2).transpose(1, 2).to(row_dtype(planes.device)).contiguous()


def _layer_norm(norm: nn.LayerNorm | LayerNorm2d, x: Tensor, epsilon: float) -> Tensor:
    """Normalise bfloat16 rows without a float32 copy; statistics are float32 inside."""
    normalised: Tensor = _LayerNorm.apply(x, norm.weight, norm.bias, epsilon)
    return normalised


class _LayerNorm(torch.autograd.Function):
    """Layer norm whose weights' gradient is summed in float32.

    Torch sums that of bfloat16 rows in bfloat16, and over ten thousands of rows loses most of it.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        if x.is_cuda:  # whose kernels take weights of the rows' type alone
            weight, bias = weight.to(x.dtype), bias.to(x.dtype)
        with autocast_disabled(x.device):
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
        normalised = (x - mean.to(x.dtype)).mul_(scale.to(x.dtype)).mul_(gradient)
        rows = tuple(range(x.ndim - 1))
        return (
            back,
            normalised.sum(dim=rows, dtype=torch.float32),
            gradient.sum(dim=rows, dtype=torch.float32),
            None,
        )


def _heads(x: Tensor) -> Tensor:
    """Map (N, T, 128) to (N, T, heads, 16)."""
    return x.unflatten(-1, (HEADS, -1))


class _RowProducts(torch.autograd.Function):
    """Products (M, R, L) of rows (M, R, C) with keys (M, L, C), with contiguous gradients."""

    @staticmethod
    def forward(context: Any, rows: Tensor, keys: Tensor) -> Tensor:
        context.save_for_backward(rows, keys)
        return torch.bmm(rows, keys.transpose(1, 2))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        rows, keys = context.saved_tensors
        (gradient,) = gradients
        return torch.bmm(gradient, keys), torch.bmm(gradient.transpose(1, 2), rows)


class _AddAttention(torch.autograd.Function):
    """Image (M, L, C) plus weights (N, R, L), transposed, times values (N, R, C): (N, L, C)."""

    @staticmethod
    def forward(context: Any, image: Tensor, weights: Tensor, values: Tensor) -> Tensor:
        context.save_for_backward(weights, values)
        context.images = image.shape[0]
        updated = torch.bmm(weights.transpose(1, 2), values)
        updated.unflatten(0, (context.images, -1)).add_(image[:, None])
        return updated

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights, values = context.saved_tensors
        gradient = gradients[0].contiguous()
        image = gradient.unflatten(0, (context.images, -1)).sum(1)
        return (
            image,
            torch.bmm(values, gradient.transpose(1, 2)),
            torch.bmm(weights, gradient),
        )


class _GatherRows(torch.autograd.Function):
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


def _token_to_image(attention: Attention, queries: Tensor, keys: Tensor, image: Tensor) -> Tensor:
    """Let tokens (N, T, 256) attend to image tokens (M, L, 256), M dividing N: (N, T, 256).

    The bias of the keys cancels in the softmax over them.
    """
    q = _heads(attention.q_proj(queries))
    n, t, _, width = q.shape
    projection = attention.k_proj.weight.unflatten(0, (HEADS, width)).to(q.dtype)
    projected = torch.einsum("nthd,hdc->nhtc", q, projection) * width**-0.5
    rows = projected.to(image.dtype).reshape(image.shape[0], -1, WIDTH)
    weights = torch.softmax(_RowProducts.apply(rows, keys), dim=-1).to(image.dtype)
    attended = torch.bmm(weights, image).reshape(n, HEADS, t, WIDTH)
    values = attention.v_proj.weight.unflatten(0, (HEADS, width)).to(attended.dtype)
    merged = torch.einsum("nhtc,hdc->nthd", attended, values).flatten(2) + attention.v_proj.bias
    out: Tensor = attention.out_proj(merged)
    return out.float()


def _image_to_token(
    attention: Attention, queries: Tensor, image: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """Let image tokens (M, L, 256) attend to tokens (N, T, 256), and add them: (N, L, 256)."""
    k, v = _heads(attention.k_proj(keys)), _heads(attention.v_proj(values))
    n, t, _, width = k.shape
    projection = attention.q_proj.weight.unflatten(0, (HEADS, width)).to(k.dtype)
    projected = torch.einsum("nthd,hdc->nhtc", k, projection) * width**-0.5
    bias = attention.q_proj.bias.unflatten(0, (HEADS, width)).to(k.dtype)
    offset = torch.einsum("nthd,hd->nht", k, bias) * width**-0.5
    rows = projected.to(image.dtype).reshape(image.shape[0], -1, WIDTH)
    scores = _RowProducts.apply(rows, queries).reshape(n, HEADS, t, -1)
    weights = torch.softmax(scores + offset[..., None].to(scores.dtype), dim=2)
    out = attention.out_proj.weight.unflatten(1, (HEADS, width)).to(v.dtype)
    # The weights of every head sum to one: so an eighth of the bias from each is the bias.
    added = torch.einsum("nthd,chd->nhtc", v, out) + attention.out_proj.bias / HEADS
    parts = (part.flatten(1, 2).to(image.dtype) for part in (weights, added))
    updated: Tensor = _AddAttention.apply(image, *parts)
    return updated


def sampled_logits(
    decoder: MaskDecoder, transformed: TransformerOutput, indices: Tensor | None
) -> Tensor:
    """Compute logits (N, 4, K, 16) at K image tokens a prompt, pixels in the order of ``patchify``.

    Args:
        decoder: The decoder with the weights.
        transformed: The output of ``run_transformer``.
        indices: int64 (N, K), image tokens, each at most once; None for all.
    """
    image = transformed.image
    n, tokens = image.shape[:2]
    if indices is not None:
        rows = (indices + tokens * torch.arange(n, device=indices.device)[:, None]).flatten()
        image = _GatherRows.apply(image.flatten(0, 1), rows).unflatten(0, (n, -1))
    first, norm, _, second, _ = decoder.output_upscaling
    assert isinstance(norm, LayerNorm2d)
    fine = functional.gelu(_layer_norm(norm, _upsample(first, image), 1e-6))
    upscaled = functional.gelu(_upsample(second, fine))
    vectors = decoder.mask_vectors(transformed.tokens).to(upscaled.dtype)
    logits: Tensor = _RowProducts.apply(vectors, upscaled.reshape(n, -1, MASK_VECTOR))
    return logits.unflatten(2, (-1, PATCH_PIXELS)).float()


def _upsample(convolution: nn.Module, x: Tensor) -> Tensor:
    """Run a transposed convolution, kernel and stride 2, on tokens: (..., C) to (..., 4, D)."""
    weight, bias = convolution.weight, convolution.bias
    channels = weight.shape[1]
    matrix = weight.permute(2, 3, 1, 0).reshape(4 * channels, -1).to(x.dtype)
    return functional.linear(x, matrix, bias.repeat(4).to(x.dtype)).unflatten(-1, (4, channels))


def unpatchify(logits: Tensor) -> Tensor:
    """Map the logits (N, M, L, 16) of all image tokens to (N, M, 4 * grid, 4 * grid)."""
    n, m, tokens, _ = logits.shape
    grid = round(tokens**0.5)
    nested = logits.reshape(n, m, grid, grid, 2, 2, 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return nested.reshape(n, m, 4 * grid, 4 * grid)


def patchify(planes: Tensor) -> Tensor:
    """Invert ``unpatchify`` for planes (N, h, w): (N, L, 16), 2 x 2 of 2 x 2 pixels a token."""
    n, height, width = planes.shape
    split = planes.reshape(n, height // 4, 2, 2, width // 4, 2, 2).permute(0, 1, 4, 2, 5, 3, 6)
    return split.reshape(n, -1, PATCH_PIXELS)
