"""The TensorRT backend over a device that is not there: pieces, memory, streams and errors."""

from __future__ import annotations

import gc
import threading
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from fastseg.backends.base import Backend
from fastseg.backends.tensorrt.backend import TensorRtBackend
from fastseg.contract import GraphSpec
from fastseg.errors import BackendError, DeviceArrayError, DeviceMemoryError, ModelFolderError
from tests.fakes.engine_setup import (
    GRAPH,
    ROW_BYTES,
    SHARED,
    Setup,
    X,
    Y,
    assert_right,
    call,
    compute,
)
from tests.fakes.fake_cuda import FakeCuda
from tests.fakes.fake_engine import FakeEngine


def test_it_is_a_backend_that_says_what_it_is():
    setup = Setup()
    backend: Backend = setup.backend
    assert (backend.name, backend.memory, backend.graph) == ("tensorrt:cuda:0", "host", GRAPH)


@pytest.mark.parametrize(
    ("prompts", "points", "pieces"),
    [
        (1, 2, [(0, 1)]),
        (32, 2, [(0, 32)]),
        (33, 2, [(1, 33)]),
        (1024, 2, [(1, 1024)]),
        (2050, 2, [(1, 1024), (1, 1024), (0, 2)]),
        (70, 5, [(0, 32), (0, 32), (0, 6)]),
    ],
)
def test_a_call_is_cut_to_what_the_profiles_take(prompts, points, pieces):
    setup, inputs = Setup(records=False), call(prompts, points)
    assert_right(setup.backend.run(inputs), inputs)
    assert setup.calls == pieces


def test_nothing_is_run_for_nobody():
    setup = Setup()
    outputs = setup.backend.run(call(0))
    assert (outputs["y"].shape, outputs["count"].shape) == ((0, 4), (0,))
    assert outputs["count"].dtype == np.int32
    assert setup.calls == []


def test_too_many_points_are_refused_and_the_engine_stays_usable():
    setup = Setup()
    with pytest.raises(BackendError, match=r"65 points.*1 to 64"):
        setup.backend.run(call(1, 65))
    assert_right(setup.backend.run(call(1)), call(1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": np.zeros((2, 2, 4))}, "float32, not float64"),
        ({"x": np.zeros((2, 2, 5), np.float32)}, "has shape"),
        ({"z": np.zeros(1)}, "takes"),
    ],
)
def test_inputs_that_do_not_fit_are_named(change, says):
    setup = Setup()
    with pytest.raises(BackendError, match=says):
        setup.backend.run({**call(2), **change})


def test_arrays_of_any_strides_are_run_as_they_read():
    setup, inputs = Setup(), call(6)
    inputs["x"] = inputs["x"][::-2, ::-1]
    assert_right(setup.backend.run(inputs), inputs)


def test_outputs_survive_a_second_run_and_a_close():
    setup = Setup()
    first, second = call(40, seed=1), call(40, seed=2)
    outputs = setup.backend.run(first)
    setup.backend.run(second)
    setup.backend.close()
    assert_right(outputs, first)


# Memory.


def test_buffers_grow_and_are_kept_for_the_next_call():
    setup = Setup()
    setup.backend.run(call(100))
    most = setup.device.used_bytes
    for prompts in (1, 50, 100):
        setup.backend.run(call(prompts))
        assert setup.device.used_bytes == most
    setup.backend.run(call(200))
    assert setup.device.used_bytes > most


