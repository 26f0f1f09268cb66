"""A loaded graph: what is named runs or raises, and whatever goes wrong is ours to say."""

from __future__ import annotations

import inspect
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastseg
from fastseg import artifacts
from fastseg.backends import cuda_driver, openvino, ort, select
from fastseg.backends.openvino import OpenVinoBackend
from fastseg.backends.ort import OrtBackend
from fastseg.backends.protocol import Backend, usable_cores
from fastseg.backends.runtime import MODULES, NotServedError, Runtime, runtime
from fastseg.backends.select import choose, open_graph
from fastseg.backends.stored import choose_file
from fastseg.contract import IR_VERSION, OPSET, Graph, Tensor
from fastseg.errors import BackendError, BackendUnavailableError, ModelFolderError
from fastseg.graphs import Choice, Graphs
from fastseg.testing import FakeBackend, tiny_sam_folder
from tests.fresh_interpreter import loaded_by

onnx = pytest.importorskip("onnx", reason="graphs are written with onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

X = Tensor("x", "float32", ("n", 4))
Y = Tensor("y", "float32", ("n", 4))
DOUBLE = Graph("double", (X,), (Y,))
DOUBLE_TEXT = "double (float[n, 4] x) => (float[n, 4] y) { y = Add (x, x) }"


def write(path: Path, text: str) -> Path:
    header = f'<ir_version: {IR_VERSION}, opset_import: ["": {OPSET}]>'
    path.write_bytes(onnx.parser.parse_model(f"{header} {text}").SerializeToString())
    return path


@pytest.fixture(autouse=True)
def no_driver(monkeypatch) -> None:
    """Machines with a GPU run these tests as those without one."""
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda-that-nobody-has.so.1")


@pytest.fixture(params=["onnxruntime", "openvino"])
def open_file(request) -> type[OrtBackend] | type[OpenVinoBackend]:
    """Each runtime that is installed, in turn."""
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return {"onnxruntime": OrtBackend, "openvino": OpenVinoBackend}[request.param]


@pytest.fixture
def double(tmp_path, open_file) -> Backend:
    return open_file(write(tmp_path / "double.onnx", DOUBLE_TEXT), DOUBLE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> artifacts.ModelFolder:
    return artifacts.read(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny"))


def ones(count: int) -> dict[str, np.ndarray]:
    return {"x": np.ones((count, 4), np.float32)}


# One graph.


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_a_graph_gives_its_outputs_by_name(double, count):
    outputs = double.run(ones(count))
    assert set(outputs) == {"y"}
    np.testing.assert_array_equal(outputs["y"], np.full((count, 4), 2, np.float32))


def test_a_backend_says_what_it_is_and_where_its_arrays_live(double):
    backends: list[Backend] = [double, FakeBackend(DOUBLE, lambda inputs: {"y": inputs["x"]})]
    runtime = {OrtBackend: "onnxruntime", OpenVinoBackend: "openvino"}[type(double)]
    assert [backend.name for backend in backends] == [f"{runtime}:cpu", "fake:cpu"]
    for backend in backends:
        assert backend.memory == "host"
        assert backend.graph is DOUBLE


def test_arrays_of_any_strides_are_run_as_they_read(double):
    x = np.arange(24, dtype=np.float32).reshape(4, 6).T[:, ::-1]
    np.testing.assert_array_equal(double.run({"x": x})["y"], 2 * x)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    x.flags.writeable = False
    np.testing.assert_array_equal(double.run({"x": x})["y"], 2 * x)


def test_outputs_stay_as_they_are_when_a_graph_gives_its_memory_back(tmp_path, open_file):
    path = write(tmp_path / "double.onnx", DOUBLE_TEXT)
    frugal = open_file(path, DOUBLE, keep_memory=False)
    outputs = [frugal.run({"x": np.full((9999, 4), k, np.float32)})["y"] for k in range(5)]
    assert [set(np.unique(output)) for output in outputs] == [{0}, {2}, {4}, {6}, {8}]


def test_outputs_stay_as_they_are_when_the_graph_runs_again_or_is_closed(double):
    first = double.run(ones(1000))["y"]
    double.run({"x": np.full((1000, 4), 7, np.float32)})
    double.close()
    np.testing.assert_array_equal(first, np.full((1000, 4), 2, np.float32))


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, r"takes \['x'\], not \[\]"),
        ({"x": np.ones((2, 4), np.float32), "z": np.ones(1)}, "not"),
        ({"x": np.ones((2, 4))}, "float32, not float64"),
        ({"x": np.ones((2, 4), ">f4")}, "float32, not >f4"),
        ({"x": np.ones((2, 5), np.float32)}, r"\(2, 5\)"),
        ({"x": np.ones(4, np.float32)}, r"\(4,\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named_and_the_graph_stays_usable(double, inputs, says):
    fake = FakeBackend(DOUBLE, lambda inputs: {"y": 2 * inputs["x"]})
    for backend in (double, fake):
        with pytest.raises(BackendError, match=says):
            backend.run(inputs)
        assert backend.run(ones(1))["y"].sum() == 8


def test_a_closed_graph_says_so_and_can_be_closed_again(double):
    fake = FakeBackend(DOUBLE, lambda inputs: {"y": inputs["x"]})
    for backend in (double, fake):
        backend.close()
        backend.close()
        with pytest.raises(BackendError, match="closed"):
            backend.run(ones(1))


def test_a_failure_of_the_runtime_is_ours_with_the_graphs_name(tmp_path, capfd, open_file):
    text = """fails (float[n, 4] x) => (float[3, 5] y) {
        shape = Constant <value = int64[2] {3, 5}> ()
        y = Reshape (x, shape)
    }"""
    graph = Graph("fails", (X,), (Tensor("y", "float32", (3, 5)),))
    backend = open_file(write(tmp_path / "fails.onnx", text), graph)
    with pytest.raises(BackendError, match=r"fails failed in \w+:cpu.*fewer prompts"):
        backend.run(ones(2))
    # What is raised is not printed as well.
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("keep_memory", [True, False])
def test_several_threads_may_run_one_graph(tmp_path, open_file, keep_memory):
    path = write(tmp_path / "double.onnx", DOUBLE_TEXT)
    double = open_file(path, DOUBLE, keep_memory=keep_memory)
    done: list[bool] = []

    def work(number: int) -> None:
        x = np.full((5000, 4), number, np.float32)
        done.extend(bool((double.run({"x": x})["y"] == 2 * x).all()) for _ in range(20))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 160


def test_closing_in_one_thread_does_not_break_a_run_in_another(double):
    unexpected: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                double.run(ones(1000))
        except BackendError:
            pass
        except BaseException as error:
            unexpected.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    double.close()
    for thread in threads:
        thread.join()
    assert unexpected == []


def test_the_thread_count_is_what_was_asked_for_and_changes_no_result(tmp_path, monkeypatch):
    path = write(tmp_path / "double.onnx", DOUBLE_TEXT)
    asked: list[int] = []
    original = ort._open

    def watched(runtime, path, threads, device):
        asked.append(threads)
        return original(runtime, path, threads, device)

    monkeypatch.setattr(ort, "_open", watched)
    results = [
        OrtBackend(path, DOUBLE, threads=threads).run(ones(50))["y"] for threads in (0, 1, 2)
    ]
    assert asked == [usable_cores(), 1, min(2, usable_cores())]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


# The file and the contract.


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (replace(DOUBLE, inputs=(replace(X, name="z"),)), "inputs are"),
        (replace(DOUBLE, outputs=(Y, replace(Y, name="z"))), "outputs are"),
        (replace(DOUBLE, inputs=(replace(X, dtype="int32"),)), "input x is float32, not int32"),
        (replace(DOUBLE, inputs=(replace(X, shape=("n",)),)), "input x has shape"),
        (replace(DOUBLE, inputs=(replace(X, shape=("n", 5)),)), "input x has shape"),
        (replace(DOUBLE, inputs=(replace(X, shape=("n", "m")),)), "input x has shape"),
        (replace(DOUBLE, outputs=(replace(Y, dtype="float16"),)), "output y is float32"),
        (replace(DOUBLE, outputs=(replace(Y, shape=("n", 3)),)), "output y has shape"),
    ],
)
def test_a_file_that_is_not_the_graph_of_its_contract_is_refused(tmp_path, graph, says, open_file):
    path = write(tmp_path / "double.onnx", DOUBLE_TEXT)
    with pytest.raises(ModelFolderError, match=rf"double\.onnx is not the graph.*{says}"):
        open_file(path, graph)


def test_a_file_may_leave_more_open_than_its_contract(tmp_path, open_file):
    path = write(tmp_path / "double.onnx", DOUBLE_TEXT.replace("[n, 4]", "[n, m]"))
    assert open_file(path, DOUBLE).run(ones(1))["y"].sum() == 8


def test_weights_outside_the_file_are_found_beside_it(tmp_path, monkeypatch, open_file):
    text = DOUBLE_TEXT.replace("Add (x, x)", "Mul (x, two)")
    model = onnx.load(write(tmp_path / "inside.onnx", text))
    two = onnx.numpy_helper.from_array(np.full(4, 2, np.float32), "two")
    model.graph.initializer.append(two)
    onnx.save(
        model,
        tmp_path / "outside.onnx",
        save_as_external_data=True,
        location="outside.weights",
        size_threshold=0,
    )
    assert (tmp_path / "outside.weights").stat().st_size >= 16
    monkeypatch.chdir("/")
    assert open_file(tmp_path / "outside.onnx", DOUBLE).run(ones(1))["y"].sum() == 8


@pytest.mark.parametrize("keep", [0, 1, 20, -1])
def test_a_truncated_file_is_a_broken_model_folder(tmp_path, keep, capfd, open_file):
    path = write(tmp_path / "double.onnx", DOUBLE_TEXT)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFolderError, match=r"double\.onnx.*Export the model again"):
        open_file(path, DOUBLE)
    assert capfd.readouterr().err == ""


