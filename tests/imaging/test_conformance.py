"""Real files: those that come with pydicom, and those of a folder with values of other readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import conformance
from fastseg.errors import ImageError
from fastseg.imaging import read

pydicom = pytest.importorskip("pydicom", reason="DICOM files need pydicom")
for package in ("gdcm", "jpeg_ls", "openjpeg", "nibabel", "nrrd"):
    pytest.importorskip(package)

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "medical"
ROWS = conformance.rows(FOLDER) if (FOLDER / "index.csv").is_file() else []
ABSENT = pytest.mark.skipif(not ROWS, reason="needs the medical files in ../shared/data/medical")

EXAMPLES = [
    "693_J2KI.dcm", "CT_small.dcm", "ExplVR_BigEnd.dcm", "GDCMJ2K_TextGBR.dcm",
    "J2K_pixelrep_mismatch.dcm", "JPEG2000.dcm", "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm",
    "MR_small_expb.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm", "SC_rgb_dcmtk_+eb+cr.dcm",
    "SC_rgb_gdcm_KY.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm",
    "SC_rgb_jpeg_dcmd.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm", "SC_rgb_rle_2frame.dcm",
    "SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm", "SC_ybr_full_422_uncompressed.dcm",
    "examples_jpeg2k.dcm", "examples_overlay.dcm", "examples_rgb_color.dcm",
    "examples_ybr_color.dcm", "image_dfl.dcm", "liver_1frame.dcm", "liver_expb_1frame.dcm",
    "rtdose.dcm", "rtdose_expb.dcm", "rtdose_rle.dcm",
]  # fmt: skip
"""Files that pydicom reads by its own decoders too."""


@ABSENT
@pytest.mark.parametrize("row", ROWS or [{"file": "index.csv"}], ids=lambda row: row["file"])
def test_the_file_conforms(row: dict[str, str]) -> None:
    outcome = conformance.check(FOLDER, row)
    assert outcome.holds, outcome.faults


@ABSENT
def test_the_table_of_the_folder_is_complete(capsys) -> None:
    assert conformance.main([str(FOLDER)]) == 0
    assert capsys.readouterr().out.count("holds  ") == len(ROWS)


def example(name: str) -> Path:
    from pydicom.data import get_testdata_file

    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"this pydicom comes without {name}")
    return Path(str(path))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_pydicom_has_the_pixels_of_pydicom(name: str) -> None:
    path = example(name)
    expected = pydicom.dcmread(path).pixel_array
    image = read(path)
    np.testing.assert_array_equal(image.stored, expected.reshape(image.stored.shape))


def test_the_palette_of_pydicom_is_applied() -> None:
    from pydicom.pixels import apply_color_lut

    header = pydicom.dcmread(example("examples_palette.dcm"))
    colours = apply_color_lut(header.pixel_array, header)
    np.testing.assert_array_equal(read(example("examples_palette.dcm")).values[0], colours >> 8)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("MR_truncated.dcm", "8,130 of the 8,192 bytes"),
        ("badVR.dcm", "NumberOfFrames"),
        ("no_meta.dcm", "cannot be read|not an image"),
        ("rtstruct.dcm", "without preamble"),
        ("rtplan.dcm", "holds no pixels"),
        ("SC_rgb_rle_16bit.dcm", "RGB in 16 bits"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "Export it again"),
    ],
)
def test_a_faulty_example_of_pydicom_is_refused(name: str, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        read(example(name))


def test_twelve_bits_of_jpeg_are_decoded() -> None:
    image = read(example("JPGExtended.dcm"))
    assert image.stored.dtype == np.uint16
    assert 255 < image.stored.max() < 4096
