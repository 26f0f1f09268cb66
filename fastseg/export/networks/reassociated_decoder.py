"""SAM's mask decoder with re-associated products: same weights and result, half the arithmetic.

These identities make it exact, with 8 heads of 16 channels, T tokens and L = grid * grid image
tokens:

- The first layer sees the same image for every prompt, so its image side is projected once.
- ``(x W) q = x (W q)``: projecting 8 * T token rows is less work than projecting L image rows.
  Likewise a weighted mean of raw image tokens may be projected afterwards.
- A key's bias adds the same to every logit of a softmax, and cancels. The weights of a softmax
  sum to one, so that a bias behind it can be added to the values.
- IoU predictions and mask vectors need the tokens alone: image tokens are upscaled (``MaskHead``)
  only for the prompts that survive.

Attention maps are (prompts, heads, tokens, L): the long axis stays contiguous, for the softmax
over the image as well as for the one over the tokens. The image is (prompts, 1, L, 256); its second
axis stands for the heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.export.networks.mask_decoder import (
    HEADS,
    MASK_VECTOR,
    Attention,
    MaskDecoder,
    TwoWayLayer,
)
from fastseg.export.networks.prompt_encoder import WIDTH, PromptEncoder


@dataclass(frozen=True, slots=True)
class RawImage:
    """Image tokens of every prompt, and the encoding of their positions."""

    tokens: Tensor  # [N, 1, L, 256]
    positions: Tensor  # [256, L]


@dataclass(frozen=True, slots=True)
class SharedImage:
    """Image tokens that all prompts share, with the first layer's projections of them."""

    tokens: Tensor  # [1, 1, L, 256]
    keys: Tensor  # [1, 8, 16, L]
    values: Tensor  # [1, 8, L, 16]
    queries: Tensor  # [1, 8, 16, L]
    positions: Tensor  # [256, L]


