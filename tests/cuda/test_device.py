"""A device by pycuda: which calls it makes, in which order, over a pycuda that is not there."""

from __future__ import annotations

import ctypes
import importlib

import numpy as np
import pytest

from fastseg.cuda import device as cuda_device
from fastseg.cuda.device import PycudaDevice
from fastseg.errors import BackendError, BackendUnavailableError, DeviceMemoryError
from tests.fakes.fake_pycuda import FakePycuda


@pytest.fixture
def world(monkeypatch) -> FakePycuda:
    made = FakePycuda()
    modules = {"pycuda.driver": made.driver, "pycuda.tools": made.tools}
    original = importlib.import_module
    monkeypatch.setattr(
        cuda_device.importlib, "import_module", lambda name: modules.get(name) or original(name)
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda name: made)
    return made


@pytest.fixture
def device(world) -> PycudaDevice:
    return PycudaDevice(0)


def names(world: FakePycuda) -> list[str]:
    return [name for name, *_ in world.told]


def test_a_missing_pycuda_is_named_with_the_install_command(monkeypatch):
    def missing(name: str):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(cuda_device.importlib, "import_module", missing)
    with pytest.raises(BackendUnavailableError, match=r"pycuda is not .*pip install pycuda"):
        cuda_device.import_pycuda()


def test_the_context_is_the_threads_own_only_inside(device, world):
    def fail() -> None:
        with device.current():
            assert world.depth == 2
            raise BackendError("failed inside")

    with device.current():
        assert world.depth == 1
        with pytest.raises(BackendError, match="inside"):
            fail()
        assert world.depth == 1
    assert world.depth == 0


def test_a_stream_is_made_to_wait_by_an_event_that_goes_again(device, world):
    device.order(before=7, after=9)
    assert world.told == [
        ("cuEventCreate", 1000, 2),
        ("cuEventRecord", 1000, 7),
        ("cuStreamWaitEvent", 9, 1000, 0),
        ("cuEventDestroy_v2", 1000),
    ]


@pytest.mark.parametrize("fails", ["cuEventRecord", "cuStreamWaitEvent"])
def test_an_event_goes_also_when_nothing_waits_for_it(device, world, fails):
    world.fails = fails
    with pytest.raises(BackendError, match="error 700"):
        device.order(7, 9)
    assert names(world)[-1] == "cuEventDestroy_v2"


def test_the_host_waits_for_a_stream_by_its_handle(device, world):
    device.wait_for(7)
    assert world.told == [("cuStreamSynchronize", 7)]
    world.fails = "cuStreamSynchronize"
    with pytest.raises(BackendError, match="error 700"):
        device.wait_for(7)


def test_memory_of_each_stream_has_a_pool_of_its_own(device, world):
    taken = [device.allocate(100, stream) for stream in (None, 7, 8, 7, None)]
    assert len({one.address for one in taken}) == 5
    assert [one.length for one in taken] == [100] * 5
    assert len(world.pools) == 3


def test_all_pools_are_emptied_before_memory_is_said_to_lack(device, world):
    device.allocate(100, 7)
    world.pools[0].held, world.free_bytes = 500, 0
    assert device.allocate(400).length == 400
    assert names(world).count("free_held") == len(world.pools)
    with pytest.raises(DeviceMemoryError, match=r"cuda:0 has no 2 MiB of memory left"):
        device.allocate(2**21)


def test_copies_go_through_the_stream(device, world):
    stream = device.stream()
    assert stream.handle == 101
    source = np.zeros(4, np.uint8)
    stream.upload(256, source)
    stream.copy(512, 256, 4)
    stream.download(source, 512)
    assert world.told == [("up", 256), ("copy", 512, 256, 4), ("down", 512)]
    assert stream.is_done()


def test_work_is_recorded_once_and_launched_as_often_as_wanted(device, world):
    stream = device.stream()
    launch = stream.record(lambda: stream.copy(512, 256, 4))
    assert names(world) == [
        "cuStreamBeginCapture_v2",
        "copy",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
    ]
    # The thread's own mode: others may allocate meanwhile.
    assert world.told[0][1:] == (101, 1)
    graph, executable = world.told[2][2], world.told[3][1]
    assert world.told[3][2:] == (graph, 0)
    world.told.clear()
    launch()
    launch()
    assert world.told == [("cuGraphLaunch", executable, 101)] * 2
    del launch
    assert world.told[-1] == ("cuGraphExecDestroy", executable)


def test_recording_ends_also_when_the_work_fails(device, world):
    def work() -> None:
        raise BackendError("the call is refused")

    with pytest.raises(BackendError, match="the call is refused"):
        device.stream().record(work)
    assert names(world) == ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphDestroy"]


def test_a_failure_of_the_gpu_is_ours_to_say(device, world):
    world.fails = "stream"
    stream = device.stream()
    for ask in (stream.synchronise, stream.is_done):
        with pytest.raises(BackendError, match="the GPU failed: an illegal memory access"):
            ask()


def test_a_stream_does_not_wait_for_the_default_stream(device):
    assert device.stream()._stream.flags == 1  # CU_STREAM_NON_BLOCKING
