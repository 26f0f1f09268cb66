"""Callers in several threads, streams, forks and few cores: the same masks, and no crowd."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastseg
from fastseg.environment import thread_count, usable_cores
from fastseg.errors import ImageError, PromptError
from fastseg.inference import concurrency
from fastseg.inference.concurrency import Turnstile
from fastseg.inference.sessions import fills_cores
from fastseg.testing import tiny_sam_folder

pytest.importorskip("onnx", reason="graphs are written with onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

PICTURES = [np.full((40 + 5 * index, 60, 3), 40 * index, np.uint8) for index in range(6)]
CLICK = [[[30, 20]]]
SOON = 30
"""Seconds after which what should have begun is taken never to begin."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def model(folder):
    with fastseg.load(folder, backend="onnxruntime") as model:
        yield model


# Streams.


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_a_stream_gives_what_single_calls_give_in_order(model, batch_size):
    alone = [model.segment(picture, points=CLICK) for picture in PICTURES]
    streamed = list(model.stream(PICTURES, points=[CLICK] * 6, batch_size=batch_size))
    assert len(streamed) == len(alone)
    for a, b in zip(alone, streamed, strict=True):
        np.testing.assert_array_equal(a.array(), b.array())
        np.testing.assert_array_equal(a.scores, b.scores)
        assert b.timings.encode > 0


def test_while_masks_are_drawn_the_next_is_encoded_and_the_one_after_is_read(model, monkeypatch):
    read, encoded = ([threading.Event() for _ in PICTURES] for _ in range(2))
    prepare, encode = model._prepare, model._encode

    def watched_prepare(image, *rest):
        read[image[0, 0, 0] // 40].set()
        return prepare(image, *rest)

    def watched_encode(prepared):
        encoded[(prepared.frame.image[0] - 40) // 5].set()
        return encode(prepared)

    monkeypatch.setattr(model, "_prepare", watched_prepare)
    monkeypatch.setattr(model, "_encode", watched_encode)
    stream = model.stream(PICTURES, points=[CLICK] * 6, batch_size=3)
    next(stream)
    # Nobody has asked for the second picture yet.
    assert encoded[1].wait(SOON)
    assert read[2].wait(SOON)
    assert not encoded[2].is_set()
    assert not read[3].is_set()
    stream.close()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_stream_takes_no_more_pictures_than_it_may_hold(model, batch_size):
    taken = []

    def pictures():
        for index in range(100):
            taken.append(index)
            yield PICTURES[index % 6]

    stream = model.stream(pictures(), points=iter([CLICK] * 100), batch_size=batch_size)
    for count in range(1, 4):
        next(stream)
        assert len(taken) == count + batch_size - 1
    stream.close()


def test_a_bad_prompt_is_raised_in_its_turn_and_costs_no_encoding(model, monkeypatch):
    encoded = []
    encode = model._encode

    def watched(prepared):
        encoded.append(prepared.frame.image[0])
        return encode(prepared)

    monkeypatch.setattr(model, "_encode", watched)
    prompts = [CLICK, [[["x", 1]]], CLICK]
    stream = model.stream(PICTURES[:3], points=prompts, batch_size=3)
    assert len(next(stream)) == 3
    with pytest.raises(PromptError):
        next(stream)
    assert 45 not in encoded
    assert len(model.segment(PICTURES[0], points=CLICK)) == 3


def test_a_stream_that_is_left_ends_its_threads(model):
    before = threading.active_count()
    stream = model.stream(iter(PICTURES), points=iter([CLICK] * 6), batch_size=4)
    next(stream)
    stream.close()
    assert threading.active_count() == before


# Callers in several threads.


def test_eight_callers_get_the_masks_that_one_gets(model):
    alone = [model.segment(picture, points=CLICK).array() for picture in PICTURES]
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(lambda picture: model.segment(picture, points=CLICK), PICTURES * 5)
        )
    for index, masks in enumerate(together):
        np.testing.assert_array_equal(masks.array(), alone[index % 6])


@pytest.mark.parametrize("kind", ["looks", "runs", "calls"])
@pytest.mark.parametrize(
    ("cores", "threads", "places"),
    [
        (2, 0, {"looks": 1, "runs": 2, "calls": 2}),
        (2, 1, {"looks": 2, "runs": 3, "calls": 3}),
        (1, 0, {"looks": 1, "runs": 2, "calls": 2}),
        (8, 2, {"looks": 4, "runs": 5, "calls": 8}),
        (4, 1000, {"looks": 1, "runs": 2, "calls": 4}),
    ],
)
def test_as_much_goes_on_at_once_as_the_cores_are_enough_for(
    monkeypatch, cores, threads, places, kind
):
    monkeypatch.setattr(concurrency, "usable_cores", lambda: cores)
    monkeypatch.setattr("fastseg.backends.base.usable_cores", lambda: cores)
    gate = Turnstile(threads)
    assert {name: getattr(gate, name) for name in places} == places
    enter = {
        "looks": lambda: gate.run(looks=True),
        "runs": lambda: gate.run(looks=False),
        "calls": gate.call,
    }[kind]
    inside, most, lock = 0, 0, threading.Lock()
    full = threading.Event()

    def work(_):
        nonlocal inside, most
        with enter():
            with lock:
                inside += 1
                most = max(most, inside)
                if inside == places[kind]:
                    full.set()
            full.wait(SOON)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(40)))
    assert most == places[kind]


