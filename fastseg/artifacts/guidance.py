"""The input of networks that take prompts as channels, as ``model.json`` states it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastseg.artifacts.json_fields import JsonFields, Triple

STRETCH_AREA = "stretch_area"
"""Resizing of DeepLabV3+: both sides by the mean of areas to 8 bits."""

TILES = "tiles"
"""No resizing: the network slides over the image, and its logits are averaged (nnU-Net)."""

MIN_MAX = "min_max"
"""Normalisation by the least and the largest value of all image channels to 0..1."""

Z_SCORE = "z_score"
"""Normalisation of a channel by its mean and deviation over the image."""

UNIT = "unit"
"""Normalisation by 255."""

NONE = "none"
"""No normalisation."""


@dataclass(frozen=True, slots=True)
class ZoomRules:
    """The part of an image that an iterative-mask network looks at, once a mask is known."""

    points: int = 2
    """Points of a prompt from which on the network sees the surroundings of the mask alone."""

    side: int = 400
    """Longest side that the part is resized to, in pixels."""

    expansion: float = 1.4
    """Sides of the part, in multiples of those of the box around mask and foreground points."""

    least: int = 200
    """Least side of the part in pixels of the image."""

    above: float = 0.5
    """Probability above which a pixel belongs to the mask that the part is placed around."""

    kept_iou: float = 0.5
    """The part is moved where its IoU with the one that the mask now asks for is below."""


@dataclass(frozen=True, slots=True)
class PointPreprocessing:
    """The input of an iterative-mask network: the image, disks at the points, the last mask."""

    mean: Triple
    """Subtracted from R, G, B on the 0..255 scale."""

    std: Triple
    """Divides R, G, B afterwards."""

    radius: float = 5.0
    """Pixels of the network's input up to which a disk reaches from its point."""

    flip: bool = True
    """True if the logits of the image and of its mirror image are averaged."""

    threshold: float = 0.49
    """Probability above which a pixel is part of the mask."""

    zoom: ZoomRules = field(default_factory=ZoomRules)


def point_preprocessing(fields: JsonFields) -> PointPreprocessing:
    """Read the input of an iterative-mask network.

    Raises:
        ModelFolderError: A field is missing, of the wrong type or out of range.
    """
    zoom = JsonFields(fields.get("zoom", dict, {}), f"{fields.where} zoom")
    return PointPreprocessing(
        mean=fields.triple("mean"),
        std=fields.triple("std", positive=True),
        radius=_number(fields, "radius", 5.0, most=1000),
        flip=fields.get("flip", bool, True),
        threshold=_share(fields, "threshold", 0.49),
        zoom=ZoomRules(
            points=_count(zoom, "points", 2),
            side=_count(zoom, "side", 400),
            expansion=_number(zoom, "expansion", 1.4, most=100),
            least=_count(zoom, "least", 200),
            above=_share(zoom, "above", 0.5),
            kept_iou=_share(zoom, "kept_iou", 0.5),
        ),
    )


@dataclass(frozen=True, slots=True)
class BoxPreprocessing:
    """The input of a network that takes a box as a channel of ones."""

    size: tuple[int, int]
    """Height and width of the network's input in pixels."""

    resize: str = STRETCH_AREA
    """``"stretch_area"`` or ``"tiles"``."""

    normalise: str = MIN_MAX
    """Of the image's channels: ``"min_max"``, ``"z_score"``, ``"unit"`` or ``"none"``."""

    normalise_box: str = NONE
    """Of the box's channel: ``"z_score"``, ``"unit"`` or ``"none"``."""

    channels: int = 3
    """Channels of the image: 3 for R, G, B, or 1 for grey."""

    threshold: float = 0.5
    """Probability above which a pixel is part of the mask."""

    step: float = 0.5
    """Distance of two tiles, as a share of their sides."""


def box_preprocessing(fields: JsonFields) -> BoxPreprocessing:
    """Read the input of a network that takes a box as a channel.

    Raises:
        ModelFolderError: A field is missing, of the wrong type or out of range, or a word is not
            known.
    """
    size = fields.get("size", list)
    if len(size) != 2 or not all(type(side) is int and 16 <= side <= 4096 for side in size):
        fields.refuse(f"size must be a height and a width of 16 to 4096 pixels, not {size}")
    channels = fields.get("channels", int, 3)
    if channels not in (1, 3):
        fields.refuse(f"channels must be 1 or 3, not {channels}")
    words = (MIN_MAX, Z_SCORE, UNIT, NONE)
    return BoxPreprocessing(
        size=(size[0], size[1]),
        resize=fields.word("resize", "resizing", (STRETCH_AREA, TILES)),
        normalise=fields.word("normalise", "normalisation", words),
        normalise_box=fields.word("normalise_box", "normalisation", (Z_SCORE, UNIT, NONE), NONE),
        channels=channels,
        threshold=_share(fields, "threshold", 0.5),
        step=_number(fields, "step", 0.5, most=1),
    )


def _number(fields: JsonFields, name: str, default: float, *, most: float) -> float:
    value = fields.document.get(name, default)
    if type(value) not in (int, float) or not 0 < value <= most:
        fields.refuse(f"{name} must be above 0 and at most {most:g}, not {value!r}")
    return float(value)


def _share(fields: JsonFields, name: str, default: float) -> float:
    value = _number(fields, name, default, most=1)
    if value == 1:
        fields.refuse(f"{name} must be below 1")
    return value


def _count(fields: JsonFields, name: str, default: int) -> int:
    value = fields.get(name, int, default)
    if not 1 <= value <= 4096:
        fields.refuse(f"{name} must be 1 to 4096, not {value}")
    return value
