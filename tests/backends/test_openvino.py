"""OpenVINO beside ONNX Runtime: the same masks, the precision that was asked for, and no harm."""

from __future__ import annotations

import errno
import gc
import os
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastseg
from fastseg import artifacts
from fastseg.artifacts import ModelFolder, registry
from fastseg.backends import openvino
from fastseg.backends.openvino import OpenVinoBackend
from fastseg.backends.selection import choose, open_graph, plan
from fastseg.contract import TensorSpec
from fastseg.demo import PICTURE
from fastseg.environment import usable_cores
from fastseg.errors import BackendError, BackendUnavailableError, ModelFolderError
from fastseg.images import read_image
from fastseg.inference.sessions import Choice
from fastseg.validation import comparison
from fastseg.validation.comparison import Limits
from fastseg.validation.probes import ModelOutputs, Probe, build_probe, run_probes
from tests.helpers.processes import finish

pytest.importorskip("openvino", reason="openvino is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SIZES = {"images": 1, "prompts": 3, "points": 2, "survivors": 3, "masks": 2, "batch": 2}
PARITY = 1e-4


@pytest.fixture(scope="module", autouse=True)
def shared_cache(tmp_path_factory) -> Iterator[None]:
    """Let tests find the graphs that earlier ones compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("openvino")))
        yield


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty folder for the graphs that are compiled during a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fastseg" / "openvino"


@pytest.fixture(scope="module")
def folder() -> ModelFolder:
    return artifacts.read(registry.find("sam-nano"))


@pytest.fixture(scope="module")
def asked(folder) -> list[Probe]:
    return [build_probe(folder.manifest, read_image(PICTURE))]


@pytest.fixture(scope="module")
def expected(folder, asked) -> tuple[ModelOutputs, ...]:
    """Run the probes on ONNX Runtime."""
    return run_probes(folder, Choice(backend="onnxruntime"), asked)


@pytest.fixture(scope="module")
def unet(tmp_path_factory) -> ModelFolder:
    """A narrow U-Net with random weights."""
    torch = pytest.importorskip("torch", reason="exports need torch")
    from fastseg.export.model_folder import Card
    from fastseg.export.networks.unet import UNet
    from fastseg.export.unet import write_unet_folder
    from tests.helpers.random_weights import scattered

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = scattered(UNet(3, 5, width=8))
    path = tmp_path_factory.mktemp("models") / "unet"
    write_unet_folder(network, path, "a4c", Card("unet", licence="none"))
    return artifacts.read(path)


@pytest.fixture
def needs_bf16() -> None:
    if "bf16" not in openvino.precisions():
        pytest.skip("this processor has no BF16 instructions")


def inputs_of(backend) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)

    def draw(tensor: TensorSpec) -> np.ndarray:
        shape = [SIZES[size] if isinstance(size, str) else size for size in tensor.shape]
        if tensor.name == "point_labels":
            return random.integers(-1, 4, shape, dtype=np.int32)
        scale = 1024 if tensor.name == "point_coords" else 1
        return scale * random.random(shape, dtype=np.float32)

    return {tensor.name: draw(tensor) for tensor in backend.graph.inputs}


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def differences(folder: ModelFolder, name: str, **choice: str) -> dict[str, float]:
    """Measure how far each output of a graph is from ONNX Runtime's."""
    reference = open_graph(folder, name, backend="onnxruntime")
    backend = open_graph(folder, name, **choice)
    inputs = inputs_of(reference)
    expected, actual = reference.run(inputs), backend.run(inputs)
    return {key: relative(actual[key], expected[key]) for key in expected}


# The same numbers, the same masks.


EMBEDDED = [
    pytest.param(folder, stored.graph.name, id=f"{folder.manifest.name}, {stored.graph.name}")
    for folder in (artifacts.read(path, verify=False) for path in registry.embedded_folders())
    for stored in folder.manifest.graphs.values()
]


@pytest.mark.parametrize(("model", "name"), EMBEDDED)
def test_fp32_is_fp32_also_where_the_processor_has_bf16(model, name):
    found = differences(model, name, backend="openvino")
    assert max(found.values()) <= PARITY, found


def test_the_masks_of_both_runtimes_are_the_same(folder, asked, expected):
    actual = run_probes(folder, Choice(backend="openvino"), asked)
    assert (actual[0].backend, actual[0].device, actual[0].precision) == ("openvino", "cpu", "fp32")
    found = comparison.compare(expected, actual)
    limits = Limits(max_relative=PARITY, min_iou=0.999)
    assert found.within(limits), str(found.table)
    assert found.kept[0] == found.kept[1] > 0


def test_the_masks_in_bf16_are_nearly_the_same(folder, asked, expected, needs_bf16):
    actual = run_probes(folder, Choice(backend="openvino", precision="bf16"), asked)
    assert (actual[0].backend, actual[0].precision) == ("openvino", "bf16")
    found = comparison.compare(expected, actual)
    assert found.of_masks.mask_iou_mean >= 0.99
    # Of masks that a pipeline would keep: unstable ones move with any rounding.
    assert found.kept[0] > 5
    least, mean = found.kept_iou
    assert mean >= 0.99
    assert least >= 0.95


def chambers(probabilities: np.ndarray) -> np.ndarray:
    """Half of the pixels of each class: random weights are sure of none."""
    return probabilities > np.median(probabilities, axis=(2, 3), keepdims=True)


@pytest.mark.parametrize(("precision", "least_iou"), [("fp32", 0.999), ("bf16", 0.99)])
def test_a_network_for_frames_draws_the_same_chambers(unet, precision, least_iou, request):
    if precision == "bf16":
        request.getfixturevalue("needs_bf16")
    reference = open_graph(unet, "network")
    backend = open_graph(unet, "network", backend="openvino", precision=precision)
    inputs = inputs_of(reference)
    expected = reference.run(inputs)["probabilities"]
    actual = backend.run(inputs)["probabilities"]
    assert relative(actual, expected) <= {"fp32": PARITY, "bf16": 1e-2}[precision]
    a, b = chambers(actual), chambers(expected)
    ious = (a & b).sum(axis=(2, 3)) / (a | b).sum(axis=(2, 3))
    assert ious.mean() >= least_iou


# The precision that was asked for.


def test_bf16_is_computed_in_bf16(folder, needs_bf16):
    for choice in ({"precision": "bf16"}, {"backend": "openvino", "precision": "bf16"}):
        found = differences(folder, "encoder", **choice)["embedding"]
        assert PARITY < found < 2e-2


@pytest.mark.parametrize("name", ["decoder", "decoder_mask"])
def test_what_places_a_prompt_stays_in_fp32(folder, needs_bf16, name):
    choice = {"backend": "openvino", "precision": "bf16"}
    assert plan(folder, name, **choice).precision == "fp32"
    assert max(differences(folder, name, **choice).values()) <= PARITY


def test_a_model_and_its_timings_say_what_ran(needs_bf16):
    image = read_image(PICTURE)
    for precision in ("fp32", "bf16"):
        with fastseg.load("sam-nano", backend="openvino", precision=precision) as model:
            assert (model.backend, model.device, model.precision) == ("openvino", "cpu", precision)
            timings = model.segment(image, points=[60, 60]).timings
        assert (timings.backend, timings.device) == ("openvino", "cpu")
        assert timings.precision == precision


def test_auto_is_not_openvino_where_nothing_was_measured():
    with fastseg.load("sam-nano") as model:
        assert (model.backend, model.precision) == ("onnxruntime+native", "fp32")


def test_bf16_is_refused_where_the_processor_does_not_have_it(folder, monkeypatch):
    monkeypatch.setattr(openvino, "_capabilities", lambda: ["FP32", "INT8"])
    for backend in ("auto", "openvino"):
        with pytest.raises(BackendUnavailableError, match="bf16") as caught:
            open_graph(folder, "encoder", backend=backend, precision="bf16")
        assert "processor" in caught.value.reason
        assert 'precision="fp32"' in caught.value.remedy
    assert open_graph(folder, "encoder", backend="openvino").name == "openvino:cpu"


def test_bf16_in_onnxruntime_is_refused_with_what_would_do_it(folder):
    with pytest.raises(BackendError, match=r'onnxruntime does not.*backend="openvino"'):
        open_graph(folder, "encoder", backend="onnxruntime", precision="bf16")


def test_another_precision_is_refused(folder):
    with pytest.raises(BackendError, match="fp32 or bf16 or int8, not in 'fp16'"):
        open_graph(folder, "encoder", backend="openvino", precision="fp16")
    with pytest.raises(BackendError, match=r"holds encoder in fp32, not in int8.*export int8"):
        open_graph(folder, "encoder", backend="openvino", precision="int8")


@pytest.mark.parametrize("version", ["2024.6.0-17404", "2021.4", "custom"])
def test_an_old_version_is_refused_with_the_upgrade_command(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(__version__=version))
    with pytest.raises(BackendUnavailableError, match=r"pip install -U openvino") as caught:
        choose(backend="openvino")
    assert version in caught.value.reason


# Threads and processes.


@pytest.mark.parametrize(("asked", "used"), [(0, usable_cores()), (1, 1), (1000, usable_cores())])
def test_a_call_has_its_threads_and_calls_fill_the_cores(folder, asked, used):
    backend = open_graph(folder, "image_state", backend="openvino", threads=asked)
    streams = backend._compiled.get_property("NUM_STREAMS")
    assert streams == usable_cores() // used
    assert backend._compiled.get_property("INFERENCE_NUM_THREADS") == used * streams


def test_eight_threads_get_the_masks_that_one_gets(folder):
    image = read_image(PICTURE)
    clicks = [[40 + 20 * number, 60] for number in range(8)]
    with fastseg.load("sam-nano", backend="openvino") as model:
        embedding = model.embed(image)
        alone = [model.segment(embedding, points=click) for click in clicks]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda at: model.segment(embedding, points=at), clicks * 3))
    for number, masks in enumerate(together):
        np.testing.assert_array_equal(masks.array(), alone[number % 8].array())