def test_who_waits_to_look_keeps_no_place_from_who_answers():
    gate = Turnstile(0)
    looking, leave, answered = threading.Event(), threading.Event(), threading.Event()

    def look():
        with gate.run(looks=True):
            looking.set()
            leave.wait(SOON)

    def answer():
        with gate.run(looks=False):
            answered.set()

    with ThreadPoolExecutor(12) as pool:
        lookers = [pool.submit(look) for _ in range(8)]
        assert looking.wait(SOON)
        pool.submit(answer)
        assert answered.wait(SOON)
        leave.set()
        for looker in lookers:
            looker.result(SOON)


def test_pictures_are_looked_at_one_by_one_and_held_by_no_more_calls_than_cores(model, monkeypatch):
    gate = model._graphs._turnstile
    encoder = model._graphs["encoder"]
    run, prepare = encoder.run, model._prepare
    counts, most, lock = {"looks": 0, "calls": 0}, {"looks": 0, "calls": 0}, threading.Lock()

    def changed(name, by):
        with lock:
            counts[name] += by
            most[name] = max(most[name], counts[name])

    def watched_prepare(*given):
        changed("calls", 1)
        return prepare(*given)

    def watched_run(inputs):
        changed("looks", 1)
        found = run(inputs)
        changed("looks", -1)
        changed("calls", -1)
        return found

    monkeypatch.setattr(model, "_prepare", watched_prepare)
    monkeypatch.setattr(encoder, "run", watched_run)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda picture: model.segment(picture, points=CLICK), PICTURES * 4))
        list(pool.map(model.embed, PICTURES * 4))
    assert counts == {"looks": 0, "calls": 0}
    assert 1 <= most["looks"] <= gate.looks
    assert 1 <= most["calls"] <= gate.calls


@pytest.mark.parametrize(
    ("name", "device", "backend", "fills"),
    [
        ("encoder", "cpu", "onnxruntime", True),
        ("encoder", "cpu", "openvino", True),
        ("encoder", "cpu", "native", False),
        ("encoder", "cuda:0", "onnxruntime", False),
        ("decoder", "cpu", "onnxruntime", False),
    ],
)
def test_only_a_runtime_that_looks_at_a_picture_has_the_cores_to_itself(
    model, name, device, backend, fills
):
    graphs = model._graphs
    assert fills_cores(replace(graphs.plans[name], device=device, backend=backend)) is fills


def test_what_fails_gives_its_place_back(model):
    gate = Turnstile(0)
    for enter in (gate.call, lambda: gate.run(looks=True), lambda: gate.run(looks=False)):
        for _ in range(2 * gate.calls):
            with pytest.raises(ZeroDivisionError), enter():
                _ = 1 / 0
        with enter():
            pass
    for _ in range(2 * model._graphs._turnstile.calls):
        with pytest.raises(ImageError):
            model.segment(b"no picture", points=CLICK)
    assert len(model.segment(PICTURES[0], points=CLICK)) == 3


@pytest.mark.parametrize("threads", [0, 1, 2, 1000])
def test_any_number_of_threads_gives_the_same_masks(folder, model, threads):
    assert 1 <= thread_count(threads) <= usable_cores()
    with fastseg.load(folder, threads=threads) as other:
        masks = other.segment(PICTURES[3], points=CLICK)
    np.testing.assert_array_equal(masks.array(), model.segment(PICTURES[3], points=CLICK).array())


# Processes.

ONE_CORE = """
import os, sys, numpy, fastseg
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from fastseg.environment import usable_cores
assert usable_cores() == 1
picture = numpy.full((40, 60, 3), 90, numpy.uint8)
found = []
for threads in (0, 1, 1000):
    with fastseg.load(sys.argv[1], threads=threads, backend="onnxruntime") as model:
        found += [masks.array() for masks in model.stream([picture] * 3, points=[[[[30, 20]]]] * 3)]
assert all((one == found[0]).all() for one in found) and found[0].any()
"""

FORK = """
import os, sys, threading, numpy, fastseg
model = fastseg.load(sys.argv[1], backend="onnxruntime")
picture = numpy.full((40, 60, 3), 90, numpy.uint8)
expected = model.segment(picture, points=[30, 20]).array()
gate = model._graphs._turnstile
ways = [gate.call] * gate.calls + [lambda: gate.run(looks=True)] * gate.looks
ways += [lambda: gate.run(looks=False)] * (gate.runs - gate.looks)
held, leave = threading.Barrier(len(ways) + 1), threading.Event()
def hold(way):
    with way():
        held.wait()
        leave.wait()
holders = [threading.Thread(target=hold, args=(way,)) for way in ways]
for holder in holders:
    holder.start()
held.wait()
child = os.fork()
if child == 0:
    same = (model.segment(picture, points=[30, 20]).array() == expected).all()
    same &= len(list(model.stream([picture] * 3, points=[[[[30, 20]]]] * 3))) == 3
    model.close()
    with fastseg.load(sys.argv[1], backend="onnxruntime") as fresh:
        same &= (fresh.segment(picture, points=[30, 20]).array() == expected).all()
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
leave.set()
for holder in holders:
    holder.join()
assert (model.segment(picture, points=[30, 20]).array() == expected).all()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def finished(program: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, timeout=120)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be taken away here")
def test_a_process_with_one_core_works(folder):
    done = finished(ONE_CORE, str(folder))
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_forked_in_the_middle_of_work_runs_and_closes_what_it_inherited(folder):
    done = finished(FORK, str(folder))
    assert done.returncode == 0, done.stderr.decode()
