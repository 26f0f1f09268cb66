"""Promises of ``fastseg echo``, on a tiny network that knows chambers by their brightness."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg.cli import echo as verb
from fastseg.cli.root import run
from fastseg.echo.findings import Place, find
from fastseg.echo.views import VIEWS
from fastseg.errors import ImageError
from fastseg.inference.loaded_model import LoadedModel
from fastseg.storage.owned import RECORD
from fastseg.testing import tiny_unet_folder
from fastseg.timings import Timings
from tests.helpers.chamber_bodies import CM_PER_PIXEL, draw, ellipse, named

BRIGHTNESS = {"LA": 0.6, "LV": 0.9}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_unet_folder(tmp_path_factory.mktemp("models") / "tiny"))


class Painted:
    """A network for any view whose chambers are painted in the luma of the frame itself."""

    backend, device, precision = "painted", "cpu", "fp32"
    runs, reason = {"network": "painted:cpu fp32"}, "as it was asked for"
    manifest = SimpleNamespace(name="painted")
    provenance = LoadedModel.provenance

    def __init__(self, view: str) -> None:
        self.view = view

    def __enter__(self) -> Painted:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def stream(self, frames, **_: Any):
        for frame in frames:
            if np.shape(frame)[0] < 16:
                raise ImageError("too small")
            bits = frame if np.ndim(frame) == 2 else frame[..., 0]
            painted = [bits & (1 << place) > 0 for place in range(len(VIEWS[self.view].chambers))]
            yield named(self.view, np.stack(painted)).with_timings(Timings(encode=1.0, n_masks=2))


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every view have a ``Painted`` network instead of the embedded one."""
    monkeypatch.setattr(verb, "load_unet", lambda name, *_, **__: Painted(name.split("-")[1]))


def paint(view: str, size: float = 1.0) -> np.ndarray:
    """A frame for ``Painted``; chamber number n is bit n."""
    bodies = {
        "LA": draw(ellipse(2.3 * size, 2.0), centre=(5, 3)),
        "LV": draw(ellipse(4.2 * size, 2.2), centre=(-3, 3)),
        "RA": draw(ellipse(2.2 * size, 2.0), centre=(5, -3)),
        "RV": draw(ellipse(3.6 * size, 1.6), centre=(-3, -3)),
        "cavity": draw(ellipse(2.2, 2.2)),
        "ring": draw(ellipse(3.1, 3.1)) & ~draw(ellipse(2.2, 2.2)),
        "disc": draw(ellipse(3.1, 3.1)),
    }
    bits = np.zeros((256, 256), np.uint8)
    for place, name in enumerate(VIEWS[view].chambers):
        bits |= bodies[name].astype(np.uint8) << place
    return bits


def bright(size: float = 1.0) -> np.ndarray:
    """A two-chamber frame for the tiny network, uint8 (256, 256)."""
    frame = np.zeros((256, 256))
    frame[draw(ellipse(2.3 * size, 2.0), centre=(5, 0))] = BRIGHTNESS["LA"]
    frame[draw(ellipse(4.2 * size, 2.2), centre=(-3, 0))] = BRIGHTNESS["LV"]
    frame[0, 0] = 1
    return np.round(frame * 255).astype(np.uint8)


