"""The driver is probed once, lists its devices, and is explained where it is missing."""

from __future__ import annotations

import ctypes
import os

import pytest

from fastseg.cuda import driver as cuda_driver
from fastseg.errors import BackendUnavailableError
from tests.fakes import fake_machine
from tests.fakes.fake_driver import FakeDevice, FakeDriverLibrary

TWO = (FakeDevice("Small", (8, 6), 8 * 2**30), FakeDevice("Large", (9, 0), 80 * 2**30))


@pytest.fixture
def driver(monkeypatch):
    """Put a fake driver in the place of the real one."""

    def install(*devices: FakeDevice, **settings: int) -> None:
        library = FakeDriverLibrary(devices, **settings)
        monkeypatch.setattr(cuda_driver, "_library", lambda: library)
        fake_machine.forget_driver(monkeypatch)

    return install


def test_devices_are_listed_with_architecture_and_memory(driver):
    driver(*TWO, cuda=12060)
    found = cuda_driver.probe()
    assert found.cuda == (12, 6)
    assert [one.name for one in found.devices] == ["Small", "Large"]
    assert [one.architecture for one in found.devices] == ["sm86", "sm90"]
    assert found.devices[1].memory_bytes == 80 * 2**30


def test_the_driver_is_started_once_a_process(monkeypatch):
    started = []

    class Counting(FakeDriverLibrary):
        def cuInit(self, flags):  # noqa: N802 - the driver's name
            started.append(flags)
            return super().cuInit(flags)

    fake_machine.with_driver(monkeypatch, Counting(TWO))
    assert cuda_driver.probe() is cuda_driver.probe()
    assert cuda_driver.is_here()
    assert len(started) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_child_asks_the_driver_again(driver):
    driver(*TWO)
    cuda_driver.probe()
    child = os.fork()
    if child == 0:
        os._exit(cuda_driver.probe.cache_info().currsize)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cuda_driver.probe.cache_info().currsize == 1


def test_a_device_is_found_by_number_or_is_the_first(driver):
    driver(*TWO)
    assert cuda_driver.require_device("cuda").name == "Small"
    assert cuda_driver.require_device("cuda:0").name == "Small"
    assert cuda_driver.require_device("cuda:1").name == "Large"


def test_an_unknown_device_is_refused_with_the_known_ones(driver):
    driver(*TWO)
    with pytest.raises(BackendUnavailableError, match=r"sees 2 .*cuda:1 \(Large\)") as caught:
        cuda_driver.require_device("cuda:2")
    assert caught.value.name == "cuda:2"
    assert "CUDA_VISIBLE_DEVICES" in caught.value.remedy


def test_without_a_driver_the_missing_library_is_named(monkeypatch):
    fake_machine.without_driver(monkeypatch)
    with pytest.raises(BackendUnavailableError, match=r"no NVIDIA driver.*libcuda-that") as caught:
        cuda_driver.probe()
    assert "Install the NVIDIA driver" in caught.value.remedy


def test_a_driver_without_a_device_says_so(driver):
    driver()
    with pytest.raises(BackendUnavailableError, match="finds no CUDA device"):
        cuda_driver.probe()


@pytest.mark.parametrize(
    ("result", "reason", "remedy"),
    [
        (100, "finds no CUDA device", "CUDA_VISIBLE_DEVICES"),
        (3, "forked", "spawn"),
        (34, "stub", "LD_LIBRARY_PATH"),
        (803, "different versions", "Restart"),
        (712, "error 712", "nvidia-smi"),
    ],
)
def test_a_driver_that_does_not_start_is_put_into_words(driver, result, reason, remedy):
    driver(*TWO, init=result)
    with pytest.raises(BackendUnavailableError) as caught:
        cuda_driver.probe()
    assert reason in caught.value.reason
    assert remedy in caught.value.remedy


def test_an_old_driver_is_refused_with_the_needed_version(driver):
    driver(*TWO, cuda=11080)
    with pytest.raises(BackendUnavailableError, match=r"CUDA 11\.8.*at least 12\.0"):
        cuda_driver.probe()


def test_the_driver_release_is_read_from_its_kernel_module(driver, monkeypatch, tmp_path):
    text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2026"
    (tmp_path / "version").write_text(text)
    driver(*TWO)
    monkeypatch.setattr(cuda_driver, "_KERNEL_MODULE", tmp_path / "version")
    assert cuda_driver.probe().release == "580.95.05"
    monkeypatch.setattr(cuda_driver, "_KERNEL_MODULE", tmp_path / "absent")
    fake_machine.forget_driver(monkeypatch)
    assert cuda_driver.probe().release == "13.0"


def test_the_fake_writes_where_a_real_library_would():
    library, value = FakeDriverLibrary(TWO), ctypes.c_int()
    assert library.cuDeviceGetCount(ctypes.byref(value)) == 0
    assert value.value == 2
    assert library.cuDeviceGetCount(ctypes.pointer(value)) == 0
