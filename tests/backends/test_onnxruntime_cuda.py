"""ONNX Runtime on a device that is not there: what is refused, and that nothing leaves quietly."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastseg import artifacts
from fastseg.backends.onnxruntime import cuda_provider
from fastseg.backends.onnxruntime import session as ort
from fastseg.backends.onnxruntime.cuda_provider import PROVIDER
from fastseg.backends.selection import choose, open_graph
from fastseg.environment import install_hint
from fastseg.errors import BackendError, BackendUnavailableError
from fastseg.testing import tiny_unet_folder
from tests.fakes import fake_machine
from tests.fakes.fake_driver import FakeDevice, FakeDriverLibrary

REFUSAL = (
    "This session contains graph nodes that are assigned to the default CPU EP, but fallback to "
    "CPU EP has been explicitly disabled by the user."
)


class FakeSession:
    """A session that stays on the device, or not."""

    def __init__(self, runtime, settings, providers):
        self.runtime, self.settings = runtime, settings
        self.providers = [name for name, _ in providers] if runtime.works else []

    def get_providers(self):
        return [*self.providers, "CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self):
        def part(name, operators):
            nodes = [SimpleNamespace(op_type=operator) for operator in operators]
            return SimpleNamespace(ep_name=name, get_nodes=lambda: nodes)

        return [part(PROVIDER, ["MatMul"]), part("CPUExecutionProvider", self.runtime.left)]


class FakeOptions:
    def __init__(self):
        self.entries = {}

    def add_session_config_entry(self, name, value):
        self.entries[name] = value


class FakeRuntime:
    """The module ``onnxruntime`` with CUDA; ``left`` is what it leaves on the processor."""

    __version__ = "1.99"
    __file__ = "/nowhere/onnxruntime/__init__.py"
    SessionOptions = FakeOptions

    def __init__(self, *, cuda=True, works=True, left=()):
        self.cuda, self.works, self.left = cuda, works, left
        self.opened = []

    def get_available_providers(self):
        return [PROVIDER, "CPUExecutionProvider"] if self.cuda else ["CPUExecutionProvider"]

    def InferenceSession(self, graph, options, providers):  # noqa: N802
        self.opened.append((graph, dict(options.entries), providers))
        if self.left and options.entries.get("session.disable_cpu_ep_fallback") == "1":
            raise RuntimeError(REFUSAL)
        return FakeSession(self, options.entries, providers)


@pytest.fixture(autouse=True)
def two_devices(monkeypatch) -> None:
    library = FakeDriverLibrary((FakeDevice("Small"), FakeDevice("Large")))
    fake_machine.with_driver(monkeypatch, library)


def test_a_device_is_resolved_by_its_number():
    runtime = FakeRuntime()
    assert cuda_provider.require(runtime, "cuda") == "cuda:0"
    assert cuda_provider.require(runtime, "cuda:1") == "cuda:1"
    _, _, ((name, settings),) = runtime.opened[-1]
    assert (name, settings["device_id"], settings["use_tf32"]) == (PROVIDER, 1, "0")


def test_a_package_without_cuda_is_refused_with_the_right_one():
    hint = re.escape(install_hint("gpu"))
    with pytest.raises(BackendUnavailableError, match=rf"built without CUDA.*{hint}"):
        cuda_provider.require(FakeRuntime(cuda=False), "cuda")


def test_a_library_of_cuda_that_is_missing_is_named():
    with pytest.raises(BackendUnavailableError, match=r"cuda:1 is not.*providers_cuda\.so.*cuDNN"):
        cuda_provider.require(FakeRuntime(works=False), "cuda:1")


def test_a_missing_device_is_refused_before_a_session_is_made():
    runtime = FakeRuntime()
    with pytest.raises(BackendUnavailableError, match="sees 2 CUDA"):
        cuda_provider.require(runtime, "cuda:2")
    assert runtime.opened == []


@pytest.mark.parametrize(
    ("runtime", "device"),
    [
        (FakeRuntime(), "cuda:0"),
        (FakeRuntime(cuda=False), "cpu"),
        (FakeRuntime(works=False), "cpu"),
    ],
)
def test_auto_goes_on_to_the_processor_and_says_so(monkeypatch, runtime, device):
    monkeypatch.setattr(ort, "import_runtime", lambda: runtime)
    assert ort.ONNXRUNTIME.require("auto", "fp32") == device
    fake_machine.with_driver(monkeypatch, FakeDriverLibrary(()))
    assert ort.ONNXRUNTIME.require("auto", "fp32") == "cpu"


# A graph.


def open_session(runtime):
    return cuda_provider.open_session(runtime, Path("decoder.onnx"), FakeOptions(), 0)


def test_a_graph_stays_on_the_device_whole():
    runtime = FakeRuntime()
    session = open_session(runtime)
    assert session.settings == {"session.disable_cpu_ep_fallback": "1"}
    assert len(runtime.opened) == 1


def test_sizes_may_be_computed_on_the_processor():
    runtime = FakeRuntime(left=("Shape", "Gather", "Concat"))
    assert open_session(runtime).settings["session.disable_cpu_ep_fallback"] == "0"
    assert len(runtime.opened) == 2


def test_work_that_would_run_on_the_processor_is_refused_by_name():
    runtime = FakeRuntime(left=("Shape", "LayerNormalization", "Conv"))
    with pytest.raises(BackendError, match=r"no CUDA kernel for Conv, LayerNormalization in dec"):
        open_session(runtime)


def test_a_runtime_without_provider_assignments_is_refused(monkeypatch):
    monkeypatch.delattr(FakeSession, "get_provider_graph_assignment_info")
    with pytest.raises(BackendError, match=r"cannot tell what.*Upgrade"):
        open_session(FakeRuntime(left=("Shape",)))


def test_a_session_that_quietly_left_the_device_is_refused():
    with pytest.raises(BackendError, match=r"left cuda:0 for CPUExecutionProvider"):
        open_session(FakeRuntime(works=False))


def test_other_errors_of_the_runtime_come_through(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no such file")

    runtime = FakeRuntime()
    monkeypatch.setattr(runtime, "InferenceSession", refuse)
    with pytest.raises(RuntimeError, match="no such file"):
        open_session(runtime)


# The real runtime, without CUDA.


def test_without_cuda_the_runtime_refuses_it_and_auto_takes_cpu(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if PROVIDER in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime is built with CUDA")
    folder = artifacts.read(tiny_unet_folder(tmp_path / "model"))
    with pytest.raises(BackendUnavailableError, match=r"cuda:1 is not.*built without CUDA"):
        open_graph(folder, "network", backend="onnxruntime", device="cuda:1")
    assert choose(backend="onnxruntime") == ("onnxruntime", "cpu")


def test_the_smallest_graph_is_one():
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = onnxruntime.InferenceSession(
        cuda_provider._IDENTITY, providers=["CPUExecutionProvider"]
    )
    x = np.array([3], np.float32)
    assert session.run(None, {"x": x})[0] == x
