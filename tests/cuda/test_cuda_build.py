"""CUDA kernels are part of an installation that has a CUDA compiler."""

from __future__ import annotations

import importlib.util
import shutil

import pytest

from fastseg.cuda import kernels as device_kernels
from fastseg.errors import BackendUnavailableError
from fastseg.geometry import Frame
from tests.helpers.fresh_interpreter import loaded_by

OPERATIONS = {
    "preprocess",
    "point_grid",
    "point_prompts",
    "select_prompts",
    "gather_rows",
    "label_planes",
    "binarise",
    "box_nms",
    "join_runs",
}


@pytest.fixture
def module():
    if importlib.util.find_spec("fastseg._cuda") is None:
        if shutil.which("nvcc") is None:
            pytest.skip("no nvcc on the PATH, so the CUDA kernels are not built")
        pytest.fail("nvcc is on the PATH and the CUDA kernels were not built")
    return device_kernels.cuda_module()


def test_the_module_has_every_operation_and_names_its_targets(module):
    assert {name for name in dir(module) if name in OPERATIONS} == OPERATIONS
    assert module.name == "cuda"
    assert "87" in module.architectures
    assert int(module.toolkit.split(".")[0]) >= 12


def test_both_devices_offer_the_same_functions(module):
    emulated = device_kernels.emulated_kernels().module
    functions = {name for name in dir(emulated) if callable(getattr(emulated, name))}
    assert functions <= set(dir(module))


def test_it_takes_the_values_of_the_module_for_cpus(module):
    frame, emulated = Frame((300, 400), side=64), device_kernels.emulated_kernels()
    on_gpu = device_kernels.DeviceKernels(module, "cuda:0")
    assert on_gpu.preprocess_workspace(frame) == emulated.preprocess_workspace(frame) > 0


def test_without_a_device_the_runtimes_reason_is_told(module):
    try:
        found = module.device_count()
    except RuntimeError as error:
        found = str(error)
    assert found if isinstance(found, int) else "no device can be used: " in found


def test_neither_a_driver_nor_pycuda_is_loaded_by_it(module):
    assert loaded_by("import fastseg._cuda", ["pycuda", "torch", "numpy"]) == []


def test_an_installation_without_the_kernels_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fastseg._cuda", None)
    with pytest.raises(BackendUnavailableError, match="nvcc"):
        device_kernels.cuda_module()
