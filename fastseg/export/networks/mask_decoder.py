"""SAM's mask decoder as published: the torch module that every faster form is measured against."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg import contract
from fastseg.export.networks.layers import FeedForward, Head, LayerNorm2d
from fastseg.export.networks.prompt_encoder import WIDTH

HEADS = 8
HIDDEN = 2048
EPSILON = 1e-5
"""Added to the variance in the layer norms of SAM's transformer."""

MASK_VECTOR = contract.MASK_VECTOR
"""Channels of the upscaled image embedding, and so of the vector that draws a mask from it."""


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than its outer one."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, inner)
        self.k_proj = nn.Linear(WIDTH, inner)
        self.v_proj = nn.Linear(WIDTH, inner)
        self.out_proj = nn.Linear(inner, WIDTH)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from (N, Q, 256) to (M, K, 256); returns (max(N, M), Q, 256).

        The smaller of N and M divides the larger; its members serve consecutive partners, and are
        projected once.
        """
        q, k, v = self.q_proj(queries), self.k_proj(keys), self.v_proj(values)
        n, m = q.shape[0], k.shape[0]
        if n > m:  # queries do not see one another, so those of one image may stand in one row
            q = q.reshape(m, -1, q.shape[-1])
        elif m > n:
            q = q.repeat_interleave(m // n, dim=0)
        q, k, v = self._split(q), self._split(k), self._split(v)
        merged = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.out_proj(merged.reshape(max(n, m), -1, merged.shape[-1]))
        return out

    @staticmethod
    def _split(x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], HEADS, -1).transpose(1, 2)


class TwoWayLayer(nn.Module):
    """Tokens attend to themselves and to the image, then the image attends to the tokens.

    Args:
        first: Whether it is the first of the two layers.
        epsilon: Added to the variance in its norms.
        activation: Of the feed-forward network.
    """

    def __init__(self, first: bool, epsilon: float, activation: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH, epsilon)
        self.cross_attn_token_to_image = Attention(WIDTH // 2)
        self.norm2 = nn.LayerNorm(WIDTH, epsilon)
        self.mlp = FeedForward(WIDTH, HIDDEN, activation)
        self.norm3 = nn.LayerNorm(WIDTH, epsilon)
        self.cross_attn_image_to_token = Attention(WIDTH // 2)
        self.norm4 = nn.LayerNorm(WIDTH, epsilon)

    def at_start(self, tokens: Tensor, prompt: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return the sides of the self-attention: its residual, its queries and keys, its values.

        As trained, the first layer has neither positions nor a residual.
        """
        return (None, tokens, tokens) if self.first else (tokens, tokens + prompt, tokens)

    def forward(
        self, tokens: Tensor, image: Tensor, prompt: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Update ``tokens`` (N, T, 256) and ``image`` (N or fewer, L, 256).

        ``prompt`` are the tokens before the first layer: they serve as the tokens' positions.
        """
        residual, placed, values = self.at_start(tokens, prompt)
        mixed = self.self_attn(placed, placed, values)
        tokens = self.norm1(mixed if residual is None else residual + mixed)
        located = image + positions
        tokens = tokens + self.cross_attn_token_to_image(tokens + prompt, located, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        seen = self.cross_attn_image_to_token(located, tokens + prompt, tokens)
        if seen.shape[0] != image.shape[0]:
            image = image.repeat_interleave(seen.shape[0] // image.shape[0], dim=0)
        return tokens, self.norm4(image + seen)


class TwoWayTransformer(nn.Module):
    """Two two-way layers, then one attention from the tokens to the image."""

    def __init__(self, layer: type[TwoWayLayer], epsilon: float, activation: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList([layer(first, epsilon, activation) for first in (True, False)])
        self.final_attn_token_to_image = Attention(WIDTH // 2)
        self.norm_final_attn = nn.LayerNorm(WIDTH, epsilon)

    @property
    def two_way_layers(self) -> list[TwoWayLayer]:
        """The layers with their type."""
        return [layer for layer in self.layers if isinstance(layer, TwoWayLayer)]

    def forward(self, image: Tensor, positions: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (N, T, 256) and image (N, L, 256) after the exchange."""
        tokens = prompt
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompt, positions)
        attended = self.final_attn_token_to_image(tokens + prompt, image + positions, image)
        return self.norm_final_attn(tokens + attended), image


