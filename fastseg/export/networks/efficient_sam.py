"""EfficientSAM: a plain vision transformer, and a decoder that departs from SAM's (Xiong 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastseg.contract import LABEL_PADDING
from fastseg.export.networks.mask_decoder import EPSILON, MaskDecoder, TwoWayLayer
from fastseg.export.networks.plain_encoder import PlainEncoder, PlainShape
from fastseg.export.networks.prompt_encoder import WIDTH, FourierEncoding, PromptEncoder
from fastseg.export.networks.reassociated_decoder import MaskHead
from fastseg.export.networks.sam import NativeParts, SamModules

POINTS = 6
"""Points of every prompt, corners of boxes included: shorter prompts are filled up by padding."""

SHAPES: Mapping[str, PlainShape] = MappingProxyType(
    {"ti": PlainShape(192, 3), "s": PlainShape(384, 6)}
)
"""The published sizes."""


class PointEncoder(PromptEncoder):
    """Points and box corners as tokens; there are no mask prompts and no background points."""

    takes_masks = False

    def __init__(self, grid: int, side: int) -> None:
        nn.Module.__init__(self)  # not SAM's, whose weights for masks there are none of
        self.grid = grid
        self.side = side
        self.pe_layer = FourierEncoding()
        self.invalid_points = nn.Embedding(1, WIDTH)
        self.point_embeddings = nn.Embedding(1, WIDTH)  # type: ignore[assignment]
        self.bbox_top_left_embeddings = nn.Embedding(1, WIDTH)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, WIDTH)

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Turn points into tokens, as ``PromptEncoder.embed_points`` does.

        As trained, padding has a position, that of (-1, -1), and a point of label 0 has no type.
        """
        padding = (labels == LABEL_PADDING).unsqueeze(-1)
        positions = self.pe_layer((torch.where(padding, -1.0, coords) + 0.5) / self.side)
        corners = self.bbox_top_left_embeddings.weight, self.bbox_bottom_right_embeddings.weight
        invalid, point = self.invalid_points.weight, cast("Any", self.point_embeddings).weight
        table = torch.cat([invalid, torch.zeros_like(invalid), point, *corners])
        out: Tensor = positions + table[labels.long() + 1]
        return out

    def embed_mask(self, mask_input: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return zeros (1, 256, 1, 1), which change no image embedding."""
        return torch.zeros(1, WIDTH, 1, 1)


class ResidualLayer(TwoWayLayer):
    """A two-way layer whose self-attention has a residual and no positions of its own."""

    def at_start(self, tokens: Tensor, prompt: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return the sides of the self-attention, see ``TwoWayLayer.at_start``."""
        if not self.first:
            tokens = tokens + prompt
        return tokens, tokens, tokens


class EfficientSamMaskDecoder(MaskDecoder):
    """SAM's mask decoder with GELU throughout and one norm over all channels and pixels."""

    def __init__(self) -> None:
        super().__init__(layer=ResidualLayer, activation=nn.GELU())
        self.output_upscaling[1] = nn.GroupNorm(1, WIDTH // 4)


class EfficientSamMaskHead(MaskHead):
    """Image tokens and mask vectors to low-resolution logits, with the norm over all pixels."""

    def forward(self, image_tokens: Tensor, mask_vectors: Tensor) -> Tensor:
        """Map (S, 1, L, 256) and (S, M, 32) to logits (S, M, 4 * grid, 4 * grid)."""
        count = mask_vectors.shape[0]
        twice = self.first(image_tokens.squeeze(1)).reshape(count, -1, WIDTH // 4)
        centred = twice - self._mean(twice)
        variance = self._mean(centred * centred)
        normal = centred / torch.sqrt(variance + EPSILON) * self.norm.weight + self.norm.bias
        canvas = functional.gelu(self.second(functional.gelu(normal)))
        return self.multiply(canvas, mask_vectors)

    def _mean(self, x: Tensor) -> Tensor:
        """Take the mean of (S, 4 * L, 64) as (S, 1, 1), by rows.

        Runtimes would add up a million values with a rounding for each of them.
        """
        rows = x.mean(dim=2).reshape(x.shape[0], self.grid, -1)
        return rows.mean(dim=2).mean(dim=1).reshape(-1, 1, 1)


@dataclass(frozen=True, slots=True)
class EfficientSamModules(SamModules):
    """The networks of EfficientSAM, and the four graphs that they become."""

    native_parts: ClassVar[NativeParts] = (PointEncoder, EfficientSamMaskDecoder)

    def mask_head(self) -> MaskHead:
        """Build the second stage of the decoder."""
        return EfficientSamMaskHead(self.mask_decoder, self.prompt_encoder.grid)


def build(shape: PlainShape) -> EfficientSamModules:
    """Build the modules of a size."""
    prompts = PointEncoder(shape.grid, shape.side)
    return EfficientSamModules(PlainEncoder(shape), prompts, EfficientSamMaskDecoder())


def published_name(name: str) -> str:
    """Turn the name of a module's weight into that of EfficientSAM's checkpoints."""
    part, _, rest = name.partition(".")
    if part == "image_encoder":
        return name.replace(".mlp.lin", ".mlp.fc")
    if part != "mask_decoder":
        return name
    for ours, theirs in _DECODER_NAMES.items():
        rest = rest.replace(ours, theirs)
    return f"{part}.{rest}"


_DECODER_NAMES = MappingProxyType(
    {
        "mlp.lin1.": "mlp.layers.0.0.",
        "mlp.lin2.": "mlp.fc.",
        "output_upscaling.0.": "final_output_upscaling_layers.0.0.",
        "output_upscaling.1.": "final_output_upscaling_layers.0.1.",
        "output_upscaling.3.": "final_output_upscaling_layers.1.0.",
        **{
            f"{head}.layers.{at}.": f"{head}.{'fc' if at == 2 else f'layers.{at}.0'}."
            for head in (
                "iou_prediction_head",
                *(f"output_hypernetworks_mlps.{slot}" for slot in range(4)),
            )
            for at in range(3)
        },
    }
)
