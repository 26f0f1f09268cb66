"""Settings of a fine-tuning."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

from fastseg.errors import PromptError

Method: TypeAlias = Literal["decoder", "lora", "adapter"]
"""Weights that are trained: the mask decoder; low-rank pairs beside frozen weights; or the decoder
with the adapter of SAM-Adapter in the encoder."""

PromptKind: TypeAlias = Literal["none", "box", "point"]
"""Prompt that masks are drawn for: none, a box around the object, or one point in it."""

METHODS: tuple[Method, ...] = get_args(Method)
PROMPTS: tuple[PromptKind, ...] = get_args(PromptKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The schedule of a fine-tuning, by default that of Shi et al. (arXiv 2304.12637).

    Raises:
        PromptError: A setting is out of its range.
    """

    method: Method = "decoder"
    prompt: PromptKind = "none"
    classes: tuple[str, ...] = ()
    """Classes that are learnt; all of them if empty."""

    epochs: int = 20
    """Most passes over the training pairs."""

    rate: float = 2e-4
    """Learning rate of AdamW at the start; it falls along a cosine to ``LEAST_RATE``."""

    patience: int = 8
    """Epochs without a lower validation loss after which training stops."""

    validation: float = 0.2
    """Share of the pairs that is kept back, whole patients at a time."""

    rank: int = 4
    """Rank of the pairs of ``lora``."""

    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        for value, allowed, what in (
            (self.method, METHODS, "method"),
            (self.prompt, PROMPTS, "prompt"),
        ):
            if value not in allowed:
                raise PromptError(f"{what} must be one of {', '.join(allowed)}, not {value!r}.")
        if self.method == "adapter" and self.prompt != "none":
            raise PromptError(
                f"SAM-Adapter takes no prompt, and {self.prompt} was asked for. Choose the prompt "
                "none, or another method."
            )
        counts = {"epochs": self.epochs, "patience": self.patience, "rank": self.rank}
        for what, count in counts.items():
            if count < 1:
                raise PromptError(f"{what} must be at least 1, not {count}.")
        if not 0 < self.rate < math.inf or not 0 < self.validation < 1 or self.seed < 0:
            raise PromptError(
                f"rate ({self.rate:g}) must be positive, validation ({self.validation:g}) between "
                f"0 and 1, and seed ({self.seed}) at least 0."
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the settings, ready for JSON."""
        return {**asdict(self), "classes": list(self.classes)}


LEAST_RATE = 1e-7
"""Learning rate at the end of the last epoch."""

WEIGHT_DECAY = 0.01
"""Decay of AdamW, torch's default."""
