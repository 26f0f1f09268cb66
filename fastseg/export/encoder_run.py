"""The run of an encoder's graph that a comparison needs, beside the work before it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.contract import Array, GraphSpec


class EncoderRun:
    """One run of an encoder's graph in ONNX Runtime, in a thread of its own.

    It is the longest of a comparison, and needs none of the graphs that are traced meanwhile, on
    one core.

    Args:
        graph: File and contract of the encoder.
        side: Side of its square input in pixels.
    """

    def __init__(self, graph: tuple[Path, GraphSpec], side: int) -> None:
        self.image = _image(side, torch.Generator().manual_seed(0))
        self._graph = graph
        self._backend: OrtBackend | None = None
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._found = self._thread.submit(self._run)

    def outputs(self) -> dict[str, Array]:
        """Wait for the outputs by name; the graph is closed then.

        Raises:
            ModelFolderError: The file is no graph of the contract.
            BackendError: ONNX Runtime cannot run it.
        """
        return self._found.result()

    def close(self) -> None:
        """End the run if it still goes on; harmless when called again."""
        self._found.cancel()
        if self._backend is not None:
            self._backend.stop()
        self._thread.shutdown()

    def _run(self) -> dict[str, Array]:
        with closing(OrtBackend(*self._graph, spinning=False)) as self._backend:
            return self._backend.run({"image": self.image.numpy()})


def _image(side: int, random: torch.Generator) -> Tensor:
    """Generate an image between a photograph and noise: normalised, smooth and with grain."""
    coarse = torch.randn(1, 3, 8, 8, generator=random)
    smooth = functional.interpolate(coarse, (side, side), mode="bilinear")
    return smooth + 0.1 * torch.randn(smooth.shape, generator=random)
