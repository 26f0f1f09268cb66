"""SAM's image encoder as a native kernel.

It answers within rounding: in float32 about 2e-6 of the embedding from the torch modules, in
bfloat16 about 5e-3.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastseg import _core
from fastseg.errors import BackendError
from fastseg.ops import checks
from fastseg.ops.sam_decoder import kernel_tables
from fastseg.ops.weights import Floats, opened


class EncoderKernel:
    """SAM's image encoder (Kirillov et al. 2023) with its weights in the kernel's own layout.

    Operands of products are those of the kernel table; residuals, norms, softmax and sums are
    float32. For one processor and kernel table the bits are always the same, for any number of
    threads and images.

    Args:
        weights: Float32 arrays by their names in a SAM checkpoint without ``image_encoder.``, with
            each linear layer's ``weight`` (out, in) turned to a ``kernel`` (in, out). Those of
            SAM-HQ come with ``compress_vit_feat`` and ``embedding_encoder``.
        kernel_table: One of ``kernel_tables()``; for SAM-HQ one that computes in float32.

    Raises:
        BackendError: This processor does not support the kernel table.
        ModelFolderError: A weight is missing or has another shape, or the network has sizes that
            the kernel was not made for; the message says which.
    """

    def __init__(self, weights: Mapping[str, Floats], *, kernel_table: str) -> None:
        if kernel_table not in kernel_tables():
            raise BackendError(
                f"The native encoder has no kernel table {kernel_table!r} on this processor. "
                f"Use one of {', '.join(kernel_tables())}."
            )
        self._encoder = opened(_core.encoder_open, weights, kernel_table, network="SAM's encoder")
        self.side = _core.encoder_side(self._encoder)
        """Side of an image in pixels."""
        self.has_features: bool = _core.encoder_has_features(self._encoder)
        """True for SAM-HQ."""

    def embed(self, images: Floats, *, threads: int = 0) -> Floats:
        """Compute the embeddings of images, as ``maps`` does."""
        return self.maps(images, threads=threads)[0]

    def maps(self, images: Floats, *, threads: int = 0) -> tuple[Floats, ...]:
        """Compute what a decoder takes of images, one image after another.

        Args:
            images: ``(n, 3, side, side)`` float32, normalised and padded.
            threads: Most threads to use, 0 for all cores.

        Returns:
            The embeddings ``(n, 256, side / 16, side / 16)`` float32 and, for SAM-HQ, the features
            ``(n, 32, side / 4, side / 4)`` float32.

        Raises:
            BackendError: The images have another shape.
        """
        wanted = (len(images), 3, self.side, self.side)
        if images.shape != wanted:
            raise BackendError(f"images must be {wanted}, not {images.shape}.")
        found = np.empty((len(images), 256, self.side // 16, self.side // 16), np.float32)
        features = None
        if self.has_features:
            features = np.empty((len(images), 32, self.side // 4, self.side // 4), np.float32)
        images = np.ascontiguousarray(images, np.float32)
        _core.encoder_run(self._encoder, images, found, features, checks.threads(threads))
        return (found,) if features is None else (found, features)
