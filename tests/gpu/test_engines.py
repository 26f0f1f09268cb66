"""Engines on a real GPU: built there, compared there, and the same answers as the processor's."""

from __future__ import annotations

import gc
import threading
import warnings

import numpy as np
import pytest

import fastseg
from fastseg import artifacts
from fastseg.artifacts import ModelFolder, registry
from fastseg.backends.onnxruntime import cuda_provider
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.backends.selection import open_graph
from fastseg.backends.tensorrt import open_engine
from fastseg.backends.tensorrt.engine import load_engine
from fastseg.backends.tensorrt.engine_cache import EngineCache, find_engine
from fastseg.backends.tensorrt.engine_key import Gpu
from fastseg.backends.tensorrt.library import FLAVOURS
from fastseg.building import Request, build
from fastseg.cuda import device as cuda_device
from fastseg.demo import PICTURE
from fastseg.errors import EngineError
from tests.helpers.on_gpu import build_or_skip, require_gpu

pytestmark = pytest.mark.gpu

FP32 = 1e-3
"""Relative difference of a whole network in FP32: another order of sums, no TensorFloat-32."""

SIZES = {"images": 2, "prompts": 5, "points": 2, "survivors": 5, "masks": 3, "batch": 3}


@pytest.fixture(scope="module")
def gpu() -> Gpu:
    driver = require_gpu()
    return Gpu.of(driver.devices[0], driver)


@pytest.fixture(scope="module", params=[*FLAVOURS])
def flavour(request, gpu) -> str:
    """Each runtime that is installed, in turn."""
    require_gpu(flavour=request.param)
    return request.param


@pytest.fixture(scope="module")
def built(flavour, tmp_path_factory) -> dict[str, ModelFolder]:
    """Embedded models with engines in FP32, which were compared when they were built."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for name in ("sam-nano", "echo-a4c"):
            out = tmp_path_factory.mktemp("models") / name
            source = artifacts.read(registry.find(name))
            request = Request(flavour, "fp32", device="cuda", out=out)
            result = build_or_skip(source, request)
            assert result.comparison.passed, result.table
            folders[name] = artifacts.read(out)
        yield folders


def inputs_of(graph, sizes=SIZES) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)

    def draw(tensor):
        shape = [sizes[size] if isinstance(size, str) else size for size in tensor.shape]
        if tensor.name == "point_labels":
            return random.integers(-1, 4, shape, dtype=np.int32)
        scale = 1024 if tensor.name == "point_coords" else 1
        return (scale * random.random(shape)).astype(tensor.dtype)

    return {tensor.name: draw(tensor) for tensor in graph.inputs}


def assert_close(actual, expected, tolerance=FP32) -> None:
    for name, array in expected.items():
        gap = np.abs(actual[name].astype(np.float64) - array).max() / np.abs(array).max()
        assert gap <= tolerance, (name, gap)


GRAPHS = [
    *(("sam-nano", name) for name in ("encoder", "image_state", "decoder", "mask_head")),
    ("sam-nano", "decoder_mask"),
    ("echo-a4c", "network"),
]


@pytest.mark.parametrize(("model", "name"), GRAPHS)
def test_every_graph_answers_as_on_the_processor(built, flavour, model, name):
    folder = built[model]
    exact = open_graph(folder, name, backend="onnxruntime", device="cpu")
    fast = open_graph(folder, name, backend=flavour, device="cuda")
    inputs = inputs_of(exact.graph)
    expected = exact.run(inputs)
    # The first call, the one that is recorded, and those that are launched.
    for _ in range(4):
        assert_close(fast.run(inputs), expected)
    fast.close()


@pytest.mark.parametrize("prompts", [1, 31, 33, 1024, 1100])
def test_pieces_are_the_same_as_single_prompts(built, flavour, prompts):
    backend = open_graph(built["sam-nano"], "decoder", backend=flavour)
    inputs = inputs_of(backend.graph, {**SIZES, "prompts": prompts})
    whole = backend.run(inputs)
    for row in {0, prompts // 2, prompts - 1}:
        cut = {
            name: array[row : row + 1] if len(array) == prompts else array
            for name, array in inputs.items()
        }
        assert_close(
            {name: array[row : row + 1] for name, array in whole.items()}, backend.run(cut)
        )
    backend.close()


def test_threads_do_not_mix_their_answers(built, flavour):
    backend, wrong = open_graph(built["sam-nano"], "mask_head", backend=flavour), []
    inputs = inputs_of(backend.graph)
    expected = backend.run(inputs)

    def work(factor: float) -> None:
        own = {**inputs, "mask_vectors": inputs["mask_vectors"] * np.float32(factor)}
        for _ in range(10):
            found = backend.run(own)["low_res_logits"]
            gap = np.abs(found - factor * expected["low_res_logits"]).max()
            if gap > FP32 * factor * np.abs(expected["low_res_logits"]).max():
                wrong.append((factor, gap))

    threads = [threading.Thread(target=work, args=(factor,)) for factor in (1.0, 2.0, 4.0, 8.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    backend.close()


def test_arrays_of_torch_are_taken_and_given_without_a_copy(built, flavour):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this torch is built without CUDA")
    folder = built["echo-a4c"]
    stored = folder.manifest.graphs["network"]
    backend = open_engine(folder, stored, device="cuda", memory="cuda", backend=flavour)
    inputs = inputs_of(stored.graph)
    expected = OrtBackend(folder.file(stored), stored.graph).run(inputs)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        # Still being made when it is handed over.
        frames = torch.from_numpy(inputs["frames"]).cuda(non_blocking=True)
        frames = (frames @ torch.eye(frames.shape[-1], device="cuda")).contiguous()
        outputs = backend.run({"frames": frames})
        # Nobody has waited yet: the stream is made to when the array is handed over.
        passed = torch.from_dlpack(outputs["probabilities"]).clone()
        frames.zero_()
    stream.synchronize()
    assert_close({"probabilities": passed.cpu().numpy()}, expected)
    # The host waits for who takes it this way, which names no stream.
    found = torch.as_tensor(outputs["probabilities"], device="cuda")
    assert found.data_ptr() == outputs["probabilities"].address
    assert_close({"probabilities": found.cpu().numpy()}, expected)
    backend.close()


def test_many_calls_that_nobody_waits_for_are_right(built, flavour):
    """Memory of dropped outputs is used again while the device is behind."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this torch is built without CUDA")
    folder = built["echo-a4c"]
    stored = folder.manifest.graphs["network"]
    backend = open_engine(folder, stored, device="cuda", memory="cuda", backend=flavour)
    inputs = inputs_of(stored.graph)
    exact = OrtBackend(folder.file(stored), stored.graph)
    kept = []
    with torch.cuda.stream(torch.cuda.Stream()):
        for turn in range(24):
            frames = torch.from_numpy(np.roll(inputs["frames"], turn, axis=-1)).cuda()
            outputs = backend.run({"frames": frames})
            kept.append(torch.from_dlpack(outputs["probabilities"]).sum(dim=(0, 2, 3)))
            del frames, outputs
    torch.cuda.synchronize()
    for turn, found in enumerate(kept):
        expected = exact.run({"frames": np.roll(inputs["frames"], turn, axis=-1)})["probabilities"]
        np.testing.assert_allclose(found.cpu().numpy(), expected.sum(axis=(0, 2, 3)), rtol=FP32)
    backend.close()


