"""A cohort loses nothing that is done, and says of everything else why it is not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg.cli.root import run as command
from fastseg.cohort import Item, read_items, run
from fastseg.cohort.report import Counts
from fastseg.errors import CohortError, ImageError, OutputError, PromptError
from tests.helpers.dicom_files import slices
from tests.helpers.processes import finish, running

GRID = {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}


def write_images(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    files = []
    for number in range(count):
        files.append(folder / f"{number:03d}.png")
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(files[-1])
    return files


@pytest.fixture
def images(tmp_path) -> Path:
    write_images(tmp_path / "images", 5)
    return tmp_path / "images"


def everything(sources: Any, model: fastseg.Sam, out: Path, **options: Any) -> list[Any]:
    return list(run(sources, model, out=out, task="everything", settings=GRID, **options))


def results(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "items").iterdir()}


def journal(out: Path, name: str = "journal.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def manifest(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "cohort.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_item_gets_the_masks_of_the_model(tiny_model, images, tmp_path) -> None:
    outcomes = everything(images, tiny_model, tmp_path / "out")
    files = sorted(images.iterdir())
    assert [outcome.item.path for outcome in outcomes] == files
    assert [outcome.status for outcome in outcomes] == ["done"] * 5
    for file, outcome in zip(files, outcomes, strict=True):
        masks = tiny_model.everything(file, **GRID)
        found = json.loads(outcome.file.read_text())
        assert [one["segmentation"] for one in found["annotations"]] == masks.coco()
        assert (found["width"], found["height"], outcome.masks) == (64, 48, len(masks))
    assert [entry["status"] for entry in journal(tmp_path / "out")] == ["done"] * 5


def test_the_report_says_what_ran_and_how_long(tiny_model, images, tmp_path) -> None:
    (images / "003.png").write_bytes(b"no image")
    everything(images, tiny_model, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    counts = {name: report[name] for name in ("items", "done", "kept", "failed", "left")}
    assert counts == {"items": 5, "done": 4, "kept": 0, "failed": 1, "left": 0}
    assert report["device"] == "cpu"
    assert report["settings"]["points_per_side"] == 2
    assert len(report["model_sha256"]) == 64
    assert report["versions"]["numpy"]
    (failure,) = report["failures"]
    assert (failure["type"], failure["item"]) == ("ImageError", str(images / "003.png"))
    seconds = report["item_seconds"]
    assert 0 < seconds["p50"] <= seconds["p99"] <= seconds["p100"] <= report["seconds"] * 3


def test_prompts_names_and_patients_come_from_the_manifest(tiny_model, images, tmp_path) -> None:
    box, points = [5, 5, 30, 30], [[20.5, 20], [40, 30]]
    lines = manifest(
        images,
        {"image": "000.png", "boxes": [box], "names": ["liver"], "patient": "p1"},
        {"image": "001.png", "points": [points], "labels": [[1, 0]]},
    )
    (images / "cohort.csv").write_text(
        "image,box,points,labels,name,patient\n"
        "000.png,5 5 30 30,,,liver,p1\n"
        '001.png,,"20.5 20, 40 30",1 0,,\n'
    )
    settings = {"best": True}
    by_lines = list(run(lines, tiny_model, out=tmp_path / "a", settings=settings))
    by_rows = list(run(images / "cohort.csv", tiny_model, out=tmp_path / "b", settings=settings))
    assert results(tmp_path / "a") == results(tmp_path / "b")
    assert [one.status for one in (*by_lines, *by_rows)] == ["done"] * 4
    first = json.loads(by_rows[0].file.read_text())
    assert (first["patient"], first["image"]) == ("p1", "000.png")
    assert [one["name"] for one in first["annotations"]] == ["liver"]
    second = json.loads(by_rows[1].file.read_text())
    masks = tiny_model.segment(images / "001.png", points=points, labels=[1, 0]).best()
    assert [one["segmentation"] for one in second["annotations"]] == masks.coco()


def test_rows_of_one_image_are_its_prompts(images) -> None:
    (images / "c.csv").write_text(
        "\ufeffimage,box,name\n000.png,1 2 3 4,a\n001.png,1 2 3 4,b\n000.png,5 6 7 8,c\n"
    )
    first, second = read_items(images / "c.csv")
    assert (first.boxes, first.names) == ([[1, 2, 3, 4], [5, 6, 7, 8]], ["a", "c"])
    assert second.path == images / "001.png"


def test_frames_and_windows_of_medical_files(tiny_model, tmp_path) -> None:
    pytest.importorskip("pydicom", reason="needs the extra dicom")
    volume = np.random.default_rng(0).integers(0, 2000, (2, 40, 50)).astype(np.uint16)
    slices(tmp_path / "ct", volume)
    box = [[2, 2, 30, 30]]
    asked = [(0, "bone"), (1, "bone"), (1, "lung")]
    for frame, window in asked:
        row = {"image": "ct", "boxes": box, "window": window, "frame": frame}
        (outcome,) = run(manifest(tmp_path, row), tiny_model, out=tmp_path / f"{frame}{window}")
        assert outcome.status == "done", outcome.error
        pixels = fastseg.imaging.read(tmp_path / "ct", window=window)[frame]
        masks = tiny_model.segment(pixels, boxes=box)
        found = json.loads(outcome.file.read_text())
        assert found["frame"] == frame
        scores = [one["predicted_iou"] for one in found["annotations"]]
        np.testing.assert_allclose(scores, masks.scores)


def test_a_bad_item_does_not_stop_the_others(tiny_model, images, tmp_path) -> None:
    lines = manifest(
        images,
        {"image": "000.png", "boxes": [[900, 900, 950, 950]]},
        {"image": "absent.png", "boxes": [[1, 1, 9, 9]]},
        {"image": "001.png"},
        {"image": "002.png", "boxes": [[1, 1, 9, 9]], "names": ["a", "b"]},
        {"image": "003.png", "boxes": [[1, 1, 9, 9]]},
    )
    outcomes = list(run(lines, tiny_model, out=tmp_path / "out"))
    kinds = [outcome.error and outcome.error["type"] for outcome in outcomes]
    assert kinds == ["PromptError", "ImageError", "PromptError", "PromptError", None]
    assert len(results(tmp_path / "out")) == 1
    stopped = list(run(lines, tiny_model, out=tmp_path / "fast", fail_fast=True))
    assert [outcome.status for outcome in stopped] == ["failed"]
    with_prompts = everything(lines, tiny_model, tmp_path / "all", fail_fast=True)
    assert "takes none" in with_prompts[0].error["message"]


def test_resuming_keeps_what_is_there_and_makes_the_rest(tiny_model, images, tmp_path) -> None:
    out = tmp_path / "out"
    everything(images, tiny_model, tmp_path / "whole")
    begun = run(images, tiny_model, out=out, task="everything", settings=GRID)
    next(begun)
    next(begun)
    begun.close()
    assert json.loads((out / "report.json").read_text())["left"] == 3
    outcomes = everything(images, tiny_model, out, resume=True)
    assert [one.status for one in outcomes] == ["kept"] * 2 + ["done"] * 3
    # Its times are those of all items, whenever they were done.
    spent = [entry["seconds"] for entry in journal(out)]
    assert [one.seconds for one in outcomes] == pytest.approx(spent, abs=1e-6)
    found = json.loads((out / "report.json").read_text())["item_seconds"]
    assert found["p50"] == pytest.approx(sorted(spent)[2], abs=1e-6)
    assert results(out) == results(tmp_path / "whole")
    assert [one.status for one in everything(images, tiny_model, out, resume=True)] == ["kept"] * 5


def test_results_that_changed_or_are_gone_are_made_again(tiny_model, images, tmp_path) -> None:
    out = tmp_path / "out"
    files = [outcome.file for outcome in everything(images, tiny_model, out)]
    before = results(out)
    files[0].write_text("{}")
    files[1].unlink()
    statuses = [one.status for one in everything(images, tiny_model, out, resume=True)]
    assert statuses == ["done", "done", "kept", "kept", "kept"]
    assert results(out) == before
    Image.new("RGB", (64, 48)).save(images / "002.png")
    statuses = [one.status for one in everything(images, tiny_model, out, resume=True)]
    assert statuses == ["kept", "kept", "done", "kept", "kept"]


def test_an_item_whose_prompts_changed_is_done_again(tiny_model, images, tmp_path) -> None:
    out = tmp_path / "out"
    (first,) = run(Item(str(images / "000.png"), boxes=[[1, 1, 9, 9]]), tiny_model, out=out)
    other = Item(str(images / "000.png"), boxes=np.array([[1, 1, 30, 30]]))
    (second,) = run(other, tiny_model, out=out, resume=True)
    assert (second.status, second.file) == ("done", first.file)
    outside = Item(str(images / "000.png"), boxes=[[900, 1, 990, 9]])
    (third,) = run(outside, tiny_model, out=out, resume=True)
    assert third.status == "failed"
    assert not second.file.exists()  # it would be the answer to another question


def test_a_journal_that_was_cut_or_damaged_costs_its_item_alone(
    tiny_model, images, tmp_path
) -> None:
    out = tmp_path / "out"
    everything(images, tiny_model, out)
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (out / "journal.jsonl").write_bytes(
        lines[0] + b"\xff{damaged\n" + lines[2] + b"5\n" + lines[3] + lines[4][:40]
    )
    statuses = [one.status for one in everything(images, tiny_model, out, resume=True)]
    assert statuses == ["kept", "done", "kept", "kept", "done"]
    assert [one.status for one in everything(images, tiny_model, out, resume=True)] == ["kept"] * 5


def test_parts_share_a_cohort(tiny_model, images, tmp_path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    everything(images, tiny_model, whole)
    for part, names in ((0, ["000", "002", "004"]), (1, ["001", "003"])):
        outcomes = everything(images, tiny_model, out, num_parts=2, part_id=part)
        assert [Path(one.item.image).stem for one in outcomes] == names
    assert results(out) == results(whole)
    assert len(journal(out, "journal-1-of-2.jsonl")) == 2
    # One process takes over what two have begun.
    assert [one.status for one in everything(images, tiny_model, out, resume=True)] == ["kept"] * 5
    with pytest.raises(OutputError, match="holds a cohort"):
        everything(images, tiny_model, out, num_parts=2, part_id=1)


def test_a_folder_that_is_taken_is_refused(tiny_model, images, tmp_path) -> None:
    out = tmp_path / "out"
    everything(images, tiny_model, out)
    with pytest.raises(OutputError, match="--resume"):
        everything(images, tiny_model, out)
    with pytest.raises(CohortError, match="another settings"):
        list(run(images, tiny_model, out=out, task="everything", resume=True))
    with pytest.raises(CohortError, match="another task"):
        list(run(images, tiny_model, out=out, resume=True))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(OutputError, match="holds no cohort"):
            everything(images, tiny_model, tmp_path / "other", resume=resume)
    begun = run(images, tiny_model, out=out, task="everything", settings=GRID, resume=True)
    next(begun)
    with pytest.raises(OutputError, match="another process"):
        everything(images, tiny_model, out, resume=True)
    begun.close()
    (out / "cohort.json").write_text("{")
    with pytest.raises(CohortError, match="damaged"):
        everything(images, tiny_model, out, resume=True)


def test_a_full_disk_ends_the_run_and_loses_nothing(
    tiny_model, images, tmp_path, monkeypatch
) -> None:
    out, sync, count = tmp_path / "out", os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        everything(images, tiny_model, out)
    statuses = [one.status for one in everything(images, tiny_model, out, resume=True)]
    assert statuses[0] == "kept"
    assert statuses[2:] == ["done"] * 3
    assert len(results(out)) == 5


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "image,bax\n0.png,1\n", "the columns 'bax'"),
        ("a.csv", "box\n1 2 3 4\n", "must be image"),
        ("a.csv", "", "must be image"),
        ("a.csv", "image,box\n0.png,1 2 3\n", "line 2: box has 3 numbers"),
        ("a.csv", "image,box\n0.png,1 2 3 x\n", "box must be numbers"),
        ("a.csv", "image,box\n0.png,1,2,3,4\n", "more cells than columns"),
        ("a.csv", "image,frame\n0.png,x\n", "frame must be a whole number"),
        ("a.csv", "image,frame\n0.png,-1\n", "frame must be a whole number from 0"),
        ("a.csv", 'image\n""\n', "image must be text"),
        ("a.csv", "image,box,name\n0.png,1 2 3 4,a\n0.png,1 2 3 4,\n", "others have none"),
        ("a.csv", "image,patient\n0.png,p\n0.png,q\n", "differ in patient"),
        ("a.csv", 'image\n"0.png\n', "cannot be read"),
        ("a.csv", "image\n", "no item"),
        ("a.jsonl", "{}\n", "must be image"),
        ("a.jsonl", "[1]\n", "is no JSON object"),
        ("a.jsonl", '{"image": "0.png"}\n{"image"', "line 2 is no JSON"),
        ("a.jsonl", '{"image": "0.png", "bax": 1}\n', "the fields 'bax'"),
        ("a.jsonl", '{"image": 5}\n', "image must be text"),
        ("a.jsonl", '{"image": "0.png", "frame": true}\n', "frame must be"),
        ("a.jsonl", '{"image": "0.png"}\n{"image": "0.png"}\n', "twice"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path, name, text, message) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CohortError, match=message):
        read_items(tmp_path / name)


def test_sources_that_are_none_are_refused(tmp_path, images) -> None:
    (tmp_path / "binary.csv").write_bytes(b"image\n\xff\xfe\n")
    for source, error in (
        (tmp_path / "absent.csv", CohortError),
        (tmp_path / "binary.csv", CohortError),
        (tmp_path / "*.tif", CohortError),
        ([5], CohortError),
        ([], CohortError),
        (tmp_path, ImageError),
    ):
        with pytest.raises(error):
            read_items(source)
    assert len(read_items(str(images / "00[0-2].png"))) == 3
    assert read_items([images / "000.png", Item("b.png")])[1].image == "b.png"


def test_tasks_and_settings_that_are_none_are_refused(tiny_model, images, tmp_path) -> None:
    out = tmp_path / "out"
    for options, error in (
        ({"task": "measure"}, CohortError),
        ({"settings": {"points_per_side": 3}}, CohortError),
        ({"settings": {"best": "yes"}}, PromptError),
        ({"task": "everything", "settings": {"points_per_side": 0}}, PromptError),
        ({"num_parts": 0}, CohortError),
        ({"num_parts": 2, "part_id": 2}, CohortError),
        ({"resume": "yes"}, CohortError),
        ({"fail_fast": 3}, CohortError),
    ):
        with pytest.raises(error):
            run(images, tiny_model, out=out, **options)
    with pytest.raises(CohortError, match="takes prompts"):
        run(images, "sam-nano", out=out)
    assert not out.exists()


def test_a_cohort_takes_no_more_memory_than_a_few_images(tiny_model, images, tmp_path) -> None:
    files = write_images(tmp_path / "many", 40)
    taken: list[int] = []
    make = fastseg.cohort.tasks.Task.make

    def watched(self: Any, item: Item) -> Any:
        taken.append(1)
        return make(self, item)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastseg.cohort.tasks.Task, "make", watched)
        begun = run(files, tiny_model, out=tmp_path / "out", task="everything", settings=GRID)
        next(begun)
        time.sleep(0.2)
        assert len(taken) <= 6
        begun.close()
    assert len(taken) <= 6


def test_a_line_says_how_far_and_how_fast() -> None:
    counts = Counts(10)
    assert counts.line() == "0 of 10"
    counts.begun -= 2
    counts.add("a", "done", 0.5, None)
    counts.add("b", "failed", 0.5, {"type": "ImageError", "message": ""})
    counts.add("c", "kept", 0.0, None)
    assert counts.line().startswith("3 of 10 (1 failed), 1.00 items/s, ")
    assert counts.line().endswith(" s left")


def test_the_command_runs_resumes_and_reports(tiny_folder, images, tmp_path, capsys) -> None:
    (images / "002.png").write_bytes(b"no image")
    out = tmp_path / "out"
    words = ["cohort", images, "--task", "everything", "--model", tiny_folder, "--out", out]
    words = [*map(str, words), "--points-per-side", "2", "--pred-iou-thresh", "0"]
    assert command([*words, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["done"], document["failed"], document["settings"]["points_per_side"]) == (
        4,
        1,
        2,
    )
    assert command(words) == 2
    assert "--resume" in capsys.readouterr().err
    write_images(images, 5)
    assert command([*words, "--resume"]) == 0
    printed = capsys.readouterr()
    assert "5 items: " in printed.out
    assert "kept" in printed.out
    lines = manifest(images, {"image": "000.png", "boxes": [[1, 1, 20, 20]], "names": ["a"]})
    more = [
        "--task",
        "segment",
        "--best",
        "--model",
        str(tiny_folder),
        "--out",
        str(tmp_path / "b"),
    ]
    assert command(["cohort", str(lines), *more]) == 0
    (result,) = results(tmp_path / "b").values()
    assert [one["name"] for one in json.loads(result)["annotations"]] == ["a"]
    assert command(["cohort", str(images / "absent.csv"), *more, "--resume"]) == 2


def test_an_interrupted_command_says_how_far_it_came(tiny_folder, tmp_path) -> None:
    images = write_images(tmp_path / "images", 300)[0].parent
    words = [sys.executable, "-m", "fastseg", "cohort", images, "--task", "everything"]
    words += ["--model", tiny_folder, "--out", tmp_path / "out", "--points-per-side", "2"]
    with running(words) as process:
        wait_for_journal(tmp_path / "out", process)
        process.send_signal(signal.SIGINT)
        _, complained = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "of 300" in complained
    assert "--resume goes on" in complained
    assert "Traceback" not in complained


def wait_for_journal(
    out: Path, process: subprocess.Popen[str], lines: int = 1, seconds: float = 120
) -> None:
    deadline = time.monotonic() + seconds
    path = out / "journal.jsonl"
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the cohort was not begun"
        time.sleep(0.005)


KILLED = """
import os, signal, sys
from pathlib import Path
import fastseg
from fastseg.cohort import run
folder, images, out, moment = sys.argv[1:]
left = int(moment)
def killing(real):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call
os.fsync, Path.replace = killing(os.fsync), killing(Path.replace)
settings = {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
with fastseg.load(folder, backend="onnxruntime") as model:
    for outcome in run(images, model, out=out, task="everything", settings=settings, resume=True):
        pass
"""
"""Do a cohort, and die before a write to the disk or a rename, counted from the start."""


@pytest.mark.parametrize(
    "moments",
    [(1, 2, 4, 9), pytest.param(tuple(range(2, 32, 2)), marks=pytest.mark.slow)],
    ids=["a few", "many"],
)
def test_killed_at_any_moment_it_ends_with_the_same_bytes(
    tiny_model, tiny_folder, tmp_path, moments
) -> None:
    images = write_images(tmp_path / "images", 12)[0].parent
    everything(images, tiny_model, tmp_path / "whole")
    out = tmp_path / "out"
    killed = 0
    for moment in moments:
        words = [sys.executable, "-c", KILLED, tiny_folder, images, out, moment]
        killed += finish(words).returncode == -signal.SIGKILL
    assert killed >= min(len(moments), 3)
    last = everything(images, tiny_model, out, resume=True)
    assert {one.status for one in last} <= {"kept", "done"}
    assert results(out) == results(tmp_path / "whole")
    names = {path.name for path in out.iterdir()}
    assert names == {"cohort.json", "items", "journal.jsonl", "report.json"}


@pytest.mark.slow
def test_killed_at_random_times_it_ends_with_the_same_bytes(
    tiny_model, tiny_folder, tmp_path
) -> None:
    images = write_images(tmp_path / "images", 150)[0].parent
    everything(images, tiny_model, tmp_path / "whole")
    out, rng = tmp_path / "out", random.Random(0)
    words = [sys.executable, "-c", KILLED, tiny_folder, images, out, 10**9]
    done = 0
    for _ in range(10):
        with running(words) as process:
            wait_for_journal(out, process, min(done + 1, 150))
            time.sleep(rng.uniform(0, 0.2))
            process.kill()
        done = (out / "journal.jsonl").read_bytes().count(b"\n")
    everything(images, tiny_model, out, resume=True)
    assert results(out) == results(tmp_path / "whole")


def test_a_stream_goes_on_after_a_bad_image(tiny_model, images) -> None:
    files = sorted(images.iterdir())
    files[1].write_bytes(b"no image")
    box = [1, 1, 30, 30]
    boxes = [box, box, [900, 900, 950, 950], box, box]
    found = list(tiny_model.stream(files, boxes=boxes, on_error="yield", batch_size=2))
    kinds = [type(one) for one in found]
    assert kinds == [fastseg.Masks, ImageError, PromptError, fastseg.Masks, fastseg.Masks]
    alone = tiny_model.segment(files[3], boxes=box)
    np.testing.assert_array_equal(found[3].array(), alone.array())
    with pytest.raises(ImageError):
        list(tiny_model.stream(files, boxes=boxes))
    with pytest.raises(PromptError, match="on_error"):
        list(tiny_model.stream(files, boxes=boxes, on_error="skip"))
    with pytest.raises(PromptError, match="more images"):
        list(tiny_model.stream(files, boxes=boxes[:2], on_error="yield"))
