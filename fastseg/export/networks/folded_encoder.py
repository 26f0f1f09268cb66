"""SAM's image encoder with its relative positions folded into queries and keys.

Logits ``scale q.k + q.R_h[row, key row] + q.R_w[column, key column]`` are one product of longer
vectors, ``q' = [scale q, q R_h, q R_w]`` and ``k' = [k, onehot(row), onehot(column)]``: plain
attention, which runtimes for GPUs fuse, so that no map of 4096 x 4096 logits is ever stored.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor
from torch.nn import functional

from fastseg.export.networks.image_encoder import Attention, Block, ImageEncoder

ALIGNMENT = 8
"""Queries and keys are padded with zeros to a multiple of this many channels, as matrix units for
float16 need them."""


class FoldedAttention(Attention):
    """``Attention`` in one product of queries and keys.

    Args:
        attention: Its weights are shared, its relative positions copied.
    """

    rows: Tensor
    columns: Tensor
    places: Tensor

    def __init__(self, attention: Attention) -> None:
        with torch.device("meta"):
            super().__init__(
                attention.qkv.in_features,
                attention.heads,
                attention.span,
                windowed=attention.windowed,
            )
        self.qkv, self.proj = attention.qkv, attention.proj
        rows = attention.by_distance(attention.rel_pos_h.detach())
        columns = attention.by_distance(attention.rel_pos_w.detach())
        missing = -(rows.shape[1] + 2 * self.span) % ALIGNMENT
        del self.rel_pos_h, self.rel_pos_w
        self.register_buffer("rows", rows.contiguous())  # [row, channels, key row]
        self.register_buffer("columns", functional.pad(columns, (0, missing)).contiguous())
        spot = torch.eye(self.span)
        row = spot.unsqueeze(1).expand(-1, self.span, -1)
        column = spot.unsqueeze(0).expand(self.span, -1, -1)
        where = torch.cat([row, column], dim=2).flatten(0, 1)
        # Zeros where the keys themselves stand, to be added to padded keys: unlike a
        # concatenation, that holds for any batch.
        places = functional.pad(where, (rows.shape[1], missing))
        self.register_buffer("places", places)  # [tokens, channels + 2 span + missing]

    def mix(self, qkv: Tensor) -> Tensor:
        """Attend within squares of tokens; see ``Attention.mix``."""
        count, span, tokens = qkv.shape[0], self.span, self.span * self.span
        queries, keys, values = self.by_head(qkv)
        channels = queries.shape[3]
        grid = queries.reshape(count, self.heads, span, span, channels)
        rows = grid @ self.rows
        columns = (grid.transpose(2, 3) @ self.columns).transpose(2, 3)
        longer = torch.cat([grid * channels**-0.5, rows, columns], dim=-1)
        longer = longer.reshape(count, self.heads, tokens, -1)
        placed = functional.pad(keys, (0, longer.shape[3] - channels)) + self.places
        mixed = torch.softmax(longer @ placed.transpose(2, 3), dim=-1) @ values
        return mixed.transpose(1, 2).reshape(count, span, span, self.heads * channels)


def fold(encoder: ImageEncoder) -> ImageEncoder:
    """Fold the relative positions of every block; the result shares its weights with ``encoder``.

    The embeddings are the same but for rounding.
    """
    shared = {id(weight): weight for weight in encoder.parameters()}
    folded = deepcopy(encoder, shared)
    for block in folded.blocks:
        if isinstance(block, Block):
            block.attn = FoldedAttention(block.attn)
    return folded.eval().requires_grad_(False)