class SelfAttention(nn.Module):
    """Attention from tokens to tokens."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.query = attention.q_proj
        self.key = attention.k_proj
        self.value = attention.v_proj
        self.out = attention.out_proj
        self.scale = (WIDTH // HEADS) ** -0.5

    def forward(self, placed: Tensor, tokens: Tensor) -> Tensor:
        """Attend from and to ``placed`` (N, T, 256), and mix ``tokens`` (N, T, 256)."""
        queries, keys = _split(self.query(placed)) * self.scale, _split(self.key(placed))
        weights = torch.softmax(queries @ keys.transpose(2, 3), dim=-1)
        out: Tensor = self.out(_merge(weights @ _split(self.value(tokens))))
        return out


class TokenToImageAttention(nn.Module):
    """Attention from the tokens to the image."""

    keys: Tensor
    values: Tensor
    value_bias: Tensor

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.query = _scaled(attention.q_proj)
        self.register_buffer("keys", _by_head(attention.k_proj))
        self.register_buffer("values", _by_head(attention.v_proj).transpose(1, 2).contiguous())
        self.register_buffer("value_bias", attention.v_proj.bias.detach())
        self.out = attention.out_proj

    def share(self, image: Tensor, located: Tensor) -> tuple[Tensor, Tensor]:
        """Project an image (1, 1, L, 256): keys (1, 8, 16, L) and values (1, 8, L, 16)."""
        return self.keys @ located.transpose(2, 3), image @ self.values

    def forward(self, placed: Tensor, image: RawImage | SharedImage) -> Tensor:
        """Attend from (N, T, 256) tokens to the image; returns (N, T, 256)."""
        queries = _split(self.query(placed))
        if isinstance(image, SharedImage):
            means = torch.softmax(queries @ image.keys, dim=-1) @ image.values
        else:
            logits = _by_token(_rows(queries @ self.keys) @ image.tokens.transpose(2, 3))
            weights = torch.softmax(logits + queries @ (self.keys @ image.positions), dim=-1)
            means = _by_token(_rows(weights) @ image.tokens) @ self.values
        out: Tensor = self.out(_merge(means) + self.value_bias)
        return out


class ImageToTokenAttention(nn.Module):
    """Attention from the image to the tokens, with its residual and norm."""

    queries: Tensor
    query_bias: Tensor
    values: Tensor
    value_bias: Tensor

    def __init__(self, attention: Attention, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.key = _scaled(attention.k_proj)
        self.value = attention.v_proj
        self.norm = norm
        self.register_buffer("queries", _by_head(attention.q_proj))
        self.register_buffer("query_bias", attention.q_proj.bias.detach().reshape(HEADS, -1, 1))
        values = attention.out_proj.weight.detach().T.reshape(HEADS, -1, WIDTH)
        self.register_buffer("values", values.contiguous())
        # The weights of each head sum to one: an eighth of the bias on the values of every head.
        self.register_buffer("value_bias", attention.out_proj.bias.detach() / HEADS)

    def share(self, located: Tensor) -> Tensor:
        """Project an image (1, 1, L, 256) as queries (1, 8, 16, L)."""
        return self.queries @ located.transpose(2, 3) + self.query_bias

    def forward(self, placed: Tensor, tokens: Tensor, image: RawImage | SharedImage) -> RawImage:
        """Update the image by ``tokens`` (N, T, 256); ``placed`` are they with their positions."""
        keys = _split(self.key(placed))
        if isinstance(image, SharedImage):
            logits = keys @ image.queries
        else:
            logits = _by_token(_rows(keys @ self.queries) @ image.tokens.transpose(2, 3))
            logits = logits + keys @ (self.queries @ image.positions + self.query_bias)
        # A softmax over the tokens, spelled out: as one operator it would be run on a transposed
        # copy of the whole map.
        powers = (logits - logits.amax(dim=2, keepdim=True)).exp()
        weights = powers / powers.sum(dim=2, keepdim=True)
        values = _split(self.value(tokens)) @ self.values + self.value_bias
        seen = _rows(weights).transpose(2, 3) @ _rows(values)
        return RawImage(self.norm(image.tokens + seen), image.positions)


class ReassociatedLayer(nn.Module):
    """A two-way layer with re-associated products."""

    def __init__(self, layer: TwoWayLayer) -> None:
        super().__init__()
        self.plain = layer
        self.self_attention = SelfAttention(layer.self_attn)
        self.token_to_image = TokenToImageAttention(layer.cross_attn_token_to_image)
        self.image_to_token = ImageToTokenAttention(layer.cross_attn_image_to_token, layer.norm4)

    def forward(
        self, tokens: Tensor, prompt: Tensor, image: RawImage | SharedImage
    ) -> tuple[Tensor, RawImage]:
        """Update ``tokens`` (N, T, 256), which began as ``prompt``, and the image."""
        plain = self.plain
        residual, placed, values = plain.at_start(tokens, prompt)
        mixed = self.self_attention(placed, values)
        tokens = plain.norm1(mixed if residual is None else residual + mixed)
        tokens = plain.norm2(tokens + self.token_to_image(tokens + prompt, image))
        tokens = plain.norm3(tokens + plain.mlp(tokens))
        return tokens, self.image_to_token(tokens + prompt, tokens, image)


class ImageState(nn.Module):
    """The image side of the first layer, which all prompts on one image share."""

    def __init__(self, prompts: PromptEncoder, decoder: MaskDecoder) -> None:
        super().__init__()
        self.prompts = prompts
        layer = decoder.transformer.two_way_layers[0]
        self.token_to_image = TokenToImageAttention(layer.cross_attn_token_to_image)
        self.image_to_token = ImageToTokenAttention(layer.cross_attn_image_to_token, layer.norm4)

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map ``embedding`` (1, 256, grid, grid) to the inputs that ``Decoder`` takes of it.

        Returns:
            The image tokens without a mask prompt (1, 1, L, 256), and the first layer's keys
            (1, 8, 16, L), values (1, 8, L, 16) and queries (1, 8, 16, L).
        """
        image = _image_tokens(embedding + self.prompts.embed_mask())
        located = image + _image_tokens(self.prompts.dense_positions())
        return (
            image,
            *self.token_to_image.share(image, located),
            self.image_to_token.share(located),
        )


