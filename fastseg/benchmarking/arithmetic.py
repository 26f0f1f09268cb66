"""Arithmetic of SAM's graphs and kernels, and the rate of a call beside the processor's peak."""

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

_TOKENS = 7
"""Of a point, its padding, the score and four masks."""

_OUTPUTS = 5
"""Tokens that the last attention is for."""

LOW_RANK_SHARED_GMAC = 1.342
"""Of the products of an image's tokens that prompts in the low-rank form share beside its state."""


def low_rank_point_gmac(*, masks: bool = True, drawn: bool = True) -> float:
    """Count a point in the low-rank form of csrc/cpu/sam_decoder, in GMAC.

    Args:
        masks: False for its scores alone, which the score's token attends for.
        drawn: False for the vectors of its masks without their logits.
    """
    drawn = drawn and masks
    channels, inner = 16, 128
    queries, last = 8 * _TOKENS, 8 * (_OUTPUTS if masks else 1)
    others = 8 * (_TOKENS - 1)  # tokens of a head but its origin
    rows = others + 1
    folded = (_TOKENS - 1) * sum(rows - head * (_TOKENS - 1) for head in range(8))
    image = 2 * channels * queries
    image += 2 * channels * others + folded + inner
    image += 3 * channels * queries + 2 * rows * queries
    image += 4 * channels * others + 2 * rows * others + 2 * folded + 2 * inner + rows
    image += 3 * channels * last + 4 * rows * last
    if drawn:
        image += 2 * rows * 256 + 4 * 64 * 128 + 32 * 16 * 3
    # Self-attentions, projections and MLPs of the tokens, the heads, and the small matrices.
    layers = 2 * _TOKENS * (4 * 256 * 256 + 4 * 256 * 128 + 2 * 256 * 2048)
    heads = _OUTPUTS * (2 * 256 * 256 + 2 * 256 * 128 + 32 * 256)
    matrices = (channels * others + inner) * (11 * 128 + (2 * 256 if drawn else 0))
    matrices += channels * rows * (5 * others + queries + 2 * last)
    return (4096 * image + layers + heads + matrices) / 1e9


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Products of a model's calls, counted from the exported graphs."""

    encoder_gmac: float

    low_rank: bool = False
    """True if prompts take the low-rank form: those of the native decoder in float32."""

    @classmethod
    def of(cls, manifest: Manifest, decoder: str = "") -> Arithmetic | None:
        """Look up a model of SAM's shape; None for another one.

        Args:
            manifest: Of the model.
            decoder: What runs its decoder, as ``Sam.runs`` says.
        """
        gmac = ENCODER_GMAC.get(str(manifest.source.get("kind")))
        if gmac is None or manifest.image_preprocessing.side != 1024:
            return None
        return cls(gmac, low_rank=decoder.startswith("native") and decoder.endswith("fp32"))

    @property
    def embedding_gflop(self) -> float:
        """Operations of an embedding, a multiply-add counted as two, in thousand millions."""
        shared = LOW_RANK_SHARED_GMAC if self.low_rank else 0.0
        return 2 * (self.encoder_gmac + IMAGE_STATE_GMAC + shared)

    def points_gflop(self, count: int) -> float:
        """Count the operations of points on an embedding, with the masks of each."""
        return 2 * count * (low_rank_point_gmac() if self.low_rank else POINT_GMAC)


def float32_peak(threads: int = 0) -> PeakRates:
    """Measure the peak of the processor's fastest kernel table in float32; takes milliseconds.

    Args:
        threads: Threads to use, 0 for all cores.
    """
    table = next(name for name in kernel_tables() if not computes_in_bf16(name))
    return ops.peak_rates(table, threads=threads)
