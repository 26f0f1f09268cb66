"""Videos as clips: Motion-JPEG by Pillow, other codecs by OpenCV, damage refused."""

from __future__ import annotations

import io
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg.cli.root import run
from fastseg.echo import files as echo_files
from fastseg.errors import BackendUnavailableError, ImageError
from fastseg.imaging import is_medical, read
from fastseg.testing import tiny_sam_folder

FRAMES = np.random.default_rng(0).integers(0, 255, (5, 3, 4, 3)).astype(np.uint8)
FRAMES = FRAMES.repeat(16, axis=1).repeat(16, axis=2)


def jpeg(frame: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content + bytes(len(content) % 2)


def avi(
    parts: list[list[bytes]],
    *,
    size: tuple[int, int] = (64, 48),
    codec: bytes = b"MJPG",
    sound: bool = False,
) -> bytes:
    """An AVI file whose parts are the RIFF lists of OpenDML."""
    video = chunk(b"strh", b"vids" + codec + struct.pack("<10I", 0, 0, 0, 40, 1000, 0, 5, 0, 0, 0))
    video += chunk(b"strf", struct.pack("<Iii2H4s5I", 40, *size, 1, 24, codec, 0, 0, 0, 0, 0))
    streams = chunk(b"LIST", b"strl" + video)
    number = b"00"
    if sound:
        other = chunk(b"strh", b"auds" + bytes(48)) + chunk(b"strf", bytes(16))
        streams, number = chunk(b"LIST", b"strl" + other) + streams, b"01"
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", bytes(56)) + streams)
    found = b""
    for place, frames in enumerate(parts):
        inside = b"".join(chunk(number + b"dc", frame) for frame in frames)
        if sound:
            inside = chunk(b"00wb", b"noise") + chunk(b"LIST", b"rec " + inside)
        movie = chunk(b"LIST", b"movi" + inside)
        found += chunk(b"RIFF", (b"AVIX" + movie) if place else (b"AVI " + header + movie))
    return found


def expected() -> np.ndarray:
    return np.stack([np.array(Image.open(io.BytesIO(jpeg(frame)))) for frame in FRAMES])


@pytest.mark.parametrize("sound", [False, True])
def test_motion_jpeg_is_read_by_pillow(tmp_path: Path, monkeypatch, sound: bool) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    file = tmp_path / "a.avi"
    coded = [jpeg(frame) for frame in FRAMES]
    file.write_bytes(avi([coded[:3], coded[3:]], sound=sound))
    clip = read(file)
    np.testing.assert_array_equal(clip.view, expected())
    assert clip.timing.frame_ms == 40
    assert (len(clip), clip.size, clip.is_colour) == (5, (48, 64), True)
    assert is_medical(file)


def test_grey_frames_stay_grey_and_dropped_ones_repeat(tmp_path: Path) -> None:
    file = tmp_path / "a.avi"
    coded = [jpeg(frame[..., 0]) for frame in FRAMES]
    file.write_bytes(avi([[coded[0], b"", coded[1]]]))
    clip = read(file)
    assert clip.stored.shape == (3, 48, 64)
    np.testing.assert_array_equal(clip.stored[0], clip.stored[1])


def test_opencv_writes_what_pillow_reads(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="other codecs need the extra video")
    file = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for frame in FRAMES:
        writer.write(frame[..., ::-1])
    writer.release()
    clip = read(file)
    capture = cv2.VideoCapture(str(file))
    right = np.stack([capture.read()[1][..., ::-1] for _ in FRAMES])
    # The two upsample colours in their own ways.
    np.testing.assert_allclose(clip.view.mean((1, 2)), right.mean((1, 2)), atol=2)
    assert clip.timing.frame_ms == pytest.approx(1000 / 30)


def mp4(file: Path) -> Path:
    cv2 = pytest.importorskip("cv2", reason="other codecs need the extra video")
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 48))
    for frame in FRAMES:
        writer.write(frame[..., ::-1])
    writer.release()
    return file


def test_other_codecs_are_read_by_opencv(tmp_path: Path) -> None:
    clip = read(mp4(tmp_path / "a.mp4"))
    assert (len(clip), clip.size, clip.timing.frame_ms) == (5, (48, 64), 40)
    assert np.abs(clip.view.astype(int) - FRAMES).mean() < 12


def test_a_missing_decoder_is_named_with_its_extra(tmp_path: Path, monkeypatch) -> None:
    file = mp4(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(BackendUnavailableError, match="video"):
        read(file)


def test_damaged_videos_are_refused(tmp_path: Path, capfd) -> None:
    whole = avi([[jpeg(frame) for frame in FRAMES]])
    file = tmp_path / "a.avi"
    for content, told in (
        (whole[:-200], "cut off"),
        (avi([[b"no jpeg"]]), "frame 0 .* is damaged"),
        (avi([[]]), "no frames"),
        (avi([[jpeg(FRAMES[0][:24])]]), "interlaced"),
        (avi([[jpeg(FRAMES[0]), jpeg(FRAMES[0][..., 0])]]), "grey frames and coloured"),
        (avi([[b"x" * 99]], codec=b"ABCD"), "no video"),
        (avi([[jpeg(FRAMES[0])]], size=(2**20, 2**20)), "pixels"),
    ):
        file.write_bytes(content)
        with pytest.raises(ImageError, match=told):
            read(file)
    file.write_bytes(avi([[jpeg(FRAMES[0])] + [b""] * 50]))
    with pytest.raises(ImageError, match="frames"):
        read(file, max_pixels=64 * 48)
    cut = tmp_path / "a.mp4"
    cut.write_bytes(mp4(tmp_path / "b.mp4").read_bytes()[:300])
    with pytest.raises(ImageError, match=r"no video|frames"):
        read(cut)
    capfd.readouterr()  # FFmpeg's own complaints


def test_the_commands_take_videos(tmp_path: Path, capsys) -> None:
    file = tmp_path / "p_a4c.avi"
    file.write_bytes(avi([[jpeg(frame) for frame in FRAMES]]))
    folder = tiny_sam_folder(tmp_path / "tiny")
    words = ["--model", str(folder), "--box", "4", "5", "30", "30", "--json"]
    assert run(["segment", str(file), *words, "--frame", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"][0]["width"] == 64
    assert run(["segment", str(file), *words]) == 1
    assert "Choose one by --frame" in capsys.readouterr().err
    assert run(["propagate", str(file), *words, "--start", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [5, 48, 64]
    frames = echo_files.read(file, channels=None, max_pixels=None)
    np.testing.assert_array_equal(np.stack(frames.arrays), expected())


def test_mutated_files_raise_nothing_else(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    random = np.random.default_rng(0)
    whole = np.frombuffer(avi([[jpeg(frame[:, :, 0]) for frame in FRAMES[:2]]]), np.uint8)
    file = tmp_path / "a.avi"
    outcomes = set()
    for _ in range(150):
        content = whole.copy()
        places = random.integers(0, 400, random.integers(1, 6))
        content[places] = random.integers(0, 256, len(places))
        file.write_bytes(content[: random.integers(200, len(content) + 1)].tobytes())
        try:
            outcomes.add(len(read(file)))
        except (ImageError, BackendUnavailableError) as error:
            outcomes.add(type(error).__name__)
    assert {"ImageError"} < outcomes
