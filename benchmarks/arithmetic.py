"""How much arithmetic the graphs are, counted from the modules that they are written from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

from fastseg.export.networks.image_encoder import SHAPES, ImageEncoder
from fastseg.export.networks.mask_decoder import MaskDecoder
from fastseg.export.networks.nano_encoder import NanoEncoder
from fastseg.export.networks.prompt_encoder import PromptEncoder
from fastseg.export.networks.sam import TRACED, SamModules
from fastseg.export.onnx.writer import Source

COUNTED_IN = {"decoder": "prompts", "decoder_mask": "prompts", "mask_head": "survivors"}
"""Which of the sizes that a graph is traced with its arithmetic grows with."""


def sam_gmac(kind: str) -> Mapping[str, float]:
    """Thousand million multiplications of each graph, for one image or one prompt.

    Matrix products and convolutions alone; nothing is computed for it.

    Args:
        kind: ``"sam-nano"`` or one of ``SHAPES``.
    """
    with torch.device("meta"):
        encoder = NanoEncoder() if kind == "sam-nano" else ImageEncoder(SHAPES[kind])
        modules = SamModules(encoder, PromptEncoder(64, 1024), MaskDecoder())
        return {
            source.graph.name: gmac(source) / TRACED[COUNTED_IN.get(source.graph.name, "images")]
            for source in modules.sources()
        }


def gmac(source: Source) -> float:
    """Of one run with the inputs that a module is traced with."""
    inputs = [tensor.to("meta") for tensor in source.inputs]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        source.module.to("meta")(*inputs)
    return counter.get_total_flops() / 2e9
