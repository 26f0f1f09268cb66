"""Actors of Ray give the results of this process, and what ends one of them loses nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastseg.cohort import RaySettings, run
from fastseg.cohort.tasks import making
from fastseg.cohort.workers import ray as engine
from fastseg.errors import BackendUnavailableError, CohortError
from tests.cohort.test_cohort import everything, results, write_images
from tests.helpers.cohort_tasks import CrashingTask, NodeTask


@pytest.fixture
def images(tmp_path) -> Path:
    write_images(tmp_path / "images", 6)
    return tmp_path / "images"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray on this machine, once for all tests."""
    pytest.importorskip("ray", reason="needs the extra cohort")
    with engine.ray_cluster(RaySettings()) as ray:
        yield ray


@pytest.fixture
def use(monkeypatch) -> Callable[[type[Any]], None]:
    """Take another task for everything mode."""

    def replace(kind: type[Any]) -> None:
        def make(model: Any, given: dict[str, Any], kept: Path | None) -> Any:
            return kind(settings=given, max_pixels=None, model=model, embeddings=kept)

        monkeypatch.setitem(making._PROMPTED, "everything", make)

    return replace


def test_ray_that_is_absent_is_an_error_with_the_remedy(
    tiny_model, images, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendUnavailableError, match=r"fastseg-runtime\[cohort\]|\.\[cohort\]"):
        run(images, tiny_model, out=tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_actors_give_the_bytes_of_threads_and_what_ends_one_is_named(
    tiny_model, images, tmp_path, cluster, use
) -> None:
    for number, name in ((1, "crash.png"), (2, "once.png"), (3, "odd.png")):
        (images / f"00{number}.png").rename(images / f"00{number}-{name}")
    everything(images, tiny_model, tmp_path / "threads")
    use(CrashingTask)
    out = tmp_path / "ray"
    outcomes = everything(images, tiny_model, out, engine="ray", workers=2)
    statuses = ["done", "failed", "done", "failed", "done", "done"]
    assert [one.status for one in outcomes] == statuses
    crash, odd = outcomes[1].error, outcomes[3].error
    assert crash["type"] == "WorkerCrash"
    assert "001-crash.png" in crash["message"]
    assert odd == {"type": "RuntimeError", "message": "an error that nobody expected"}
    # The actor of this one was killed mid-item, and another one did it.
    assert (images / "002-once.died").exists()
    found, expected = results(out), results(tmp_path / "threads")
    assert len(found) == 4
    assert found.items() <= expected.items()
    # The engines share a folder.
    for number, name in ((1, "crash.png"), (3, "odd.png")):
        (images / f"00{number}-{name}").unlink()
    left = [images / name for name in ("000.png", "002-once.png", "004.png", "005.png")]
    again = everything(left, tiny_model, out, resume=True)
    assert [one.status for one in again] == ["kept"] * 4


@pytest.mark.slow
def test_a_cluster_without_room_says_so(tiny_model, images, tmp_path, cluster) -> None:
    for settings, workers in ((RaySettings(gpus=0.5), 1), (RaySettings(), 10_000)):
        with pytest.raises(CohortError, match="which is enough for"):
            everything(
                images,
                tiny_model,
                tmp_path / str(workers),
                engine="ray",
                workers=workers,
                ray=settings,
            )
    with pytest.raises(CohortError, match="gpus of an actor"):
        run(images, tiny_model, out=tmp_path / "out", engine="ray", ray=RaySettings(gpus=-1))
    with pytest.raises(CohortError, match="start_s must be"):
        run(images, tiny_model, out=tmp_path / "out", engine="ray", ray=RaySettings(start_s=-1))


@pytest.mark.slow
def test_two_nodes_share_the_work(tiny_model, tmp_path, use, monkeypatch) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra cohort")
    from ray.cluster_utils import Cluster

    ray.shutdown()
    images = write_images(tmp_path / "images", 12)[0].parent
    everything(images, tiny_model, tmp_path / "whole")
    use(NodeTask)
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()
        outcomes = everything(
            images,
            tiny_model,
            tmp_path / "out",
            engine="ray",
            workers=2,
            ray=RaySettings(address=nodes.address),
        )
    finally:
        ray.shutdown()
        nodes.shutdown()
    assert [one.status for one in outcomes] == ["done"] * 12, outcomes
    assert results(tmp_path / "out") == results(tmp_path / "whole")
    ran_on = {path.suffix for path in images.iterdir()} - {".png"}
    assert len(ran_on) == 2


@pytest.mark.slow
def test_ray_that_cannot_be_reached_or_started_says_why(
    tiny_model, images, tmp_path, monkeypatch
) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra cohort")
    ray.shutdown()
    with pytest.raises(CohortError, match="no Ray cluster answers at localhost:1"):
        everything(
            images,
            tiny_model,
            tmp_path / "a",
            engine="ray",
            ray=RaySettings(address="localhost:1"),
        )

    calls = []

    def no_memory(**_: Any) -> None:
        calls.append("no memory")
        raise ValueError("the object store needs 75 MB and there are 10 MB.")

    monkeypatch.setattr(ray, "init", no_memory)
    with pytest.raises(CohortError, match="on this machine: the object store needs 75 MB"):
        everything(images, tiny_model, tmp_path / "b", engine="ray")

    def too_busy(**_: Any) -> None:
        calls.append("too busy")
        raise RuntimeError("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", too_busy)
    with pytest.raises(CohortError, match="timed out during startup"):
        everything(images, tiny_model, tmp_path / "c", engine="ray")
    assert calls == ["no memory", "too busy", "too busy"]
    calls.clear()
    with pytest.raises(CohortError, match="--ray-start"):
        everything(images, tiny_model, tmp_path / "d", engine="ray", ray=RaySettings(start_s=100))
    assert calls == ["too busy"] * 4


def test_ray_that_is_started_here_reports_nothing_to_its_makers(monkeypatch) -> None:
    switches: list[str | None] = []
    fake = ModuleType("ray")
    fake.is_initialized = lambda: False
    fake.init = lambda **_: switches.append(os.environ.get("RAY_USAGE_STATS_ENABLED"))
    fake.shutdown = lambda: None
    monkeypatch.setitem(sys.modules, "ray", fake)
    for chosen in (None, "1"):
        monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
        if chosen is not None:
            monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", chosen)
        with engine.ray_cluster(RaySettings()) as ray:
            assert ray is fake
    assert switches == ["0", "1"]
