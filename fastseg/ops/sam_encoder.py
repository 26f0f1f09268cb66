"""SAM's image encoder as a native kernel with bfloat16 products."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastseg import _core
from fastseg.errors import BackendError
from fastseg.ops import checks
from fastseg.ops.sam_decoder import computes_in_bf16, decoder_tables
from fastseg.ops.weights import Floats, opened


def encoder_tables() -> tuple[str, ...]:
    """Names of the sets of products that the encoder can run with here, fastest first.

    Those of ``decoder_tables`` with bfloat16 operands; none on many processors.
    """
    return tuple(name for name in decoder_tables() if computes_in_bf16(name))


class EncoderKernel:
    """SAM's image encoder (Kirillov et al. 2023) with its weights in the kernel's own layout.

    Operands of products are bfloat16; residuals, norms, softmax and sums float32. For one processor
    and table the bits are always the same, for any number of threads and images.

    Args:
        weights: Float32 arrays by their names in a SAM checkpoint without ``image_encoder.``, with
            each linear layer's ``weight`` (out, in) turned to a ``kernel`` (in, out).
        table: One of ``encoder_tables()``.

    Raises:
        BackendError: This processor does not have the table.
        ModelFolderError: A weight is missing or has another shape, or the network has sizes that
            the kernel was not made for; the message says which.
    """

    def __init__(self, weights: Mapping[str, Floats], *, table: str) -> None:
        if table not in encoder_tables():
            raise BackendError(
                f"The native encoder has no table {table!r} on this processor, but "
                f"{', '.join(encoder_tables()) or 'none'}."
            )
        self._encoder = opened(_core.encoder_open, weights, table, network="SAM's encoder")
        self.side = _core.encoder_side(self._encoder)
        """Side of a picture in pixels."""

    def embed(self, images: Floats, *, threads: int = 0) -> Floats:
        """Compute the embeddings of pictures, one after another.

        Args:
            images: ``(n, 3, side, side)`` float32, normalised and padded.
            threads: Most threads to use, 0 for all cores.

        Returns:
            ``(n, 256, side / 16, side / 16)`` float32.

        Raises:
            BackendError: The pictures have another shape.
        """
        wanted = (len(images), 3, self.side, self.side)
        if images.shape != wanted:
            raise BackendError(f"images must be {wanted}, not {images.shape}.")
        found = np.empty((len(images), 256, self.side // 16, self.side // 16), np.float32)
        pictures = np.ascontiguousarray(images, np.float32)
        _core.encoder_run(self._encoder, pictures, found, checks.threads(threads))
        return found
