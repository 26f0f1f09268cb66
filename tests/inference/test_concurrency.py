"""Callers in several threads, streams, forks and few cores get the same masks, within limits."""

from __future__ import annotations

import os
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
from fastseg.inference.concurrency import ConcurrencyLimiter
from fastseg.inference.sessions import fills_cores
from fastseg.testing import tiny_sam_folder
from tests.helpers.processes import finish

pytest.importorskip("onnx", reason="graphs are written with onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

IMAGES = [np.full((40 + 5 * index, 60, 3), 40 * index, np.uint8) for index in range(6)]
POINT = [[[30, 20]]]
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
    alone = [model.segment(image, points=POINT) for image in IMAGES]
    streamed = list(model.stream(IMAGES, points=[POINT] * 6, batch_size=batch_size))
    assert len(streamed) == len(alone)
    for a, b in zip(alone, streamed, strict=True):
        np.testing.assert_array_equal(a.array(), b.array())
        np.testing.assert_array_equal(a.scores, b.scores)
        assert b.timings.encode > 0


def test_a_stream_encodes_one_image_ahead_and_reads_two(model, monkeypatch):
    read, encoded = ([threading.Event() for _ in IMAGES] for _ in range(2))
    prepare, encode = model._prepare, model._encode

    def watched_prepare(image, *rest):
        read[image[0, 0, 0] // 40].set()
        return prepare(image, *rest)

    def watched_encode(prepared):
        encoded[(prepared.frame.image[0] - 40) // 5].set()
        return encode(prepared)

    monkeypatch.setattr(model, "_prepare", watched_prepare)
    monkeypatch.setattr(model, "_encode", watched_encode)
    stream = model.stream(IMAGES, points=[POINT] * 6, batch_size=3)
    next(stream)
    # The second image was not asked for yet.
    assert encoded[1].wait(SOON)
    assert read[2].wait(SOON)
    assert not encoded[2].is_set()
    assert not read[3].is_set()
    stream.close()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_stream_takes_no_more_images_than_it_may_hold(model, batch_size):
    taken = []

    def images():
        for index in range(100):
            taken.append(index)
            yield IMAGES[index % 6]

    stream = model.stream(images(), points=iter([POINT] * 100), batch_size=batch_size)
    for count in range(1, 4):
        next(stream)
        assert len(taken) == count + batch_size - 1
    stream.close()


def test_a_bad_prompt_is_raised_in_turn_and_costs_no_encoding(model, monkeypatch):
    encoded = []
    encode = model._encode

    def watched(prepared):
        encoded.append(prepared.frame.image[0])
        return encode(prepared)

    monkeypatch.setattr(model, "_encode", watched)
    prompts = [POINT, [[["x", 1]]], POINT]
    stream = model.stream(IMAGES[:3], points=prompts, batch_size=3)
    assert len(next(stream)) == 3
    with pytest.raises(PromptError):
        next(stream)
    assert 45 not in encoded
    assert len(model.segment(IMAGES[0], points=POINT)) == 3


def test_a_stream_that_is_left_ends_its_threads(model):
    before = threading.active_count()
    stream = model.stream(iter(IMAGES), points=iter([POINT] * 6), batch_size=4)
    next(stream)
    stream.close()
    assert threading.active_count() == before


# Callers in several threads.


def test_eight_callers_get_the_masks_that_one_gets(model):
    alone = [model.segment(image, points=POINT).array() for image in IMAGES]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda image: model.segment(image, points=POINT), IMAGES * 5))
    for index, masks in enumerate(together):
        np.testing.assert_array_equal(masks.array(), alone[index % 6])


@pytest.mark.parametrize("kind", ["encoder_slots", "run_slots", "call_slots"])
@pytest.mark.parametrize(
    ("cores", "threads", "slots"),
    [
        (2, 0, {"encoder_slots": 1, "run_slots": 2, "call_slots": 2}),
        (2, 1, {"encoder_slots": 2, "run_slots": 3, "call_slots": 3}),
        (1, 0, {"encoder_slots": 1, "run_slots": 2, "call_slots": 2}),
        (8, 2, {"encoder_slots": 4, "run_slots": 5, "call_slots": 8}),
        (4, 1000, {"encoder_slots": 1, "run_slots": 2, "call_slots": 4}),
    ],
)
def test_slots_follow_cores_and_threads_and_are_never_exceeded(
    use_cores, cores, threads, slots, kind
):
    use_cores(cores)
    limiter = ConcurrencyLimiter(threads)
    assert {name: getattr(limiter, name) for name in slots} == slots
    enter = {
        "encoder_slots": lambda: limiter.run(heavy=True),
        "run_slots": lambda: limiter.run(heavy=False),
        "call_slots": limiter.call,
    }[kind]
    inside, most, lock = 0, 0, threading.Lock()
    full = threading.Event()

    def work(_):
        nonlocal inside, most
        with enter():
            with lock:
                inside += 1
                most = max(most, inside)
                if inside == slots[kind]:
                    full.set()
            full.wait(SOON)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(40)))
    assert most == slots[kind]


