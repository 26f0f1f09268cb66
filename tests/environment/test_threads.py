"""Teams of threads: each task runs once, whatever threads there are, and none after its block."""

from __future__ import annotations

import _thread
import contextlib
import gc
import threading
import time
import weakref

import pytest

from fastseg.environment.threads import Team


@pytest.fixture(params=["threads", "no thread can be started", "started threads never begin"])
def starting(request, monkeypatch) -> str:
    """Each way in which starting a thread can go."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    if request.param != "threads":
        start = refuse if request.param.startswith("no") else lambda *_: 0
        monkeypatch.setattr(_thread, "start_new_thread", start)
    return request.param


def test_every_task_runs_once_and_in_order(starting):
    ran = []

    def work(item: int) -> int:
        ran.append(item)
        return item * item

    with Team(2) as team:
        tasks = [team.submit(work, item) for item in range(9)]
        assert [task.result() for task in tasks] == [item * item for item in range(9)]
        assert list(team.map(work, range(9))) == [item * item for item in range(9)]
    assert sorted(ran) == sorted([*range(9), *range(9)])


def test_an_error_reaches_whoever_asks_and_the_others_are_dropped(starting):
    ran = []

    def work(item: int) -> None:
        ran.append(item)
        if item == 0:
            raise ValueError("item 0")
        time.sleep(0.02)

    with Team(1) as team, pytest.raises(ValueError, match="item 0"):
        list(team.map(work, range(1000)))
    assert len(ran) < 1000
    after = len(ran)
    time.sleep(0.05)
    assert len(ran) == after


def test_no_task_runs_after_the_block():
    running, go_on = threading.Event(), threading.Event()
    ended = []

    def work() -> None:
        running.set()
        go_on.wait()
        ended.append(True)

    with Team(1) as team:
        team.submit(work)
        assert running.wait(30)
        threading.Timer(0.05, go_on.set).start()
    assert ended == [True]


def test_threads_end_with_the_block():
    before = _thread._count()
    with Team(3) as team:
        meeting = threading.Barrier(4)
        # Each call waits for the others: three threads and this one make them.
        list(team.map(lambda _: meeting.wait(timeout=30), range(4)))
    deadline = time.monotonic() + 30
    while _thread._count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_arguments_results_and_errors_are_freed_with_their_tasks(starting):
    class Image:
        pass

    def fail(image: Image) -> None:
        raise ValueError("no image")

    gc.disable()
    try:
        with Team(1) as team:
            image = Image()
            kept = weakref.ref(image)
            task = team.submit(lambda one: weakref.ref(one), image)
            del image
            assert task.result() == kept
            assert kept() is None

            image = Image()
            kept = weakref.ref(image)
            task = team.submit(fail, image)
            del image
            # Not by pytest.raises, which keeps the error.
            with contextlib.suppress(ValueError):
                task.result()
            del task
            deadline = time.monotonic() + 30
            while kept() is not None:  # a thread drops its task in its own time
                team.submit(int).result()
                assert time.monotonic() < deadline
    finally:
        gc.enable()
