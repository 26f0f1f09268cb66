"""SAM-HQ and Light HQ-SAM: a further token draws on early features of the encoder (Ke et al. 2023).

Its mask is added to each mask of SAM's. A mask vector of SAM-HQ is therefore twice as long: the
second half is that of the further token, for channels that stand beside those of SAM's canvas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fastseg.contract import MASK_SLOTS, TensorSpec
from fastseg.export.networks.image_encoder import ImageEncoder, Shape
from fastseg.export.networks.layers import Head, LayerNorm2d
from fastseg.export.networks.mask_decoder import MASK_VECTOR, MaskDecoder
from fastseg.export.networks.prompt_encoder import WIDTH, PromptEncoder
from fastseg.export.networks.reassociated_decoder import MaskHead
from fastseg.export.networks.sam import NativeParts, SamModules, transformer_weights
from fastseg.export.networks.subpixels import by_plane
from fastseg.export.networks.tiny_vit import TinyViT, TinyViTShape

OUTPUTS = 1 + MASK_SLOTS
"""Tokens of SAM's decoder that are read in the end; the further one stands behind them."""

EARLY_STAGE = 1
"""The stage of TinyViT whose output is the early map."""

FEATURES = "hq_features"


class EarlyViT(ImageEncoder):
    """SAM's image encoder, which also returns the map behind its first global block."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.early = shape.global_blocks[0]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Map (B, 3, side, side) to (B, 256, grid, grid) and (B, width, grid, grid)."""
        x = early = self.patch_embed(image) + self.pos_embed
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number == self.early:
                early = x
        return self.neck(x.permute(0, 3, 1, 2)), early.permute(0, 3, 1, 2)


class EarlyTinyViT(TinyViT):
    """TinyViT, which also returns the map behind its second stage."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Map (B, 3, side, side) to (B, 256, grid, grid) and (B, 160, grid, grid)."""
        x = early = self.patch_embed(image)
        for number, stage in enumerate(self.layers):
            x = stage(x)
            if number == EARLY_STAGE:
                early = x
        return self.neck(x), early


def _fourfold(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, hidden, kernel_size=2, stride=2),
        LayerNorm2d(hidden),
        nn.GELU(),
        nn.ConvTranspose2d(hidden, MASK_VECTOR, kernel_size=2, stride=2),
    )


