"""Costs of a model, measured and published: bytes, parameters, time of a mask, prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts import read
from fastseg.artifacts.manifest import UNET, Manifest
from fastseg.artifacts.registry import find
from fastseg.benchmarking.repetition import Measurement, StoppingRule, repeat
from fastseg.echo.unet import Unet
from fastseg.inference.sessions import Choice
from fastseg.loading import load_sam, load_unet
from fastseg.masks import Masks
from fastseg.sam.model import Sam
from fastseg.timings import Timings

SOURCE = "Ferreira and Arnaout, arXiv 2311.04847, table 1"
"""The source of the published figures. It does not name the processor."""

STRUCTURES = 4
"""Structures that are segmented in a frame: the chambers of the apical four-chamber view."""


@dataclass(frozen=True, slots=True)
class ModelCosts:
    """Costs of one model, published or measured."""

    name: str
    origin: Literal["published", "measured"]
    megabytes: float
    """Size of the model's files, 10^6 bytes."""

    million_parameters: float | None
    """None if the model folder does not say."""

    seconds_per_mask: float
    """Time of one frame, measured warm, divided by its masks."""

    seconds_per_further_mask: float | None
    """Time of another mask on an embedded image; None for models without an embedding."""

    prompts_per_mask: int
    """Boxes that a person draws for a mask."""

    masks_to_choose_from: int
    """Candidate masks of each prompt, one of which a person or a score selects."""

    ran_on: str
    """Model, runtime, device, precision, threads; or the publication."""

    training_data: str = ""
    """Training data in the words of the model folder; empty if it does not say."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


PUBLISHED = (
    ModelCosts("SAM", "published", 2560.0, 636.0, 2.7, None, 1, 3, SOURCE),
    ModelCosts("SSL U-Net", "published", 93.0, 7.7, 0.1, None, 0, 1, SOURCE),
)
"""1350 masks took 3 hours of drawing boxes and, from 4050 candidates, 1.1 hours of selecting. The
93 MB hold the optimiser's two moments beside the weights."""


def measure(model: str, image: NDArray[np.uint8], choice: Choice, rule: StoppingRule) -> ModelCosts:
    """Measure a model on one frame of ``STRUCTURES`` structures.

    A SAM model embeds the frame and gives three masks for a box around each structure, of which
    the best-scoring one counts. A network for frames draws all of its chambers without prompts,
    and SAM-Adapter its one mask.

    Args:
        model: An embedded model's name or a model folder.
        image: (H, W, 3) uint8.
        choice: The configuration to run.
        rule: When to stop repeating.

    Raises:
        FastsegError: The model cannot be loaded, or does not run.
    """
    manifest = read(find(model)).manifest
    if manifest.family == UNET:
        with load_unet(model, choice) as network:
            return _frame(network, image, rule)
    with load_sam(model, choice) as sam:
        return _boxes(sam, image, rule)


def _frame(network: Unet, image: NDArray[np.uint8], rule: StoppingRule) -> ModelCosts:
    whole = _seconds("a frame", lambda: network.segment(image), rule)
    return replace(
        _folder_costs(network.manifest, _configuration(network)),
        seconds_per_mask=whole / len(network.chambers),
    )


def _boxes(sam: Sam, image: NDArray[np.uint8], rule: StoppingRule) -> ModelCosts:
    if not sam.rules.prompts.any:
        whole = _seconds("a frame", lambda: sam.segment(image), rule)
        return replace(_folder_costs(sam.manifest, _configuration(sam)), seconds_per_mask=whole)
    boxes = quarters(image.shape[:2])
    embedding = sam.embed(image)
    whole = _seconds("a frame", lambda: sam.segment(image, boxes=boxes), rule)
    further = _seconds("a box", lambda: sam.segment(embedding, boxes=boxes[:1]), rule)
    return replace(
        _folder_costs(sam.manifest, _configuration(sam)),
        seconds_per_mask=whole / STRUCTURES,
        seconds_per_further_mask=further,
        prompts_per_mask=1,
        masks_to_choose_from=len(sam.segment(embedding, boxes=boxes[:1])),
    )


def quarters(size: tuple[int, int]) -> NDArray[np.float64]:
    """Place a box in each quarter of an image of (height, width): (4, 4) x0, y0, x1, y1."""
    height, width = size
    corners = np.array([[0, 0], [width / 2, 0], [0, height / 2], [width / 2, height / 2]])
    inner, outer = np.array([0.1 * width, 0.1 * height]), np.array([0.4 * width, 0.4 * height])
    return np.hstack([corners + inner, corners + outer])


def _folder_costs(manifest: Manifest, ran_on: str) -> ModelCosts:
    """Read the costs that the folder tells, for a network that needs no prompts."""
    stored = {one.sha256: one.bytes for graph in manifest.graphs.values() for one in graph.files}
    parameters = manifest.source.get("parameters")
    return ModelCosts(
        name=manifest.name,
        origin="measured",
        megabytes=sum(stored.values()) / 1e6,
        million_parameters=parameters / 1e6 if isinstance(parameters, int) else None,
        seconds_per_mask=0.0,
        seconds_per_further_mask=None,
        prompts_per_mask=0,
        masks_to_choose_from=1,
        ran_on=ran_on,
        training_data=str(manifest.source.get("data", "")),
    )


def _configuration(model: Sam | Unet) -> str:
    return f"{model.backend} {model.device} {model.precision}"


def _seconds(name: str, call: Callable[[], Masks], rule: StoppingRule) -> float:
    def once() -> dict[str, float]:
        timings: Timings = call().timings
        return {"call": timings.total}

    measured: Measurement = repeat(name, once, rule)
    return measured.stages["total"].percentile(50) / 1e3
