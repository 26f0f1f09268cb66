"""Fakes for tests: a backend made of a function, and model folders that run in milliseconds."""

from fastseg.testing.fake_backend import FakeBackend
from fastseg.testing.tiny_sam import GRID, LOW, RADII, SIDE, tiny_sam_folder
from fastseg.testing.tiny_unet import BRIGHTNESS, UNET_SIDE, tiny_unet_folder

__all__ = [
    "BRIGHTNESS",
    "GRID",
    "LOW",
    "RADII",
    "SIDE",
    "UNET_SIDE",
    "FakeBackend",
    "tiny_sam_folder",
    "tiny_unet_folder",
]
