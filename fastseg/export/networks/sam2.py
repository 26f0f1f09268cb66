"""SAM 2 and 2.1 for images: encoder with feature pyramid, and decoder (Ravi et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.contract import MASK_SLOTS, TensorSpec
from fastseg.export.networks.hiera import Hiera, HieraShape
from fastseg.export.networks.layers import Head
from fastseg.export.networks.mask_decoder import MASK_VECTOR, MaskDecoder
from fastseg.export.networks.prompt_encoder import WIDTH, PromptEncoder
from fastseg.export.networks.reassociated_decoder import MaskHead
from fastseg.export.networks.sam import NativeParts, SamModules
from fastseg.export.networks.subpixels import by_plane, by_subpixel

OUTPUTS = 1 + MASK_SLOTS
"""Tokens of SAM's decoder that are read in the end: for the scores, and each mask."""

MIDDLE, FINE = WIDTH // 4, MASK_VECTOR
"""Channels of the two maps of higher resolution."""


class Neck(nn.Module):
    """The lateral convolutions of the feature pyramid, coarsest first as in the checkpoint."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList([_Lateral(width) for width in reversed(widths)])

    def lateral(self, level: int) -> nn.Conv2d:
        """Return the convolution of a level, 0 for the finest map."""
        conv = self.convs[len(self.convs) - 1 - level]
        assert isinstance(conv, _Lateral)  # noqa: S101 - for the type alone
        return conv.conv


class _Lateral(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, WIDTH, kernel_size=1)


class Sam2Encoder(nn.Module):
    """Trunk and neck, and what the decoder takes once an image: two maps of higher resolution."""

    def __init__(self, shape: HieraShape) -> None:
        super().__init__()
        self.trunk = Hiera(shape)
        self.neck = Neck(shape.widths)
        self.conv_s0 = nn.Conv2d(WIDTH, FINE, kernel_size=1)
        self.conv_s1 = nn.Conv2d(WIDTH, MIDDLE, kernel_size=1)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, WIDTH))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode normalised images (B, 3, side, side).

        Returns:
            The embedding (B, 256, grid, grid), and the maps of twice and four times its resolution
            by sub-pixels of its tokens, as ``by_subpixel`` orders them: (B, 4 * L, 64) and
            (B, 4 * L, 128).
        """
        fine, middle, coarse, coarsest = self.trunk(image)
        above = self.neck.lateral(3)(coarsest)
        enlarged = functional.interpolate(above, scale_factor=2.0, mode="nearest")
        embedding = self.neck.lateral(2)(coarse) + enlarged
        # Of still images: no memory of earlier ones.
        embedding = embedding + self.no_mem_embed.reshape(1, WIDTH, 1, 1)
        s1 = _both(self.neck.lateral(1), self.conv_s1, middle)
        s0 = _both(self.neck.lateral(0), self.conv_s0, fine)
        return embedding, by_subpixel(s1, 1), by_subpixel(s0, 2)


def _both(first: nn.Conv2d, second: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply two convolutions of 1 x 1 as one, with a tenth of the arithmetic."""
    outer = second.weight.flatten(1)
    bias = outer @ _bias(first) + _bias(second)
    return functional.conv2d(x, (outer @ first.weight.flatten(1))[:, :, None, None], bias)


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None  # noqa: S101 - for the type alone
    return convolution.bias


class Sam2MaskDecoder(MaskDecoder):
    """SAM's mask decoder with a token for the object's presence and maps of higher resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.obj_score_token = nn.Embedding(1, WIDTH)
        self.pred_obj_score_head = Head(WIDTH, 1)

    def output_tokens(self) -> Tensor:
        """Return the tokens that are read in the end: SAM's, then that of the object score.

        Attention knows no order of tokens, so they stand where SAM's decoder has its own.
        """
        return torch.cat([super().output_tokens(), self.obj_score_token.weight])

    def predict_ious(self, tokens: Tensor) -> Tensor:
        """Read IoU predictions (N, 4) in 0..1 off the tokens (N, T, 256)."""
        return super().predict_ious(tokens).sigmoid()

    def further_outputs(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Read the logit (N, 1) that the object is there off the tokens (N, T, 256)."""
        return (self.pred_obj_score_head(tokens[:, OUTPUTS]),)

    def upscale(self, planes: Tensor, *maps: Tensor) -> Tensor:
        """Upscale image planes (N, 256, grid, grid) fourfold, adding the maps on the way."""
        middle, fine = maps
        first, norm, activation, second, _ = self.output_upscaling
        hidden = activation(norm(first(planes) + by_plane(middle, MIDDLE)))
        out: Tensor = activation(second(hidden) + by_plane(fine, FINE))
        return out


class Sam2MaskHead(MaskHead):
    """Image tokens, maps of higher resolution and mask vectors to low-resolution logits."""

    def forward(  # type: ignore[override]
        self, image_tokens: Tensor, mask_vectors: Tensor, middle: Tensor, fine: Tensor
    ) -> Tensor:
        """Map (S, 1, L, 256), (S, M, 32) and the maps of one image to logits (S, M, ...)."""
        twice = self.first(image_tokens.squeeze(1))
        twice = twice.reshape(image_tokens.shape[0], -1, MIDDLE)
        hidden = functional.gelu(self.norm(twice + middle))
        return self.multiply(functional.gelu(self.second(hidden) + fine), mask_vectors)


@dataclass(frozen=True, slots=True)
class Sam2Modules(SamModules):
    """The networks of SAM 2 for still images, and the five graphs that they become."""

    native_parts: ClassVar[NativeParts] = (PromptEncoder, Sam2MaskDecoder)

    def map_ports(self) -> tuple[TensorSpec, ...]:
        """Describe the maps that the encoder hands to the mask head."""
        places = 4 * self.prompt_encoder.grid**2
        return (
            TensorSpec("high_res_1", "float32", ("images", places, MIDDLE)),
            TensorSpec("high_res_0", "float32", ("images", places, 4 * FINE)),
        )

    def decoder_ports(self) -> tuple[TensorSpec, ...]:
        """Describe the object score: the logit that the object of the prompt is in the image."""
        return (TensorSpec("object_scores", "float32", ("prompts", 1)),)

    def mask_head(self) -> MaskHead:
        """Build the second stage of the decoder."""
        return Sam2MaskHead(self.mask_decoder, self.prompt_encoder.grid)


def build(shape: HieraShape) -> Sam2Modules:
    """Build the modules of a size."""
    prompts = PromptEncoder(shape.side // 16, shape.side)
    return Sam2Modules(Sam2Encoder(shape), prompts, Sam2MaskDecoder())


def published_name(name: str) -> str:
    """Turn the name of a module's weight into that of SAM 2's checkpoints."""
    renamed = {
        "image_encoder.no_mem_embed": "no_mem_embed",
        "image_encoder.conv_s": "sam_mask_decoder.conv_s",
        "prompt_encoder.": "sam_prompt_encoder.",
        "mask_decoder.": "sam_mask_decoder.",
    }
    for ours, theirs in renamed.items():
        if name.startswith(ours):
            name = theirs + name.removeprefix(ours)
            break
    return name.replace(".mlp.lin1.", ".mlp.layers.0.").replace(".mlp.lin2.", ".mlp.layers.1.")


MEMORY = (
    "memory_attention.",
    "memory_encoder.",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
    "mask_downsample.",
    "maskmem_tpos_enc",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
)
"""Beginnings of names of weights that only videos need."""
