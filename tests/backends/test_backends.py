"""A loaded graph: what is named runs or raises, and whatever goes wrong is ours to say."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastseg.backends.base import Backend
from fastseg.backends.onnxruntime import session as ort
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.backends.openvino import OpenVinoBackend
from fastseg.contract import IR_VERSION, OPSET, GraphSpec, TensorSpec
from fastseg.environment import usable_cores
from fastseg.errors import BackendError, ModelFolderError
from fastseg.testing import FakeBackend
from tests.fakes import fake_machine

onnx = pytest.importorskip("onnx", reason="graphs are written with onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

X = TensorSpec("x", "float32", ("n", 4))
Y = TensorSpec("y", "float32", ("n", 4))
DOUBLE = GraphSpec("double", (X,), (Y,))
DOUBLE_TEXT = "double (float[n, 4] x) => (float[n, 4] y) { y = Add (x, x) }"


def write(path: Path, text: str) -> Path:
    header = f'<ir_version: {IR_VERSION}, opset_import: ["": {OPSET}]>'
    path.write_bytes(onnx.parser.parse_model(f"{header} {text}").SerializeToString())
    return path


@pytest.fixture(autouse=True)
def no_driver(monkeypatch) -> None:
    """Machines with a GPU run these tests as those without one."""
    fake_machine.without_driver(monkeypatch)


@pytest.fixture(params=["onnxruntime", "openvino"])
def open_file(request) -> type[OrtBackend] | type[OpenVinoBackend]:
    """Each runtime that is installed, in turn."""
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return {"onnxruntime": OrtBackend, "openvino": OpenVinoBackend}[request.param]


@pytest.fixture
def double(tmp_path, open_file) -> Backend:
    return open_file(write(tmp_path / "double.onnx", DOUBLE_TEXT), DOUBLE)


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


def test_outputs_survive_a_graph_that_frees_its_memory(tmp_path, open_file):
    path = write(tmp_path / "double.onnx", DOUBLE_TEXT)
    frugal = open_file(path, DOUBLE, keep_memory=False)
    outputs = [frugal.run({"x": np.full((9999, 4), k, np.float32)})["y"] for k in range(5)]
    assert [set(np.unique(output)) for output in outputs] == [{0}, {2}, {4}, {6}, {8}]


def test_outputs_survive_a_second_run_and_a_close(double):
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
def test_wrong_inputs_are_named_and_the_graph_stays_usable(double, inputs, says):
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
    graph = GraphSpec("fails", (X,), (TensorSpec("y", "float32", (3, 5)),))
    if open_file is OpenVinoBackend and usable_cores() == 1:
        pytest.skip("on one core OpenVINO does not notice what is wrong")
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


def test_the_requested_thread_count_changes_no_result(tmp_path, monkeypatch):
    path = write(tmp_path / "double.onnx", DOUBLE_TEXT)
    asked: list[int] = []
    original = ort._open

    def watched(runtime, path, threads, device, **options):
        asked.append(threads)
        return original(runtime, path, threads, device, **options)

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
def test_a_missing_operator_is_blamed_on_the_runtime(tmp_path, runtime, backend, text):
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    x = TensorSpec("x", "float32", (1, 1, 4, 4))
    y = TensorSpec("y", "float32", (1, 1) if "Det" in text else (1, 1, 4, 4))
    with pytest.raises(BackendError, match=rf"cannot run .*lacking\.onnx.*Upgrade {runtime}"):
        backend(write(tmp_path / "lacking.onnx", text), GraphSpec("graph", (x,), (y,)))
