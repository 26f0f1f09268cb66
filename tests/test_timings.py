"""Promises of ``Timings`` and ``Stopwatch``."""

from __future__ import annotations

import json
import math

import pytest

from fastseg import timings
from fastseg.timings import Stopwatch, Timings

CPU = {"backend": "onnxruntime", "device": "cpu", "precision": "fp32"}


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves by hand, in seconds."""
    now = [0.0]
    monkeypatch.setattr(timings.time, "perf_counter", lambda: now[0])
    return now


def test_the_total_is_the_sum_of_the_stages_over_the_masks():
    spent = Timings(preprocess=1, encode=2, decode=3, postprocess=4, n_masks=5)
    assert spent.total == 10
    assert spent.per_mask_ms == 2


def test_without_masks_the_time_per_mask_is_nan_and_null_in_json():
    spent = Timings(encode=2)
    assert math.isnan(spent.per_mask_ms)
    assert json.loads(json.dumps(spent.as_dict(), allow_nan=False))["per_mask_ms"] is None


def test_adding_sums_every_stage_and_keeps_device_and_backend():
    first = Timings(preprocess=1, encode=2, decode=3, postprocess=4, n_masks=1, **CPU)
    second = Timings(preprocess=10, encode=20, decode=30, postprocess=40, n_masks=2, **CPU)
    assert first + second == Timings(11, 22, 33, 44, 3, **CPU)
    assert Timings() + first == first


def test_devices_that_differ_are_both_named_once():
    mixed = Timings(device="cpu") + Timings(device="cuda:0") + Timings(device="cpu")
    assert mixed.device == "cpu+cuda:0"


def test_the_dictionary_has_every_field_and_derived_number():
    spent = Timings(preprocess=1, encode=2, decode=3, postprocess=4, n_masks=5, **CPU)
    assert spent.as_dict() == {
        "preprocess": 1,
        "encode": 2,
        "decode": 3,
        "postprocess": 4,
        "n_masks": 5,
        **CPU,
        "total": 10,
        "per_mask_ms": 2,
    }


def test_the_stopwatch_adds_up_each_stage_in_milliseconds(clock):
    watch = Stopwatch()
    for seconds in (0.5, 0.25):
        with watch("decode"):
            clock[0] += seconds
        clock[0] += 100
    with watch("encode"):
        clock[0] += 1
    assert watch.timings(n_masks=3, **CPU) == Timings(decode=750, encode=1000, n_masks=3, **CPU)


def test_the_stopwatch_counts_a_stage_that_failed(clock):
    watch = Stopwatch()

    def fail() -> None:
        with watch("encode"):
            clock[0] += 2
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert watch.timings().encode == 2000
