"""Products of 8-bit integers: the arithmetic, and what is left alone."""

from __future__ import annotations

import numpy as np
import pytest

onnx_ir = pytest.importorskip("onnx_ir", reason="exports need onnx-ir")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from fastseg.export.int8 import calibration as int8_calibration
from fastseg.export.int8.rewrite import ValueRange, products, to_int8
from fastseg.export.onnx.blocks import read_graph

RANDOM = np.random.default_rng(5)
IMAGE = RANDOM.normal(0.5, 1.0, (1, 3, 8, 8)).astype(np.float32)
KERNEL = RANDOM.normal(0, 0.2, (4, 3, 3, 3)).astype(np.float32)
MATRIX = RANDOM.normal(0, 0.2, (8, 6)).astype(np.float32)
TABLE = RANDOM.normal(0, 0.2, (4, 8, 5)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    """A convolution, a matrix that reads its result as another one does, and a table of places."""

    def constant(name, array):
        tensor = onnx_ir.tensor(array, name=name)
        kind = onnx_ir.TensorType(tensor.dtype)
        return onnx_ir.Value(
            name=name, type=kind, shape=onnx_ir.Shape(array.shape), const_value=tensor
        )

    single = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    image = onnx_ir.Value(name="image", type=single, shape=onnx_ir.Shape(IMAGE.shape))
    weights = [constant("kernel", KERNEL), constant("matrix", MATRIX), constant("table", TABLE)]
    convolution = onnx_ir.node("Conv", [image, weights[0]], {"pads": [1, 1, 1, 1]})
    first = onnx_ir.node("MatMul", [convolution.outputs[0], weights[1]])
    second = onnx_ir.node("MatMul", [convolution.outputs[0], weights[1]])
    places = onnx_ir.node("MatMul", [convolution.outputs[0], weights[2]])
    nodes = [convolution, first, second, places]
    names = ["maps", "first", "second", "places"]
    shapes = [(1, 4, 8, 8), (1, 4, 8, 6), (1, 4, 8, 6), (1, 4, 8, 5)]
    for node, name, shape in zip(nodes, names, shapes, strict=True):
        node.name, node.outputs[0].name = f"{name}/{node.op_type}", name
        node.outputs[0].type, node.outputs[0].shape = single, onnx_ir.Shape(shape)
    graph = onnx_ir.Graph(
        [image],
        [node.outputs[0] for node in nodes],
        nodes=nodes,
        initializers=weights,
        opset_imports={"": 18},
        name="g",
    )
    file = tmp_path / "graph.onnx"
    onnx_ir.save(onnx_ir.Model(graph, ir_version=9), file)
    return file


def answers(model, tmp_path, image=IMAGE):
    file = tmp_path / "answers.onnx"
    onnx_ir.save(model, file)
    options = onnxruntime.SessionOptions()
    # As the file says it, rounding for rounding: not with a processor's own products.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [out.name for out in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def stepped(array, held):
    steps = np.rint(array / held.scale) + held.zero_point
    return ((steps.clip(0, 255) - held.zero_point) * held.scale).astype(np.float32)


def rounded(weights, axis):
    others = tuple(each for each in range(weights.ndim) if each != axis)
    scale = np.abs(weights).max(axis=others, keepdims=True) / np.float32(127)
    return (np.rint(weights / scale) * scale).astype(np.float32)


def test_a_product_is_that_of_rounded_operands(path, tmp_path):
    exact = answers(read_graph(path), tmp_path)
    held = int8_calibration.measure_ranges(read_graph(path), [{"image": IMAGE}])
    assert held["image"] == ValueRange(float(IMAGE.min()), float(IMAGE.max()))
    assert held["maps"] == ValueRange(float(exact["maps"].min()), float(exact["maps"].max()))
    found = answers(to_int8(read_graph(path), held), tmp_path)
    padded = np.pad(stepped(IMAGE, held["image"]), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    maps = np.einsum("bchwij,ocij->bohw", windows, rounded(KERNEL, 0))
    np.testing.assert_allclose(found["maps"], maps, rtol=0, atol=2e-6)
    expected = stepped(found["maps"], held["maps"]) @ rounded(MATRIX, 1)
    np.testing.assert_allclose(found["first"], expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(found["second"], found["first"])
    assert 0 < np.abs(found["first"] - exact["first"]).max() < 0.1


def test_what_two_products_share_is_rounded_once_and_tables_stay(path, tmp_path):
    model = read_graph(path)
    to_int8(model, int8_calibration.measure_ranges(model, [{"image": IMAGE}]))
    kinds = [node.op_type for node in model.graph]
    assert kinds.count("QuantizeLinear") == 2
    assert kinds.count("DequantizeLinear") == 4
    assert set(model.graph.initializers) >= {"table", "matrix.axis1.int8", "kernel.axis0.int8"}
    assert not {"matrix", "kernel"} & set(model.graph.initializers)
    exact = answers(read_graph(path), tmp_path)["maps"] @ TABLE
    found = answers(model, tmp_path)
    np.testing.assert_allclose(found["places"], found["maps"] @ TABLE, rtol=0, atol=2e-6)
    assert np.abs(found["places"] - exact).max() > 1e-5


def test_a_product_that_is_to_stay_is_what_it_was(path, tmp_path):
    held = int8_calibration.measure_ranges(read_graph(path), [{"image": IMAGE}])
    names = [str(node.name) for node in products(read_graph(path))]
    assert names == ["maps/Conv", "first/MatMul", "second/MatMul"]
    exact = answers(read_graph(path), tmp_path)
    for kept in names:
        found = answers(to_int8(read_graph(path), held, kept=[kept]), tmp_path)
        same = {name for name in exact if np.array_equal(found[name], exact[name])}
        # Tables are never rounded, so they are the same where what they read is.
        assert same == ({"maps", "places"} if kept == "maps/Conv" else set())
    found = answers(to_int8(read_graph(path), held, kept=names), tmp_path)
    assert all(np.array_equal(found[name], exact[name]) for name in exact)


def test_what_a_product_loses_is_its_own_and_grows_with_outliers(path):
    wild = IMAGE.copy()
    wild[0, 0, 0, 0] = 300.0
    graph = read_graph(path)
    before = [node.name for node in graph.graph], list(graph.graph.outputs)
    held = int8_calibration.measure_ranges(graph, [{"image": IMAGE}])
    lost = int8_calibration.measure_losses(graph, [{"image": IMAGE}], held)
    assert list(lost) == ["maps/Conv", "first/MatMul", "second/MatMul"]
    assert all(1e-6 < nmse < 1e-3 for nmse in lost.values())
    both = int8_calibration.measure_ranges(graph, [{"image": IMAGE}, {"image": wild}])
    assert both["image"] == ValueRange(float(IMAGE.min()), 300.0)
    worse = int8_calibration.measure_losses(graph, [{"image": IMAGE}], both)
    assert worse["maps/Conv"] > 100 * lost["maps/Conv"]
    assert ([node.name for node in graph.graph], list(graph.graph.outputs)) == before
    decided = int8_calibration.decide(worse, 1e-3)
    assert decided[0].as_dict() == {
        "block": "maps/Conv",
        "precision": "fp32",
        "reason": "loss",
        "nmse": worse["maps/Conv"],
    }


@pytest.mark.parametrize(
    ("low", "high", "zero"), [(-1.0, 1.0, 128), (0.5, 2.0, 0), (-3.0, -1.0, 255), (0.0, 0.0, 0)]
)
def test_zero_is_a_step_whatever_the_range(low, high, zero):
    held = ValueRange(low, high)
    assert held.scale > 0
    assert abs(int(held.zero_point) - zero) <= 1
    assert stepped(np.float32(0.0), held) == 0.0
    for end in (low, high):
        assert abs(stepped(np.float32(end), held) - end) <= held.scale