def test_with_too_little_memory_half_runs_at_a_time(built, flavour):
    device = cuda_device.open_device(0)
    backend = open_graph(built["sam-nano"], "decoder", backend=flavour)
    inputs = inputs_of(backend.graph, {**SIZES, "prompts": 1024})
    expected = backend.run(inputs)
    backend.close()
    backend = open_graph(built["sam-nano"], "decoder", backend=flavour)
    with device.current():
        free, _ = device.driver.mem_get_info()
        # Not from a pool, which would round it up.
        held = device.driver.mem_alloc(max(free - 14 * 2**30, 2**20))
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            outputs = backend.run(inputs)
    finally:
        del held
        gc.collect()
        with device.current():
            device.give_back()
    assert any("runs 512 at a time" in str(one.message) for one in said)
    assert_close(outputs, expected)
    backend.close()


def test_the_masks_are_those_of_the_processor(built, flavour):
    boxes = [[305, 15, 365, 72], [18, 232, 75, 289]]
    exact = fastseg.load("sam-nano", device="cpu").segment(PICTURE, boxes=boxes).array()
    with fastseg.load(built["sam-nano"].path, backend=flavour) as model:
        assert model.device == "cuda:0"
        found = model.segment(PICTURE, boxes=boxes).array()
    both, either = (exact & found).sum(axis=(1, 2)), (exact | found).sum(axis=(1, 2))
    assert (both / np.maximum(either, 1)).min() >= 0.99


def test_an_engine_for_another_architecture_is_refused(built, flavour, gpu, tmp_path):
    if not FLAVOURS[flavour].ahead_of_time:
        pytest.skip(f"{flavour} builds for the GPU at hand alone")
    other = "sm75" if gpu.compute_capability != (7, 5) else "sm120"
    source = artifacts.read(registry.find("echo-a4c"))
    result = build(source, Request(flavour, "fp32", (other,), out=tmp_path / "out"))
    assert result.comparison.state.startswith("not compared")
    stored = source.manifest.graphs["network"]
    folder = artifacts.read(tmp_path / "out")
    device = cuda_device.open_device(0)
    (path,) = (tmp_path / "out" / "engines").glob("*.engine")
    # By our own key, and, past it, by the runtime.
    with pytest.raises(EngineError, match=other):
        find_engine(folder, stored, FLAVOURS[flavour], gpu, EngineCache(tmp_path / "cache"))
    with device.current(), pytest.raises(EngineError, match=r"does not suit|refuses"):
        load_engine(path.read_bytes(), FLAVOURS[flavour], gpu, "the engine")


def test_onnxruntime_runs_on_the_device_or_says_what_it_lacks(gpu):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if cuda_provider.PROVIDER not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime is built without CUDA")
    folder = artifacts.read(registry.find("sam-nano"))
    for name in ("encoder", "image_state", "decoder", "mask_head"):
        exact = open_graph(folder, name, backend="onnxruntime", device="cpu")
        fast = open_graph(folder, name, backend="onnxruntime", device="cuda")
        assert fast.name == "onnxruntime:cuda:0"
        inputs = inputs_of(exact.graph)
        assert_close(fast.run(inputs), exact.run(inputs))
