"""SAM as published but for its weights: a checkpoint, its modules, the reference and its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from fastseg.export import sam as export
from fastseg.export.checkpoints import sam as checkpoints
from fastseg.export.networks.image_encoder import SHAPES, Shape
from fastseg.export.networks.sam import SamModules
from fastseg.export.onnx import float16_storage
from tests.helpers.random_weights import scattered
from tests.helpers.reference_package import segment_anything
from tests.helpers.reference_sam import assembled_sam, reference_encoder
from tests.helpers.remembered_exports import remembered_exports

SMALL = Shape(width=64, depth=2, heads=4, global_blocks=(1,), side=256)
"""A window block, a global block, and 16 tokens a side, which windows of 14 do not divide."""

SIZES = {**SHAPES, "vit_small": SMALL}

BOTH_SIZES = ("vit_small", pytest.param("vit_b", marks=pytest.mark.slow))
"""Names of fixtures: the small network always, ViT-B among the slow tests."""


@contextmanager
def small_size_known() -> Iterator[None]:
    """Let checkpoints of the small network be recognised like those of the published sizes."""
    with (
        mock.patch.object(checkpoints, "SHAPES", SIZES),
        mock.patch.object(export, "SHAPES", SIZES),
    ):
        yield


@dataclass(frozen=True)
class ExportedSam:
    """A SAM of one size with random weights; its files are written once, into ``place``."""

    kind: str
    place: Path

    @property
    def shape(self) -> Shape:
        """Size of the image encoder."""
        return SIZES[self.kind]

    @cached_property
    def checkpoint(self) -> Path:
        """File of weights as published."""
        path = self.place / f"{self.kind}.pth"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sam = scattered(self._initial_reference())
        if self.kind == "vit_small":
            # So that a folder in float16 has the same decoder, whose export takes longest.
            float16_storage.prepare(sam.prompt_encoder)
            float16_storage.prepare(sam.mask_decoder)
        torch.save(sam.state_dict(), path)
        return path

    @cached_property
    def folder(self) -> Path:
        """Model folder exported from the checkpoint."""
        out = self.place / self.kind.replace("_", "-")
        with small_size_known(), remembered_exports():
            export.export_sam(self.checkpoint, out, licence="none")
        return out

    def modules(self) -> SamModules:
        """Build our modules around the checkpoint."""
        with small_size_known():
            found = export.load_modules(checkpoints.read(self.checkpoint))
        for module in found.by_prefix().values():
            module.eval().requires_grad_(False)
        return found

    def reference(self) -> Any:
        """Build the reference package's SAM around the checkpoint."""
        sam = self._initial_reference()
        weights = torch.load(self.checkpoint, weights_only=True, mmap=True)
        sam.load_state_dict(weights, assign=True)
        return sam.eval().requires_grad_(False)

    def _initial_reference(self) -> Any:
        published = segment_anything().sam_model_registry.get(self.kind)
        if published is not None:
            return published()
        return assembled_sam(reference_encoder(self.shape), side=self.shape.side)
