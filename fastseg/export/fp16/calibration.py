"""The choice of the blocks that compute in float16, by measurements on images."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastseg.contract import Array, GraphSpec
from fastseg.export.fp16.probe import Probe
from fastseg.export.onnx.blocks import ROOT, read_graph
from fastseg.export.onnx.measuring_session import MeasuringSession
from fastseg.export.onnx.writer import save

LARGEST = 65504 / 8
"""A block with larger numbers stays in float32: float16 ends at 65504, and no calibration meets the
largest number."""

LOSS = 1e-5
"""Largest squared error over energy that a block may have of its own, a relative error of 0.3 %.
Rounding a tensor once costs 4e-8, and blocks that are robust to it stay below 1e-6."""


@dataclass(frozen=True, slots=True)
class BlockDecision:
    """The precision of a block, with its reason."""

    block: str
    precision: str
    """``"fp32"`` or ``"fp16"``."""

    reason: str
    """``"overflow"``, ``"loss"``, ``"between blocks"``, or nothing for float16."""

    max_abs: float
    """Largest absolute value of the block's inputs, weights and outputs."""

    nmse: float
    """Its own squared error in float16 over the energy of its outputs; infinite if it overflows."""

    def as_dict(self) -> dict[str, Any]:
        """Convert to JSON's types; infinity, which JSON lacks, becomes text."""
        return {
            name: value if not isinstance(value, float) or math.isfinite(value) else str(value)
            for name, value in asdict(self).items()
        }


@dataclass
class Calibration:
    """Measurements of one graph over all its runs."""

    path: Path
    """Its float32 file."""

    graph: GraphSpec
    threads: int = 0
    largest: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    error: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    energy: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    blocks: tuple[str, ...] = ()
    sums: frozenset[str] = frozenset()
    """Blocks that do nothing but add."""

    def run(self, feeds: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """Measure on some inputs, and return the outputs of the graph for each."""
        probe = Probe(read_graph(self.path))
        self.blocks, self.sums = probe.blocks, probe.sums
        with TemporaryDirectory() as folder:
            path = Path(folder) / "probe.onnx"
            save(probe.model, path)
            session = MeasuringSession(path, self.threads)
            answers = []
            for feed in feeds:
                found = session.run(feed)
                self._note(probe, found)
                answers.append({port.name: found[port.name] for port in self.graph.outputs})
        return answers

    def _note(self, probe: Probe, found: Mapping[str, Array]) -> None:
        for block in probe.blocks:
            seen = [abs(float(found[name])) for name in probe.ranges[block]]
            self.largest[block] = max(self.largest[block], probe.weights[block], *seen, 0.0)
            for error, energy in probe.errors[block]:
                self.error[block] += float(found[error])
                self.energy[block] += float(found[energy])

    def decisions(self) -> tuple[BlockDecision, ...]:
        """Decide for each block, by ``LARGEST``, ``LOSS`` and its place.

        A block that only adds the outputs of the blocks in it is a residual stream. It collects the
        rounding of every sum over the depth of the network, and its largest channels grow with the
        depth. It stays in float32, which costs little there.
        """
        return tuple(map(self._decide, self.blocks))

    def _decide(self, block: str) -> BlockDecision:
        error, energy = self.error[block], self.energy[block]
        nmse = error / energy if energy > 0 else 0.0
        nmse = nmse if math.isfinite(nmse) else math.inf
        holds = block == ROOT or any(other.startswith(f"{block}.") for other in self.blocks)
        reason = ""
        if not self.largest[block] <= LARGEST:
            reason = "overflow"
        elif nmse > LOSS:
            reason = "loss"
        elif holds and block in self.sums:
            reason = "between blocks"
        precision = "fp32" if reason else "fp16"
        return BlockDecision(block, precision, reason, self.largest[block], nmse)