def test_a_missing_file_is_a_broken_model_folder(tmp_path, open_file):
    with pytest.raises(ModelFolderError, match=r"absent\.onnx"):
        open_file(tmp_path / "absent.onnx", DOUBLE)


CONVOLVE_DOUBLE = """graph (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) {
    weight = Constant <value = double[1, 1, 1, 1] {2}> ()
    wide = Cast <to = 11> (x)
    product = Conv (wide, weight)
    y = Cast <to = 1> (product)
}"""
DETERMINANT = "graph (float[1, 1, 4, 4] x) => (float[1, 1] y) { y = Det (x) }"


@pytest.mark.parametrize(
    ("runtime", "backend", "text"),
    [
        ("onnxruntime", OrtBackend, CONVOLVE_DOUBLE),
        ("openvino", OpenVinoBackend, DETERMINANT),
    ],
)
def test_a_graph_that_this_runtime_lacks_an_operator_for_is_no_fault_of_the_file(
    tmp_path, runtime, backend, text
):
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    x = Tensor("x", "float32", (1, 1, 4, 4))
    y = Tensor("y", "float32", (1, 1) if "Det" in text else (1, 1, 4, 4))
    with pytest.raises(BackendError, match=rf"cannot run .*lacking\.onnx.*Upgrade {runtime}"):
        backend(write(tmp_path / "lacking.onnx", text), Graph("graph", (x,), (y,)))