def test_short_of_memory_half_runs_at_a_time_with_one_warning():
    setup, inputs = Setup(memory_bytes=700 * ROW_BYTES), call(1024)
    with pytest.warns(RuntimeWarning, match=r"too little memory for 1024 prompts.*runs 512"):
        outputs = setup.backend.run(inputs)
    assert_right(outputs, inputs)
    assert setup.calls[-2:] == [(1, 512), (1, 512)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_right(setup.backend.run(inputs), inputs)


def test_when_half_does_not_fit_smaller_calls_still_run():
    setup = Setup(memory_bytes=300 * ROW_BYTES)
    with (
        pytest.warns(RuntimeWarning, match="runs 512"),
        pytest.raises(DeviceMemoryError, match=r"decoder does not fit.*cuda:0 with 512 prompts"),
    ):
        setup.backend.run(call(1024))
    assert_right(setup.backend.run(call(100)), call(100))


def test_a_single_prompt_that_does_not_fit_is_not_halved():
    setup = Setup(memory_bytes=ROW_BYTES)
    with pytest.raises(DeviceMemoryError, match="with 1 prompts"):
        setup.backend.run(call(1))


def test_a_failed_call_leaves_no_memory_taken():
    setup = Setup(memory_bytes=300 * ROW_BYTES)
    with pytest.warns(RuntimeWarning), pytest.raises(DeviceMemoryError):
        setup.backend.run(call(1024))
    gc.collect()
    assert setup.device.used_bytes == 0


def test_closing_gives_all_memory_back_and_can_be_done_again():
    setup = Setup()
    setup.backend.run(call(10))
    setup.backend.close()
    setup.backend.close()
    gc.collect()
    assert setup.device.used_bytes == 0
    with pytest.raises(BackendError, match="decoder was closed"):
        setup.backend.run(call(1))


# Recorded graphs.


def test_a_call_that_comes_again_is_recorded_and_launched_whole():
    setup, inputs = Setup(), call(8)
    for _ in range(5):
        assert_right(setup.backend.run(inputs), inputs)
    (stream,) = setup.device.streams.values()
    assert stream.launches == 4
    assert len(setup.calls) == 2  # the first, and the one that was recorded


def test_a_recorded_call_is_forgotten_when_its_buffers_move():
    setup = Setup()
    for prompts in (8, 8, 8, 500, 8, 8, 8):
        inputs = call(prompts, seed=prompts)
        assert_right(setup.backend.run(inputs), inputs)


def test_a_captured_graph_is_not_launched_in_a_changed_context():
    setup = Setup()
    setup.backend.run(call(900))
    for prompts in (8, 8, 8, 9, 8, 9, 9, 9):
        inputs = call(prompts, seed=prompts)
        assert_right(setup.backend.run(inputs), inputs)
    (stream,) = setup.device.streams.values()
    assert stream.launches == 2 + 2


def test_an_engine_that_records_by_itself_is_not_recorded():
    setup = Setup(records=False)
    for _ in range(3):
        setup.backend.run(call(8))
    (stream,) = setup.device.streams.values()
    assert stream.launches == 0


# Arrays on the device.


def test_device_arrays_are_taken_uncopied_and_in_stream_order():
    setup, inputs = Setup("cuda"), call(40)
    placed = {name: setup.device.array(array) for name, array in inputs.items()}
    before = setup.device.used_bytes
    outputs = setup.backend.run(placed)
    assert_right({name: setup.device.read(array) for name, array in outputs.items()}, inputs)
    scratch = 40 * ROW_BYTES
    results = sum(array.nbytes for array in compute(inputs).values())
    assert setup.device.used_bytes == before + scratch + results
    (stream,) = setup.device.streams.values()
    assert stream.waited_for == [1]


def test_the_same_engine_also_leaves_its_outputs_on_the_device():
    setup, inputs = Setup(), call(3)
    twin = setup.backend.on_device()
    assert (twin.memory, twin.name) == ("cuda", setup.backend.name)
    outputs = twin.run(inputs)
    assert_right({name: setup.device.read(array) for name, array in outputs.items()}, inputs)
    twin.close()
    assert_right(setup.backend.run(inputs), inputs)
    setup.backend.close()
    with pytest.raises(BackendError, match="closed"):
        setup.backend.on_device()


def test_outputs_on_the_device_outlive_the_backend():
    setup, inputs = Setup("cuda"), call(10)
    outputs = setup.backend.run(inputs)
    setup.backend.close()
    interface = outputs["y"].__cuda_array_interface__
    assert interface["shape"] == (10, 4)
    assert interface["stream"] is None
    assert_right({name: setup.device.read(array) for name, array in outputs.items()}, inputs)
    del outputs, interface
    gc.collect()
    assert setup.device.used_bytes == 0


@pytest.mark.parametrize(("prompts", "points"), [(77, 3), (1100, 2)])
def test_pieces_that_begin_at_odd_addresses_are_moved(prompts, points):
    setup, inputs = Setup("cuda"), call(prompts, points)
    setup.backend._most = 13
    placed = {name: setup.device.array(array) for name, array in inputs.items()}
    outputs = setup.backend.run(placed)
    assert_right({name: setup.device.read(array) for name, array in outputs.items()}, inputs)


def test_pieces_of_host_arrays_do_not_overtake_each_other():
    setup, inputs = Setup("cuda"), call(3000)
    outputs = setup.backend.run(inputs)
    assert_right({name: setup.device.read(array) for name, array in outputs.items()}, inputs)


def test_an_array_with_gaps_is_refused_by_name():
    setup, inputs = Setup("cuda"), call(4)
    placed = setup.device.array(inputs["x"])
    placed.__cuda_array_interface__["strides"] = (64, 16, 8)
    with pytest.raises(DeviceArrayError, match="x has gaps"):
        setup.backend.run({**inputs, "x": placed})


def test_an_array_on_another_device_is_refused_by_name():
    setup, inputs = Setup("cuda"), call(4)
    placed = setup.device.array(inputs["x"])
    placed.device = SimpleNamespace(index=1)
    with pytest.raises(DeviceArrayError, match=r"x lies in the memory of cuda:1, not of cuda:0"):
        setup.backend.run({**inputs, "x": placed})


# Threads.


def test_calls_at_the_same_time_have_a_stream_and_a_context_each():
    setup, wrong = Setup(), []
    barrier = threading.Barrier(4)

    def work(seed: int) -> None:
        barrier.wait()
        for turn in range(20):
            inputs = call(30, seed=100 * seed + turn)
            outputs = setup.backend.run(inputs)
            if any((outputs[name] != array).any() for name, array in compute(inputs).items()):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    contexts = setup.engine.contexts
    assert 1 <= len(contexts) <= 4
    assert len({context.stream.handle for context in contexts}) == len(contexts)


def test_closing_in_one_thread_does_not_break_a_run_in_another():
    setup, unexpected = Setup(), []

    def work() -> None:
        try:
            while True:
                assert_right(setup.backend.run(call(30)), call(30))
        except BackendError:
            pass
        except BaseException as error:
            unexpected.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    setup.backend.close()
    for thread in threads:
        thread.join()
    assert unexpected == []
    gc.collect()
    assert setup.device.used_bytes == 0


# The engine.


def test_compiled_kernels_are_kept_after_the_first_success():
    setup = Setup()
    assert setup.engine.kept == 0
    for _ in range(3):
        setup.backend.run(call(1))
    assert setup.engine.kept == 1


def test_an_engine_of_another_graph_is_refused():
    device = FakeCuda()
    other = GraphSpec("decoder", (X, SHARED), (Y,))
    engine = FakeEngine(other, compute, device=device)
    with pytest.raises(ModelFolderError, match=r"decoder is not the graph.*outputs"):
        TensorRtBackend(engine, GRAPH, device, runtime="tensorrt")
