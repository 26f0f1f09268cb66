"""Calls on a loaded engine: their order, and the errors where it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fastseg import artifacts
from fastseg.backends.signatures import TensorSignature
from fastseg.backends.tensorrt import engine as tensorrt_engine
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.builder import BuildOptions, build_engine
from fastseg.backends.tensorrt.engine import load_engine
from fastseg.backends.tensorrt.library import FLAVOURS, TENSORRT, TENSORRT_RTX
from fastseg.cuda import driver as cuda_driver
from fastseg.errors import BackendError, DeviceMemoryError, EngineError
from fastseg.testing import tiny_unet_folder
from tests.fakes.fake_machine import ADA
from tests.fakes.fake_tensorrt import FakeTensorRt, Strategy

STREAM = SimpleNamespace(handle=7)
CONTENT = b"engine of a test"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def load(monkeypatch):
    """Load an engine by a module that fails as it is told."""

    def use(flavour=TENSORRT, content=CONTENT, **how):
        module = FakeTensorRt(**how)
        monkeypatch.setattr(tensorrt_engine, "runtime", lambda flavour: module)
        return load_engine(content, flavour, ADA, "the engine"), module

    return use


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=FLAVOURS)
def test_an_engine_says_what_it_takes_and_gives(load, flavour):
    engine, _ = load(flavour)
    assert engine.inputs == [
        TensorSignature(frozenset({"x"}), "float32", (None, 4)),
        TensorSignature(frozenset({"n"}), "int32", (None,)),
    ]
    assert engine.outputs == [TensorSignature(frozenset({"y"}), "float16", (None, 4))]
    # TensorRT-RTX records by itself.
    assert engine.records == (flavour is TENSORRT)


def test_a_call_is_prepared_in_the_order_of_the_runtime(load):
    engine, module = load()
    context = engine.context(STREAM)
    assert context.prepare(1, {"x": (5, 4), "n": (5,)}) == 4096
    context.bind({"x": 256, "n": 512, "y": 768}, (1024, 4096))
    context.enqueue()
    context.prepare(1, {"x": (6, 4), "n": (6,)})
    assert module.told == [
        ("context", Strategy.USER_MANAGED),
        ("profile", 1, 7),
        ("shape", "x", (5, 4)),
        ("shape", "n", (5,)),
        ("memory", 1024, 4096),
        ("address", "x", 256),
        ("address", "n", 512),
        ("address", "y", 768),
        ("execute", 7),
        # The profile stays as it is.
        ("shape", "x", (6, 4)),
        ("shape", "n", (6,)),
    ]


def test_tensorrt_rtx_makes_contexts_by_a_configuration_of_ours(load):
    engine, module = load(TENSORRT_RTX)
    engine.context(STREAM)
    ((_, config),) = module.told
    assert config.strategy == Strategy.USER_MANAGED
    assert config.cuda_graph_strategy == "whole"
    assert config.cache is not None


def test_what_was_compiled_is_there_for_the_next_process(load):
    engine, _ = load(TENSORRT_RTX)
    engine.keep_kernels()
    again, module = load(TENSORRT_RTX)
    again.context(STREAM)
    ((_, config),) = module.told
    assert config.cache.content == b" and kernels"
    # An engine of TensorRT has nothing to keep.
    load(TENSORRT)[0].keep_kernels()


@pytest.mark.parametrize(
    ("refuses", "says"),
    [
        ("profile", "the profile is refused"),
        ("shape", r"the shape \(5, 4\) of x is refused"),
        ("address", "the address of x is refused"),
        ("execute", "the call is refused"),
    ],
)
def test_what_is_refused_is_named_with_the_runtimes_own_words(load, refuses, says):
    engine, _ = load(refuses=refuses, says="Parameter check failed.")
    context = engine.context(STREAM)

    def call() -> None:
        context.prepare(1, {"x": (5, 4)})
        context.bind({"x": 256}, (1024, 4096))
        context.enqueue()

    with pytest.raises(BackendError, match=rf"{says}: Parameter check failed"):
        call()


@pytest.mark.parametrize(
    "says", ["CUDA out of memory", "[resizingAllocator] OutOfMemory (no free)", "Error Code 2: x"]
)
def test_too_little_memory_is_told_from_other_failures(load, says):
    with pytest.raises(DeviceMemoryError, match="no memory left for the engine"):
        load(refuses="engine", says=says)
    engine, _ = load(refuses="context", says=says)
    with pytest.raises(DeviceMemoryError, match="for an execution context"):
        engine.context(STREAM)
    engine, _ = load(refuses="execute", says=says)
    context = engine.context(STREAM)
    with pytest.raises(DeviceMemoryError, match="for the call"):
        context.enqueue()


def test_a_bad_engine_is_refused_in_the_runtimes_words(load):
    with pytest.raises(EngineError, match=r"refuses the engine: The engine plan.*fastseg build"):
        load(content=b"something else", says="The engine plan file is not compatible")
    engine, _ = load(refuses="context", says="Internal error")
    with pytest.raises(BackendError, match=r"no execution context can be made: Internal error"):
        engine.context(STREAM)


# The real TensorRT-RTX, which reads an engine's head without a GPU.


@pytest.fixture(scope="module")
def built(needs_rtx, tmp_path_factory) -> bytes:
    folder = artifacts.read(tiny_unet_folder(tmp_path_factory.mktemp("models") / "tiny"))
    stored = folder.manifest.graphs["network"]
    return build_engine(
        folder.file(stored), stored.graph, BuildOptions(TENSORRT_RTX, ("portable",))
    )


@pytest.mark.parametrize(
    "content", [b"", b"not an engine" * 100, None], ids=["empty", "foreign", "head"]
)
def test_what_is_no_engine_is_refused_by_its_head(built, content):
    content = built[:20] if content is None else content
    with pytest.raises(EngineError, match=r"does not suit this machine: malformed engine"):
        load_engine(content, TENSORRT_RTX, ADA, "the engine")


def test_without_a_driver_the_refusal_has_the_runtimes_reason(built):
    if cuda_driver.is_here():
        pytest.skip("this machine has a driver and a device")
    assert tensorrt_library.version(TENSORRT_RTX)
    with pytest.raises(EngineError, match=r"does not suit this machine: .*driver"):
        load_engine(built, TENSORRT_RTX, ADA, "the engine")