def test_waiting_encoders_hold_no_run_slot():
    limiter = ConcurrencyLimiter(0)
    encoding, leave, decoded = threading.Event(), threading.Event(), threading.Event()

    def encode():
        with limiter.run(heavy=True):
            encoding.set()
            leave.wait(SOON)

    def decode():
        with limiter.run(heavy=False):
            decoded.set()

    with ThreadPoolExecutor(12) as pool:
        encoders = [pool.submit(encode) for _ in range(8)]
        assert encoding.wait(SOON)
        pool.submit(decode)
        assert decoded.wait(SOON)
        leave.set()
        for encoder in encoders:
            encoder.result(SOON)


def test_encoders_and_calls_of_a_model_keep_to_their_slots(model, monkeypatch):
    limiter = model._graphs._limiter
    encoder = model._graphs["encoder"]
    run, prepare = encoder.run, model._prepare
    counts, most, lock = {"encode": 0, "call": 0}, {"encode": 0, "call": 0}, threading.Lock()

    def changed(name, by):
        with lock:
            counts[name] += by
            most[name] = max(most[name], counts[name])

    def watched_prepare(*given):
        changed("call", 1)
        return prepare(*given)

    def watched_run(inputs):
        changed("encode", 1)
        found = run(inputs)
        changed("encode", -1)
        changed("call", -1)
        return found

    monkeypatch.setattr(model, "_prepare", watched_prepare)
    monkeypatch.setattr(encoder, "run", watched_run)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda image: model.segment(image, points=POINT), IMAGES * 4))
        list(pool.map(model.embed, IMAGES * 4))
    assert counts == {"encode": 0, "call": 0}
    assert 1 <= most["encode"] <= limiter.encoder_slots
    assert 1 <= most["call"] <= limiter.call_slots


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
def test_only_encoders_of_other_runtimes_on_the_cpu_are_heavy(model, name, device, backend, fills):
    graphs = model._graphs
    assert fills_cores(replace(graphs.plans[name], device=device, backend=backend)) is fills


def test_a_failure_frees_its_slot(model):
    limiter = ConcurrencyLimiter(0)
    for enter in (limiter.call, lambda: limiter.run(heavy=True), lambda: limiter.run(heavy=False)):
        for _ in range(2 * limiter.call_slots):
            with pytest.raises(ZeroDivisionError), enter():
                _ = 1 / 0
        with enter():
            pass
    for _ in range(2 * model._graphs._limiter.call_slots):
        with pytest.raises(ImageError):
            model.segment(b"no image", points=POINT)
    assert len(model.segment(IMAGES[0], points=POINT)) == 3


@pytest.mark.parametrize("threads", [0, 1, 2, 1000])
def test_any_number_of_threads_gives_the_same_masks(folder, model, threads):
    assert 1 <= thread_count(threads) <= usable_cores()
    with fastseg.load(folder, threads=threads) as other:
        masks = other.segment(IMAGES[3], points=POINT)
    np.testing.assert_array_equal(masks.array(), model.segment(IMAGES[3], points=POINT).array())


# Processes.

ONE_CORE = """
import os, sys, numpy, fastseg
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from fastseg.environment import usable_cores
assert usable_cores() == 1
image = numpy.full((40, 60, 3), 90, numpy.uint8)
found = []
for threads in (0, 1, 1000):
    with fastseg.load(sys.argv[1], threads=threads, backend="onnxruntime") as model:
        found += [masks.array() for masks in model.stream([image] * 3, points=[[[[30, 20]]]] * 3)]
assert all((one == found[0]).all() for one in found) and found[0].any()
"""

FORK = """
import os, sys, threading, numpy, fastseg
model = fastseg.load(sys.argv[1], backend="onnxruntime")
image = numpy.full((40, 60, 3), 90, numpy.uint8)
expected = model.segment(image, points=[30, 20]).array()
limiter = model._graphs._limiter
contexts = [limiter.call] * limiter.call_slots
contexts += [lambda: limiter.run(heavy=True)] * limiter.encoder_slots
contexts += [lambda: limiter.run(heavy=False)] * (limiter.run_slots - limiter.encoder_slots)
held, leave = threading.Barrier(len(contexts) + 1), threading.Event()
def hold(context):
    with context():
        held.wait()
        leave.wait()
holders = [threading.Thread(target=hold, args=(context,)) for context in contexts]
for holder in holders:
    holder.start()
held.wait()
child = os.fork()
if child == 0:
    same = (model.segment(image, points=[30, 20]).array() == expected).all()
    same &= len(list(model.stream([image] * 3, points=[[[[30, 20]]]] * 3))) == 3
    model.close()
    with fastseg.load(sys.argv[1], backend="onnxruntime") as fresh:
        same &= (fresh.segment(image, points=[30, 20]).array() == expected).all()
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
leave.set()
for holder in holders:
    holder.join()
assert (model.segment(image, points=[30, 20]).array() == expected).all()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be taken away here")
def test_a_process_with_one_core_works(folder):
    done = finish([sys.executable, "-c", ONE_CORE, folder])
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_runs_and_closes_the_model_it_inherited(folder):
    done = finish([sys.executable, "-c", FORK, folder])
    assert done.returncode == 0, done.stderr
