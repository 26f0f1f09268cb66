"""SAM-Med2D: SAM at 256 pixels with an adapter in every block (Cheng et al. 2023)."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from fastseg.export.networks.image_encoder import SHAPES, Block, ImageEncoder, Shape
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from fastseg.export.networks.sam import SamModules

VIT_B = replace(SHAPES["vit_b"], side=256)
"""The published size."""

REDUCTION = 4
"""Width of the encoder over that of the channel gate."""


class Adapter(nn.Module):
    """A gate for each channel, then two convolutions over the tokens, with a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.channel = nn.Sequential(
            nn.Linear(width, width // REDUCTION, bias=False),
            nn.ReLU(),
            nn.Linear(width // REDUCTION, width, bias=False),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, kernel_size=4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, grid, grid, width) to the same shape; the grid is even."""
        gated = x * self.channel(x.mean(dim=(1, 2), keepdim=True))
        spread = self.spatial(gated.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = self.norm(x + spread)
        return out


class AdapterBlock(Block):
    """A block whose adapter stands beside the feed-forward network, behind the same norm."""

    def __init__(self, shape: Shape, *, windowed: bool) -> None:
        super().__init__(shape, windowed=windowed)
        self.Adapter = Adapter(shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, grid, grid, width) to the same shape."""
        x = x + self.attn(self.norm1(x))
        normal = self.norm2(x)
        out: Tensor = x + self.mlp(normal) + self.Adapter(normal)
        return out


class AdapterEncoder(ImageEncoder):
    """SAM's image encoder with an adapter in every block."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.blocks = nn.ModuleList(
            [AdapterBlock(shape, windowed=i not in shape.global_blocks) for i in range(shape.depth)]
        )


def build(shape: Shape = VIT_B) -> SamModules:
    """Build the modules of a size."""
    prompts = PromptEncoder(shape.grid, shape.side)
    return SamModules(AdapterEncoder(shape), prompts, MaskDecoder())
