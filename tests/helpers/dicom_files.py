"""DICOM files with pixels of any kind, for tests of their reading."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

EXPLICIT = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


def dataset(pixels: np.ndarray, photometric: str = "MONOCHROME2", **more: Any) -> Any:
    """A data set of frames (n, H, W) or (n, H, W, 3); None leaves a field out."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import generate_uid

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = EXPLICIT
    made.SOPClassUID, made.SOPInstanceUID = CT, generate_uid()
    made.SeriesInstanceUID = "1.2.3.4"
    made.Modality, made.PatientName, made.PatientID = "CT", "Somebody^Known", "PX4711Q"
    made.NumberOfFrames, made.Rows, made.Columns = pixels.shape[:3]
    made.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    if pixels.ndim == 4:
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = photometric
    bits = 8 * pixels.dtype.itemsize
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit, made.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    content = pixels.tobytes()
    made.PixelData = content + bytes(len(content) % 2)
    made["PixelData"].VR = "OW" if bits > 8 else "OB"
    for name, value in more.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    return made


def save(made: Any, path: Path) -> Path:
    """Write a data set as a file."""
    from pydicom import dcmwrite

    syntax = made.file_meta.TransferSyntaxUID
    if syntax.is_transfer_syntax:
        made.save_as(path, enforce_file_format=True)
    else:
        made.preamble = bytes(128)
        dcmwrite(path, made, implicit_vr=False, little_endian=True, force_encoding=True)
    return path


def write(path: Path, pixels: np.ndarray, photometric: str = "MONOCHROME2", **more: Any) -> Path:
    """Write frames as an uncompressed file."""
    return save(dataset(pixels, photometric, **more), path)


def encapsulated(made: Any, frames: list[bytes], syntax: str, *, table: bool = True) -> Any:
    """Replace the pixels by compressed frames."""
    from pydicom.encaps import encapsulate

    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate(frames, has_bot=table)
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return made


def slices(folder: Path, volume: np.ndarray, *, step: float = 2.5, **more: Any) -> list[Path]:
    """Write a volume (n, H, W) as a series whose file names are not in the order of its slices."""
    folder.mkdir(exist_ok=True)
    paths = []
    for number, frame in enumerate(volume):
        fields = {
            "ImagePositionPatient": [10.0, -20.0, 5 + step * number],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [0.8, 0.5],
            "InstanceNumber": number + 1,
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
        }
        name = folder / f"{(number * 7) % 97:02}.dcm"
        paths.append(write(name, frame[None], **(fields | more)))
    return paths


def palette(colours: np.ndarray, *, bits: int = 16, first: int = 0) -> dict[str, Any]:
    """Fields of a palette (entries, 3) of 8 or 16 bits."""
    fields: dict[str, Any] = {}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        fields[f"{name}PaletteColorLookupTableDescriptor"] = [len(colours) % 65536, first, bits]
        content = colours[:, channel].astype("<u2" if bits == 16 else "u1").tobytes()
        fields[f"{name}PaletteColorLookupTableData"] = content + bytes(len(content) % 2)
    return fields


def jpeg(frame: np.ndarray, **options: Any) -> bytes:
    """Compress a frame by Pillow."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def lossless_jpeg(frame: np.ndarray) -> bytes:
    """Compress 16 bits (H, W) as JPEG lossless: first-order prediction, codes of 5 bits each."""
    height, width = frame.shape
    values = frame.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << 15
    differences = (values - predicted + 32768) % 65536 - 32768
    bits = []
    for one in differences.ravel().tolist():
        size = 16 if one == -32768 else abs(one).bit_length()
        bits.append(f"{size:05b}")
        if 0 < size < 16:
            bits.append(f"{one if one > 0 else one + (1 << size) - 1:0{size}b}")
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)
    scan = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\x00")
    table = bytes([0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return (
        b"\xff\xd8\xff\xc3\x00\x0b\x10" + size + b"\x01\x01\x11\x00"
        b"\xff\xc4" + (19 + 17).to_bytes(2, "big") + b"\x00" + table
        + b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00" + scan + b"\xff\xd9"
    )  # fmt: skip
