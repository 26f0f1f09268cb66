"""Stand-ins for tests: backends, devices, and model folders that run in no time."""

from fastseg.testing.fake_backend import FakeBackend
from fastseg.testing.tiny_sam import GRID, LOW, RADII, SIDE, tiny_sam_folder
from fastseg.testing.tiny_unet import BRIGHTNESS, UNET_SIDE, tiny_unet_folder
from tests.fakes.emulated_device import EmulatedDevice

__all__ = [
    "BRIGHTNESS",
    "GRID",
    "LOW",
    "RADII",
    "SIDE",
    "UNET_SIDE",
    "EmulatedDevice",
    "FakeBackend",
    "tiny_sam_folder",
    "tiny_unet_folder",
]