class MaskDecoder(nn.Module):
    """SAM's mask decoder (Kirillov et al. 2023, appendix A) with its weight names.

    It keeps no size: the grid is whatever the image embedding has.

    Args:
        epsilon: Added to the variance in the layer norms of the transformer.
        layer: Of the transformer.
        activation: Behind linear layers; ReLU if left out.
    """

    vector = MASK_VECTOR
    """Channels of the canvas that ``upscale`` makes, and length of a mask vector."""

    def __init__(
        self,
        epsilon: float = EPSILON,
        layer: type[TwoWayLayer] = TwoWayLayer,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.epsilon = epsilon
        activation = activation or nn.ReLU()
        self.transformer = TwoWayTransformer(layer, epsilon, activation)
        self.iou_token = nn.Embedding(1, WIDTH)
        self.mask_tokens = nn.Embedding(contract.MASK_SLOTS, WIDTH)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(WIDTH, WIDTH // 4, kernel_size=2, stride=2),
            LayerNorm2d(WIDTH // 4),
            nn.GELU(),
            nn.ConvTranspose2d(WIDTH // 4, MASK_VECTOR, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            [Head(WIDTH, MASK_VECTOR, activation) for _ in range(contract.MASK_SLOTS)]
        )
        self.iou_prediction_head = Head(WIDTH, contract.MASK_SLOTS, activation)

    def forward(
        self, embedding: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor, *maps: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draw the four masks of each of N prompts on B images, N = B * prompts per image.

        Args:
            embedding: float (B, 256, grid, grid) from the image encoder.
            positions: float (1, 256, grid, grid), ``PromptEncoder.dense_positions``.
            sparse: float (N, P, 256), the prompts of one image standing together.
            dense: float (1 or N, 256, grid or 1, grid or 1) from the mask prompts.
            *maps: Further outputs of the image encoder, which SAM's has none of.

        Returns:
            Low-resolution logits (N, 4, 4 * grid, 4 * grid) and IoU predictions (N, 4).
        """
        if dense.shape[0] > embedding.shape[0]:
            embedding = embedding.repeat_interleave(dense.shape[0] // embedding.shape[0], dim=0)
        image = (embedding + dense).flatten(2).transpose(1, 2)
        prompt = torch.cat([self.output_tokens().expand(sparse.shape[0], -1, -1), sparse], dim=1)
        tokens, image = self.transformer(image, positions.flatten(2).transpose(1, 2), prompt)
        return self.draw(image, self.mask_vectors(tokens), *maps), self.predict_ious(tokens)

    def output_tokens(self) -> Tensor:
        """Return the tokens (T, 256) that are read in the end: for the scores, and each mask."""
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight])

    def predict_ious(self, tokens: Tensor) -> Tensor:
        """Read the IoU predictions (N, 4) off the output tokens (N, T, 256)."""
        scores: Tensor = self.iou_prediction_head(tokens[:, 0])
        return scores

    def mask_vectors(self, tokens: Tensor) -> Tensor:
        """Read the four mask vectors (N, 4, vector) off the output tokens (N, T, 256)."""
        heads = self.output_hypernetworks_mlps
        return torch.stack([head(tokens[:, 1 + slot]) for slot, head in enumerate(heads)], dim=1)

    def further_outputs(self, tokens: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG002
        """Read further outputs off the output tokens (N, T, 256); SAM has none."""
        return ()

    def upscale(self, planes: Tensor, *maps: Tensor) -> Tensor:  # noqa: ARG002 - SAM has none
        """Upscale image planes (N, 256, grid, grid) fourfold, to ``vector`` channels."""
        canvas: Tensor = self.output_upscaling(planes)
        return canvas

    def draw(self, image: Tensor, vectors: Tensor, *maps: Tensor) -> Tensor:
        """Upscale image tokens (N, L, 256) fourfold and multiply them with (N, M, vector)."""
        grid = round(image.shape[1] ** 0.5)
        planes = image.transpose(1, 2).reshape(-1, WIDTH, grid, grid)
        canvas = self.upscale(planes, *maps)
        return (vectors @ canvas.flatten(2)).reshape(-1, vectors.shape[1], 4 * grid, 4 * grid)
