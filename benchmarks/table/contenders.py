"""Ways to run a SAM-shaped model: the reference package in three forms, and fastseg in two."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

import fastseg
from benchmarks.table.material import Material, Thresholds
from benchmarks.table.rows import BFLOAT16, OFFICIAL, OURS
from fastseg.timings import STAGES
from tests.helpers.reference_package import segment_anything

Image = NDArray[np.uint8]
Points = NDArray[np.float64]

PROMPTS_AT_ONCE = 64
"""Batch of the reference's mask generator; smaller where 64 x 3 full-size masks do not fit."""


@dataclass(frozen=True)
class MaskGeneration:
    """One call of everything mode."""

    grid: Points
    """(n, 2) points in 0..1."""

    thresholds: Thresholds
    at_once: int = PROMPTS_AT_ONCE


class Contender(Protocol):
    """A loaded model in one of the ways to run it."""

    embed_ms: float
    """Milliseconds of the last embedding, preprocessing included."""

    encoder_ms: float
    """Milliseconds of the network alone."""

    stages_ms: dict[str, float]
    """Milliseconds of each stage of everything mode; empty if unknown."""

    @property
    def ran(self) -> str:
        """Runtime and precision."""

    def embed(self, image: Image) -> None:
        """Run the encoder, and keep the embedding for ``segment``."""

    def segment(self, points: Points) -> int:
        """Segment (n, 2) points on the embedded image into three masks each; count them."""

    def everything(self, image: Image, request: MaskGeneration) -> int:
        """Generate masks of the whole image; count them."""


class Fastseg:
    """fastseg through its public functions; masks end as RLE."""

    def __init__(self, model: fastseg.Sam) -> None:
        self._model = model
        self.ran = f"{model.backend} {model.precision}"
        self.embed_ms = self.encoder_ms = 0.0
        self.stages_ms: dict[str, float] = {}

    def embed(self, image: Image) -> None:
        self._embedding = self._model.embed(image)
        timings = self._embedding.timings
        self.embed_ms, self.encoder_ms = timings.total, timings.encode

    def segment(self, points: Points) -> int:
        return len(self._model.segment(self._embedding, points=points[:, None]))

    def everything(self, image: Image, request: MaskGeneration) -> int:
        masks = self._model.everything(
            image, points_per_side=None, point_grids=[request.grid], **asdict(request.thresholds)
        )
        self.stages_ms = {stage: getattr(masks.timings, stage) for stage in STAGES}
        return len(masks)


class Reference:
    """The reference package around networks of one form; masks end as arrays of booleans."""

    def __init__(self, predictor: Any, ran: str) -> None:
        self._predictor = predictor
        self._encoder = TimedNetwork(predictor.model.image_encoder)
        predictor.model.image_encoder = self._encoder
        self.ran = ran
        self.embed_ms = 0.0
        self.stages_ms: dict[str, float] = {}

    @property
    def encoder_ms(self) -> float:
        return self._encoder.ms

    def embed(self, image: Image) -> None:
        start = time.perf_counter()
        self._predictor.set_image(image)
        self.embed_ms = 1e3 * (time.perf_counter() - start)

    def segment(self, points: Points) -> int:
        """Segment in batches of the package's generator; a batch's masks are then released."""
        predictor, count = self._predictor, 0
        moved = predictor.transform.apply_coords(points, predictor.original_size)
        for some in np.split(moved, range(PROMPTS_AT_ONCE, len(moved), PROMPTS_AT_ONCE)):
            labels = torch.ones(len(some), 1, dtype=torch.int)
            masks, _, _ = predictor.predict_torch(torch.as_tensor(some)[:, None], labels)
            count += masks.shape[0] * masks.shape[1]
        return count

    def everything(self, image: Image, request: MaskGeneration) -> int:
        generator = segment_anything().SamAutomaticMaskGenerator(
            self._predictor.model,
            points_per_side=None,
            point_grids=[request.grid],
            points_per_batch=request.at_once,
            output_mode="uncompressed_rle",
            **asdict(request.thresholds),
        )
        generator.predictor = TimedPredictor(self._predictor, self.embed)
        return len(generator.generate(image))


class TimedPredictor:
    """A predictor whose embedding is timed separately."""

    def __init__(self, predictor: Any, embed: Any) -> None:
        self._predictor, self.set_image = predictor, embed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)


class TimedNetwork(torch.nn.Module):
    """A network that records its milliseconds."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network, self.img_size, self.ms = network, network.img_size, 0.0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        start = time.perf_counter()
        output = self.network(pixels)
        self.ms = 1e3 * (time.perf_counter() - start)
        return output


class InBfloat16(torch.nn.Module):
    """A network under torch's autocast; its outputs are float32 again, as NumPy needs them."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network, self.img_size = network, getattr(network, "img_size", 0)

    def forward(self, *given: Any, **named: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = self.network(*given, **named)
        if isinstance(output, tuple):
            return tuple(part.float() for part in output)
        return output.float()


def load(name: str, model: str, material: Material, threads: int) -> Contender:
    """Load a model in one of the ways of ``TableRow.contenders``."""
    if name in OURS:
        sam = fastseg.load(material.model(model), threads=threads, max_pixels=None, **OURS[name])
        return Fastseg(sam)
    torch.set_num_threads(threads)
    sam = material.reference(model)
    if name == OFFICIAL:
        from benchmarks.table import official_onnx

        predictor = official_onnx.predictor(sam, material.official(model), threads)
        return Reference(predictor, "onnxruntime fp32")
    if name == BFLOAT16:
        sam.image_encoder = InBfloat16(sam.image_encoder)
        sam.mask_decoder = InBfloat16(sam.mask_decoder)
    return Reference(segment_anything().SamPredictor(sam), f"{name.replace(' ', ' eager ')}")
