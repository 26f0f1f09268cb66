"""Time of reading a DICOM file beside that of its decoder alone, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from fastseg.errors import FastsegError
from fastseg.imaging import read
from fastseg.imaging.dicom.codecs import codec_of, decode_file, decoder_of
from fastseg.imaging.dicom.codestream import split_frames
from fastseg.imaging.dicom.header import pixel_format

ROUNDS = 7


@dataclass(frozen=True)
class DecodingTimes:
    """Medians in milliseconds."""

    read: float
    """``fastseg.imaging.read``: header, pixels, colours, geometry."""

    parse: float
    """``pydicom.dcmread``, without which there is nothing to decode."""

    decode: float
    """The same decoder over all frames in one thread; neither colours nor a check."""

    @property
    def ratio(self) -> float:
        """Time of reading by that of parsing and decoding."""
        return self.read / (self.parse + self.decode)


def decoding_times(path: Path, rounds: int = ROUNDS) -> DecodingTimes | None:
    """Measure a file, each call after the other in every round; None if it has to be refused."""
    import pydicom

    try:
        read(path)
        calls = (
            partial(read, path),
            partial(pydicom.dcmread, path),
            decoder_alone(pydicom.dcmread(path), path),
        )
    except (FastsegError, pydicom.errors.InvalidDicomError):
        return None
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, times in zip(calls, taken, strict=True):
            begin = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - begin))
    return DecodingTimes(*map(median, taken))


def decoder_alone(header: Any, path: Path) -> Callable[[], object]:
    """Return a call that decodes the pixels of a parsed file and keeps none of them."""
    from pydicom.pixels import get_decoder

    form = pixel_format(header, path)
    syntax = header.file_meta.TransferSyntaxUID
    codec = codec_of(str(syntax), form, path)
    if codec.way == "native":
        decoder = get_decoder(syntax)
        return partial(decoder.as_array, header, raw=True, validate=False)
    decode_one = decoder_of(codec, str(syntax), form)
    if decode_one is None:
        return lambda: [None for _ in decode_file(header, codec)]
    return lambda: [decode_one(part) is None for part in split_frames(header, form, path)]
