"""Ways to run the echo networks: torch in three forms, a plain export, and fastseg in two.

The references take preprocessed frames and end at probabilities; fastseg begins at stored frames
and ends at cleaned masks under their names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fastseg
from benchmarks.table import official_onnx
from benchmarks.table.material import WIDTHS, Material, network
from benchmarks.table.rows import BFLOAT16, OFFICIAL, OURS, TORCH

Frames = NDArray[np.float32]

MASKS_A_FRAME = 4


def load(
    name: str, model: str, material: Material, threads: int
) -> tuple[Callable[[Frames], int], str]:
    """Load a network; return a function that segments (n, 256, 256, 3) frames and counts masks."""
    if name in OURS:
        unet = fastseg.load(material.model(model), threads=threads, **OURS[name])

        def segment(frames: Frames) -> int:
            return sum(map(len, unet.segment(frames, channels="ycbcr")))

        return segment, f"{unet.backend} {unet.precision}"
    torch.set_num_threads(threads)
    run = plain(network(WIDTHS[model]), name, threads)

    def probabilities(frames: Frames) -> int:
        with torch.inference_mode():
            run(torch.from_numpy(frames.transpose(0, 3, 1, 2)))
        return MASKS_A_FRAME * len(frames)

    return probabilities, "onnxruntime fp32" if name == OFFICIAL else "torch eager"


def plain(unet: torch.nn.Module, name: str, threads: int) -> Callable[[torch.Tensor], Any]:
    """Return the network alone, in one of the forms of the references."""
    if name == OFFICIAL:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "unet.onnx"
            example = {"frames": torch.zeros(2, 3, 256, 256)}
            batch = {"frames": {0: "batch"}}
            whole = torch.nn.Sequential(unet, torch.nn.Sigmoid())
            official_onnx.write(whole, example, ["probabilities"], path, dynamic=batch)
            session = official_onnx.session(path, threads)
        return lambda frames: session.run(None, {"frames": frames.contiguous().numpy()})
    if name == TORCH:
        return lambda frames: unet(frames.contiguous()).sigmoid()
    unet = unet.to(memory_format=torch.channels_last)
    if name == BFLOAT16:

        def in_bfloat16(frames: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return unet(frames.contiguous(memory_format=torch.channels_last)).sigmoid().float()

        return in_bfloat16
    return lambda frames: unet(frames.contiguous(memory_format=torch.channels_last)).sigmoid()
