"""Arithmetic of the graphs, counted from the modules that they are exported from."""

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
"""Traced size that a graph's arithmetic grows with, by graph."""


def sam_gmac(kind: str) -> Mapping[str, float]:
    """Count the GMAC of each graph, for one image or one prompt.

    Matrix products and convolutions alone; nothing is computed.

    Args:
        kind: ``"sam-nano"`` or one of ``SHAPES``.
    """
    return {
        source.graph.name: gmac(source) / TRACED[COUNTED_IN.get(source.graph.name, "images")]
        for source in sam_sources(kind)
    }


def sam_sources(kind: str) -> tuple[Source, ...]:
    """Return the sources of a model's graphs, without memory for their weights."""
    with torch.device("meta"):
        encoder = NanoEncoder() if kind == "sam-nano" else ImageEncoder(SHAPES[kind])
        return tuple(SamModules(encoder, PromptEncoder(64, 1024), MaskDecoder()).sources())


def gmac(source: Source) -> float:
    """Count the GMAC of one run with the traced inputs of a module."""
    inputs = [tensor.to("meta") for tensor in source.inputs]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        source.module.to("meta")(*inputs)
    return counter.get_total_flops() / 2e9
