"""Images in: paths, bytes, PIL images and arrays to uint8 arrays, or an ``ImageError``."""

from fastseg.images.decoding import CLIP_SHARE, FORMATS, check_clip, check_size, is_image
from fastseg.images.reading import (
    MAX_PIXELS,
    Channels,
    ImageSource,
    is_stack,
    knows_its_channels,
    read_image,
    read_pages,
    read_pixels,
)

__all__ = [
    "CLIP_SHARE",
    "FORMATS",
    "MAX_PIXELS",
    "Channels",
    "ImageSource",
    "check_clip",
    "check_size",
    "is_image",
    "is_stack",
    "knows_its_channels",
    "read_image",
    "read_pages",
    "read_pixels",
]