FORK = """
import os, sys, numpy
import fastseg
model = fastseg.load("sam-nano", backend="openvino")
image = numpy.arange(48 * 64 * 3, dtype=numpy.uint8).reshape(48, 64, 3)
expected = model.segment(image, points=[30, 20]).array()
child = os.fork()
if child == 0:
    same = (model.segment(image, points=[30, 20]).array() == expected).all()
    model.close()
    with fastseg.load("sam-nano", backend="openvino") as fresh:
        same &= (fresh.segment(image, points=[30, 20]).array() == expected).all()
    sys.exit(0 if same else 1)
_, status = os.waitpid(child, 0)
assert (model.segment(image, points=[30, 20]).array() == expected).all()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_forked_after_loading_runs_closes_and_ends():
    done = finish([sys.executable, "-c", FORK])
    assert done.returncode == 0, done.stderr


def test_closing_frees_the_graph(folder):
    backend = open_graph(folder, "mask_head", backend="openvino")
    compiled = weakref.ref(backend._compiled)
    backend.close()
    gc.collect()
    assert compiled() is None


# Compiled graphs that are kept.


def opened(folder: ModelFolder, **settings) -> OpenVinoBackend:
    return open_graph(folder, "mask_head", backend="openvino", **settings)


def drawn(backend: OpenVinoBackend) -> np.ndarray:
    return backend.run(inputs_of(backend))["low_res_logits"]


@pytest.fixture
def never_compiled(monkeypatch):
    """Call it, and from then on graphs come from the cache or not at all."""

    def refuse(self, settings):
        raise AssertionError("the graph was compiled again")

    return lambda: monkeypatch.setattr(openvino._Source, "_build", refuse)


def test_a_graph_is_compiled_once_for_all_processes_of_a_user(folder, cache, never_compiled):
    expected = drawn(opened(folder))
    assert len(list(cache.iterdir())) == 1
    never_compiled()
    np.testing.assert_array_equal(drawn(opened(folder)), expected)


def test_a_graph_that_was_compiled_otherwise_is_another(folder, cache, needs_bf16, use_cores):
    use_cores(2)
    opened(folder, threads=1)
    opened(folder, threads=2)
    opened(folder, threads=1, precision="bf16")
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_a_kept_graph_that_is_damaged_is_made_again(folder, cache, never_compiled, keep):
    expected = drawn(opened(folder))
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:keep])
    np.testing.assert_array_equal(drawn(opened(folder)), expected)
    never_compiled()
    np.testing.assert_array_equal(drawn(opened(folder)), expected)


def test_an_altered_bit_never_reaches_the_runtime(folder, cache, monkeypatch):
    opened(folder)
    (kept,) = cache.iterdir()
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        openvino._import(kept, {})


def test_a_place_that_cannot_be_written_costs_nothing_but_time(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert np.isfinite(drawn(opened(folder))).all()


def test_a_full_disk_costs_nothing_but_time(folder, cache, monkeypatch):
    def full(compiled, file):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(openvino, "_export", full)
    assert np.isfinite(drawn(opened(folder))).all()
    assert list(cache.iterdir()) == []


def test_a_large_graph_is_not_kept(folder, cache, monkeypatch):
    monkeypatch.setattr(openvino, "_LARGEST_CACHED", 1000)
    opened(folder)
    assert not cache.exists()


def test_a_kept_graph_is_held_against_the_contract_too(folder, cache):
    backend = opened(folder)
    stored = plan(folder, "mask_head", backend="openvino").stored
    OpenVinoBackend(folder.file(stored), backend.graph, content=stored.sha256)
    with pytest.raises(ModelFolderError, match="is not the graph"):
        OpenVinoBackend(
            folder.file(stored), plan(folder, "encoder").stored.graph, content=stored.sha256
        )
