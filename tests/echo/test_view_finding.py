"""The view of frames that nobody named: found where it is clear, refused where it is not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg.cli.root import run
from fastseg.echo import find_view
from fastseg.echo.report import FOUND_BY_NETWORKS, view_of
from fastseg.echo.views import VIEWS
from fastseg.errors import MeasurementError
from fastseg.masks import Masks
from tests.helpers.chamber_bodies import draw, ellipse, named

CENTRES = {"LA": (4, 4), "LV": (-4, 4), "RA": (4, -4), "RV": (-4, -4)}
POOR = {"a2c": [0.2] * 2, "a4c": [0.2] * 4, "sax": [0.2] * 3}


def seen(
    centres: dict[str, tuple[float, float]] = CENTRES, frames: int = 1, **scores: Sequence[float]
) -> dict[str, list[Masks]]:
    """Masks of every network with these scores, poor ones where none are given."""
    made = {}
    for view, each in (POOR | scores).items():
        bodies = [
            draw(ellipse(2.5, 2), centre=centres.get(n, (0, 0))) for n in VIEWS[view].chambers
        ]
        masks = replace(named(view, np.stack(bodies)), scores=np.array(each, np.float32))
        made[view] = [masks] * frames
    return made


@pytest.mark.parametrize(
    ("view", "scores"),
    [
        ("a4c", {"a4c": [0.8] * 4, "a2c": [0.6] * 2}),
        # Both apical networks draw the left heart: the right heart decides.
        ("a4c", {"a4c": [0.7, 0.8, 0.65, 0.65], "a2c": [0.9, 0.9]}),
        ("a2c", {"a4c": [0.8, 0.8, 0.1, 0.2], "a2c": [0.8, 0.8]}),
        ("sax", {"sax": [0.8, 0.7, 0.8], "a2c": [0.6, 0.6]}),
    ],
)
@pytest.mark.parametrize("frames", [1, 3])
def test_a_view_that_clearly_fits_is_found(view: str, scores: dict, frames: int) -> None:
    assert view_of(seen(frames=frames, **scores)) == view


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param({}, id="no chamber is expected"),
        pytest.param({"a2c": [0.9, 0.9], "a4c": [0.8, 0.8, 0.5, 0.5]}, id="half a right heart"),
        pytest.param({"a2c": [0.8, 0.8], "sax": [0.8, 0.8, 0.8]}, id="apical and short axis"),
        pytest.param({"sax": [0.9, 0.5, 0.9], "a2c": [0.3, 0.3]}, id="a ring that is missed"),
        pytest.param({"a2c": [0.9, 0.5]}, id="an atrium that is missed"),
        pytest.param({"a4c": [0.4, 0.4, 0.8, 0.8]}, id="a right heart alone"),
    ],
)
def test_a_view_that_is_not_clear_is_refused(scores: dict) -> None:
    with pytest.raises(MeasurementError, match="no view clearly fits"):
        view_of(seen(**scores))


def test_chambers_that_lie_otherwise_are_of_no_view() -> None:
    fits = {"a4c": [0.8] * 4}
    turned = {name: (-down, across) for name, (down, across) in CENTRES.items()}
    mirrored = {name: (down, -across) for name, (down, across) in CENTRES.items()}
    for centres in (turned, mirrored):
        with pytest.raises(MeasurementError, match="no view clearly fits"):
            view_of(seen(centres, **fits))
    with pytest.raises(MeasurementError, match="no view clearly fits"):
        view_of(seen(turned, a2c=[0.9, 0.9]))


def test_the_masks_of_all_views_are_needed() -> None:
    masks = seen(a4c=[0.8] * 4)
    del masks["sax"]
    with pytest.raises(MeasurementError, match="network for sax"):
        view_of(masks)
    with pytest.raises(MeasurementError, match="there are none"):
        find_view([], fastseg.load)


@pytest.fixture(scope="module")
def networks():
    pytest.importorskip("onnxruntime", reason="the echo networks need the extra 'cpu'")
    models = {view: fastseg.load(f"echo-{view}") for view in VIEWS}
    yield models.__getitem__
    for model in models.values():
        model.close()


@pytest.mark.slow
def test_published_frames_have_their_view_or_none(networks, echo_examples: Path) -> None:
    right = dict.fromkeys(VIEWS, 0)
    for file in sorted(echo_examples.glob("*.npz")):
        view = file.name[:3].lower()
        grey = view == "sax" and file.stem not in ("SAX_EX07", "SAX_EX09")
        with np.load(file) as stored:
            frame = np.asarray(stored["image"])
        try:
            found = find_view([frame], networks, channels="rgb" if grey else "ycbcr")
        except MeasurementError:
            continue
        assert found == view, file.name
        right[view] += 1
    assert right["a2c"] >= 5, right
    assert right["a4c"] >= 8, right
    assert right["sax"] >= 8, right


def echo(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict]:
    code = run(["echo", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_noise_and_a_blank_frame_are_refused_with_the_remedy(networks, tmp_path, capsys) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 256)).astype(np.uint8)
    for name, frame in (("noise.npy", noise), ("blank.npy", np.zeros((64, 64), np.uint8))):
        np.save(tmp_path / name, frame)
        code, document = echo(capsys, tmp_path / name)
        assert code == 2
        assert "no view clearly fits" in document["error"]["message"]
        assert "--view a2c|a4c|sax" in document["error"]["message"]


def test_images_and_arrays_without_a_view_in_their_names_are_measured(
    networks, echo_examples: Path, tmp_path, capsys
) -> None:
    with np.load(echo_examples / "A4C_EX02.npz") as stored:
        luma = np.ascontiguousarray(stored["image"][..., 0])
    Image.fromarray(luma).save(tmp_path / "one.png")
    np.save(tmp_path / "two.npy", luma)
    code, document = echo(capsys, tmp_path / "one.png", tmp_path / "two.npy")
    assert code == 0
    assert [row["view"] for row in document["files"]] == ["a4c", "a4c"]
    assert [row["view_found_by"] for row in document["files"]] == ["networks"] * 2
    assert run(["echo", str(tmp_path / "one.png")]) == 0
    assert f"caution: {tmp_path / 'one.png'}: {FOUND_BY_NETWORKS}" in capsys.readouterr().out
    code, document = echo(capsys, tmp_path / "one.png", "--view", "a2c")
    assert document["files"][0]["view_found_by"] == "option"
    assert "cautions" not in document


def test_a_ct_slice_is_refused(networks, medical_files: Path, capsys) -> None:
    slices = sorted((medical_files / "truth" / "ct" / "images").glob("*.png"))
    assert slices
    for file in slices:
        code, document = echo(capsys, file)
        assert code == 2
        assert "no view clearly fits" in document["error"]["message"], file.name


def test_the_clip_that_ships_with_pydicom_is_one_of_four_chambers(
    networks, tmp_path, capsys
) -> None:
    data = pytest.importorskip("pydicom.data", reason="pydicom is not installed")
    clip = data.get_testdata_file("examples_ybr_color.dcm", download=False)
    if clip is None:
        pytest.skip("pydicom came without its example files")
    code, document = echo(capsys, clip, "--out", tmp_path / "out", "--no-overlay")
    assert code == 0
    (row,), (study,) = document["files"], document["studies"]
    assert (row["view"], row["view_found_by"]) == ("a4c", "networks")
    told = f"{clip}: {FOUND_BY_NETWORKS}"
    assert FOUND_BY_NETWORKS in row["cautions"]
    assert told in study["cautions"]
    assert told in document["cautions"]
    assert 20 < study["rows"]["lv_ef_a4c_percent"]["value"] < 75
    lines = (tmp_path / "out" / "measurements.csv").read_text().splitlines()
    assert len(lines) > 1
    assert all(FOUND_BY_NETWORKS in line for line in lines[1:])
    (page,) = (tmp_path / "out" / "reports").glob("*.html")
    assert FOUND_BY_NETWORKS in page.read_text()
    assert FOUND_BY_NETWORKS in (tmp_path / "out" / "masks.json").read_text()