class HqEncoder(nn.Module):
    """An encoder with an early map, and what the decoder makes of both once an image.

    Args:
        encoder: Returns the embedding and the early map.
        early: Channels of the early map.
    """

    def __init__(self, encoder: nn.Module, early: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.compress_vit_feat = _fourfold(early, WIDTH)
        self.embedding_encoder = _fourfold(WIDTH, WIDTH // 4)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, 3, side, side) to (B, 256, grid, grid) and (B, 32, 4 * grid, 4 * grid)."""
        embedding, early = self.encoder(image)
        return embedding, self.embedding_encoder(embedding) + self.compress_vit_feat(early)


class HqMaskDecoder(MaskDecoder):
    """SAM's mask decoder with the further token, whose mask is added to each of the four."""

    vector = 2 * MASK_VECTOR

    def __init__(self) -> None:
        super().__init__()
        self.hf_token = nn.Embedding(1, WIDTH)
        self.hf_mlp = Head(WIDTH, MASK_VECTOR)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(MASK_VECTOR, 2 * MASK_VECTOR, kernel_size=3, padding=1),
            LayerNorm2d(2 * MASK_VECTOR),
            nn.GELU(),
            nn.Conv2d(2 * MASK_VECTOR, MASK_VECTOR, kernel_size=3, padding=1),
        )

    def output_tokens(self) -> Tensor:
        """Return the tokens that are read in the end: SAM's, then the further one."""
        return torch.cat([super().output_tokens(), self.hf_token.weight])

    def mask_vectors(self, tokens: Tensor) -> Tensor:
        """Read the four mask vectors (N, 4, 64) off the output tokens (N, T, 256)."""
        further = self.hf_mlp(tokens[:, OUTPUTS]).unsqueeze(1).expand(-1, MASK_SLOTS, -1)
        return torch.cat([super().mask_vectors(tokens), further], dim=2)

    def upscale(self, planes: Tensor, *maps: Tensor) -> Tensor:
        """Upscale image planes (N, 256, grid, grid) fourfold, to SAM's 32 channels and 32 more."""
        (features,) = maps
        canvas: Tensor = self.output_upscaling(planes)
        return torch.cat([canvas, self.embedding_maskfeature(canvas) + features], dim=1)


class HqMaskHead(MaskHead):
    """Image tokens, features of the image and mask vectors to low-resolution logits.

    The masks of a prompt share the second half of their vectors. Its product with the weights of
    the second convolution comes first, which leaves one channel of that convolution's 32.
    """

    kernels: Tensor
    bias: Tensor

    def __init__(self, decoder: HqMaskDecoder, grid: int) -> None:
        super().__init__(decoder, grid)
        *parts, second = cast("Any", decoder.embedding_maskfeature)
        self.hidden = nn.Sequential(*parts)
        kernels = second.weight.detach().permute(0, 2, 3, 1)  # channel, row, column, hidden
        self.register_buffer("kernels", kernels.reshape(MASK_VECTOR, -1).contiguous())
        self.register_buffer("bias", second.bias.detach()[:, None])

    def forward(  # type: ignore[override]
        self, image_tokens: Tensor, mask_vectors: Tensor, features: Tensor
    ) -> Tensor:
        """Map (S, 1, L, 256), (S, M, 64) and (1, 32, 4 * grid, 4 * grid) to logits (S, M, ...)."""
        canvas = by_plane(self.canvas(image_tokens), MASK_VECTOR)
        side = canvas.shape[-1]
        hidden = self.hidden(canvas).flatten(2)
        shared = mask_vectors[:, :1, MASK_VECTOR:]
        kernels = (shared @ self.kernels).reshape(-1, 9, hidden.shape[1])
        products = (kernels @ hidden).reshape(-1, 9, side, side)
        padded = functional.pad(products, (1, 1, 1, 1))
        further = shared @ features.flatten(2) + shared @ self.bias
        further = further.reshape(-1, 1, side, side)
        for tap in range(9):
            row, column = divmod(tap, 3)
            further = further + padded[:, tap : tap + 1, row : row + side, column : column + side]
        masks = mask_vectors[:, :, :MASK_VECTOR] @ canvas.flatten(2)
        return masks.reshape(*mask_vectors.shape[:2], side, side) + further


@dataclass(frozen=True, slots=True)
class HqModules(SamModules):
    """The networks of SAM-HQ, and the five graphs that they become."""

    native_parts: ClassVar[NativeParts] = (PromptEncoder, HqMaskDecoder)

    def encoder_weights(self) -> dict[str, NDArray[np.float32]] | None:
        """Collect every weight of the encoder and of its features; None for Light HQ-SAM.

        Names are those of ``SamModules.encoder_weights``.
        """
        whole = self.image_encoder
        if not isinstance(whole, HqEncoder) or not isinstance(whole.encoder, EarlyViT):
            return None
        features = {
            name: tensor.detach().float().numpy()
            for name, tensor in whole.state_dict().items()
            if not name.startswith("encoder.")
        }
        return {**transformer_weights(whole.encoder), **features}

    def map_ports(self) -> tuple[TensorSpec, ...]:
        """Describe the features that the encoder hands to the mask head."""
        side = 4 * self.prompt_encoder.grid
        return (TensorSpec(FEATURES, "float32", ("images", MASK_VECTOR, side, side)),)

    def mask_head(self) -> MaskHead:
        """Build the second stage of the decoder."""
        decoder = self.mask_decoder
        assert isinstance(decoder, HqMaskDecoder)  # noqa: S101 - for the type alone
        return HqMaskHead(decoder, self.prompt_encoder.grid)


def build(shape: Shape) -> HqModules:
    """Build the modules of a size of SAM-HQ."""
    encoder = HqEncoder(EarlyViT(shape), shape.width)
    return HqModules(encoder, PromptEncoder(shape.grid, shape.side), HqMaskDecoder())


def build_light(shape: TinyViTShape) -> HqModules:
    """Build the modules of Light HQ-SAM."""
    encoder = HqEncoder(EarlyTinyViT(shape), shape.widths[EARLY_STAGE + 1])
    return HqModules(encoder, PromptEncoder(shape.grid, shape.side), HqMaskDecoder())


def published_name(name: str) -> str:
    """Turn the name of a module's weight into that of SAM-HQ's checkpoints."""
    for part in ("compress_vit_feat.", "embedding_encoder."):
        if name.startswith(f"image_encoder.{part}"):
            return name.replace("image_encoder.", "mask_decoder.", 1)
    return name.replace("image_encoder.encoder.", "image_encoder.", 1)
