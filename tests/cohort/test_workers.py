"""Workers in processes give the results of one, and what ends one of them is named."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from fastseg.cohort import run
from fastseg.cohort.tasks import making
from fastseg.cohort.workers import processes
from fastseg.errors import CohortError
from tests.cohort.test_cohort import GRID, everything, results, write_images
from tests.helpers.cohort_tasks import CrashingTask, begins, kill_at


@pytest.fixture
def images(tmp_path) -> Path:
    write_images(tmp_path / "images", 5)
    return tmp_path / "images"


@pytest.fixture
def crashing(monkeypatch) -> Callable[..., Any]:
    """Let images with certain names end the process that reads them."""

    def make(model: Any, given: dict[str, Any], kept: Path | None) -> CrashingTask:
        return CrashingTask(
            settings=given, max_pixels=model.max_pixels, model=model, embeddings=kept
        )

    monkeypatch.setitem(making._PROMPTED, "everything", make)


def children() -> set[int]:
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return {int(one) for one in found}


def test_processes_give_the_bytes_of_threads(tiny_model, images, tmp_path) -> None:
    everything(images, tiny_model, tmp_path / "threads")
    outcomes = everything(images, tiny_model, tmp_path / "processes", workers=2)
    assert [Path(one.item.image).name for one in outcomes] == [f"00{n}.png" for n in range(5)]
    assert results(tmp_path / "processes") == results(tmp_path / "threads")


def test_an_image_that_crashes_its_worker_is_named_and_the_rest_is_done(
    tiny_model, images, tmp_path, crashing
) -> None:
    before = children()
    for number, name in ((1, "crash.png"), (2, "once.png"), (3, "odd.png")):
        (images / f"00{number}.png").rename(images / f"00{number}-{name}")
    outcomes = everything(images, tiny_model, tmp_path / "out", workers=2)
    assert [one.status for one in outcomes] == ["done", "failed", "done", "failed", "done"]
    crash, odd = outcomes[1].error, outcomes[3].error
    assert crash["type"] == "WorkerCrash"
    assert "001-crash.png" in crash["message"]
    assert "by SIGSEGV" in crash["message"]
    assert odd == {"type": "RuntimeError", "message": "an error that nobody expected"}
    assert (images / "002-once.died").exists()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["done"], report["failed"]) == (3, 2)
    assert (report["engine"], report["workers"]) == ("local", 2)
    assert children() == before


def test_a_worker_that_is_killed_mid_item_loses_nothing(
    tiny_model, images, tmp_path, crashing
) -> None:
    slow = images / "001-slow.png"
    (images / "001.png").rename(slow)
    before = children()
    begun = run(
        images, tiny_model, out=tmp_path / "out", task="everything", settings=GRID, workers=2
    )
    outcomes = [next(begun)]
    kill_at(slow)
    outcomes.append(next(begun))
    assert len(children() - before) == 2
    begun.close()
    assert children() == before
    assert begins(slow) == 2
    assert [one.status for one in outcomes] == ["done"] * 2
    for outcome in outcomes:
        masks = tiny_model.everything(outcome.item.path, **GRID)
        found = json.loads(outcome.file.read_text())["annotations"]
        assert [one["segmentation"] for one in found] == masks.coco()


def test_workers_that_cannot_begin_are_an_error(tiny_model, images, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(processes, "_SERVE", "raise SystemExit(7)")
    with pytest.raises(CohortError, match="exit code 7 while it loaded"):
        everything(images, tiny_model, tmp_path / "a", workers=1)
    before = Connection.send

    def late(self: Connection, said: Any) -> None:
        time.sleep(1.0)  # by then the process has ended
        before(self, said)

    monkeypatch.setattr(Connection, "send", late)
    with pytest.raises(CohortError, match="exit code 7 while it loaded"):
        everything(images, tiny_model, tmp_path / "b", workers=1)
    monkeypatch.undo()
    task = making.make_task("everything", tiny_model, GRID, images)
    other = type(task)(settings=task.settings, max_pixels=None, model=Elsewhere(tiny_model))
    with pytest.raises(CohortError, match=r"would run .* and the cohort runs"):
        next(processes.ProcessWorkers(other, 1).map(task.items(images)))


class Elsewhere:
    """A model that says it runs on something else than the one it is pickled as."""

    def __init__(self, model: Any) -> None:
        self.model, self.runs = model, {"encoder": "elsewhere"}

    def __reduce__(self) -> Any:
        return self.model.__reduce__()


def test_engines_and_numbers_that_are_none_are_refused(tiny_model, images, tmp_path) -> None:
    from fastseg.cohort import RaySettings

    for options, message in (
        ({"engine": "spark"}, "engine must be"),
        ({"workers": 0}, "workers must be"),
        ({"ray": RaySettings()}, 'engine "ray"'),
    ):
        with pytest.raises(CohortError, match=message):
            run(images, tiny_model, out=tmp_path / "out", task="everything", **options)
    assert not (tmp_path / "out").exists()
