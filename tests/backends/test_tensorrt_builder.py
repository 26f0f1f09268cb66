"""Engines built without a GPU, by TensorRT-RTX, from the graphs that fastseg writes."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from pathlib import Path

import pytest

from fastseg import artifacts
from fastseg.artifacts import registry
from fastseg.backends.tensorrt import builder as tensorrt_builder
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.builder import BuildOptions, build_engine
from fastseg.backends.tensorrt.library import TENSORRT, TENSORRT_RTX, Flavour
from fastseg.contract import IR_VERSION, OPSET, GraphSpec, TensorSpec
from fastseg.environment import install_hint
from fastseg.errors import BackendUnavailableError, EngineError, ModelFolderError
from fastseg.testing import tiny_unet_folder
from tests.helpers.processes import finish

PORTABLE = BuildOptions(TENSORRT_RTX, ("portable",))


@pytest.fixture
def tiny(tmp_path) -> artifacts.ModelFolder:
    return artifacts.read(tiny_unet_folder(tmp_path / "tiny"))


def write(path: Path, text: str) -> Path:
    onnx = pytest.importorskip("onnx", reason="graphs are written with onnx")
    header = f'<ir_version: {IR_VERSION}, opset_import: ["": {OPSET}]>'
    path.write_bytes(onnx.parser.parse_model(f"{header} {text}").SerializeToString())
    return path


# What builds.


def test_mixed_precision_graphs_become_engines_as_they_are_typed(needs_rtx, small_fp16_folder):
    """Networks are strongly typed there, so that a graph of mixed types would be refused."""
    folder = artifacts.read(small_fp16_folder)
    stored = [one for one in folder.manifest.graphs.values() if one.precision == "fp16"]
    assert len(stored) == 5
    for one in stored:
        types = {tensor.dtype for tensor in (*one.graph.inputs, *one.graph.outputs)}
        assert "float16" in types or one.graph.name == "encoder"
        assert len(build_engine(folder.file(one), one.graph, PORTABLE)) > 1000, one.graph.name


def test_engines_for_named_architectures_differ(needs_rtx, tiny):
    stored = tiny.manifest.graphs["network"]
    engines = {
        targets: build_engine(tiny.file(stored), stored.graph, BuildOptions(TENSORRT_RTX, targets))
        for targets in (("sm75",), ("sm86", "sm89"), ("sm120",))
    }
    assert len({engine[:4096] for engine in engines.values()}) == 3


def test_the_phases_of_a_build_are_told(needs_rtx, tiny):
    stored, told = tiny.manifest.graphs["network"], []
    build_engine(tiny.file(stored), stored.graph, PORTABLE, told.append)
    assert told[0] == "Building engine"
    assert len(told) > 2


# What does not.


def test_a_rejected_graph_is_refused_in_the_parsers_words(needs_rtx, tmp_path):
    text = "graph (float[n, 4, 4] x) => (float[n] y) { y = Det (x) }"
    path = write(tmp_path / "determinant.onnx", text)
    x, y = TensorSpec("x", "float32", ("batch", 4, 4)), TensorSpec("y", "float32", ("batch",))
    with pytest.raises(EngineError, match=r"rejects .*determinant\.onnx.*UNSUPPORTED_NODE, in Det"):
        build_engine(path, GraphSpec("graph", (x,), (y,)), PORTABLE)


@pytest.mark.parametrize("keep", [0, 20, -1])
def test_a_truncated_graph_is_a_broken_model_folder(needs_rtx, tiny, tmp_path, keep, capfd):
    stored = tiny.manifest.graphs["network"]
    path = tmp_path / "cut.onnx"
    path.write_bytes(tiny.file(stored).read_bytes()[:keep])
    with pytest.raises(ModelFolderError, match=r"cut\.onnx"):
        build_engine(path, stored.graph, PORTABLE)
    output = capfd.readouterr()
    assert output.out + output.err == ""


def test_a_missing_graph_is_a_broken_model_folder(needs_rtx, tiny, tmp_path):
    stored = tiny.manifest.graphs["network"]
    with pytest.raises(ModelFolderError, match=r"absent\.onnx"):
        build_engine(tmp_path / "absent.onnx", stored.graph, PORTABLE)


def test_a_file_that_is_not_the_graph_of_its_contract_is_refused(needs_rtx, tiny):
    stored = tiny.manifest.graphs["network"]
    x = TensorSpec("x", "float32", ("batch", 3, 64, 64))
    with pytest.raises(ModelFolderError, match="inputs are"):
        build_engine(tiny.file(stored), GraphSpec("network", (x,), stored.graph.outputs), PORTABLE)


def test_an_impossible_build_is_refused_in_the_runtimes_words(needs_rtx, tmp_path):
    text = """graph (float[batch, 4] x) => (float[3, 5] y) {
        shape = Constant <value = int64[2] {3, 5}> ()
        y = Reshape (x, shape)
    }"""
    path = write(tmp_path / "fails.onnx", text)
    x, y = TensorSpec("x", "float32", ("batch", 4)), TensorSpec("y", "float32", (3, 5))
    with pytest.raises(EngineError, match=r"cannot build .*fails\.onnx: .*\w+"):
        build_engine(path, GraphSpec("fails", (x,), (y,)), PORTABLE)


def test_ctrl_c_stops_a_build_and_comes_through(needs_rtx):
    folder = artifacts.read(registry.find("sam-nano"), verify=False)
    stored = folder.manifest.graphs["decoder"]
    before = signal.getsignal(signal.SIGINT)
    seen = threading.Event()

    def interrupt(phase: str) -> None:
        if not seen.is_set():
            seen.set()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build_engine(folder.file(stored), stored.graph, PORTABLE, interrupt)
    assert signal.getsignal(signal.SIGINT) is before


# Targets and runtimes.


def test_targets_are_sorted_and_named_once(needs_rtx):
    check = tensorrt_library.check_targets
    assert check(TENSORRT_RTX, ()) == ("portable",)
    assert check(TENSORRT_RTX, ("sm89", "sm86", "sm89")) == ("sm86", "sm89")
    assert check(TENSORRT, ()) == ()


@pytest.mark.parametrize(
    ("flavour", "targets", "says"),
    [
        (TENSORRT_RTX, ("sm87",), r"builds for portable, .*sm89.*, not for sm87"),
        (TENSORRT_RTX, ("sm90",), r"not for sm90.*tensorrt on a machine with that GPU"),
        (TENSORRT_RTX, ("sm89", "h100"), r"not for h100"),
        (TENSORRT_RTX, ("portable", "sm89"), "name no other target"),
        (TENSORRT, ("sm89",), r"builds for the GPU that it runs on.*tensorrt-rtx"),
    ],
)
def test_an_unknown_target_is_refused_with_the_known_ones(needs_rtx, flavour, targets, says):
    with pytest.raises(EngineError, match=says):
        tensorrt_library.check_targets(flavour, targets)


def flavour(**changes) -> Flavour:
    fields = {
        "name": "tensorrt-rtx",
        "modules": ("tensorrt_that_nobody_has",),
        "libraries": (),
        "packages": (),
        "ahead_of_time": True,
        "oldest": (1, 2),
    }
    return Flavour(**{**fields, **changes})


def test_a_missing_runtime_is_refused_with_the_install_command():
    hint = re.escape(install_hint("tensorrt-rtx"))
    with pytest.raises(BackendUnavailableError, match=hint) as caught:
        tensorrt_library.runtime(flavour())
    assert caught.value.name == "tensorrt-rtx"


def test_a_library_that_is_missing_is_named():
    lacking = flavour(libraries=("libtensorrt_that_nobody_has.so.1",))
    with pytest.raises(BackendUnavailableError, match=r"libtensorrt_that_nobody_has\.so\.1 is mis"):
        tensorrt_library.runtime(lacking)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("__version__ = '1.1.0'\nclass Builder: pass", r"version 1\.1\.0 is older than 1\.2"),
        ("__version__ = '9.9.9'", "is not the runtime"),
        ("raise RuntimeError('install the real one')", "install the real one"),
    ],
)
def test_a_placeholder_or_an_old_runtime_is_refused(tmp_path, monkeypatch, text, says):
    name = f"tensorrt_stand_in_{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendUnavailableError, match=says):
        tensorrt_library.runtime(flavour(modules=(name,)))


def test_libraries_of_another_release_are_refused(needs_rtx, tmp_path, monkeypatch):
    (tmp_path / "tensorrt_of_tomorrow.py").write_text(
        "__version__ = '99.0.0.1'\nclass Builder: pass"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mixed = flavour(modules=("tensorrt_of_tomorrow",), libraries=TENSORRT_RTX.libraries)
    with pytest.raises(BackendUnavailableError, match=r"99\.0\.0\.1 and its libraries have 1\."):
        tensorrt_library.runtime(mixed)


def test_timings_are_kept_for_later_builds_damaged_or_not(needs_rtx, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    stored = tiny.manifest.graphs["network"]
    at_hand = BuildOptions(TENSORRT_RTX, (), "a GPU")
    build_engine(tiny.file(stored), stored.graph, at_hand)
    (kept,) = (tmp_path / "fastseg" / "timings").iterdir()
    content = tensorrt_builder.read_checksummed(kept)
    kept.write_bytes(b"damaged")
    build_engine(tiny.file(stored), stored.graph, at_hand)
    assert tensorrt_builder.read_checksummed(kept)[:16] == content[:16]


def test_building_loads_no_runtime_before_it_is_needed():
    statement = (
        "import sys, fastseg.building, fastseg.backends.tensorrt; "
        "print([name for name in sys.modules if name.startswith(('tensorrt', 'pycuda'))])"
    )
    assert finish([sys.executable, "-c", statement]).stdout.strip() == "[]"
