"""The conversion of an image or a frame to a network's input, as ``model.json`` states it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fastseg.artifacts.json_fields import JsonFields
from fastseg.geometry import Frame

LARGEST_SIDE = 4096
"""Largest side of a network's input in pixels; one such image takes 200 MB."""

LONGEST_SIDE = "longest_side_bilinear"
"""Resizing of SAM: the longest side by Pillow's bilinear filter to 8 bits, then padding. An image
that is resized in another way than in its model's training gives masks that look right, so an
unknown word is an error."""

LONGEST_SIDE_AREA = "longest_side_area"
"""Resizing of LiteMedSAM: the longest side by the mean of areas to 8 bits, then padding."""

STRETCH_SPLINE = "stretch_cubic_spline"
"""Resizing of MedSAM: both sides by a cubic spline to 8 bits, smoothed first where it shrinks."""

STRETCH_BILINEAR = "stretch_bilinear"
"""Resizing of SAM 2: both sides by a bilinear filter, widened where it shrinks, without rounding
to 8 bits."""

STRETCH_PILLOW = "stretch_pillow_bilinear"
"""Resizing of SAM-Adapter: both sides by Pillow's bilinear filter to 8 bits."""

STRETCH_NEAREST = "stretch_nearest"
"""Resizing of SAM-Med2D: both sides by the nearest pixel above or to the left."""

STRETCH_INTERPOLATED = "stretch_interpolated"
"""Resizing of EfficientSAM: both sides by interpolation between the two nearest pixels, whether it
shrinks or not, without rounding to 8 bits."""

_STRETCHES = (
    STRETCH_SPLINE,
    STRETCH_BILINEAR,
    STRETCH_PILLOW,
    STRETCH_NEAREST,
    STRETCH_INTERPOLATED,
)

RESIZINGS = (LONGEST_SIDE, LONGEST_SIDE_AREA, *_STRETCHES)

MEAN_STD = "mean_std"
"""Normalisation by the mean and the deviation of each colour."""

MIN_MAX = "min_max"
"""Normalisation by the least and the largest value of the resized image to 0..1."""

AREA_CUBIC = "area_400_cubic"
"""Resizing of frames: by area to 400 pixels, then bicubically to the network's side."""

JOINT_MIN_MAX = "joint_min_max"
"""Normalisation of frames: (x - min) / (max - min) over all channels of a frame together."""

PATCH = 16
"""Pixels of the square along each axis that SAM's embedding has one token for."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The conversion of an image to the encoder's input."""

    side: int
    """Side of the model's square input in pixels."""

    mean: tuple[float, float, float]
    """Subtracted from R, G, B on the 0..255 scale."""

    std: tuple[float, float, float]
    """Divides R, G, B afterwards."""

    resize: str = LONGEST_SIDE
    """One of ``RESIZINGS``. What is left of the square is padded with 0 after normalising."""

    normalise: str = MEAN_STD
    """``"mean_std"``, or ``"min_max"``, which uses neither ``mean`` nor ``std``."""

    patch: int = PATCH
    """Pixels of the square along each axis that the embedding has one token for."""

    prompt_side: int | None = None
    """Side of the square that prompts and masks are placed in, where it is not that of the input:
    EfficientViT-SAM takes images of 512 pixels and coordinates in SAM's 1024."""

    @property
    def square(self) -> int:
        """Side of the square that prompts and masks are placed in."""
        return self.side if self.prompt_side is None else self.prompt_side

    @property
    def grid(self) -> int:
        """Tokens of the embedding along each axis."""
        return self.side // self.patch

    @property
    def mask_side(self) -> int:
        """Height and width of low-resolution logits."""
        return 4 * self.grid

    @property
    def is_of_sam(self) -> bool:
        """True if images are prepared and placed as for SAM, which kernels of devices know."""
        return self.normal_as_sam and self.square == self.side

    @property
    def normal_as_sam(self) -> bool:
        """True if images are resized and normalised as for SAM, to whatever side."""
        return self.resize == LONGEST_SIDE and self.normalise == MEAN_STD

    @property
    def stretched(self) -> bool:
        """True if images fill the square, so that they lose their aspect."""
        return self.resize in _STRETCHES

    def frame(self, image: tuple[int, int], crop: tuple[int, int, int, int] | None = None) -> Frame:
        """Place an image of this height and width, or a crop of it, in the square of prompts."""
        return Frame(image, self.square, crop, self.stretched)

    def input_frame(self, frame: Frame) -> Frame:
        """Place the image of a frame in the square that the encoder takes."""
        return frame if frame.side == self.side else replace(frame, side=self.side)


@dataclass(frozen=True, slots=True)
class FramePreprocessing:
    """The conversion of an ultrasound frame to the input of a network that takes no prompt."""

    side: int = 256
    """Side of the network's square input in pixels."""

    channels: int = 3
    """3 for luma and two chroma channels (YCbCr), 1 for luma alone."""

    resize: str = AREA_CUBIC
    normalise: str = JOINT_MIN_MAX
    field_of_view_cm: float = 20.0
    """Side of the square in cm."""

    @property
    def cm_per_pixel(self) -> float:
        """Size of a pixel of the network's square in cm."""
        return self.field_of_view_cm / self.side


def image_preprocessing(fields: JsonFields) -> Preprocessing:
    """Read the preprocessing of a model that takes prompts.

    Raises:
        ModelFolderError: A field is missing, of the wrong type or out of range, or a word is not
            known.
    """
    found = Preprocessing(
        side=fields.get("side", int),
        mean=fields.triple("mean"),
        std=fields.triple("std", positive=True),
        resize=fields.word("resize", "resizing", RESIZINGS),
        normalise=fields.word("normalise", "normalisation", (MEAN_STD, MIN_MAX), MEAN_STD),
        patch=fields.get("patch", int, PATCH),
        prompt_side=fields.get("prompt_side", int) if "prompt_side" in fields.document else None,
    )
    _check_side(found.side, fields)
    _check_side(found.square, fields, "prompt_side")
    if found.patch < 1 or found.side % found.patch:
        fields.refuse(f"patch must divide the side, {found.side}, and is {found.patch}")
    return found


def frame_preprocessing(fields: JsonFields) -> FramePreprocessing:
    """Read the preprocessing of a network for frames.

    Raises:
        ModelFolderError: As in ``image_preprocessing``.
    """
    found = FramePreprocessing(
        side=fields.get("side", int),
        channels=fields.get("channels", int),
        resize=fields.word("resize", "resizing", (AREA_CUBIC,)),
        normalise=fields.word("normalise", "normalisation", (JOINT_MIN_MAX,)),
        field_of_view_cm=fields.get("field_of_view_cm", float),
    )
    _check_side(found.side, fields)
    if found.channels not in (1, 3):
        fields.refuse(f"channels must be 1 or 3, not {found.channels}")
    if not 0 < found.field_of_view_cm < math.inf:
        fields.refuse(f"field_of_view_cm must be positive, not {found.field_of_view_cm}")
    return found


def _check_side(side: int, fields: JsonFields, name: str = "side") -> None:
    if side < 16 or side % 16 or side > LARGEST_SIDE:
        fields.refuse(f"{name} must be a multiple of 16 up to {LARGEST_SIDE}, not {side}")
