"""The backends of the native kernels: their common base, and the graphs of SAM's decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from fastseg.backends.base import MasksAbove
from fastseg.contract import Array, GraphSpec
from fastseg.environment import thread_count
from fastseg.errors import BackendError

if TYPE_CHECKING:
    from fastseg import ops

Kernel = TypeVar("Kernel")


class NativeGraph(ABC, Generic[Kernel]):
    """A graph and the kernel that runs it; a subclass implements ``_compute``.

    Args:
        kernel: The opened kernel, which other graphs may share.
        graph: The contract.
        threads: Cores to use, 0 for all that this process may run on, which is also the most.
    """

    name = "native:cpu"
    memory: Literal["host"] = "host"

    def __init__(self, kernel: Kernel, graph: GraphSpec, *, threads: int = 0) -> None:
        self.graph = graph
        self._kernel: Kernel | None = kernel
        self._threads = thread_count(threads)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph once; see ``Backend.run``."""
        return self._compute(self._checked(inputs), inputs)

    def _checked(self, inputs: Mapping[str, Array]) -> Kernel:
        """Return the kernel, if the inputs fit the contract and it was not closed."""
        # Held here so that a close() from another thread cannot take it away in the middle.
        kernel = self._kernel
        if kernel is None:
            raise BackendError(f"{self.graph.name} was closed. Load the model again.")
        if (reason := self.graph.mismatch(inputs)) is not None:
            raise BackendError(f"{reason}. Give what the graph's contract asks for.")
        return kernel

    def close(self) -> None:
        """Release the kernel, whose memory is freed with its last graph; harmless when repeated."""
        self._kernel = None

    @abstractmethod
    def _compute(self, kernel: Kernel, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs from inputs that fit the contract."""


class NativeBackend(NativeGraph["ops.DecoderKernel"]):
    """One graph of the decoder, run by the kernel that all of them share."""

    def decode_above(self, inputs: Mapping[str, Array], masks: MasksAbove) -> dict[str, Array]:
        """See ``ThresholdedDecoder.decode_above``; for ``"decoder"`` and ``"decoder_mask"``."""
        scores, logits = self._checked(inputs).decode_above(
            inputs["point_coords"],
            inputs["point_labels"],
            inputs["shared_image"],
            masks=inputs.get("mask_input"),
            above=masks.threshold,
            slots=masks.slots,
            extent=masks.extent,
            threads=self._threads,
        )
        return {"iou_predictions": scores, "low_res_logits": logits}

    def _compute(self, kernel: ops.DecoderKernel, inputs: Mapping[str, Array]) -> dict[str, Array]:
        threads = self._threads
        if self.graph.name == "image_state":
            maps = (inputs[tensor.name] for tensor in self.graph.inputs)
            return {"shared_image": kernel.image_state(*maps, threads=threads)}
        if self.graph.name == "mask_head":
            logits = kernel.draw(
                inputs["image_tokens"],
                inputs["mask_vectors"],
                inputs["shared_image"],
                threads=threads,
            )
            return {"low_res_logits": logits}
        found = kernel.decode(
            inputs["point_coords"],
            inputs["point_labels"],
            inputs["shared_image"],
            masks=inputs.get("mask_input"),
            threads=threads,
        )
        names = [tensor.name for tensor in self.graph.outputs]
        return dict(zip(names, found, strict=True))