def save(file: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(file)
    return file


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON document of a call with ``--json``."""
    code = run([str(word) for word in ("echo", *words)] + ["--json"])
    return code, json.loads(capsys.readouterr().out)


def chambers(document: dict[str, Any], study: int = 0) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in document["studies"][study]["findings"]}


def test_echo_answers_as_the_library_does(tiny, tmp_path, capsys) -> None:
    file = save(tmp_path / "p7_A2C_1.png", bright())
    code, document = answer(capsys, file, "--model", tiny)
    with fastseg.load(tiny) as model:
        masks = model.segment(file)
    expected = find(masks, Place("a2c"), cm_per_pixel=CM_PER_PIXEL)
    assert code == 0
    found = chambers(document)
    for one in expected:
        assert found[one.measurement.name]["length_cm"] == one.measurement.length_cm
        assert found[one.measurement.name]["area_cm2"] == one.measurement.area_cm2
    assert found["LV"]["area_cm2"] == pytest.approx(math.pi * 4.2 * 2.2, rel=0.05)
    assert document["studies"][0]["patient"] == "p7"
    assert document["models"]["a2c"]["model"] == "tiny-unet"
    assert document["files"][0]["timings"]["encode"] > 0
    assert "research use only" in document["notice"]


def test_two_frames_of_a_patient_make_an_ejection_fraction(tiny, tmp_path, capsys) -> None:
    files = [
        save(tmp_path / "p7_a2c_DIA.png", bright()),
        save(tmp_path / "p7_a2c_SYS.png", bright(0.7)),
    ]
    code, document = answer(capsys, *files, "--model", tiny)
    rows = document["studies"][0]["rows"]
    assert code == 0
    assert rows["lv_ef_a2c_percent"]["value"] == pytest.approx(30.0, abs=4)
    assert rows["lv_ef_a2c_percent"]["frames"] == [str(file) for file in files]
    assert rows["lv_ef_percent"]["value"] is None
    assert rows["lv_ef_percent"]["reason"] == "there is no a4c frame"


def test_files_of_different_patients_are_separate_studies(tiny, tmp_path, capsys) -> None:
    files = [
        save(tmp_path / name, bright(size))
        for name, size in (("p7_a2c.png", 1.0), ("p8_a2c.png", 0.7), ("A2C_EX01.png", 0.8))
    ]
    files.append(save(tmp_path / "A2C_EX02.png", bright(0.9)))
    _, document = answer(capsys, *files, "--model", tiny)
    names = [one["patient"] for one in document["studies"]]
    assert names == ["p7", "p8", str(files[2]), str(files[3])]
    for one in document["studies"]:
        assert one["rows"]["lv_ef_a2c_percent"]["value"] is None
    _, together = answer(capsys, *files[2:], "--model", tiny, "--patient", "EX")
    assert [one["patient"] for one in together["studies"]] == ["EX"]
    assert together["studies"][0]["rows"]["lv_ef_a2c_percent"]["value"] > 0


def test_a_study_of_three_views_has_every_row(painted, tmp_path, capsys) -> None:
    files = []
    for view in ("a2c", "a4c", "sax"):
        files.append(tmp_path / f"p7_{view}.npy")
        np.save(files[-1], np.stack([paint(view), paint(view, 0.75)]))
    code, document = answer(capsys, *files, "--bsa", 2)
    rows = document["studies"][0]["rows"]
    assert code == 0
    assert [name for name, row in rows.items() if row["value"] is None] == []
    volume = 4 / 3 * math.pi * 4.2 * 2.2**2
    assert rows["lv_edv_biplane_ml"]["value"] == pytest.approx(volume, rel=0.02)
    assert rows["lv_ef_percent"]["value"] == pytest.approx(25.0, abs=1)
    assert rows["rv_fac_percent"]["value"] == pytest.approx(25.0, abs=1)
    assert rows["lv_edv_index_ml_per_m2"]["value"] == rows["lv_edv_biplane_ml"]["value"] / 2
    assert rows["lv_edv_biplane_ml"]["frames"] == [f"{file} frame 0" for file in files[:2]]


def test_source_mode_is_the_published_method(painted, tmp_path, capsys) -> None:
    np.save(tmp_path / "p7_a4c.npy", np.stack([paint("a4c"), paint("a4c", 0.75)]))
    found = {}
    for mode in ("default", "source"):
        _, document = answer(capsys, tmp_path / "p7_a4c.npy", "--mode", mode)
        assert document["settings"]["mode"] == mode
        found[mode] = document["studies"][0]["rows"]["lv_edv_a4c_ml"]["value"]
    assert 0.9 * found["default"] < found["source"] < 0.99 * found["default"]


def test_clips_are_read_from_npy_npz_and_tiff(painted, tmp_path, capsys) -> None:
    first, second = paint("a2c"), paint("a2c", 0.75)
    np.save(tmp_path / "clip_a2c.npy", np.stack([first, second]))
    np.savez(tmp_path / "colour_a2c.npz", image=np.stack([first, second])[..., None].repeat(3, -1))
    pages = [Image.fromarray(page) for page in (first, second)]
    pages[0].save(tmp_path / "pages_a2c.tiff", save_all=True, append_images=pages[1:])
    lengths = []
    for file in sorted(tmp_path.iterdir()):
        code, document = answer(capsys, file)
        assert code == 0, file
        assert document["files"][0]["frames"] == 2
        lengths.append([one["length_cm"] for one in document["studies"][0]["findings"]])
    assert lengths[0] == lengths[1] == lengths[2]


@pytest.mark.parametrize("shape", [(256, 256), (256, 256, 1), (256, 256, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_grey_and_colour_bytes_and_floats_are_one_frame(tiny, tmp_path, capsys, shape, dtype):
    frame = bright() if dtype == np.uint8 else (bright() / 255).astype(dtype)
    pixels = frame if len(shape) == 2 else frame[..., None].repeat(shape[2], axis=2)
    np.save(tmp_path / "a2c.npy", pixels)
    code, document = answer(capsys, tmp_path / "a2c.npy", "--model", tiny)
    assert code == 0
    assert document["files"][0]["frames"] == 1
    assert chambers(document)["LV"]["area_cm2"] == pytest.approx(29.0, rel=0.05)


def test_channels_ycbcr_reads_the_luma(tiny, tmp_path, capsys) -> None:
    luma = bright()
    stored = np.stack([luma, np.full_like(luma, 128), np.full_like(luma, 128)], axis=2)
    np.savez(tmp_path / "A2C_EX01.npz", image=stored)
    call = (tmp_path / "A2C_EX01.npz", "--model", tiny, "--channels", "ycbcr")
    code, document = answer(capsys, *call, "--out", tmp_path / "out")
    assert code == 0
    assert chambers(document)["LV"]["area_cm2"] == pytest.approx(29.0, rel=0.05)
    code, document = answer(capsys, *call[:-2])
    assert code == 1, "read as RGB it would give other masks"
    assert "--channels ycbcr" in document["files"][0]["error"]["message"]
    drawn = np.asarray(Image.open(tmp_path / "out" / "overlays" / "A2C_EX01.png"))
    corner = drawn[100, 500].astype(int)
    assert corner.max() - corner.min() < 5, "the luma alone is shown, in grey"


@pytest.mark.parametrize("size", [(256, 256), (480, 640), (90, 120), (333, 200)])
def test_the_longer_side_spans_twenty_centimetres_unless_told(painted, tmp_path, capsys, size):
    frame = np.zeros(size, np.uint8)
    frame[20:60, 30:90] = 0b11
    np.save(tmp_path / "a2c.npy", frame)
    _, document = answer(capsys, tmp_path / "a2c.npy")
    scale = 20 / max(size)
    assert document["files"][0]["cm_per_pixel"] == pytest.approx(scale)
    assert chambers(document)["LV"]["area_cm2"] == pytest.approx(2400 * scale**2)
    _, told = answer(capsys, tmp_path / "a2c.npy", "--cm-per-pixel", 0.05)
    assert chambers(told)["LV"]["area_cm2"] == pytest.approx(6.0)


def test_a_constant_frame_has_no_chambers_and_says_so(tiny, tmp_path, capsys) -> None:
    file = save(tmp_path / "a2c.png", np.full((256, 256), 77, np.uint8))
    code, document = answer(capsys, file, "--model", tiny, "--out", tmp_path / "out")
    assert code == 0
    assert [one["reason"] for one in chambers(document).values()] == [
        "no LA was found",
        "no LV was found",
    ]
    rows = document["studies"][0]["rows"]
    assert rows["lv_ed_area_a2c_cm2"] == {
        "value": None,
        "reason": "no LV was found in a2c",
        "caution": "",
        "frames": [],
        "beats": 0,
        "low": None,
        "high": None,
    }


def test_a_result_folder_has_masks_overlays_and_measurements(painted, tmp_path, capsys):
    np.save(tmp_path / "p7_a4c.npy", np.stack([paint("a4c"), paint("a4c", 0.75)]))
    out = tmp_path / "out"
    code, document = answer(capsys, tmp_path / "p7_a4c.npy", "--out", out)
    assert code == 0
    kept = {str(file.relative_to(out)) for file in out.rglob("*.*")}
    assert kept == {
        RECORD,
        "clips/p7_a4c.webp",
        *(f"curves/p7-a4c-{name}.png" for name in VIEWS["a4c"].chambers),
        "masks.json",
        "measurements.csv",
        "measurements.json",
        "overlays/p7_a4c-0000.png",
        "overlays/p7_a4c-0001.png",
        "reports/p7.html",
    }
    coco = json.loads((out / "masks.json").read_text())
    names = {one["id"]: one["name"] for one in coco["categories"]}
    assert [names[one["category_id"]] for one in coco["annotations"]] == [
        *VIEWS["a4c"].chambers
    ] * 2
    assert [one["file_name"] for one in coco["images"]] == [
        f"{tmp_path / 'p7_a4c.npy'} frame {index}" for index in (0, 1)
    ]
    written = json.loads((out / "measurements.json").read_text())
    assert written["studies"] == document["studies"]
    assert "research use only" in written["notice"]
    code, document = answer(capsys, tmp_path / "p7_a4c.npy", "--out", out)
    assert code == 2
    taken = f"{out}/ is not empty. Use another --out, or --overwrite."
    assert document["error"] == {"type": "OutputError", "message": taken}
    again = answer(capsys, tmp_path / "p7_a4c.npy", "--out", out, "--overwrite", "--no-overlay")
    assert again[0] == 0
    assert {file.name for file in out.iterdir()} == {
        "masks.json",
        "measurements.csv",
        "measurements.json",
        "reports",
        RECORD,
    }


def test_a_file_that_fails_is_named_and_the_others_are_done(painted, tmp_path, capsys) -> None:
    broken, small = tmp_path / "p7_a2c_1.png", tmp_path / "p7_a2c_2.npy"
    broken.write_bytes(b"no image at all")
    np.save(small, np.zeros((2, 8, 8), np.uint8))
    np.save(tmp_path / "p7_a2c_3.npy", paint("a2c"))
    files = sorted(tmp_path.iterdir())
    code = run(["echo", *map(str, files), "--json", "--out", str(tmp_path / "out")])
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert code == document["exit_code"] == 1
    assert f"fastseg: {broken}" in told.err
    assert [row.get("error", {}).get("type") for row in document["files"]] == [
        "ImageError",
        "ImageError",
        None,
    ]
    assert len(document["studies"]) == 1
    assert (tmp_path / "out" / "measurements.json").is_file()


def test_when_every_file_fails_nothing_is_written(painted, tmp_path, capsys) -> None:
    call = (tmp_path / "missing_a2c.png", tmp_path / "missing_a2c.npy", "--out", tmp_path / "out")
    code, document = answer(capsys, *call)
    assert code == 1
    assert document["studies"] == []
    assert all("missing" in row["error"]["message"] for row in document["files"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"frames": np.zeros((64, 64), np.uint8)}, "holds frames"),
        ({"image": np.zeros((0, 64, 64), np.uint8)}, "no frames"),
        ({"image": np.array([None])}, "pickle"),
    ],
)
def test_an_archive_without_frames_is_named(painted, tmp_path, capsys, content, reason) -> None:
    np.savez(tmp_path / "a2c.npz", **content)
    code, document = answer(capsys, tmp_path / "a2c.npz")
    assert code == 1
    assert reason in document["files"][0]["error"]["message"]


def test_a_truncated_archive_is_named(painted, tmp_path, capsys) -> None:
    np.savez_compressed(tmp_path / "whole.npz", image=paint("a2c"))
    (tmp_path / "a2c.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:300])
    code, document = answer(capsys, tmp_path / "a2c.npz")
    assert code == 1
    assert "a2c.npz is no array" in document["files"][0]["error"]["message"]


@pytest.mark.parametrize("name", ["heart.png", "p7_a2c_a4c.png", "xa2cx.png"])
def test_a_name_without_one_view_is_a_bad_call(tiny, tmp_path, capsys, name) -> None:
    file = save(tmp_path / name, bright())
    code, document = answer(capsys, file)
    assert code == 2
    assert "--view a2c|a4c|sax" in document["error"]["message"]
    assert answer(capsys, file, "--model", tiny, "--view", "a2c")[0] == 0


def test_a_name_without_a_view_takes_the_view_of_the_model(tiny, tmp_path, capsys) -> None:
    code, document = answer(capsys, save(tmp_path / "frame.png", bright()), "--model", tiny)
    assert code == 0
    assert document["files"][0]["view"] == "a2c"
    assert set(document["models"]) == {"a2c"}
    two_views = save(tmp_path / "p7_a2c_a4c.png", bright())
    assert answer(capsys, two_views, "--model", tiny)[0] == 2


def test_a_missing_file_is_named_once(painted, tmp_path, capsys) -> None:
    for name in ("p7_a2c.npy", "p7_a2c.png"):
        assert run(["echo", str(tmp_path / name)]) == 1
        line = f"fastseg: {tmp_path / name}: no such file. Check the path.\n"
        assert capsys.readouterr().err == line


def test_a_network_for_another_view_is_refused_before_the_work(tiny, tmp_path, capsys) -> None:
    file = save(tmp_path / "p7_a4c.png", bright())
    code, document = answer(capsys, file, "--model", tiny, "--out", tmp_path / "out")
    assert code == 2
    assert "is a network for the view a2c" in document["error"]["message"]
    assert not (tmp_path / "out").exists()


def test_a_model_that_takes_prompts_is_refused(tmp_path, capsys) -> None:
    file = save(tmp_path / "p7_a4c.png", bright())
    code, document = answer(capsys, file, "--model", "sam-nano")
    assert code == 2
    assert "takes prompts" in document["error"]["message"]


@pytest.mark.parametrize(
    "options",
    [
        ("--bsa", 0),
        ("--cm-per-pixel", -1),
        ("--mode", "better"),
        ("--view", "a3c"),
        ("--frames-per-beat", 0),
        ("--channels", "hsv"),
    ],
)
def test_settings_that_make_no_sense_are_a_bad_call(tiny, tmp_path, capsys, options) -> None:
    file = save(tmp_path / "p7_a2c.png", bright())
    assert answer(capsys, file, "--model", tiny, *options)[0] == 2


def test_a_person_gets_a_table_with_units_and_reasons(painted, tmp_path, capsys) -> None:
    np.save(tmp_path / "p7_a4c.npy", np.stack([paint("a4c"), paint("a4c", 0.75)]))
    assert run(["echo", str(tmp_path / "p7_a4c.npy")]) == 0
    text = capsys.readouterr().out
    for words in ("p7_a4c.npy frame 1", "LV EF A4C", "RV FAC", "cm2", "mL", "%"):
        assert words in text
    assert "there is no a2c frame (" in text
    assert "without a value: " in text
    assert "research use only" in text


def test_a_long_clip_shows_only_the_frames_its_rows_use(painted, tmp_path, capsys) -> None:
    sizes = 0.9 + 0.1 * np.cos(np.linspace(0, 4 * math.pi, 12))
    np.save(tmp_path / "p7_a2c.npy", np.stack([paint("a2c", size) for size in sizes]))
    assert run(["echo", str(tmp_path / "p7_a2c.npy")]) == 0
    text = capsys.readouterr().out
    shown = {frame for frame in range(12) if f"frame {frame} " in text}
    assert 2 <= len(shown) < 8


def test_brackets_in_names_are_printed(painted, tmp_path, capsys) -> None:
    np.save(tmp_path / "p[red]_a4c.npy", paint("a4c"))
    assert run(["echo", str(tmp_path / "p[red]_a4c.npy"), "--patient", "p[bold]"]) == 0
    text = capsys.readouterr().out
    assert "p[red]_a4c.npy" in text
    assert "p[bold]" in text


def test_a_chamber_in_pieces_has_a_caution_in_the_table(painted, tmp_path, capsys) -> None:
    frame = paint("a4c")
    frame[:4, :4] |= 0b0100
    np.save(tmp_path / "a4c.npy", frame)
    assert run(["echo", str(tmp_path / "a4c.npy")]) == 0
    assert "RA is in 2 pieces" in " ".join(capsys.readouterr().out.split())
