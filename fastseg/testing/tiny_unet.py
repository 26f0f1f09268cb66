"""A model folder for frames whose graph runs in milliseconds.

The tiny network of an apical two-chamber view finds a chamber by its brightness: pixels near 0.6
of the frame's range are the left atrium, those near 0.9 the left ventricle.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fastseg import artifacts
from fastseg.artifacts.manifest import UNET, Manifest
from fastseg.artifacts.preprocessing import FramePreprocessing
from fastseg.contract import unet_network
from fastseg.testing.onnx_text import compile_graph

UNET_SIDE = 64
"""Side of the tiny network's square."""

BRIGHTNESS = {"LA": 0.6, "LV": 0.9}
"""Luma of each chamber, of the range of the frame."""

_NETWORK = """
    c0 = Constant <value = int64[1] {0}> ()
    c1 = Constant <value = int64[1] {1}> ()
    luma = Slice (frames, c0, c1, c1)
    away = Sub (luma, brightness)
    apart = Abs (away)
    near = Sub (reach, apart)
    logits = Mul (near, sharpness)
    chambers = Sigmoid (logits)
    union = ReduceMax <keepdims = 1> (chambers, c1)
    probabilities = Concat <axis = 1> (union, chambers)
"""


def tiny_unet_folder(path: str | os.PathLike[str]) -> Path:
    """Write the tiny network to the folder ``path``; needs the package ``onnx`` and nothing else.

    Returns:
        ``path``, ready for ``fastseg.load``. The same bytes each time.

    Raises:
        OutputError: The folder is taken or cannot be written.
    """
    import onnx

    folder, graph = Path(path), unet_network(UNET_SIDE, 3, 1 + len(BRIGHTNESS))
    constants = {
        "brightness": np.array([*BRIGHTNESS.values()], np.float32).reshape(1, -1, 1, 1),
        "reach": np.array(0.1, np.float32),
        "sharpness": np.array(60, np.float32),
    }
    with artifacts.write(folder) as temporary:
        file = temporary / "network.onnx"
        file.write_bytes(compile_graph(graph, _NETWORK, constants))
        manifest = Manifest(
            family=UNET,
            name="tiny-unet",
            preprocessing=FramePreprocessing(side=UNET_SIDE),
            graphs={graph.name: artifacts.graph_file(graph, file)},
            source={"kind": "formulas, no weights"},
            licence="Apache-2.0",
            description="Finds chambers by their brightness, for tests",
            written_by={"onnx": onnx.__version__},
            extra={"view": "a2c", "classes": ["union", *BRIGHTNESS]},
        )
        artifacts.write_manifest(temporary, manifest)
    return folder