# Which backend, which file.


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
    with pytest.raises(BackendUnavailableError, match=rf"fastseg-runtime\[{extra}\]") as caught:
        choose(backend=runtime)
    assert caught.value.name == runtime


def test_auto_takes_openvino_where_there_is_nothing_else(monkeypatch):
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert choose() == ("openvino", "cpu")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'fastseg-runtime\[cpu\]'"):
        choose()


def test_a_folder_runs_in_the_precision_that_it_has(folder):
    assert choose_file(folder, "encoder").precision == "fp32"
    assert choose_file(folder, "encoder", precision="fp32").precision == "fp32"
    with pytest.raises(BackendError, match=r"holds encoder in fp32, not in fp16"):
        choose_file(folder, "encoder", precision="fp16")


def test_auto_prefers_full_precision_and_takes_what_there_is(folder):
    single = folder.manifest.graphs["encoder"]
    half = replace(single, precision="fp16", file="encoder.fp16.onnx")

    def holding(**graphs: artifacts.GraphFile) -> artifacts.ModelFolder:
        return replace(folder, manifest=replace(folder.manifest, graphs=graphs))

    both = holding(half=half, single=single)
    assert choose_file(both, "encoder") == single
    assert choose_file(both, "encoder", precision="fp16") == half
    assert choose_file(holding(half=half), "encoder") == half