class Decoder(nn.Module):
    """Points to IoU predictions, mask vectors and image tokens; all prompts on one image."""

    def __init__(self, prompts: PromptEncoder, decoder: MaskDecoder) -> None:
        super().__init__()
        self.prompts = prompts
        self.plain = decoder
        self.layers = nn.ModuleList(
            [ReassociatedLayer(layer) for layer in decoder.transformer.two_way_layers]
        )
        self.final_token_to_image = TokenToImageAttention(
            decoder.transformer.final_attn_token_to_image
        )

    def forward(
        self,
        point_coords: Tensor,
        point_labels: Tensor,
        image: Tensor,
        keys: Tensor,
        values: Tensor,
        queries: Tensor,
    ) -> tuple[Tensor, ...]:
        """Decode N prompts on the image whose ``ImageState`` is given.

        Returns:
            IoU predictions (N, 4), mask vectors (N, 4, 32), image tokens (N, 1, L, 256), and the
            further outputs of the decoder.
        """
        shared = SharedImage(image, keys, values, queries, self._positions())
        return self._decode(point_coords, point_labels, shared)

    def _positions(self) -> Tensor:
        return self.prompts.dense_positions().flatten(2)[0]

    def _decode(
        self, coords: Tensor, labels: Tensor, image: RawImage | SharedImage
    ) -> tuple[Tensor, ...]:
        plain = self.plain
        points = self.prompts.embed_points(coords, labels)
        outputs = plain.output_tokens()
        prompt = torch.cat([outputs.expand(points.shape[0], -1, -1), points], dim=1)
        first, second = self.layers
        tokens, raw = first(prompt, prompt, image)
        tokens, raw = second(tokens, prompt, raw)
        # Prompt tokens are not read any more: only the outputs attend to the image once more.
        tokens, prompt = tokens[:, : len(outputs)], prompt[:, : len(outputs)]
        tokens = tokens + self.final_token_to_image(tokens + prompt, raw)
        tokens = plain.transformer.norm_final_attn(tokens)
        further = plain.further_outputs(tokens)
        return plain.predict_ious(tokens), plain.mask_vectors(tokens), raw.tokens, *further


class MaskPromptDecoder(Decoder):
    """The decoder for prompts with a mask each, so that no two prompts share an image."""

    def forward(  # type: ignore[override]
        self, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor, image: Tensor
    ) -> tuple[Tensor, ...]:
        """Decode N prompts with mask logits (N, 1, 4 * grid, 4 * grid) on ``ImageState``'s image.

        Returns:
            IoU predictions (N, 4), mask vectors (N, 4, 32), image tokens (N, 1, L, 256), and the
            further outputs of the decoder.
        """
        # The shared image carries the embedding of "no mask" already.
        change = self.prompts.embed_mask(mask_input) - self.prompts.embed_mask()
        raw = RawImage(image + _image_tokens(change), self._positions())
        return self._decode(point_coords, point_labels, raw)


