"""DICOM files with faults are refused in words of DICOM, never in those of a decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseg.echo.dicom import begins_without_preamble, read_dicom
from fastseg.echo.files import read
from fastseg.errors import ImageError
from tests.helpers.ultrasound_files import coloured, region, tissue, write_dicom

GREY = tissue()
INNER_WORDS = ("StopIteration", "has no attribute", "NotImplemented", "None", "KeyError")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "stores PALETTE COLOR"),
        ({"PhotometricInterpretation": None}, "lacks PhotometricInterpretation"),
        ({"Rows": None}, "lacks Rows"),
        ({"Columns": None}, "lacks Columns"),
        ({"SamplesPerPixel": None}, "lacks SamplesPerPixel"),
        ({"BitsAllocated": None}, "no stated bits"),
        ({"regions": [region(RegionLocationMinX0=None)]}, "without corners"),
        ({"regions": [region(RegionLocationMaxY1=None)]}, "without corners"),
        ({"regions": [region((0, 0, 65, 47))]}, "outside its frames"),
    ],
)
def test_a_header_with_a_fault_is_refused_by_name(
    tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        read_dicom(write_dicom(tmp_path / "a.dcm", GREY, **more))
    assert "a.dcm" in str(caught.value)
    assert not any(word in str(caught.value) for word in INNER_WORDS)


@pytest.mark.parametrize("announced", [5, 300])
def test_fewer_frames_than_announced_are_counted(tmp_path: Path, announced: int) -> None:
    frames = coloured(GREY)
    file = write_dicom(
        tmp_path / "a.dcm", frames, "YBR_FULL_422", jpeg={}, NumberOfFrames=announced
    )
    with pytest.raises(ImageError, match=f"announces {announced} frames and holds 3"):
        read_dicom(file)


@pytest.mark.parametrize("corners", [(0, 0, 64, 48), (0, 0, 64, 47), (0, 0, 63, 48)])
def test_a_region_that_ends_at_the_edge_is_the_whole_frame(tmp_path: Path, corners) -> None:
    clip = read_dicom(write_dicom(tmp_path / "a.dcm", GREY, regions=[region(corners)]))
    np.testing.assert_array_equal(clip.frames, GREY)


def test_an_unknown_value_representation_is_refused_in_plain_words(tmp_path: Path) -> None:
    content = write_dicom(tmp_path / "a.dcm", GREY).read_bytes()
    at = content.index(b"\x28\x00\x10\x00US")
    (tmp_path / "a.dcm").write_bytes(content[: at + 4] + b"QQ" + content[at + 6 :])
    with pytest.raises(ImageError, match="DICOM") as caught:
        read_dicom(tmp_path / "a.dcm")
    assert not any(word in str(caught.value) for word in INNER_WORDS)


def test_dicom_without_a_preamble_is_called_so(tmp_path: Path) -> None:
    content = write_dicom(tmp_path / "a.dcm", GREY).read_bytes()
    for name, start in (("no-header", content.index(b"\x08\x00\x16\x00")), ("no-preamble", 132)):
        (tmp_path / name).write_bytes(content[start:])
        assert begins_without_preamble(tmp_path / name)
        for reader in (read_dicom, lambda path: read(path, channels=None, max_pixels=None)):
            with pytest.raises(ImageError, match="DICOM without preamble"):
                reader(tmp_path / name)
    assert not begins_without_preamble(tmp_path / "a.dcm")
    assert not begins_without_preamble(tmp_path / "missing")
