"""Bodies of requests and answers, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Number = Annotated[float, Field(allow_inf_nan=False)]
Point = Annotated[list[Number], Field(min_length=2, max_length=2)]
Format = Literal["coco", "png", "overlay", "nii", "nii.gz", "nrrd", "dcm"]


class _Body(BaseModel):
    """A body that takes no other fields than its own."""

    model_config = ConfigDict(extra="forbid")


class Rle(_Body):
    """A mask as COCO run lengths, column by column."""

    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    """Height and width in pixels."""

    counts: str | list[int]
    """Compressed text, or run lengths that begin with the background."""


class Prompt(_Body):
    """One prompt: points, a box, a mask, or several of these together."""

    points: list[Point] | None = None
    """x before y, in pixels of the image."""

    labels: list[int] | None = None
    """1 foreground, 0 background, one for each point; all foreground if left out."""

    box: Annotated[list[Number], Field(min_length=4, max_length=4)] | None = None
    """x0, y0, x1, y1 in pixels of the image."""

    mask: Rle | None = None
    """A mask of the image's size to start from, such as a corrected one; with a point or a box."""


class PromptsBody(_Body):
    """Prompts for one frame of an open image."""

    prompts: list[Prompt]
    frame: int = 0
    multimask: bool = True
    """Three alternatives for each prompt, or one mask."""

    best: bool = False
    """Only the best-scoring mask of each prompt."""


class BatchItem(PromptsBody):
    """Prompts for one frame of one of several open images."""

    image: str


class BatchBody(_Body):
    """Prompts for several images or frames."""

    items: Annotated[list[BatchItem], Field(max_length=1000)]


class EverythingBody(_Body):
    """Settings of everything mode, with SAM's names and defaults."""

    frame: int = 0
    points_per_side: int = 32
    pred_iou_thresh: Number | None = None
    """None is the model's own."""

    stability_score_thresh: Number | None = None
    """None is the model's own."""

    box_nms_thresh: Number = 0.7
    crop_n_layers: Annotated[int, Field(ge=0, le=2)] = 0
    min_mask_region_area: int = 0
    search: Literal["full", "coarse-to-fine"] = "full"
    """``coarse-to-fine`` is quicker and may miss masks."""


class PropagateBody(_Body):
    """Objects on one frame, to be followed through the others; their prompts are of one kind."""

    prompts: Annotated[list[Prompt], Field(min_length=1)]
    frame: int = 0
    rule: Literal["best", "box", "logits", "repeat"] = "best"
    min_score: Number = 0.5
    max_change: Number = 4.0


class NamedMask(_Body):
    """A mask of an export, with its name."""

    segmentation: Rle
    name: str = ""
    score: Number = 0.0


class FrameMasks(_Body):
    """The masks of one frame of an export."""

    masks: list[NamedMask]
    frame: int = 0


class ExportBody(_Body):
    """Masks to write as a file of the image's geometry."""

    format: Format
    frames: Annotated[list[FrameMasks], Field(min_length=1)]


class PathBody(_Body):
    """An image to open by its path inside the server's root."""

    path: str
    window: str | None = None


class Timings(BaseModel):
    """Milliseconds of each stage, and what it ran on."""

    preprocess: float
    encode: float
    decode: float
    postprocess: float
    total: float
    n_masks: int
    per_mask_ms: float | None
    backend: str
    device: str
    precision: str


class ImageAnswer(BaseModel):
    """An open image."""

    id: str
    name: str
    width: int
    height: int
    frames: int
    spacing_mm: list[float] | None
    """Height and width of a pixel in mm, where the file states them; of ultrasound, of tissue."""

    slice_mm: float | None
    """Distance of slices in mm."""

    modality: str
    colour: bool
    bytes: int
    expires_s: float
    """Seconds without use after which it is closed."""

    timings: Timings | None = None


class Mask(BaseModel):
    """A mask with its scores, as COCO annotations and SAM's records name them."""

    segmentation: Rle
    area: int
    bbox: list[int]
    """x, y, width, height, with width = xmax - xmin."""

    predicted_iou: float
    stability_score: float | None
    prompt: int
    """Index of the prompt in the request."""


class MasksAnswer(BaseModel):
    """Masks in the order of the prompts."""

    masks: list[Mask]
    timings: Timings