def test_a_graph_that_the_folder_lacks_is_named(folder):
    with pytest.raises(ModelFolderError, match="no graph 'mask_refiner'"):
        open_graph(folder, "mask_refiner")


def test_the_backends_load_no_runtime_before_it_is_needed():
    statement = "import fastseg.backends.select, fastseg.testing"
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
    assert set(select.BACKENDS) == {
        "native",
        "onnxruntime",
        "openvino",
        "tensorrt",
        "tensorrt-rtx",
    }
    assert set(select.PRECISIONS) == {"fp32", "bf16", "fp16", "int8"}


# The table of runtimes.


@pytest.mark.parametrize("name", MODULES)
def test_every_module_of_the_table_has_the_same_face(name):
    module = runtime(name)
    assert name == module.NAME
    assert set(module.DEVICES) <= {"cpu", "cuda"}
    assert isinstance(module.OWN_LAYOUT, bool)
    for function in ("require", "settle", "open_graph"):
        wanted = inspect.signature(getattr(Runtime, function)).parameters
        given = inspect.signature(getattr(module, function)).parameters
        assert [*given] == [*wanted][1:]


@pytest.fixture
def decoding_runtime(monkeypatch):
    """A runtime that decodes prompts alone, first in the table, in whatever precision it says."""

    def settle(folder, graph_name, precision):
        if graph_name not in ("image_state", "decoder", "mask_head"):
            raise NotServedError(f"decoding encodes no picture, and {graph_name} is not its own")
        return choose_file(folder, graph_name), "fp32"

    def open_graph(folder, plan, *, threads, keep_memory):
        return FakeBackend(plan.stored.graph, dict, name="decoding:cpu")

    module = SimpleNamespace(
        NAME="decoding",
        DEVICES=("cpu",),
        OWN_LAYOUT=True,
        require=lambda device, precision: "cpu",
        settle=settle,
        open_graph=open_graph,
    )
    monkeypatch.setitem(sys.modules, "tests.decoding", module)
    table = {"decoding": "tests.decoding", **MODULES}
    monkeypatch.setattr("fastseg.backends.runtime.MODULES", table)
    monkeypatch.setattr("fastseg.backends.select.MODULES", table)
    monkeypatch.setattr("fastseg.backends.select.BACKENDS", (*table, "tensorrt", "tensorrt-rtx"))
    return module


def test_each_graph_of_a_model_may_run_on_another_runtime(folder, decoding_runtime):
    graphs = Graphs(folder, Choice())
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


def test_two_names_say_what_looks_at_the_picture_and_what_answers_prompts(folder):
    pytest.importorskip("openvino", reason="openvino is not installed")
    graphs = Graphs(folder, Choice(backend="openvino+onnxruntime"))
    assert graphs.backend == "openvino+onnxruntime"
    assert graphs["encoder"].name == "openvino:cpu"
    assert {graphs[name].name for name in ("image_state", "decoder", "mask_head")} == {
        "onnxruntime:cpu"
    }
    assert Graphs(folder, Choice(backend=graphs.backend)).plans == graphs.plans


def test_a_runtime_that_is_named_runs_every_graph_or_says_what_it_does_not_run(
    folder, decoding_runtime
):
    with pytest.raises(BackendError, match="decoding encodes no picture"):
        Graphs(folder, Choice(backend="decoding"))
    assert {*Graphs(folder, Choice(backend="onnxruntime")).runs.values()} == {
        "onnxruntime:cpu fp32"
    }


def test_what_prompts_share_is_made_again_where_another_runtime_made_it(folder, decoding_runtime):
    asked = []

    def state(inputs):
        asked.append(inputs["embedding"].shape)
        return {}

    def open_graph(folder, plan, *, threads, keep_memory):
        return FakeBackend(plan.stored.graph, state, name="decoding:cpu")

    decoding_runtime.open_graph = open_graph
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
