"""SAM-Adapter (Chen et al. 2023): SAM tuned by an adapter in its encoder, without prompts."""

from __future__ import annotations

from torch import Tensor, nn

from fastseg.export.networks.high_pass import HighPass
from fastseg.export.networks.image_encoder import ImageEncoder, PatchEmbed, Shape
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.prompt_encoder import NoPromptEncoder
from fastseg.export.networks.sam import SamModules

REDUCTION = 32
"""Width of the encoder over that of the adapter."""

GENERATOR = "image_encoder.prompt_generator."
"""Beginning of the names of the adapter's weights."""

OWN = ("pe_layer.", "no_mask_embed.")
"""Beginnings of the names that stand for SAM's prompt encoder. Training starts them at random and
never reads those of the base, so they must come from the tuned file."""


class PromptGenerator(nn.Module):
    """The adapter: tokens and the high-pass image to an addition in front of each block."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, hidden = shape.width, shape.width // REDUCTION
        self.embedding_generator = nn.Linear(width, hidden)
        self.prompt_generator = PatchEmbed(hidden)
        self.shared_mlp = nn.Linear(hidden, width)
        self.high_pass = HighPass(shape.side)
        for block in range(shape.depth):
            self.add_module(_own_layer(block), nn.Sequential(nn.Linear(hidden, hidden), nn.GELU()))

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """Sum what all blocks share of images (B, 3, side, side) and tokens (B, grid, grid, width).

        Returns:
            float (B, grid, grid, width / 32).
        """
        seen: Tensor = self.prompt_generator(self.high_pass(image))
        out: Tensor = seen + self.embedding_generator(tokens)
        return out

    def addition(self, shared: Tensor, block: int) -> Tensor:
        """Map the output of ``forward`` to the addition (B, grid, grid, width) of a block."""
        out: Tensor = self.shared_mlp(self.get_submodule(_own_layer(block))(shared))
        return out


def _own_layer(block: int) -> str:
    return f"lightweight_mlp_{block}"


class AdaptedEncoder(ImageEncoder):
    """SAM's image encoder with the adapter, by the names of the tuned file."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.prompt_generator = PromptGenerator(shape)

    def forward(self, image: Tensor) -> Tensor:
        """Map normalised images (B, 3, side, side) to (B, 256, grid, grid)."""
        tokens = self.patch_embed(image)
        shared = self.prompt_generator(image, tokens)
        x = tokens + self.pos_embed
        for number, block in enumerate(self.blocks):
            x = block(x + self.prompt_generator.addition(shared, number))
        embedding: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return embedding


def build(shape: Shape) -> SamModules:
    """Build the modules of a size."""
    return SamModules(AdaptedEncoder(shape), NoPromptEncoder(shape.grid, shape.side), MaskDecoder())


def published_name(name: str) -> str:
    """Turn the name of a module's weight into that of the tuned file."""
    return name.removeprefix("prompt_encoder.")
