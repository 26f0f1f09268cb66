"""Times of the stages of a call, and the names of what it ran on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias, get_args

Stage: TypeAlias = Literal["preprocess", "encode", "decode", "postprocess"]

STAGES: tuple[Stage, ...] = get_args(Stage)
"""The stages of a call, in the order in which an image passes through them."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock milliseconds of each stage of one call, with what it ran on.

    ``Timings() + a + b`` sums the stages of ``a`` and ``b`` and joins the names in both.
    """

    preprocess: float = 0.0
    """Reading, resizing and normalising the image, in ms."""

    encode: float = 0.0
    """The image encoder and what else runs once per image, in ms."""

    decode: float = 0.0
    """The decoder's graphs, in ms."""

    postprocess: float = 0.0
    """From low-resolution logits to run lengths, boxes and scores, in ms. The part that overlaps
    with the decoder's graphs is in ``decode``."""

    n_masks: int = 0
    """Masks that the call returned."""

    backend: str = ""
    """The runtime that ran, ``"onnxruntime"``; empty while nothing has run."""

    device: str = ""
    """The device, ``"cpu"`` or ``"cuda:0"``."""

    precision: str = ""
    """The precision, ``"fp32"``."""

    @property
    def total(self) -> float:
        """Sum of the stages in ms."""
        return self.preprocess + self.encode + self.decode + self.postprocess

    @property
    def per_mask_ms(self) -> float:
        """``total / n_masks`` in ms, NaN where no mask was returned."""
        return self.total / self.n_masks if self.n_masks else float("nan")

    def __add__(self, other: Timings) -> Timings:
        """Sum stages and masks; names that differ are joined by ``+``."""
        return Timings(
            preprocess=self.preprocess + other.preprocess,
            encode=self.encode + other.encode,
            decode=self.decode + other.decode,
            postprocess=self.postprocess + other.postprocess,
            n_masks=self.n_masks + other.n_masks,
            backend=_join(self.backend, other.backend),
            device=_join(self.device, other.device),
            precision=_join(self.precision, other.precision),
        )

    def as_dict(self) -> dict[str, float | int | str | None]:
        """Return the fields, ``total`` and ``per_mask_ms`` for JSON, with None in place of NaN."""
        per_mask_ms = self.per_mask_ms if self.n_masks else None
        return {**asdict(self), "total": self.total, "per_mask_ms": per_mask_ms}


class Stopwatch:
    """Adds up the milliseconds spent in each stage.

    with watch("decode"):
        ...

    A stage may be entered many times; stages must not be nested, or their time counts twice.
    """

    def __init__(self) -> None:
        self._ms: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: Stage) -> Iterator[None]:
        """Add the time spent inside the ``with`` block to ``stage``, also when it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._ms[stage] += (time.perf_counter() - start) * 1e3

    def timings(
        self, *, n_masks: int = 0, backend: str = "", device: str = "", precision: str = ""
    ) -> Timings:
        """Return the times so far, with the names that the caller gives."""
        return Timings(
            n_masks=n_masks, backend=backend, device=device, precision=precision, **self._ms
        )


def _join(first: str, second: str) -> str:
    """Join two lists of names, each name once, in the order in which they came."""
    return "+".join(dict.fromkeys(part for part in (*first.split("+"), *second.split("+")) if part))
