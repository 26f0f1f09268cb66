"""Frames of one DICOM file, decoded in several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseg.errors import ImageError
from fastseg.imaging import read
from fastseg.imaging.dicom import codecs, pixels
from fastseg.imaging.dicom.content import read_header
from tests.helpers.dicom_files import dataset, encapsulated, jpeg, save

pydicom = pytest.importorskip("pydicom", reason="DICOM files need pydicom")

JPEG, RLE, JPEG_LS = (f"1.2.840.10008.1.2.{end}" for end in ("4.50", "5", "4.80"))
COUNT = 20
GREY = np.arange(COUNT, dtype=np.uint8)[:, None, None] * 12 + np.arange(32, dtype=np.uint8)
CLIP = np.repeat(GREY, 24, axis=1)
"""Frames that differ, uint8 (20, 24, 32)."""


@pytest.fixture(params=[1, 2, 5, 64])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(pixels, "usable_cores", lambda: request.param)
    return int(request.param)


def clip_file(path: Path, syntax: str) -> Path:
    made = dataset(CLIP)
    if syntax == JPEG:
        return save(encapsulated(made, [jpeg(frame) for frame in CLIP], JPEG), path)
    made.compress(syntax, encoding_plugin="pydicom" if syntax == RLE else "pyjpegls")
    return save(made, path)


@pytest.mark.usefixtures("cores")
def test_frames_come_in_their_order(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(clip_file(tmp_path / "a.dcm", RLE)).stored, CLIP)
    lossy = read(clip_file(tmp_path / "b.dcm", JPEG)).stored
    for index, frame in enumerate(CLIP):
        alone = save(encapsulated(dataset(frame[None]), [jpeg(frame)], JPEG), tmp_path / "c.dcm")
        np.testing.assert_array_equal(lossy[index], read(alone).stored[0])


def test_a_frame_that_ends_late_keeps_its_place(tmp_path: Path, monkeypatch) -> None:
    """The frame after the first one waits until another one is decoded."""
    monkeypatch.setattr(pixels, "usable_cores", lambda: 2)
    original, others, begun, overtaken = codecs._by_packbits, threading.Event(), [], []

    def late(content: bytes, form: Any) -> np.ndarray:
        begun.append(content)
        if len(begun) == 2:
            overtaken.append(others.wait(timeout=20))
        elif len(begun) > 2:
            others.set()
        return original(content, form)

    monkeypatch.setattr(codecs, "_by_packbits", late)
    np.testing.assert_array_equal(read(clip_file(tmp_path / "a.dcm", RLE)).stored, CLIP)
    assert overtaken == [True]


@pytest.mark.usefixtures("cores")
def test_the_first_frame_that_fails_is_named(tmp_path: Path) -> None:
    frames = [jpeg(frame) for frame in CLIP]
    for damaged in (7, 12):
        frames[damaged] = frames[damaged][: len(frames[damaged]) - 40]
    file = save(encapsulated(dataset(CLIP), frames, JPEG), tmp_path / "a.dcm")
    for _ in range(5):
        with pytest.raises(ImageError, match=r"a\.dcm is a DICOM file .* in its frame 7,"):
            read(file)


@pytest.mark.parametrize(
    ("syntax", "decoder"), [(JPEG, "_by_pillow"), (RLE, "_by_packbits"), (JPEG_LS, "")]
)
def test_no_more_threads_decode_than_there_are_cores(
    tmp_path: Path, monkeypatch, cores: int, syntax: str, decoder: str
) -> None:
    if syntax == JPEG_LS:
        pytest.importorskip("jpeg_ls")
    file = clip_file(tmp_path / "a.dcm", syntax)
    threads: set[int] = set()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            threads.add(threading.get_ident())
            return function(*arguments)

        return call

    if decoder:
        monkeypatch.setattr(codecs, decoder, counted(getattr(codecs, decoder)))
    else:
        import jpeg_ls

        name = "decode_pixel_data"
        monkeypatch.setattr(jpeg_ls, name, counted(getattr(jpeg_ls, name)))
    np.testing.assert_array_equal(read(file).stored.shape, CLIP.shape)
    assert threads
    assert threading.get_ident() in threads
    assert len(threads) <= (cores if decoder else 1)


def test_a_thread_of_the_caller_is_one_of_the_team(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(pixels, "usable_cores", lambda: 4)
    helpers: list[Any] = []
    original = pixels.Team

    class Watched(original):  # type: ignore[valid-type, misc]
        def __init__(self, size: int) -> None:
            super().__init__(size)
            helpers.append(size)

    monkeypatch.setattr(pixels, "Team", Watched)
    read(clip_file(tmp_path / "a.dcm", RLE))
    assert helpers == [3]


class Device:
    """A device that gives zeros without end and says that its size is 0, as /dev/zero does."""

    def __init__(self) -> None:
        self.most = 0

    def seek(self, place: int, whence: int = 0) -> int:
        return 0

    def tell(self) -> int:
        return 0

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "it is read to an end that it does not have"
        self.most = max(self.most, size)
        return bytes(size)


def test_a_device_without_an_end_is_not_read_to_it():
    device = Device()
    with pytest.raises(pydicom.errors.InvalidDicomError):
        read_header(device, "a device")
    assert 0 < device.most <= 1 << 20
