"""The number of prompts that go through the decoder at a time, given a device's memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fastseg.contract import GraphSpec
from fastseg.errors import DeviceMemoryError, PromptError

DEFAULT_BYTES = 2 * 2**30
"""Memory that prompts may take on a device at once where no limit is given."""

PASSES_HELD = 2
"""Passes whose outputs are held at once: the one that runs, and the one whose masks are drawn."""

WORKING_COPIES = 4
"""Copies of a prompt's largest tensor that a graph holds beside its inputs and outputs while it
runs: queries, keys, values and their residuals. An estimate; engines take less or more."""

PROMPTS_PER_PIECE = 64
"""Most prompts whose masks are drawn at a time: enough to fill a device, and 190 MB of logits and
upscaled tokens in half precision."""

ROUND_TO = 16
"""Prompts of a piece are rounded up to this, so that few shapes come again and again and a runtime
can replay what it recorded for them."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Sizes of the two stages of the decoder."""

    prompts_per_pass: int
    """Prompts in one run of ``decoder``."""

    prompts_per_piece: int
    """Prompts in one run of ``mask_head``, at most."""

    bytes: int
    """Memory of both at once, estimated from the shapes of the graphs."""

    def passes(self, prompts: int) -> list[tuple[int, int]]:
        """List first and end of each pass over so many prompts."""
        step = self.prompts_per_pass
        return [(first, min(first + step, prompts)) for first in range(0, prompts, step)]

    def pieces(self, prompts: int) -> list[tuple[int, int]]:
        """List first and size of each piece of so many prompts; the last may reach beyond them."""
        step = self.prompts_per_piece
        return [
            (first, min(step, -(-(prompts - first) // ROUND_TO) * ROUND_TO))
            for first in range(0, prompts, step)
        ]

    def halved(self) -> MemoryPlan:
        """Make the plan for half as many prompts at a time.

        Raises:
            DeviceMemoryError: It is one prompt already.
        """
        if self.prompts_per_pass == 1:
            raise DeviceMemoryError(
                "The device has too little memory for a single prompt. Close other programs on "
                'it, or use device="cpu".'
            )
        return replace(
            self,
            prompts_per_pass=self.prompts_per_pass // 2,
            prompts_per_piece=max(1, self.prompts_per_piece // 2),
            bytes=self.bytes // 2,
        )


def plan_memory(
    decoder: GraphSpec, mask_head: GraphSpec, *, prompts: int, most_bytes: int | None = None
) -> MemoryPlan:
    """Choose the sizes: all prompts in one pass if they fit, else equal passes that do.

    Args:
        decoder: The first stage.
        mask_head: The second stage.
        prompts: In the whole grid.
        most_bytes: Of device memory that prompts may take at once; None is ``DEFAULT_BYTES``.

    Raises:
        PromptError: ``most_bytes`` is not at least 1.
        DeviceMemoryError: Not even one prompt fits.
    """
    limit = DEFAULT_BYTES if most_bytes is None else most_bytes
    if limit < 1:
        raise PromptError(f"max_device_memory must be at least 1 byte, not {most_bytes}.")
    first, second = _bytes_per_prompt(decoder), _bytes_per_prompt(mask_head)
    outputs = sum(first.values())
    in_pass = PASSES_HELD * outputs + WORKING_COPIES * max(first.values())
    in_piece = sum(second.values()) + WORKING_COPIES * max(second.values()) + outputs
    piece = min(PROMPTS_PER_PIECE, max(1, prompts), max(1, limit // 4 // in_piece))
    fitting = (limit - piece * in_piece) // in_pass
    if fitting < 1:
        need = in_pass + piece * in_piece
        raise DeviceMemoryError(
            f"A prompt takes about {need / 2**20:.0f} MiB on the device, and max_device_memory is "
            f"{limit / 2**20:.0f} MiB. Allow more."
        )
    passes = max(1, -(-prompts // fitting))
    per_pass = max(1, -(-prompts // passes))
    return MemoryPlan(per_pass, piece, per_pass * in_pass + piece * in_piece)


def _bytes_per_prompt(graph: GraphSpec) -> dict[str, int]:
    """Count the bytes of each output, for one prompt and SAM's three alternatives."""
    return {
        tensor.name: math.prod(
            size if isinstance(size, int) else (3 if size == "masks" else 1)
            for size in tensor.shape
        )
        * np.dtype(tensor.dtype).itemsize
        for tensor in graph.outputs
    }
