"""Which runtime runs a graph, and from which file: what is named is taken at its word or raises."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

import fastseg
from fastseg import artifacts
from fastseg.artifacts import manifest
from fastseg.backends import openvino, selection
from fastseg.backends.base import NotServedError, Runtime
from fastseg.backends.onnxruntime import session as ort
from fastseg.backends.selection import choose, open_graph
from fastseg.backends.table import RUNTIMES, runtime
from fastseg.environment import install_hint
from fastseg.errors import BackendError, BackendUnavailableError, ModelFolderError
from fastseg.inference.sessions import Choice, Sessions
from fastseg.testing import FakeBackend, tiny_sam_folder
from tests.fakes import fake_machine, fake_runtime
from tests.fakes.fake_runtime import FakeRuntime
from tests.helpers.fresh_interpreter import loaded_by

pytest.importorskip("onnx", reason="graphs are written with onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture(autouse=True)
def no_driver(monkeypatch) -> None:
    """Machines with a GPU run these tests as those without one."""
    fake_machine.without_driver(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> artifacts.ModelFolder:
    return artifacts.read(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny"))


def test_auto_chooses_and_names_are_taken_at_their_word():
    assert choose() == ("onnxruntime", "cpu")
    assert choose(device="cpu", backend="onnxruntime") == ("onnxruntime", "cpu")
    assert choose(device="cpu") == choose(backend="onnxruntime") == choose()


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_a_backend_that_is_not_here_raises_and_is_not_replaced(folder, backend):
    with pytest.raises(
        BackendUnavailableError, match=rf'{backend} is not.*backend="onnx'
    ) as caught:
        open_graph(folder, "encoder", backend=backend)
    assert caught.value.name == backend
    assert caught.value.reason
    assert caught.value.remedy


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1"])
def test_a_device_that_is_not_here_raises_and_is_not_replaced(folder, device):
    with pytest.raises(BackendUnavailableError, match=rf'{device} is not.*device="cpu"'):
        open_graph(folder, "encoder", device=device)


@pytest.mark.parametrize(
    "wrong",
    [
        {"backend": "onnx"},
        {"backend": ""},
        {"device": "gpu"},
        {"device": "cuda:x"},
        {"device": "cpu\n"},
        {"precision": "float32"},
        {"threads": -1},
    ],
)
def test_a_word_that_nobody_knows_is_answered_with_those_that_are_known(folder, wrong):
    name = next(iter(wrong))
    with pytest.raises(BackendError, match=rf"{name} must be .*(auto|0)"):
        open_graph(folder, "encoder", **wrong)


@pytest.mark.parametrize(("runtime", "extra"), [("onnxruntime", "cpu"), ("openvino", "openvino")])
def test_a_runtime_that_is_not_installed_raises_with_the_command_that_installs_it(
    monkeypatch, runtime, extra
):
    monkeypatch.setitem(sys.modules, runtime, None)
    with pytest.raises(BackendUnavailableError, match=re.escape(install_hint(extra))) as caught:
        choose(backend=runtime)
    assert caught.value.name == runtime


def test_auto_takes_openvino_where_there_is_nothing_else(monkeypatch):
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert choose() == ("openvino", "cpu")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailableError, match=re.escape(install_hint("cpu"))):
        choose()


def test_a_folder_runs_in_the_precision_that_it_has(folder):
    assert folder.graph_file("encoder").precision == "fp32"
    assert folder.graph_file("encoder", "fp32").precision == "fp32"
    with pytest.raises(BackendError, match=r"holds encoder in fp32, not in fp16"):
        folder.graph_file("encoder", "fp16")


def test_auto_prefers_full_precision_and_takes_what_there_is(folder):
    single = folder.manifest.graphs["encoder"]
    half = replace(single, precision="fp16", file="encoder.fp16.onnx")

    def holding(**graphs: manifest.GraphFile) -> artifacts.ModelFolder:
        return replace(folder, manifest=replace(folder.manifest, graphs=graphs))

    both = holding(half=half, single=single)
    assert both.graph_file("encoder") == single
    assert both.graph_file("encoder", "fp16") == half
    assert holding(half=half).graph_file("encoder") == half


def test_a_graph_that_the_folder_lacks_is_named(folder):
    with pytest.raises(ModelFolderError, match="no graph 'mask_refiner'"):
        open_graph(folder, "mask_refiner")


def test_the_backends_load_no_runtime_before_it_is_needed():
    statement = "import fastseg.backends.selection, fastseg.testing"
    assert loaded_by(statement, ["torch", "onnxruntime", "openvino", "onnx"]) == []


@pytest.mark.parametrize(
    ("backend", "module", "name"),
    [("onnxruntime", ort, "OrtBackend"), ("openvino", openvino, "OpenVinoBackend")],
)
def test_a_graph_that_runs_once_per_image_gives_its_memory_back(
    folder, monkeypatch, backend, module, name
):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    kept: dict[str, bool] = {}

    def watched(path, graph, *, keep_memory, **settings):
        kept[graph.name] = keep_memory
        return FakeBackend(graph, dict)

    monkeypatch.setattr(module, name, watched)
    for graph in folder.manifest.graphs:
        open_graph(folder, graph, backend=backend)
    for_prompts = {name for name, keeps in kept.items() if keeps}
    assert for_prompts == {"decoder", "decoder_mask", "mask_head"}


def test_every_name_that_the_api_promises_is_known():
    assert set(selection.BACKENDS) == {
        "native",
        "onnxruntime",
        "openvino",
        "tensorrt",
        "tensorrt-rtx",
    }
    assert set(selection.PRECISIONS) == {"fp32", "bf16", "fp16", "int8"}


# The table of runtimes.


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_runtime_of_the_table_has_the_same_interface(name):
    found = runtime(name)
    assert isinstance(found, Runtime)
    assert found is runtime(name)
    assert name == found.name
    assert set(found.devices) <= {"cpu", "cuda"}
    assert found.needs_gpu == (found.devices == ("cuda",)) == RUNTIMES[name].needs_gpu
    for attribute in ("own_layout", "fills_cores", "runs_whole_models"):
        assert isinstance(getattr(found, attribute), bool)
    assert set(found.slow_for_images) <= set(selection.PRECISIONS)
    for function in ("require", "resolve", "open_graph"):
        wanted = inspect.signature(getattr(Runtime, function)).parameters
        given = inspect.signature(getattr(found, function)).parameters
        assert [*given] == [*wanted][1:]


@pytest.fixture
def decoding_runtime(monkeypatch):
    """A runtime that decodes prompts alone, first in the table, in whatever precision it says."""

    def resolve(folder, graph_name, precision):
        if graph_name not in ("image_state", "decoder", "mask_head"):
            raise NotServedError(f"decoding encodes no image, and {graph_name} is not its own")
        return folder.graph_file(graph_name), "fp32"

    def open_graph(folder, plan, *, threads, keep_memory):
        return FakeBackend(plan.stored.graph, dict, name="decoding:cpu")

    decoding = FakeRuntime("decoding", resolve=resolve, open_graph=open_graph, own_layout=True)
    fake_runtime.install(monkeypatch, decoding, *RUNTIMES)
    return decoding


def test_each_graph_of_a_model_may_run_on_another_runtime(folder, decoding_runtime):
    graphs = Sessions(folder, Choice())
    ran = {name: each.partition(":")[0] for name, each in graphs.runs.items()}
    assert ran == {
        "encoder": "onnxruntime",
        "image_state": "decoding",
        "decoder": "decoding",
        "decoder_mask": "onnxruntime",
        "mask_head": "decoding",
    }
    assert graphs.backend == "onnxruntime+decoding"
    assert graphs.runs["encoder"] == "onnxruntime:cpu fp32"
    assert graphs["decoder"].name == "decoding:cpu"


def test_two_names_are_those_of_the_image_graph_and_the_prompt_graphs(folder):
    pytest.importorskip("openvino", reason="openvino is not installed")
    graphs = Sessions(folder, Choice(backend="openvino+onnxruntime"))
    assert graphs.backend == "openvino+onnxruntime"
    assert graphs["encoder"].name == "openvino:cpu"
    assert {graphs[name].name for name in ("image_state", "decoder", "mask_head")} == {
        "onnxruntime:cpu"
    }
    assert Sessions(folder, Choice(backend=graphs.backend)).plans == graphs.plans


def test_a_runtime_that_is_named_runs_every_graph_or_says_what_it_does_not_run(
    folder, decoding_runtime
):
    with pytest.raises(BackendError, match="decoding encodes no image"):
        Sessions(folder, Choice(backend="decoding"))
    assert {*Sessions(folder, Choice(backend="onnxruntime")).runs.values()} == {
        "onnxruntime:cpu fp32"
    }


def test_what_prompts_share_is_made_again_where_another_runtime_made_it(folder, decoding_runtime):
    asked = []

    def state(inputs):
        asked.append(inputs["embedding"].shape)
        return {}

    def open_graph(folder, plan, *, threads, keep_memory):
        return FakeBackend(plan.stored.graph, state, name="decoding:cpu")

    decoding_runtime.opens = open_graph
    sam = fastseg.load(folder.path, backend="onnxruntime")
    embedding = sam.embed(np.zeros((20, 30, 3), np.uint8))
    assert embedding.state_of == "onnxruntime:cpu fp32"
    assert sam.decoder.complete(embedding) is embedding
    mixed = fastseg.load(folder.path)
    assert mixed.decoder.complete(embedding).state_of == "decoding:cpu fp32"
    assert asked == [(1, *embedding.features.shape)]


@pytest.mark.parametrize("backend", ["onnxruntime+openvino+onnxruntime", "openvino+", "+", "a+b"])
def test_names_that_are_put_together_wrongly_are_refused(folder, backend):
    with pytest.raises(BackendError, match=r"backend must be .*auto"):
        open_graph(folder, "encoder", backend=backend)
