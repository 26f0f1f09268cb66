"""One frame has one answer, and a wrong view or wrong channels are told, on networks and clips."""

from __future__ import annotations

import contextlib
import io
import json
import math
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastseg
from fastseg.cli.root import run
from fastseg.echo import Place, find, study, view_doubt
from fastseg.echo.dicom import read_dicom
from fastseg.errors import ImageError, MeasurementError
from fastseg.measure import measure
from tests.helpers.chamber_bodies import draw, ellipse, named
from tests.helpers.ultrasound_files import as_ycbcr

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("onnxruntime", reason="the echo networks need the extra 'cpu'")
    with fastseg.load("echo-a4c") as model:
        yield model


@pytest.fixture(scope="module")
def pydicom_clip() -> Path:
    data = pytest.importorskip("pydicom.data", reason="pydicom is not installed")
    return Path(data.get_testdata_file("examples_ybr_color.dcm"))


def drawn_frame() -> np.ndarray:
    """The frame that ``examples/echo.py`` draws, in 8 bits."""
    rows, columns = np.mgrid[:256, :256]
    drawn = np.where(abs(columns - 128) < 0.8 * rows, 128, 0)
    for y, x, high, wide in (
        (100, 155, 55, 27),
        (188, 155, 28, 25),
        (115, 95, 42, 20),
        (188, 92, 26, 25),
    ):
        drawn[((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 < 1] = 13
    return drawn.astype(np.uint8)


def test_one_frame_has_one_length_by_every_documented_way(network, tmp_path, capsys) -> None:
    file = tmp_path / "p7_A4C.npy"
    np.save(file, drawn_frame())
    masks = network.segment(np.load(file))
    scale = 20 / max(masks.size)
    of_report = {
        one.measurement.name: one.measurement.length_cm
        for one in find(masks, Place("a4c"), cm_per_pixel=scale)
    }
    of_measure = {one.name: one.length_cm for one in measure(masks, cm_per_pixel=scale)}
    assert run(["echo", str(file), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    of_command = {one["name"]: one["length_cm"] for one in document["studies"][0]["findings"]}
    assert set(of_report) == {"LA", "LV", "RA", "RV"}
    assert of_report == of_measure == of_command


def test_the_example_prints_the_lengths_of_the_report(network, tmp_path, monkeypatch) -> None:
    from PIL import Image

    file = tmp_path / "frame.png"
    Image.fromarray(drawn_frame()).save(file)
    masks = network.segment(file)
    expected = find(masks, Place("a4c"), cm_per_pixel=20 / 256)
    monkeypatch.setattr(sys, "argv", ["echo.py", str(file)])
    with contextlib.redirect_stdout(io.StringIO()) as out:
        runpy.run_path(str(ROOT / "examples" / "echo.py"), run_name="__main__")
    for one in expected:
        chamber = one.measurement
        assert f"{chamber.name}: {chamber.area_cm2:.1f} cm2, {chamber.length_cm:.1f} cm" in (
            out.getvalue()
        )


@pytest.mark.parametrize("kind", ["segment", "stream", "probabilities"])
@pytest.mark.parametrize("black", [0, 2])
def test_luma_and_chroma_are_refused_in_python_too(network, kind: str, black: int) -> None:
    grey = np.repeat(drawn_frame()[..., None], 3, axis=2)
    grey[..., 2] = np.minimum(grey[..., 2] + 3, 255)
    stored = as_ycbcr(grey[None])[0]
    clip = [np.zeros_like(stored)] * black + [stored]
    with pytest.raises(ImageError, match='channels="ycbcr"'):
        list(getattr(network, kind)(clip))
    assert len(list(network.stream(clip, channels="ycbcr"))) == black + 1


def with_scores(view: str, scores: list[float], frames: int = 3):
    masks = named(view, np.stack([draw(ellipse(3, 2))] * len(scores)))
    return [replace(masks, scores=np.array(scores, np.float32))] * frames


def test_frames_that_fit_another_view_better_are_told() -> None:
    own, other = with_scores("a4c", [0.3, 0.4, 0.5, 0.2]), with_scores("a2c", [0.8, 0.9])
    doubt = view_doubt("a4c", {"a4c": own, "a2c": other})
    assert doubt.startswith("the frames called a4c look more like a2c, the apical two-chamber view")
    assert "0.85, that of a4c 0.35" in doubt
    assert view_doubt("a2c", {"a4c": own, "a2c": other}) == ""
    assert view_doubt("a2c", {"a2c": other, "sax": with_scores("sax", [0.9] * 3)}) == ""
    with pytest.raises(MeasurementError, match="masks of the network for sax"):
        view_doubt("sax", {"a4c": own})


def layout(**centres: tuple[float, float]):
    bodies = [draw(ellipse(2.5, 2.0), centre=centres[name]) for name in ("LA", "LV", "RA", "RV")]
    return find(named("a4c", np.stack(bodies)), Place("a4c"), cm_per_pixel=20 / 256)


def test_chambers_that_lie_otherwise_than_in_the_view_are_told() -> None:
    right = {"LA": (4, 4), "LV": (-4, 4), "RA": (4, -4), "RV": (-4, -4)}
    assert study(layout(**right)).cautions == ()
    mirrored = {name: (down, -across) for name, (down, across) in right.items()}
    (told,) = study(layout(**mirrored)).cautions
    assert "do not look like the apical four-chamber view: RV lies right of LV" in told
    turned = {name: (-down, across) for name, (down, across) in right.items()}
    (told,) = study(layout(**turned)).cautions
    assert "LV lies below LA and RV lies below RA" in told


def test_published_frames_under_another_name_are_told(echo_examples: Path) -> None:
    with contextlib.ExitStack() as stack:
        networks = {
            view: stack.enter_context(fastseg.load(f"echo-{view}")) for view in ("a2c", "a4c")
        }
        told = {}
        for view in networks:
            for file in sorted(echo_examples.glob(f"{view.upper()}_EX0[1-5].npz")):
                with np.load(file) as stored:
                    frame = np.asarray(stored["image"])
                seen = {
                    name: [model.segment(frame, channels="ycbcr")]
                    for name, model in networks.items()
                }
                told[file.stem] = [bool(view_doubt(name, seen)) for name in (view, _other(view))]
    own, other = map(sum, zip(*told.values(), strict=True))
    assert own == 0, told
    assert other >= 7, told


def _other(view: str) -> str:
    return "a4c" if view == "a2c" else "a2c"


def report_of(network, frames, scale: float | None, timing=None, channels=None):
    masks = list(network.stream(frames, channels=channels, cm_per_pixel=scale))
    known = scale or 20 / max(masks[0].size)
    found = [
        one
        for number, each in enumerate(masks)
        for one in find(each, Place("a4c", number), cm_per_pixel=known)
    ]
    return study(found, timing=timing)


def test_the_clip_that_ships_with_pydicom_gives_no_number_that_no_heart_has(
    network, pydicom_clip
) -> None:
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    from pydicom.pixels import pixel_array

    with pytest.raises(ImageError, match="luma and chroma"):
        report_of(network, pixel_array(pydicom_clip, raw=True), None)
    colours = report_of(network, pixel_array(pydicom_clip), None)
    assert math.isnan(colours["lv_ef_a4c_percent"].value)
    assert "expected IoU of 0.5" in colours["lv_ef_a4c_percent"].reason
    clip = read_dicom(pydicom_clip)
    report = report_of(network, clip.frames, clip.cm_per_pixel, clip.timing, clip.channels)
    assert 20 < report["lv_ef_a4c_percent"].value < 75
    assert "24 of the 30 frames" in report["lv_ef_a4c_percent"].caution
    assert math.isnan(report["rv_fac_percent"].value)


@pytest.mark.slow
def test_the_clip_of_a_real_heart_gives_plausible_numbers(network, medical_files: Path) -> None:
    clip = read_dicom(medical_files / "dicom" / "us_a4c_65frames_jpeg.dcm")
    report = report_of(network, clip.frames, clip.cm_per_pixel, clip.timing, clip.channels)
    assert 35 < report["lv_ef_a4c_percent"].value < 60
    assert 35 < report["rv_fac_percent"].value < 60
    assert report.cautions == ()
    assert all(row.caution == "" for row in report.rows if row.value > 0)
