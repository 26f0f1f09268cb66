"""Decoders of compressed pixels: one for each transfer syntax, all under permissive licences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg.environment import install_hint
from fastseg.errors import BackendUnavailableError, ImageError
from fastseg.imaging.dicom.header import PixelFormat

_Way = Literal["native", "pillow", "gdcm", "pyjpegls", "pylibjpeg", "rle"]

Decode: TypeAlias = Callable[[bytes], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Codec:
    """A transfer syntax and what decodes it."""

    title: str
    way: _Way
    module: str = ""
    """Module that has to be installed."""

    @property
    def is_concurrent(self) -> bool:
        """True if several threads decode at once; the other decoders hold Python's lock."""
        return self.way in ("pillow", "rle")


_JPEG_LOSSLESS = Codec("JPEG lossless", "gdcm", "gdcm")
_JPEG_LS = Codec("JPEG-LS", "pyjpegls", "jpeg_ls")
_JPEG_2000 = Codec("JPEG 2000", "pylibjpeg", "openjpeg")
_HTJ2K = Codec("high-throughput JPEG 2000", "pylibjpeg", "openjpeg")
_BASE = "1.2.840.10008.1.2"
JPEG_BASELINE, JPEG_EXTENDED = f"{_BASE}.4.50", f"{_BASE}.4.51"

CODECS = {
    _BASE: Codec("uncompressed", "native"),
    f"{_BASE}.1": Codec("uncompressed", "native"),
    f"{_BASE}.1.99": Codec("deflated", "native"),
    f"{_BASE}.2": Codec("uncompressed, big endian", "native"),
    JPEG_BASELINE: Codec("JPEG", "pillow"),
    JPEG_EXTENDED: Codec("JPEG extended", "gdcm", "gdcm"),  # of 12 bits; Pillow decodes 8
    f"{_BASE}.4.53": Codec("JPEG with spectral selection", "gdcm", "gdcm"),
    f"{_BASE}.4.55": Codec("progressive JPEG", "gdcm", "gdcm"),
    f"{_BASE}.4.57": _JPEG_LOSSLESS,
    f"{_BASE}.4.70": _JPEG_LOSSLESS,
    f"{_BASE}.4.80": _JPEG_LS,
    f"{_BASE}.4.81": _JPEG_LS,
    f"{_BASE}.4.90": _JPEG_2000,
    f"{_BASE}.4.91": _JPEG_2000,
    f"{_BASE}.4.201": _HTJ2K,
    f"{_BASE}.4.202": _HTJ2K,
    f"{_BASE}.4.203": _HTJ2K,
    f"{_BASE}.5": Codec("RLE", "rle"),
}
"""Codecs by transfer syntax."""

_JPEG_XL = tuple(f"{_BASE}.4.{number}" for number in (110, 111, 112))
_VIDEO = tuple(f"{_BASE}.4.{number}" for number in range(100, 109))


def codec_of(syntax: str, form: PixelFormat, what: object) -> Codec:
    """Return the codec of a file.

    Raises:
        BackendUnavailableError: Its decoder is not installed.
        ImageError: None of the decoders is for this transfer syntax.
    """
    codec = CODECS.get(syntax)
    if codec is None:
        raise _unsupported(syntax, what)
    if syntax == JPEG_EXTENDED and form.stored == 8:
        codec = CODECS[JPEG_BASELINE]
    if codec.module and find_spec(codec.module) is None:
        raise BackendUnavailableError(
            f"decoding of {codec.title} in {what}",
            reason=f"{codec.module} is not installed",
            remedy=install_hint("dicom"),
        )
    return codec


def _unsupported(syntax: str, what: object) -> ImageError:
    if syntax in _JPEG_XL:
        why, remedy = "JPEG XL, which pydicom has no decoder for", "in JPEG 2000 or uncompressed"
    elif syntax in _VIDEO:
        why, remedy = "a video (MPEG), whose frames are not stored one by one", "frame by frame"
    else:
        why, remedy = f"the transfer syntax {syntax}, which is not known here", "uncompressed"
    return ImageError(f"{what} is compressed as {why}. Save it {remedy}, and give that file.")


def decoder_of(codec: Codec, syntax: str, form: PixelFormat) -> Decode | None:
    """Return what decodes one frame by itself; None where pydicom takes the whole file.

    A frame is (H, W) or (H, W, 3), integers of any width.
    """
    if codec.way == "gdcm":
        return lambda content: _by_gdcm(content, syntax, form)
    if codec.way == "rle":
        return lambda content: _by_packbits(content, form)
    if codec.way == "pillow" and form.allocated == 8:
        return lambda content: _by_pillow(content, form)
    return None


def decode_file(header: Any, codec: Codec) -> Iterator[NDArray[Any]]:
    """Decode the frames of a file one by one: (H, W) or (H, W, 3), integers of any width."""
    from pydicom.pixels import get_decoder

    decoder = get_decoder(header.file_meta.TransferSyntaxUID)
    found = decoder.iter_array(header, raw=True, validate=False, decoding_plugin=codec.way)
    return (frame for frame, _ in found)


def _by_pillow(content: bytes, form: PixelFormat) -> NDArray[Any]:
    with Image.open(BytesIO(content), formats=["JPEG"]) as image:
        # The channels as they are stored: Pillow would make RGB of them. With an Adobe marker it
        # takes the marker's word.
        if form.is_colour and "adobe_transform" not in image.info:
            image.draft("YCbCr", image.size)
        return _shaped(np.frombuffer(image.tobytes(), np.uint8), form)


def _by_gdcm(content: bytes, syntax: str, form: PixelFormat) -> NDArray[Any]:
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(content)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((form.columns, form.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(form.photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if form.is_colour:
        image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    # Always unsigned: the sign of the header is given to the values afterwards.
    image.SetPixelFormat(
        gdcm.PixelFormat(form.samples, form.allocated, form.stored, form.stored - 1, 0)
    )
    # GDCM gives its bytes as text.
    pixels = image.GetBuffer().encode("utf-8", "surrogateescape")
    return _shaped(np.frombuffer(pixels, f"<u{form.allocated // 8}"), form)


def _by_packbits(content: bytes, form: PixelFormat) -> NDArray[Any]:
    """Decode RLE (DICOM PS3.5, annex G): a segment for each byte of each channel."""
    count = int.from_bytes(content[:4], "little")
    width = form.allocated // 8
    if count != form.samples * width:
        raise ValueError(f"{count} RLE segments instead of {form.samples * width}")
    starts = [int.from_bytes(content[4 * k : 4 * k + 4], "little") for k in range(1, count + 1)]
    size = form.rows * form.columns
    values = np.empty((size, form.samples, width), np.uint8)
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], len(content)], strict=True)):
        if not 64 <= start < end <= len(content):
            raise ValueError("RLE segments that are not in their order")
        # As one long row, since runs may go beyond the end of a row.
        row = Image.frombytes("L", (size, 1), content[start:end], "packbits", "L")
        # The most significant byte comes first.
        values[:, index // width, width - 1 - index % width] = np.frombuffer(row.tobytes(), "u1")
    return _shaped(values.view(f"<u{width}").ravel(), form)


def _shaped(values: NDArray[Any], form: PixelFormat) -> NDArray[Any]:
    shape = (form.rows, form.columns, 3) if form.is_colour else (form.rows, form.columns)
    return values[: math.prod(shape)].reshape(shape)
