"""The export of the reference package, and its predictor on ONNX Runtime.

The package exports its decoder for one prompt a run, resizing to the image included; the encoder
is exported as it stands. Everything around the two graphs is the package's own.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastseg.backends.onnxruntime.session import import_runtime
from tests.helpers.reference_package import segment_anything

OPSET = 17
ENCODER, DECODER = "official_encoder.onnx", "official_decoder.onnx"


def export(sam: Any, folder: Path) -> None:
    """Write both graphs of a reference model into a folder."""
    image = torch.zeros(1, 3, sam.image_encoder.img_size, sam.image_encoder.img_size)
    write(sam.image_encoder, {"image": image}, ["embedding"], folder / ENCODER)
    grid = sam.prompt_encoder.image_embedding_size
    inputs = {
        "image_embeddings": torch.zeros(1, 256, *grid),
        "point_coords": torch.full((1, 2, 2), 100.0),
        "point_labels": torch.tensor([[1.0, -1.0]]),
        "mask_input": torch.zeros(1, 1, 4 * grid[0], 4 * grid[1]),
        "has_mask_input": torch.zeros(1),
        "orig_im_size": torch.tensor([600.0, 800.0]),
    }
    decoder = with_dynamic_size(sam)
    outputs = ["masks", "iou_predictions", "low_res_masks"]
    points = {"point_coords": {1: "points"}, "point_labels": {1: "points"}}
    write(decoder, inputs, outputs, folder / DECODER, dynamic=points)


def with_dynamic_size(sam: Any) -> torch.nn.Module:
    """Return the package's module for the export, for images of any shape.

    Its release 1.0 turns the padding that is cut away into numbers of Python, so that tracing
    freezes it to the traced image's.
    """
    from segment_anything.utils.onnx import SamOnnxModel

    class DynamicSize(SamOnnxModel):  # type: ignore[misc]
        def mask_postprocessing(self, logits: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
            """Resize small logits to an image of (height, width)."""
            square = enlarged(logits, (self.img_size, self.img_size))
            height, width = self.resize_longest_image_size(size, self.img_size)
            whole = size.to(torch.int64)
            return enlarged(square[..., :height, :width], (whole[0], whole[1]))

    return DynamicSize(sam, return_single_mask=False)


def enlarged(values: torch.Tensor, size: tuple[Any, Any]) -> torch.Tensor:
    """Resize bilinearly, as everywhere in SAM."""
    return torch.nn.functional.interpolate(values, size, mode="bilinear", align_corners=False)


def write(
    module: torch.nn.Module,
    inputs: dict[str, torch.Tensor],
    outputs: list[str],
    path: Path,
    *,
    dynamic: dict[str, dict[int, str]] | None = None,
) -> None:
    """Export as the package's script does, by tracing."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=dynamic,
        )


class OrtEncoder(torch.nn.Module):
    """The exported encoder in the place of the torch one."""

    def __init__(self, folder: Path, side: int, threads: int) -> None:
        super().__init__()
        self.img_size = side
        self._session = session(folder / ENCODER, threads)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Run the graph on (1, 3, side, side)."""
        return torch.from_numpy(self._session.run(None, {"image": pixels.numpy()})[0])


def predictor(sam: Any, folder: Path, threads: int) -> Any:
    """Return a predictor of the package that runs the exported graphs.

    Args:
        sam: The reference model, for its sizes and its preprocessing; its encoder is replaced.
        folder: The folder of ``export``.
        threads: Threads of ONNX Runtime.
    """
    sam.image_encoder = OrtEncoder(folder, sam.image_encoder.img_size, threads)
    decoder = session(folder / DECODER, threads)
    no_mask = {
        "mask_input": np.zeros((1, 1, 256, 256), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
    }

    class OnnxPredictor(segment_anything().SamPredictor):  # type: ignore[misc]
        """A predictor that decodes prompts one by one, as the exported decoder requires."""

        def predict_torch(
            self,
            point_coords: torch.Tensor,
            point_labels: torch.Tensor,
            multimask_output: bool = True,
            return_logits: bool = False,
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            """Predict (n, 3, H, W) masks, scores and small logits of (n, 1, 2) points."""
            parts = [self.decode(*one) for one in zip(point_coords, point_labels, strict=True)]
            masks, scores, low = (
                torch.cat([torch.from_numpy(part[index][:, 1:]) for part in parts])
                for index in range(3)
            )
            return (masks if return_logits else masks > 0), scores, low

        def decode(self, coords: torch.Tensor, labels: torch.Tensor) -> list[np.ndarray]:
            """Run the decoder once, with the padding point that the caller has to add."""
            points = np.concatenate([coords.numpy(), np.zeros((1, 2))])[None].astype(np.float32)
            kinds = np.append(labels.numpy(), -1)[None].astype(np.float32)
            size = np.array(self.original_size, np.float32)
            prompts = {"point_coords": points, "point_labels": kinds, "orig_im_size": size}
            inputs = {"image_embeddings": self.features.numpy(), **prompts, **no_mask}
            outputs: list[np.ndarray] = decoder.run(None, inputs)
            return outputs

    return OnnxPredictor(sam)


def session(path: Path, threads: int) -> Any:
    """Open an ONNX Runtime session with its default optimisations."""
    onnxruntime = import_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
