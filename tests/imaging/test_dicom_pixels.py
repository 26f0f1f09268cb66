"""Pixels of DICOM files in every encoding, on files that the tests write themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastseg.errors import BackendUnavailableError, ImageError
from fastseg.imaging import read
from fastseg.imaging.dicom import codecs
from tests.helpers import dicom_files
from tests.helpers.dicom_files import dataset, encapsulated, palette, save, write

pydicom = pytest.importorskip("pydicom", reason="DICOM files need pydicom")

RNG = np.random.default_rng(0)
SIGNED = RNG.integers(-1000, 3000, (2, 12, 15)).astype(np.int16)
GREY = RNG.integers(0, 256, (2, 12, 15)).astype(np.uint8)
RGB = RNG.integers(0, 256, (2, 12, 15, 3)).astype(np.uint8)
SMOOTH = np.repeat(np.linspace(20, 230, 64).astype(np.uint8)[None, None], 48, axis=1)
BASE = "1.2.840.10008.1.2"


def ybr_to_rgb(ybr: np.ndarray) -> np.ndarray:
    """PS3.3 C.7.6.3.1.2, pixel by pixel."""
    y, b, r = (ybr[..., k].astype(np.float64) - (0, 128, 128)[k] for k in range(3))
    green = y - 0.114 * 1.772 / 0.587 * b - 0.299 * 1.402 / 0.587 * r
    rgb = np.stack([y + 1.402 * r, green, y + 1.772 * b], axis=-1)
    return np.clip(np.floor(rgb + 0.5), 0, 255).astype(np.uint8)


def test_signed_values_become_modality_values(tmp_path: Path) -> None:
    file = write(tmp_path / "a.dcm", SIGNED, RescaleSlope=2, RescaleIntercept=-10)
    image = read(file)
    np.testing.assert_array_equal(image.values, SIGNED.astype(np.int32) * 2 - 10)
    assert image.values.dtype == np.int32
    assert image.modality == "CT"


def test_fractions_of_a_rescale_are_kept(tmp_path: Path) -> None:
    image = read(write(tmp_path / "a.dcm", SIGNED, RescaleSlope="0.3", RescaleIntercept="-7.25"))
    np.testing.assert_allclose(image.values, SIGNED * 0.3 - 7.25, rtol=1e-12)


@pytest.mark.parametrize("syntax", ["", ".2", ".1.99"])
def test_every_uncompressed_syntax_gives_the_same_values(tmp_path: Path, syntax: str) -> None:
    made = dataset(SIGNED)
    made.file_meta.TransferSyntaxUID = BASE + syntax
    if syntax == ".2":
        made.PixelData = SIGNED.astype(">i2").tobytes()
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").stored, SIGNED)


def test_only_the_stored_bits_count(tmp_path: Path) -> None:
    """12 bits in bits 0 to 11 and 4 to 15, with rubbish in the others."""
    values = RNG.integers(-2048, 2048, (1, 5, 6)).astype(np.int16)
    low = ((values & 0x0FFF) | (RNG.integers(0, 16, values.shape) << 12)).astype(np.uint16)
    high = ((values << 4) | RNG.integers(0, 16, values.shape)).astype(np.uint16)
    for pixels, top in ((low, 11), (high, 15)):
        fields = {"BitsStored": 12, "HighBit": top, "PixelRepresentation": 1}
        image = read(write(tmp_path / "a.dcm", pixels, **fields))
        np.testing.assert_array_equal(image.stored, values)


def test_planes_and_interleaved_colours_are_the_same(tmp_path: Path) -> None:
    planes = dataset(RGB, "RGB", PlanarConfiguration=1)
    planes.PixelData = RGB.transpose(0, 3, 1, 2).tobytes()
    np.testing.assert_array_equal(read(save(planes, tmp_path / "a.dcm")).values, RGB)
    np.testing.assert_array_equal(read(write(tmp_path / "b.dcm", RGB, "RGB")).values, RGB)


def test_luma_and_chroma_become_rgb_by_the_standard(tmp_path: Path) -> None:
    image = read(write(tmp_path / "a.dcm", RGB, "YBR_FULL"))
    np.testing.assert_array_equal(image.values, ybr_to_rgb(RGB))


def test_halved_chroma_is_doubled(tmp_path: Path) -> None:
    ybr = RGB[:, :, :14].copy()
    ybr[:, :, 1::2, 1:] = ybr[:, :, ::2, 1:]
    packed = np.concatenate([ybr[:, :, ::2, :1], ybr[:, :, 1::2, :1], ybr[:, :, ::2, 1:]], axis=3)
    made = dataset(ybr, "YBR_FULL_422")
    made.PixelData = packed.tobytes()
    np.testing.assert_array_equal(read(save(made, tmp_path / "a.dcm")).values, ybr_to_rgb(ybr))
    whole = dataset(ybr, "YBR_FULL_422")
    with pytest.raises(ImageError, match="holds all of it"):
        read(save(whole, tmp_path / "b.dcm"))


def test_monochrome1_is_inverted_in_the_view_alone(tmp_path: Path) -> None:
    image = read(write(tmp_path / "a.dcm", GREY, "MONOCHROME1"))
    np.testing.assert_array_equal(image.values, GREY)
    np.testing.assert_array_equal(image.view, 255 - GREY)


@pytest.mark.parametrize(("bits", "entries"), [(8, 200), (16, 200), (16, 256), (8, 256)])
def test_palettes_give_their_colours(tmp_path: Path, bits: int, entries: int) -> None:
    colours = RNG.integers(0, 2**bits, (entries, 3))
    file = write(tmp_path / "a.dcm", GREY, "PALETTE COLOR", **palette(colours, bits=bits))
    expected = (colours >> (bits - 8))[np.minimum(GREY, entries - 1)]
    np.testing.assert_array_equal(read(file).values, expected)


def test_a_palette_begins_at_its_first_index(tmp_path: Path) -> None:
    colours = RNG.integers(0, 65536, (100, 3))
    file = write(tmp_path / "a.dcm", GREY, "PALETTE COLOR", **palette(colours, first=50))
    expected = (colours >> 8)[np.clip(GREY.astype(int) - 50, 0, 99)]
    np.testing.assert_array_equal(read(file).values, expected)


def test_entries_of_8_bits_in_a_palette_of_16_are_not_black(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (256, 3))
    file = write(tmp_path / "a.dcm", GREY, "PALETTE COLOR", **palette(colours))
    np.testing.assert_array_equal(read(file).values, colours[GREY])


def segmented(words: list[int], count: int) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in ("Red", "Green", "Blue"):
        fields[f"{name}PaletteColorLookupTableDescriptor"] = [count, 0, 16]
        content = np.array(words, "<u2").tobytes()
        fields[f"Segmented{name}PaletteColorLookupTableData"] = content
    return fields


def test_segmented_palettes_are_expanded(tmp_path: Path) -> None:
    """Discrete, linear, and an indirect segment that repeats the first two."""
    words = [0, 2, 0x1000, 0x2000, 1, 4, 0x6000, 2, 2, 0, 0]
    table = [0x10, 0x20, 0x30, 0x40, 0x50, 0x60] * 2
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    file = write(tmp_path / "a.dcm", pixels, "PALETTE COLOR", **segmented(words, 12))
    np.testing.assert_array_equal(read(file).values[..., 0].ravel(), table)


@pytest.mark.parametrize(
    "words", [[], [0, 50, 1], [1, 5, 9], [9, 1, 1], [2, 1, 0, 0], [2, 65535, 0, 0] * 20]
)
def test_a_damaged_palette_is_refused(tmp_path: Path, words: list[int]) -> None:
    file = write(tmp_path / "a.dcm", GREY, "PALETTE COLOR", **segmented(words, 256))
    with pytest.raises(ImageError, match="palette is missing or damaged"):
        read(file)


def test_rle_is_decoded_for_every_depth(tmp_path: Path) -> None:
    for pixels, photometric in ((SIGNED, "MONOCHROME2"), (RGB, "RGB"), (GREY, "MONOCHROME2")):
        made = dataset(pixels, photometric)
        made.compress(f"{BASE}.5", encoding_plugin="pydicom")
        np.testing.assert_array_equal(read(save(made, tmp_path / "a.dcm")).values, pixels)


def test_rle_runs_may_go_beyond_the_end_of_a_row(tmp_path: Path) -> None:
    pixels = np.zeros((1, 4, 50), np.uint8)
    segment = bytes([257 - 128, 0, 257 - 72, 0])
    header = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    made = encapsulated(dataset(pixels), [header + segment], f"{BASE}.5")
    np.testing.assert_array_equal(read(save(made, tmp_path / "a.dcm")).values, pixels)


@pytest.mark.parametrize("starts", [[64], [64, 66, 68], [64, 60], [2, 64], [64, 9000]])
def test_damaged_rle_is_refused(tmp_path: Path, starts: list[int]) -> None:
    numbers = [len(starts), *starts, *[0] * (15 - len(starts))]
    frame = np.array(numbers, "<u4").tobytes() + bytes(40)
    made = encapsulated(dataset(SIGNED[:1]), [frame], f"{BASE}.5")
    with pytest.raises(ImageError, match="damaged"):
        read(save(made, tmp_path / "a.dcm"))


@pytest.mark.parametrize(
    ("syntax", "plugin"),
    [(".4.80", "pyjpegls"), (".4.90", "pylibjpeg"), (".4.70", "gdcm"), (".4.57", "gdcm")],
)
def test_lossless_codecs_give_the_stored_values(tmp_path: Path, syntax: str, plugin: str) -> None:
    volume = np.tile(SIGNED, (1, 6, 5))  # JPEG 2000 needs some size
    if plugin == "gdcm":
        frames = [dicom_files.lossless_jpeg(frame) for frame in volume.view(np.uint16)]
        made = encapsulated(dataset(volume), frames, BASE + syntax)
    else:
        made = dataset(volume)
        made.compress(BASE + syntax, encoding_plugin=plugin)
    np.testing.assert_array_equal(read(save(made, tmp_path / "a.dcm")).stored, volume)


def test_colours_in_jpeg_2000_are_undone_by_its_decoder(tmp_path: Path) -> None:
    colours = np.tile(RGB, (1, 6, 5, 1))
    made = dataset(colours, "RGB")
    made.PhotometricInterpretation = "YBR_RCT"
    made.compress(f"{BASE}.4.90", encoding_plugin="pylibjpeg", use_mct=True)
    assert made.PhotometricInterpretation == "YBR_RCT"
    np.testing.assert_array_equal(read(save(made, tmp_path / "a.dcm")).values, colours)


def test_frames_in_fragments_without_offsets_are_found(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate

    made = dataset(np.repeat(SMOOTH, 3, axis=0))
    frame = dicom_files.jpeg(SMOOTH[0])
    encapsulated(made, [frame] * 3, f"{BASE}.4.50", table=False)
    whole = read(save(made, tmp_path / "a.dcm")).values
    made.PixelData = encapsulate([frame] * 3, fragments_per_frame=4, has_bot=False)
    np.testing.assert_array_equal(read(save(made, tmp_path / "b.dcm")).values, whole)
    assert np.abs(whole[0] - SMOOTH[0].astype(int)).max() <= 2


def test_jpeg_colours_that_contradict_the_header_are_refused(tmp_path: Path) -> None:
    colours = np.repeat(SMOOTH[..., None], 3, axis=3)
    made = encapsulated(dataset(colours, "RGB"), [dicom_files.jpeg(colours[0])], f"{BASE}.4.50")
    file = save(made, tmp_path / "a.dcm")
    with pytest.raises(ImageError, match=r"one of them is wrong.*channels="):
        read(file)
    assert np.abs(read(file, channels="ycbcr").values - colours.astype(int)).max() <= 3
    with pytest.raises(ImageError, match="channels must be"):
        read(file, channels="bgr")  # type: ignore[arg-type]


def test_a_frame_of_another_kind_than_stated_is_refused(tmp_path: Path) -> None:
    frame = dicom_files.jpeg(SMOOTH[0])
    for pixels, more, words in (
        (SMOOTH[:, :20], {}, "64 x 20 pixels, and frame 0 is 64 x 48"),
        (np.repeat(SMOOTH[..., None], 3, axis=3), {}, "3 channels of 8 bits"),
    ):
        photometric = "YBR_FULL" if pixels.ndim == 4 else "MONOCHROME2"
        made = encapsulated(dataset(pixels, photometric, **more), [frame], f"{BASE}.4.50")
        with pytest.raises(ImageError, match=words):
            read(save(made, tmp_path / "a.dcm"))
    made = encapsulated(dataset(SMOOTH), [b"\0" * 200], f"{BASE}.4.90")
    with pytest.raises(ImageError, match="no image in its frame 0"):
        read(save(made, tmp_path / "b.dcm"))


@pytest.mark.parametrize(
    ("syntax", "words"),
    [(".4.110", "JPEG XL"), (".4.102", "video"), (".9.9", "not known"), (".4.64", "not known")],
)
def test_other_syntaxes_are_refused_by_name(tmp_path: Path, syntax: str, words: str) -> None:
    made = encapsulated(dataset(SMOOTH), [b"\xff\x0a" * 20], BASE + syntax)
    with pytest.raises(ImageError, match=words):
        read(save(made, tmp_path / "a.dcm"))


@pytest.mark.parametrize(
    ("syntax", "module"), [(".4.90", "openjpeg"), (".4.80", "jpeg_ls"), (".4.70", "gdcm")]
)
def test_a_decoder_that_is_missing_is_named(tmp_path: Path, monkeypatch, syntax, module) -> None:
    found = codecs.find_spec
    monkeypatch.setattr(codecs, "find_spec", lambda name: None if name == module else found(name))
    made = encapsulated(dataset(SMOOTH), [b"\xff\xd8" * 20], BASE + syntax)
    with pytest.raises(BackendUnavailableError, match=rf"{module} is not installed.*dicom"):
        read(save(made, tmp_path / "a.dcm"))


def test_a_single_bit_a_pixel_is_unpacked(tmp_path: Path) -> None:
    bits = RNG.integers(0, 2, (3, 5, 7)).astype(np.uint8)
    fields = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}
    made = dataset(bits, **fields)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    made.PixelData = packed + bytes(len(packed) % 2)
    np.testing.assert_array_equal(read(save(made, tmp_path / "a.dcm")).stored, bits)


def test_floating_pixels_are_read(tmp_path: Path) -> None:
    values = RNG.normal(size=(2, 4, 5)).astype(np.float32)
    made = dataset(np.zeros(values.shape, np.uint16), BitsAllocated=32)
    del made.PixelData, made.BitsStored, made.HighBit, made.PixelRepresentation
    made.FloatPixelData = values.tobytes()
    np.testing.assert_array_equal(read(save(made, tmp_path / "a.dcm")).values, values)


def test_tables_take_the_place_of_slope_and_window(tmp_path: Path) -> None:
    from pydicom import Dataset

    def table(entries: np.ndarray, bits: int) -> Any:
        item = Dataset()
        item.LUTDescriptor = [len(entries), 0, bits]
        item.LUTData = entries.astype("<u2").tobytes()
        item["LUTData"].VR = "OW"
        return item

    modality, levels = RNG.integers(0, 500, 256), RNG.integers(0, 4096, 500)
    made = dataset(GREY)
    made.ModalityLUTSequence = [table(modality, 16)]
    made.VOILUTSequence = [table(levels, 12)]
    image = read(save(made, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(image.values, modality[GREY])
    np.testing.assert_array_equal(image.view, np.rint(levels[modality[GREY]] / 4095 * 255))


def test_the_window_of_the_file_is_its_own(tmp_path: Path) -> None:
    fields = {"WindowCenter": [40, 300], "WindowWidth": [400, 1500], "RescaleIntercept": -1000}
    image = read(write(tmp_path / "a.dcm", SIGNED, **fields))
    values = SIGNED.astype(np.float64) - 1000
    expected = np.rint(np.clip(((values - 39.5) / 399 + 0.5) * 255, 0, 255))
    np.testing.assert_array_equal(image.view, expected)
    np.testing.assert_array_equal(image.with_window("file").view, expected)
    lung = image.with_window("lung")
    assert (lung.view != image.view).any()


@pytest.mark.parametrize("width", [0, "", None])
def test_a_window_without_width_is_none(tmp_path: Path, width: object) -> None:
    more = {} if width is None else {"WindowWidth": width}
    image = read(write(tmp_path / "a.dcm", SIGNED, WindowCenter=40, **more))
    with pytest.raises(ImageError, match="needs a window"):
        _ = image.view


def test_a_deflated_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    made = dataset(GREY)
    made.file_meta.TransferSyntaxUID = f"{BASE}.1.99"
    file = save(made, tmp_path / "a.dcm")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ImageError, match="damaged"):
        read(file)


def test_no_name_of_the_header_is_kept(tmp_path: Path) -> None:
    image = read(write(tmp_path / "a.dcm", GREY))
    assert "Known" not in repr(image)
    assert "PX4711Q" not in repr(image)