class MaskHead(nn.Module):
    """Image tokens and mask vectors to low-resolution logits.

    The transposed convolutions have stride 2 and kernel 2, so that no two outputs overlap: each is
    a matrix product whose columns are the four sub-pixels. These are ordered (x, y) in the first
    and (y, x) in the second, so that the final transposition finds neighbours side by side.
    """

    subpixels: Tensor

    def __init__(self, decoder: MaskDecoder, grid: int) -> None:
        super().__init__()
        self.grid = grid
        first, norm, _, second, _ = cast("Any", decoder.output_upscaling)
        self.first = _as_linear(first, (3, 2, 1, 0))
        self.norm = nn.LayerNorm(WIDTH // 4, eps=1e-6).requires_grad_(False)
        self.norm.load_state_dict(norm.state_dict())
        self.second = _as_linear(second, (2, 3, 1, 0))
        # [y, mask, x] by [y, x, channel]: a mask vector multiplies its own sub-pixel alone.
        y, x = torch.eye(2).reshape(2, 1, 1, 2, 1, 1), torch.eye(2).reshape(1, 1, 2, 1, 2, 1)
        self.register_buffer("subpixels", y * x)

    def forward(self, image_tokens: Tensor, mask_vectors: Tensor) -> Tensor:
        """Map (S, 1, L, 256) and (S, M, 32) to logits (S, M, 4 * grid, 4 * grid)."""
        return self.multiply(self.canvas(image_tokens), mask_vectors)

    def canvas(self, image_tokens: Tensor) -> Tensor:
        """Upscale (S, 1, L, 256) fourfold: (S, 4 * L, 4 * 32), the sub-pixels in their order."""
        count = image_tokens.shape[0]
        # Three axes throughout: ONNX Runtime turns a plain matrix product and its bias into one
        # operator, which copies the bias on one thread and takes twice as long.
        twice = self.first(image_tokens.squeeze(1)).reshape(count, -1, WIDTH // 4)
        return functional.gelu(self.second(functional.gelu(self.norm(twice))))

    def multiply(self, canvas: Tensor, mask_vectors: Tensor) -> Tensor:
        """Multiply the upscaled image (S, 4 * L, 4 * 32) with mask vectors (S, M, 32)."""
        grid, (count, masks) = self.grid, mask_vectors.shape[:2]
        # All four sub-pixels of a row in one product, three quarters of it zeros: several times
        # faster than a product with rows of only 32.
        spread = mask_vectors.reshape(count, 1, masks, 1, 1, 1, MASK_VECTOR) * self.subpixels
        logits = canvas @ spread.reshape(count, -1, 4 * MASK_VECTOR).transpose(1, 2)
        logits = logits.reshape(count, grid, 2 * grid, 4, masks, 2)  # [S, y, x, y, masks, x]
        return logits.permute(0, 4, 1, 3, 2, 5).reshape(count, masks, 4 * grid, 4 * grid)


def _as_linear(convolution: Any, order: tuple[int, ...]) -> nn.Linear:
    """Convert an ``nn.ConvTranspose2d`` without overlap; ``order`` of (in, out, y, x)."""
    weight = convolution.weight.permute(order)
    linear = nn.Linear(weight.shape[-1], 4 * weight.shape[2])
    linear.load_state_dict({"weight": weight.flatten(0, 2), "bias": convolution.bias.repeat(4)})
    return linear.requires_grad_(False)


def _scaled(linear: nn.Linear) -> nn.Linear:
    """Copy a projection, with the scale of the attention in it: a quarter, so it is exact."""
    scaled = nn.Linear(linear.in_features, linear.out_features)
    scale = (linear.out_features // HEADS) ** -0.5
    scaled.load_state_dict({name: scale * tensor for name, tensor in linear.state_dict().items()})
    return scaled.requires_grad_(False)


def _by_head(linear: nn.Linear) -> Tensor:
    """Reshape the weight of a projection to (8, channels, 256)."""
    return linear.weight.detach().reshape(HEADS, -1, WIDTH)


def _split(rows: Tensor) -> Tensor:
    """Reshape (N, T, 8 * channels) to (N, 8, T, channels)."""
    return rows.reshape(*rows.shape[:2], HEADS, -1).transpose(1, 2)


def _merge(rows: Tensor) -> Tensor:
    """Reshape (N, 8, T, channels) to (N, T, 8 * channels)."""
    return rows.transpose(1, 2).flatten(2)


def _rows(by_head: Tensor) -> Tensor:
    """Reshape (N, 8, T, X) to one matrix (N, 1, 8 * T, X), which reads the image once."""
    return by_head.reshape(by_head.shape[0], 1, -1, by_head.shape[3])


def _by_token(rows: Tensor) -> Tensor:
    """Reshape (N, 1, 8 * T, X) to (N, 8, T, X)."""
    return rows.reshape(rows.shape[0], HEADS, -1, rows.shape[3])


def _image_tokens(planes: Tensor) -> Tensor:
    """Reshape (N, 256, grid, grid) to (N, 1, L, 256)."""
    return planes.flatten(2).transpose(1, 2).unsqueeze(1)
