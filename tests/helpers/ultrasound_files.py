"""Small DICOM files with headers that the tests choose."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def tissue(frames: int = 3, height: int = 48, width: int = 64) -> np.ndarray:
    """Grey frames (n, H, W), dark and bright, with black corners."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 2) ** 2
    base = 30 + 180 * ((x // 8 + y // 8) % 2)
    noise = rng.integers(-20, 20, (frames, height, width))
    return np.where(inside, np.clip(base + noise, 0, 255), 0).astype(np.uint8)


def coloured(frames: np.ndarray) -> np.ndarray:
    """The frames in RGB, with a strip of colour."""
    rgb = np.repeat(frames[..., None], 3, axis=3)
    rgb[:, -3:, 5:15] = (250, 200, 20)
    return rgb


def as_ycbcr(rgb: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(frame).convert("YCbCr")) for frame in rgb])


def region(corners: Sequence[int] = (0, 0, 63, 47), **more: Any) -> Any:
    """A two-dimensional region of 0.05 cm a pixel; None leaves a field out."""
    from pydicom import Dataset

    made = Dataset()
    names = ("MinX0", "MinY0", "MaxX1", "MaxY1")
    fields: dict[str, Any] = {"RegionSpatialFormat": 1, "RegionDataType": 1}
    fields |= {f"RegionLocation{name}": at for name, at in zip(names, corners, strict=True)}
    fields |= dict.fromkeys(("PhysicalUnitsXDirection", "PhysicalUnitsYDirection"), 3)
    fields |= dict.fromkeys(("PhysicalDeltaX", "PhysicalDeltaY"), 0.05)
    for name, value in (fields | more).items():
        if value is not None:
            setattr(made, name, value)
    return made


def write_dicom(
    path: Path,
    frames: np.ndarray,
    photometric: str = "MONOCHROME2",
    regions: Sequence[Any] | None = None,
    jpeg: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write frames (n, h, w) or (n, h, w, 3); ``jpeg`` has the options of Pillow's encoder."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import (
        ExplicitVRLittleEndian,
        JPEGBaseline8Bit,
        UltrasoundMultiFrameImageStorage,
        generate_uid,
    )

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if jpeg is None else JPEGBaseline8Bit
    file.SOPClassUID, file.SOPInstanceUID = UltrasoundMultiFrameImageStorage, generate_uid()
    file.NumberOfFrames, file.Rows, file.Columns = frames.shape[:3]
    file.SamplesPerPixel = 3 if frames.ndim == 4 else 1
    if frames.ndim == 4:
        file.PlanarConfiguration = 0
    file.PhotometricInterpretation = photometric
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelRepresentation = 7, 0
    file.SequenceOfUltrasoundRegions = [region()] if regions is None else list(regions)
    if jpeg is None:
        file.PixelData = frames.tobytes()
    else:
        file.PixelData = encapsulate([_jpeg(frame, **jpeg) for frame in frames])
        file["PixelData"].is_undefined_length = True
    for name, value in more.items():
        if value is None:
            delattr(file, name)
        else:
            setattr(file, name, value)
    file["PixelData"].VR = "OB"
    file.save_as(path, enforce_file_format=True)
    return path


def _jpeg(frame: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()
