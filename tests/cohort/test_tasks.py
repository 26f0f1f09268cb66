"""Tasks of a cohort give the numbers and files of the verbs of the same names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg.cli.root import run as command
from fastseg.cohort import Item, run
from fastseg.errors import CohortError, PromptError
from fastseg.testing import tiny_unet_folder
from tests.helpers.chamber_bodies import draw, ellipse
from tests.helpers.ultrasound_files import region, tissue, write_dicom

LOOSE = {"min_score": -1000, "max_change": 1000, "max_shift": 1000}


def call(*words: object) -> int:
    return command([str(word) for word in words])


def masks_of(out: Path) -> list[dict[str, Any]]:
    return json.loads((out / "masks.json").read_text())["annotations"]


def without_ids(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            name: value
            for name, value in row.items()
            if name not in ("id", "image_id", "category_id")
        }
        for row in rows
    ]


@pytest.fixture(scope="module")
def tiny_unet(tmp_path_factory) -> Path:
    return tiny_unet_folder(tmp_path_factory.mktemp("models") / "unet")


def heart(shift: float) -> np.ndarray:
    """A frame for the tiny network, which knows two chambers by their brightness."""
    frame = np.zeros((256, 256), np.float32)
    frame[draw(ellipse(2.3, 2.0), centre=(5, 3))] = 0.6
    frame[draw(ellipse(4.2 - shift, 2.2), centre=(-3, 3))] = 0.9
    return np.repeat((frame * 255).round().astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture
def hearts(tmp_path) -> Path:
    folder = tmp_path / "hearts"
    folder.mkdir()
    clip = np.stack([heart(0.2 * number) for number in range(3)])
    np.save(folder / "p1_a2c_1.npy", clip)
    for number in range(2):  # single frames of a patient's view are one clip
        Image.fromarray(heart(0.3 * number)).save(folder / f"p2_a2c_{number}.png")
    Image.fromarray(heart(0.1)).save(folder / "p1_a2c_2.png")
    (folder / "p3_a2c.npy").write_bytes(b"no array")
    return folder


def test_echo_files_give_the_table_of_the_verb_echo(hearts, tiny_unet, tmp_path, capsys) -> None:
    files = sorted(hearts.iterdir())
    verb, out = tmp_path / "verb", tmp_path / "out"
    settings = ("--channels", "rgb", "--bsa", 1.9, "--frames-per-beat", 2)
    words = ("echo", *files, "--model", tiny_unet, "--out", verb, "--no-overlay")
    assert call(*words, *settings) == 1
    with fastseg.load(tiny_unet) as model:
        given = {"channels": "rgb", "bsa_m2": 1.9, "frames_per_beat": 2}
        outcomes = list(run(files, model, out=out, task="echo", settings=given))
    assert [one.status for one in outcomes] == ["done"] * 4 + ["failed"]
    table = (out / "measurements.csv").read_bytes()
    assert table == (verb / "measurements.csv").read_bytes()
    assert len(table.splitlines()) > 10
    found = [json.loads(one.file.read_text()) for one in outcomes if one.file]
    annotations = [row for one in found for frame in one["frames"] for row in frame["annotations"]]
    assert without_ids(annotations) == without_ids(masks_of(verb))
    said = json.loads((verb / "measurements.json").read_text())
    joined = json.loads((out / "measurements.json").read_text())
    assert joined["studies"] == said["studies"]


def test_echo_files_of_a_study_are_joined_by_their_headers(tmp_path, capsys) -> None:
    pytest.importorskip("pydicom", reason="DICOM files need pydicom")
    frames = tissue(2)
    files = []
    for number, (patient, view) in enumerate((("A", "a4c"), ("B", "sax"), ("A", "sax"))):
        files.append(tmp_path / f"scan{number}_{view}")
        about = {"PatientID": patient, "StudyInstanceUID": f"1.2.{patient == 'A':d}"}
        write_dicom(files[-1], frames, SequenceOfUltrasoundRegions=[region()], **about)
    verb, out = tmp_path / "verb", tmp_path / "out"
    code = call("echo", *files, "--out", verb, "--no-overlay")
    outcomes = list(run(files, None, out=out, task="echo"))
    assert code == 0, capsys.readouterr().err
    assert [one.status for one in outcomes] == ["done"] * 3, [one.error for one in outcomes]
    assert (out / "measurements.csv").read_bytes() == (verb / "measurements.csv").read_bytes()
    document = json.loads((out / "measurements.json").read_text())
    assert len(document["studies"]) == 2
    assert not any(b"PatientID" in file.read_bytes() for file in (out / "items").iterdir())


def test_a_network_of_another_view_is_an_error_of_its_file(hearts, tiny_unet, tmp_path) -> None:
    Image.fromarray(heart(0)).save(hearts / "p9_sax.png")
    files = [hearts / "p1_a2c_1.npy", hearts / "p9_sax.png"]
    with fastseg.load(tiny_unet) as model:
        outcomes = list(run(files, model, out=tmp_path / "out", task="echo"))
    assert [one.status for one in outcomes] == ["done", "failed"]
    assert outcomes[1].error["type"] == "MeasurementError"
    assert "network of a2c" in outcomes[1].error["message"]


VOLUME = np.random.default_rng(0).integers(0, 2000, (5, 24, 32)).astype(np.int16)


@pytest.fixture
def volumes(tmp_path) -> list[Path]:
    nibabel = pytest.importorskip("nibabel", reason="NIfTI files need nibabel")
    files = []
    for number in range(2):
        files.append(tmp_path / f"v{number}.nii.gz")
        values = np.moveaxis(VOLUME + number, 0, 2)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([1.5, 1.5, 2.5, 1])), files[-1])
    return files


def test_volumes_give_the_files_of_the_verb_propagate(
    volumes, tiny_model, tiny_folder, tmp_path, capsys
) -> None:
    box = [4, 5, 20, 18]
    items = [
        Item(str(file), boxes=[box], names=["liver"], window="0,2000", frame=2, patient="p")
        for file in volumes
    ]
    out = tmp_path / "out"
    outcomes = list(run(items, tiny_model, out=out, task="propagate", settings=LOOSE))
    assert [one.status for one in outcomes] == ["done"] * 2, outcomes
    options = [word for name, n in LOOSE.items() for word in (f"--{name.replace('_', '-')}", n)]
    for file, outcome in zip(volumes, outcomes, strict=True):
        verb = tmp_path / f"verb-{file.name}"
        words = ("propagate", file, "--model", tiny_folder, "--window", "0,2000", "--start", 2)
        assert call(*words, "--box", *box, "--name", "liver", *options, "--out", verb) == 0
        ours = outcome.file.with_suffix("").with_suffix("").parent / f"{outcome.file.stem}.nii.gz"
        (theirs,) = (verb / "masks").glob("*.nii.gz")
        assert ours.read_bytes() == theirs.read_bytes()
        found = json.loads(outcome.file.read_text())
        rows = [row for one in found["slices"] for row in one["annotations"]]
        assert without_ids(rows) == without_ids(masks_of(verb))
        said = json.loads((verb / "results.json").read_text())
        assert found["objects"] == said["objects"]
    # Both files of an item have to be as the journal says.
    (out / "items" / f"{outcomes[0].file.stem}.nii.gz").write_bytes(b"changed")
    again = list(run(items, tiny_model, out=out, task="propagate", settings=LOOSE, resume=True))
    assert [one.status for one in again] == ["done", "kept"]


@pytest.fixture
def scenes(tmp_path) -> Path:
    """Bright objects of two classes on five images, one of them unreadable."""
    folder = tmp_path / "scenes"
    for inside in ("images", "masks"):
        (folder / inside).mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 40, (5, 96, 128), np.uint8)
    for number, grey in enumerate(noise):
        labels = np.zeros((96, 128), np.uint8)
        labels[20:60, 10 + 8 * number : 60] = 1
        labels[50:90, 80:120] = 2
        Image.fromarray(grey + 90 * labels).save(folder / "images" / f"s{number}.png")
        Image.fromarray(labels).save(folder / "masks" / f"s{number}.png")
    (folder / "images" / "s3.png").write_bytes(b"no image")
    return folder


def test_datasets_give_the_scores_of_the_verb_evaluate(
    scenes, tiny_model, tiny_folder, tmp_path, capsys
) -> None:
    verb, out = tmp_path / "verb", tmp_path / "out"
    words = ("evaluate", "points", scenes, "--model", tiny_folder, "--count", 2, "--seed", 3)
    assert call(*words, "--no-page", "--out", verb) == 1
    settings = {"protocol": "points", "count": 2, "seed": 3}
    options: dict[str, Any] = {"out": out, "task": "evaluate", "settings": settings}
    begun = run(scenes, tiny_model, **options)
    next(begun)
    begun.close()
    assert not (out / "scores.csv").exists()
    outcomes = list(run(scenes, tiny_model, **options, resume=True))
    assert [one.status for one in outcomes] == ["kept", "done", "done", "failed", "done"]
    scores = (out / "scores.csv").read_bytes()
    assert scores == (verb / "scores.csv").read_bytes()
    assert len(scores.splitlines()) > 8
    ours, theirs = (json.loads((one / "summary.json").read_text()) for one in (out, verb))
    for name in ("conditions", "faults", "settings", "images"):
        assert ours[name] == theirs[name]


def test_a_dataset_gets_the_page_of_an_evaluation(scenes, tiny_model, tmp_path) -> None:
    pytest.importorskip("jinja2", reason="the page needs the extra report")
    pytest.importorskip("matplotlib", reason="the page needs the extra report")
    options: dict[str, Any] = {"task": "evaluate", "settings": {"protocol": "boxes"}}
    list(run(scenes, tiny_model, out=tmp_path / "out", **options))
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "data:image/" in text
    assert "s3.png" in text  # the image that could not be read


def test_parts_of_a_dataset_are_joined_by_the_one_that_ends_last(
    scenes, tiny_model, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)  # the scores do not wait for the page
    settings = {"protocol": "boxes"}
    options: dict[str, Any] = {"task": "evaluate", "settings": settings}
    whole, out = tmp_path / "whole", tmp_path / "out"
    list(run(scenes, tiny_model, out=whole, **options))
    for part in (1, 0):
        assert not (out / "scores.csv").exists()
        list(run(scenes, tiny_model, out=out, num_parts=2, part_id=part, **options))
    assert (out / "scores.csv").read_bytes() == (whole / "scores.csv").read_bytes()
    assert not (out / "report.html").exists()


def test_settings_that_a_task_cannot_use_are_refused(
    scenes, hearts, tiny_model, tiny_unet, tmp_path
) -> None:
    unet = fastseg.load(tiny_unet)
    for task, model, settings, error, message in (
        ("echo", tiny_model, {}, CohortError, "network for frames"),
        ("echo", unet, {"best": True}, CohortError, "no setting best"),
        ("echo", unet, {"view": "plax"}, CohortError, "view must be"),
        ("segment", unet, {}, CohortError, "takes prompts"),
        ("propagate", tiny_model, {"rule": "none"}, PromptError, "rule must be"),
        ("propagate", tiny_model, {"axis": 3}, PromptError, "axis must be"),
        ("propagate", tiny_model, {"format": "json"}, PromptError, "another format"),
        ("evaluate", tiny_model, {}, CohortError, "protocol must be"),
        ("evaluate", tiny_model, {"protocol": "boxes", "count": 1}, CohortError, "no setting"),
        ("evaluate", tiny_model, {"protocol": "points", "count": 0}, PromptError, "count"),
    ):
        with pytest.raises(error, match=message):
            run(scenes, model, out=tmp_path / "out", task=task, settings=settings)
    several = {"task": "evaluate", "settings": {"protocol": "boxes"}}
    with pytest.raises(CohortError, match="one dataset"):
        run([scenes, scenes], tiny_model, out=tmp_path / "out", **several)
    with pytest.raises(CohortError, match="no embeddings"):
        run(hearts, unet, out=tmp_path / "out", task="echo", embeddings=tmp_path / "kept")
    unet.close()


def test_the_command_takes_settings_by_name(scenes, tiny_folder, tmp_path, capsys) -> None:
    words = ("cohort", scenes, "--task", "evaluate", "--model", tiny_folder, "--json")
    given = ("--set", "protocol", "points", "--set", "count", 1, "--set", "slots", '["first"]')
    assert call(*words, "--out", tmp_path / "out", *given) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["settings"]["slots"] == ["first"]
    assert (document["done"], document["failed"]) == (4, 1)


def test_the_command_runs_echo_files_as_it_is_asked_to(tmp_path, capsys) -> None:
    Image.fromarray(heart(0)).save(tmp_path / "p_a4c.png")
    words = (
        "cohort",
        tmp_path / "p_a4c.png",
        "--task",
        "echo",
        "--out",
        tmp_path / "out",
        "--json",
    )
    given = ("--backend", "onnxruntime", "--precision", "fp32", "--max-pixels", 100)
    assert call(*words, *given) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["models"]["a4c"]["runs"] == {"network": "onnxruntime:cpu fp32"}
    assert document["failures"][0]["type"] == "ImageError"
    assert "max_pixels" in document["failures"][0]["message"]


def test_embeddings_are_kept_for_other_runs(tiny_model, tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    boxes = ([[5, 5, 30, 30]], [[10, 10, 40, 40]])
    items = [Item(str(tmp_path / "a.png"), boxes=box) for box in boxes]
    plain = [next(run(one, tiny_model, out=tmp_path / f"p{n}")) for n, one in enumerate(items)]
    assert not (tmp_path / "kept").exists()
    for number, item in enumerate(items):
        kept = {"embeddings": tmp_path / "kept", "out": tmp_path / f"k{number}"}
        (outcome,) = run(item, tiny_model, **kept)
        assert outcome.file.read_bytes() == plain[number].file.read_bytes()
        assert len(list((tmp_path / "kept").rglob("*.npz"))) == 1
    kept = {"embeddings": tmp_path / "kept", "settings": {"points_per_side": 2}}
    (outcome,) = run(tmp_path / "a.png", tiny_model, out=tmp_path / "e", task="everything", **kept)
    assert outcome.status == "done"
    assert len(list((tmp_path / "kept").rglob("*.npz"))) == 1
