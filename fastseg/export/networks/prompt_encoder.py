"""SAM's prompt encoder: points, box corners and mask prompts as embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fastseg import contract
from fastseg.export.networks.layers import LayerNorm2d

WIDTH = 256
"""Length of every token and number of channels of every image embedding."""


class FourierEncoding(nn.Module):
    """Positions as sines and cosines of random projections (Tancik et al. 2020).

    The projection is a buffer: part of the checkpoint, never trained.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, WIDTH // 2))

    def forward(self, positions: Tensor) -> Tensor:
        """Encode float (..., 2) positions in [0, 1], x before y, as (..., 256)."""
        projected = (2 * positions - 1) @ self.positional_encoding_gaussian_matrix
        angles = (2 * math.pi) * projected
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """SAM's prompt encoder (Kirillov et al. 2023, appendix A) with its weight names.

    Args:
        grid: Side of the image embedding in tokens; 64 in SAM.
        side: Side of the square input in pixels; 1024 in SAM.
    """

    takes_masks = True
    """False for a relative whose prompts are points and boxes alone."""

    def __init__(self, grid: int = 64, side: int = 1024) -> None:
        super().__init__()
        self.grid = grid
        self.side = side
        self.pe_layer = FourierEncoding()
        self.point_embeddings = nn.ModuleList([nn.Embedding(1, WIDTH) for _ in range(4)])
        self.not_a_point_embed = nn.Embedding(1, WIDTH)
        self.no_mask_embed = nn.Embedding(1, WIDTH)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, kernel_size=2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, WIDTH, kernel_size=1),
        )

    def dense_positions(self) -> Tensor:
        """Encode every token's centre: float (1, 256, grid, grid)."""
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        steps = torch.arange(self.grid, dtype=matrix.dtype, device=matrix.device)
        centres = (steps + 0.5) / self.grid
        columns = centres.expand(self.grid, self.grid)
        encoded: Tensor = self.pe_layer(torch.stack([columns, columns.transpose(0, 1)], dim=-1))
        return encoded.permute(2, 0, 1).unsqueeze(0)

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Turn points into tokens.

        Args:
            coords: float (N, P, 2), x before y, in pixels of the square input.
            labels: integer (N, P): 1 foreground, 0 background, 2 and 3 the top left and bottom
                right corner of a box, -1 padding.

        Returns:
            float (N, P, 256).
        """
        # A pixel's value stands for its centre.
        positions = self.pe_layer((coords + 0.5) / self.side)
        kinds = [self.not_a_point_embed, *self.point_embeddings]
        table = torch.cat([kind.weight for kind in kinds])
        padding = (labels == contract.LABEL_PADDING).unsqueeze(-1)
        return torch.where(padding, 0.0, positions) + table[labels.long() + 1]

    def embed_mask(self, mask_input: Tensor | None = None) -> Tensor:
        """Turn mask prompts into an addition to the image embedding.

        Args:
            mask_input: float (N, 1, 4 * grid, 4 * grid) logits of earlier masks, or None.

        Returns:
            float (N, 256, grid, grid), or without a mask (1, 256, 1, 1), the same everywhere.
        """
        if mask_input is None:
            return self.no_mask_embed.weight.reshape(1, WIDTH, 1, 1)
        dense: Tensor = self.mask_downscaling(mask_input)
        return dense

    def forward(
        self, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode N prompts as ``embed_points`` and ``embed_mask`` describe; returns both."""
        return self.embed_points(point_coords, point_labels), self.embed_mask(mask_input)


class NoPromptEncoder(PromptEncoder):
    """The prompt encoder of a network without prompts: positions, and the embedding of no mask.

    Points and masks are taken, so that its graphs have SAM's inputs, and nothing depends on them.
    """

    def __init__(self, grid: int = 64, side: int = 1024) -> None:
        super().__init__(grid, side)
        del self.point_embeddings, self.not_a_point_embed, self.mask_downscaling

    @classmethod
    def of(cls, encoder: PromptEncoder) -> NoPromptEncoder:
        """Take positions and the embedding of no mask from a prompt encoder."""
        found, state = cls(encoder.grid, encoder.side), encoder.state_dict()
        found.load_state_dict({name: state[name] for name in found.state_dict()})
        return found

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Return no tokens, float (N, 0, 256), for any points (N, P, 2)."""
        positions: Tensor = self.pe_layer(coords[:, :0])
        return positions

    def embed_mask(self, mask_input: Tensor | None = None) -> Tensor:
        """Return the embedding of no mask, (1 or N, 256, 1, 1), for any ``mask_input``."""
        count = 1 if mask_input is None else mask_input.shape[0]
        return self.no_mask_embed.weight.reshape(1, WIDTH, 1, 1).expand(count, -1, -1, -1)
