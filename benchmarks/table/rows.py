"""Rows of the table: a model, a kind of work and its amount."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from fastseg.benchmarking.arithmetic import ENCODER_GMAC, Arithmetic
from fastseg.benchmarking.repetition import StoppingRule

Work = Literal["encoder", "embedding", "prompts", "mask", "everything", "file", "frames"]

TORCH, CHANNELS_LAST, BFLOAT16 = "torch fp32", "torch fp32, channels last", "torch bf16"
OFFICIAL = "official ONNX"
REFERENCES = (TORCH, BFLOAT16, OFFICIAL)

OURS: Mapping[str, dict[str, str]] = {
    "fastseg fp32": {"precision": "fp32"},
    "fastseg fastest": {"precision": "bf16"},
}
"""Contenders that are fastseg, and the arguments of ``fastseg.load``."""

IN_BFLOAT16 = (BFLOAT16, "fastseg fastest")
"""Contenders for processors with instructions for bfloat16; others emulate it, or refuse it."""

ARITHMETIC = {
    "vit-b": Arithmetic(ENCODER_GMAC["vit_b"]),
    "sam-nano": Arithmetic(ENCODER_GMAC["sam-nano"]),
}

SIDE = 32
"""Points per side of everything mode, as in SAM: 1024 points."""

MASKS_A_POINT = 3

PROMPTS_ON = 2
"""Megapixels of the image that prompts are given on."""

QUICK = StoppingRule(warm_up=1, min_rounds=7, max_rounds=40, max_seconds=5.0)
SLOW = StoppingRule(warm_up=0, min_rounds=3, max_rounds=9, max_seconds=15.0)
LATENCY = StoppingRule(warm_up=2, min_rounds=200, max_rounds=200, max_seconds=8.0)


@dataclass(frozen=True)
class TableRow:
    """One line of the table."""

    model: str
    work: Work
    amount: int = 0
    """Prompts, megapixels or frames, depending on the work."""

    @property
    def name(self) -> str:
        """Name, such as ``"vit-b/prompts-64"``."""
        return f"{self.model}/{self.work}" + (f"-{self.amount}" if self.amount else "")

    @property
    def title(self) -> str:
        """Title in words."""
        counted = "prompt" if self.amount == 1 else "prompts"
        return {
            "encoder": "encoder alone",
            "embedding": f"embedding of {PROMPTS_ON} megapixels",
            "prompts": f"{self.amount} {counted} after embedding",
            "mask": f"a mask of a point, {MASKS_A_POINT} of which come together",
            "everything": f"everything mode, {self.amount} megapixels",
            "file": f"everything mode from a PNG file of {self.amount} megapixels",
            "frames": f"a frame, in batches of {self.amount}",
        }[self.work]

    @property
    def rule(self) -> StoppingRule:
        """Rule of repetition."""
        if self.work == "mask":
            return LATENCY
        whole = self.work in ("everything", "file")
        return SLOW if whole or self.amount == SIDE**2 else QUICK

    def gflop(self, *, low_rank: bool) -> float | None:
        """Count the operations of a round; None where the masks decide.

        Args:
            low_rank: Whether prompts take the low-rank form; else those of fastseg's graphs count.
        """
        known = ARITHMETIC.get(self.model)
        if known is None or self.work in ("everything", "file", "frames"):
            return None
        known = replace(known, low_rank=low_rank)
        if self.work == "encoder":
            return 2 * known.encoder_gmac
        return (
            known.embedding_gflop
            if self.work == "embedding"
            else known.points_gflop(self.amount or 1)
        )

    @property
    def per(self) -> int:
        """Divisor of a round's time that gives the number of the table."""
        return {"frames": self.amount, "mask": MASKS_A_POINT}.get(self.work, 1)

    @property
    def contenders(self) -> tuple[str, ...]:
        """Contenders of the row; the references have no memory for the largest images."""
        if self.work == "frames":
            return (*REFERENCES[:1], CHANNELS_LAST, *REFERENCES[1:], *OURS)
        return tuple(OURS) if self.work == "file" else (*REFERENCES, *OURS)


def contenders_of(rows: Iterable[TableRow]) -> list[str]:
    """List the contenders of some rows, each once."""
    return list(dict.fromkeys(name for row in rows for name in row.contenders))


def _sam(model: str) -> list[TableRow]:
    return [
        TableRow(model, "encoder"),
        TableRow(model, "embedding"),
        *(TableRow(model, "prompts", count) for count in (1, 8, 64)),
        TableRow(model, "mask"),
        TableRow(model, "prompts", 1024),
        *(TableRow(model, "everything", megapixels) for megapixels in (1, 2, 12)),
        *(TableRow(model, "file", megapixels) for megapixels in (1, 12, 100)),
    ]


ROWS = (
    *_sam("vit-b"),
    *_sam("sam-nano"),
    *(TableRow(unet, "frames", batch) for unet in ("unet-32", "unet-16") for batch in (1, 8, 32)),
)
