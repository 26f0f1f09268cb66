"""Nobody waits for the device but those who need its answer, and no memory is used too early.

The fake device raises where two streams use the same memory, one of them writes, and nothing orders
the two; it hands out what was dropped at once.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fastseg.cuda import dlpack
from fastseg.cuda.arrays import DeviceArray
from fastseg.errors import DeviceMemoryError
from fastseg.sam.gpu.workspace import GpuWorkspace
from tests.fakes.engine_setup import ROW_BYTES, Setup, assert_right, call, compute
from tests.fakes.fake_cuda import FakeCuda

OURS, THEIRS = 7, 8


def place(setup: Setup, inputs, stream: int | None = OURS):
    return {name: setup.device.array(array, stream) for name, array in inputs.items()}


def as_interface(array: DeviceArray):
    """As who takes it by DLPack knows it; ``__cuda_array_interface__`` would wait."""
    return {"typestr": array.dtype.str, "shape": array.shape, "data": (array.address, False)}


def test_the_host_does_not_wait_for_what_stays_on_the_device():
    setup, inputs = Setup("cuda"), call(40)
    outputs = setup.backend.run(place(setup, inputs))
    (stream,) = setup.device.streams.values()
    assert not stream.is_done()
    assert {array.stream for array in outputs.values()} == {OURS}
    # In the stream of the inputs nobody needs to wait for anything.
    found = []
    setup.device.start_reading(as_interface(outputs["y"]), OURS, found)
    with setup.device.current():
        setup.device.wait_for(OURS)
    np.testing.assert_array_equal(found[0], compute(inputs)["y"])


def test_memory_dropped_while_read_is_reused_after_the_read():
    setup, found = Setup("cuda"), []
    calls = [call(40, seed=seed) for seed in range(12)]
    for inputs in calls:
        placed = place(setup, inputs)
        outputs = setup.backend.run(placed)
        setup.device.start_reading(as_interface(outputs["y"]), OURS, found)
        del placed, outputs
    (stream,) = setup.device.streams.values()
    assert not stream.is_done()
    once = sum(array.nbytes for array in (*calls[0].values(), *compute(calls[0]).values()))
    assert setup.device.most_bytes <= once + 40 * ROW_BYTES
    with setup.device.current():
        setup.device.wait_for(OURS)
    for inputs, array in zip(calls, found, strict=True):
        np.testing.assert_array_equal(array, compute(inputs)["y"])


def test_inputs_may_be_overwritten_in_their_own_streams_at_once():
    setup, inputs = Setup("cuda"), call(40)
    x = setup.device.array(inputs["x"], OURS)
    shared = setup.device.array(inputs["shared"], THEIRS)
    outputs = setup.backend.run({"x": x, "shared": shared})
    for array, stream in ((x, OURS), (shared, THEIRS)):
        interface = array.__cuda_array_interface__
        noise = np.full(interface["shape"], np.nan, np.float32)
        setup.device.overwrite(interface["data"][0], noise, stream)
    assert_right({name: setup.device.read(array) for name, array in outputs.items()}, inputs)


def test_inputs_that_name_no_stream_may_be_dropped_at_once():
    setup, inputs = Setup("cuda"), call(40)
    placed = place(setup, inputs, None)
    outputs = setup.backend.run(placed)
    del placed
    # Somebody else takes memory of that size and writes to it.
    others = place(setup, call(40, seed=1), None)
    assert_right({name: setup.device.read(array) for name, array in outputs.items()}, inputs)
    del others


class ByDlpack:
    """An array of another library, made in a stream that it tells nobody."""

    def __init__(self, device: FakeCuda, array: np.ndarray, stream: int) -> None:
        self._device, self._stream = device, stream
        self._array = device.array(array, stream)

    def __dlpack_device__(self):
        return dlpack.CUDA, 0

    def __dlpack__(self, *, stream):
        with self._device.current():
            self._device.order(self._stream, stream)
        interface = self._array.__cuda_array_interface__
        dtype, address = np.dtype(interface["typestr"]), interface["data"][0]
        where = self.__dlpack_device__()
        return dlpack.give(
            dlpack.Content(address, interface["shape"], None, dtype, where, self._array)
        )


def test_dlpack_arrays_are_waited_for_and_kept_while_read():
    setup, inputs = Setup("cuda"), call(40)
    placed = {name: ByDlpack(setup.device, array, THEIRS) for name, array in inputs.items()}
    outputs = setup.backend.run(placed)
    del placed
    others = place(setup, call(40, seed=1), THEIRS)
    assert_right({name: setup.device.read(array) for name, array in outputs.items()}, inputs)
    del others


def test_a_search_drops_what_its_stream_still_reads():
    setup, calls, found = Setup("cuda"), [call(40, seed=seed) for seed in range(4)], []
    with setup.device.current():
        work = GpuWorkspace(setup.device, lambda stream: None)
        for inputs in calls:
            placed = {name: work.upload(array) for name, array in inputs.items()}
            y = work.run(setup.backend, placed)["y"]
            kept = work.empty(y.shape, y.dtype)
            work.stream.copy(kept.address, y.address, y.nbytes)
            found.append(kept)
            del placed, y
            # Somebody else takes memory of these sizes, and writes to it at once.
            others = place(setup, inputs, None)
            del others
        for inputs, kept in zip(calls, found, strict=True):
            array = work.download(kept).view(np.float32).reshape(kept.shape)
            np.testing.assert_array_equal(array, compute(inputs)["y"])
        work.end()
    assert setup.device.streams[work.stream.handle].waited_for


@pytest.mark.parametrize("stream", [None, OURS])
def test_outputs_may_be_dropped_while_they_are_being_made(stream):
    setup, inputs = Setup("cuda"), call(40)
    setup.backend.run(place(setup, inputs, stream))
    others = [setup.device.array(one, None) for one in compute(inputs).values()]
    assert_right(dict(zip(("y", "count"), map(setup.device.read, others), strict=True)), inputs)
    outputs = setup.backend.run(place(setup, inputs, stream))
    assert_right({name: setup.device.read(array) for name, array in outputs.items()}, inputs)


def test_calls_with_host_arrays_do_not_overtake_each_other():
    setup, calls = Setup("cuda"), [call(40, seed=seed) for seed in range(6)]
    outputs = [setup.backend.run(inputs) for inputs in calls]
    for inputs, one in zip(calls, outputs, strict=True):
        assert_right({name: setup.device.read(array) for name, array in one.items()}, inputs)


def test_what_waits_to_be_let_go_of_is_bounded():
    setup, inputs = Setup("cuda"), call(4)
    placed = place(setup, inputs, None)
    for _ in range(200):
        setup.backend.run(placed)
    assert setup.device.most_bytes < 100 * sum(one.nbytes for one in compute(inputs).values())


def test_dlpack_makes_the_takers_stream_wait():
    setup, inputs = Setup("cuda"), call(40)
    y = setup.backend.run(place(setup, inputs))["y"]
    interface = as_interface(y)
    y.__dlpack__(stream=-1)
    with pytest.raises(AssertionError, match="nothing orders"):
        setup.device.start_reading(interface, THEIRS, [])
    y.__dlpack__(stream=THEIRS)
    setup.device.start_reading(interface, THEIRS, [])
    y.__dlpack__()
    setup.device.start_reading(interface, 1, [])


def test_a_call_after_one_that_failed_is_right():
    setup = Setup("cuda", memory_bytes=300 * ROW_BYTES)
    with pytest.warns(RuntimeWarning), pytest.raises(DeviceMemoryError):
        setup.backend.run(place(setup, call(1024)))
    inputs = call(100)
    outputs = setup.backend.run(place(setup, inputs))
    assert_right({name: setup.device.read(array) for name, array in outputs.items()}, inputs)


def test_callers_with_their_own_streams_share_no_memory():
    setup, wrong = Setup("cuda"), []
    barrier = threading.Barrier(4)

    def work(stream: int) -> None:
        barrier.wait()
        try:
            for turn in range(20):
                inputs = call(30, seed=100 * stream + turn)
                outputs = setup.backend.run(place(setup, inputs, stream))
                for name, array in compute(inputs).items():
                    np.testing.assert_array_equal(setup.device.read(outputs[name]), array)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(100 + number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
