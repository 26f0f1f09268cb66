"""Objects from a DICOM segmentation (SEG) of an image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fastseg import imaging
from fastseg.environment import needs_extra
from fastseg.errors import MaskError
from fastseg.evaluation.dataset.example import Size, Truth, read_volume, version
from fastseg.images import MAX_PIXELS
from fastseg.imaging.dicom.quiet import QUIET

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66."


@dataclass(frozen=True, slots=True)
class DicomSegments:
    """The segments of a SEG that lie on one frame of its source."""

    path: Path
    source: Path
    """File or series that the SEG refers to."""

    frame: int

    def read(self, size: Size) -> tuple[list[Truth], list[str]]:
        """Read the segments, as ``TruthSource`` says.

        Raises:
            BackendUnavailableError: highdicom is not installed.
            MaskError: The SEG does not belong to the image.
        """
        with needs_extra("dicom", "reading DICOM SEG"):
            import highdicom.seg
        image = read_volume(self.source, None, MAX_PIXELS)
        try:
            with QUIET:
                held = _open(self.path, version(self.path))
                planes = _planes(held, *image.files[self.frame])
                names = [
                    held.get_segment_description(n).segment_label for n in held.segment_numbers
                ]
        except Exception as error:  # highdicom refuses each contradiction by an error of its own
            reason = " ".join(str(error).split()) or type(error).__name__
            raise MaskError(
                f"{self.path} is no segmentation of {self.source}: {reason}. Give the SEG of this "
                f"image (highdicom {highdicom.__version__})."
            ) from error
        if planes.shape[:2] != size:
            raise MaskError(f"{self.path} is {planes.shape[:2]}, and its image {size} pixels.")
        labelled = planes.any(axis=2)
        found = [(name, planes[..., place]) for place, name in enumerate(names)]
        truths = [Truth(name, name, mask, labelled) for name, mask in found if mask.any()]
        return truths, [name for name, mask in found if not mask.any()]


def is_segmentation(path: Path) -> bool:
    """Tell if a file is a DICOM SEG."""
    if path.is_dir() or not imaging.is_medical(path):
        return False
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return False
    with needs_extra("dicom", "reading DICOM"):
        from pydicom import dcmread
    with QUIET:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    return str(header.get("SOPClassUID", "")).startswith(_SEGMENTATION)


@lru_cache(maxsize=2)
def _open(path: Path, _version: tuple[int, int]) -> Any:
    import highdicom.seg

    return highdicom.seg.segread(path)


def _planes(held: Any, file: str, frame: int) -> Any:
    """Return the segments on one frame of a source file: bool (H, W, segments)."""
    from pydicom import dcmread

    header = dcmread(file, stop_before_pixels=True)
    options = {"assert_missing_frames_are_empty": True, "ignore_spatial_locations": True}
    if int(header.get("NumberOfFrames") or 1) > 1:
        pixels = held.get_pixels_by_source_frame(header.SOPInstanceUID, [frame + 1], **options)
    else:
        pixels = held.get_pixels_by_source_instance([header.SOPInstanceUID], **options)
    return np.asarray(pixels)[0] != 0
