"""Arithmetic of SAM's graphs, and the rate that a call reaches beside the processor's peak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fastseg import ops
from fastseg.artifacts.manifest import Manifest
from fastseg.ops import PeakRates, computes_in_bf16, kernel_tables

ENCODER_GMAC: Mapping[str, float] = MappingProxyType(
    {"vit_b": 470.9, "vit_l": 1425.4, "vit_h": 2833.0, "sam-nano": 17.8}
)
"""Multiply-adds of an image encoder, in thousand millions, by the kind that a manifest names."""

IMAGE_STATE_GMAC = 0.404
"""Of what the prompts of an image share."""

POINT_GMAC = 0.502 + 0.419
"""Of one point: its scores and its masks."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Products of a model's calls, counted from the exported graphs."""

    encoder_gmac: float

    @classmethod
    def of(cls, manifest: Manifest) -> Arithmetic | None:
        """Look up a model of SAM's shape; None for another one."""
        gmac = ENCODER_GMAC.get(str(manifest.source.get("kind")))
        return None if gmac is None or manifest.image_preprocessing.side != 1024 else cls(gmac)

    @property
    def embedding_gflop(self) -> float:
        """Operations of an embedding, a multiply-add counted as two, in thousand millions."""
        return 2 * (self.encoder_gmac + IMAGE_STATE_GMAC)

    def points_gflop(self, count: int) -> float:
        """Count the operations of points on an embedding, with the masks of each."""
        return 2 * POINT_GMAC * count


def float32_peak(threads: int = 0) -> PeakRates:
    """Measure the peak of the processor's fastest kernel table in float32; takes milliseconds.

    Args:
        threads: Threads to use, 0 for all cores.
    """
    table = next(name for name in kernel_tables() if not computes_in_bf16(name))
    return ops.peak_rates(table, threads=threads)
