"""A checkpoint's network as plain torch modules, with arrays at its door."""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray

from fastseg.export import checkpoint as checkpoints
from fastseg.export.sam import load_modules

PROMPTS_PER_RUN = 16
"""Most prompts in one run; the published decoder copies the image for each of them."""


class TorchNetwork:
    """SAM as published, in float32 on the CPU: slow, and what every other way answers to.

    Args:
        checkpoint: A ``.pth`` or ``.safetensors`` file of SAM ViT-B, ViT-L or ViT-H.

    Raises:
        CheckpointError: The file is not such a checkpoint.
    """

    def __init__(self, checkpoint: str | os.PathLike[str]) -> None:
        self._modules = load_modules(checkpoints.read(checkpoint))
        for module in self._modules.by_prefix().values():
            module.eval().requires_grad_(False)

    @property
    def side(self) -> int:
        """Side of the square input in pixels."""
        return self._modules.side

    @torch.inference_mode()
    def embed(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode one picture (1, 3, side, side), normalised and padded, to (256, grid, grid)."""
        features: NDArray[np.float32] = self._modules.image_encoder(torch.from_numpy(pixels))[
            0
        ].numpy()
        return features

    @torch.inference_mode()
    def decode(
        self, features: NDArray[np.float32], coords: NDArray[np.float32], labels: NDArray[np.int32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answer prompts.

        Args:
            features: (256, grid, grid), as ``embed`` returns them.
            coords: (prompts, points, 2), x before y in pixels of the square.
            labels: (prompts, points), as in ``contract.SAM_GRAPHS``.

        Returns:
            IoU predictions (prompts, 4) and low-resolution logits (prompts, 4, h, w).
        """
        prompts, decoder = self._modules.prompt_encoder, self._modules.mask_decoder
        embedding = torch.from_numpy(features)[None]
        ious, logits = [], []
        for start in range(0, len(coords), PROMPTS_PER_RUN):
            part = slice(start, start + PROMPTS_PER_RUN)
            sparse, dense = prompts(torch.from_numpy(coords[part]), torch.from_numpy(labels[part]))
            drawn, quality = decoder(embedding, prompts.dense_positions(), sparse, dense)
            ious.append(quality.numpy())
            logits.append(drawn.numpy())
        return np.concatenate(ious), np.concatenate(logits)
