"""Whole models become engines of TensorRT-RTX without a GPU, and are found again or refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fastseg import artifacts, building
from fastseg.artifacts import ModelFolder, registry
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.builder import BuildOptions, build_engine
from fastseg.backends.tensorrt.engine_cache import EngineCache, find_engine
from fastseg.backends.tensorrt.engine_key import Gpu
from fastseg.backends.tensorrt.library import TENSORRT_RTX
from fastseg.building import Built, Request, build
from fastseg.errors import EngineError
from tests.fakes import fake_machine
from tests.fakes.fake_machine import ADA

REQUEST = Request("tensorrt-rtx", "fp32")
TURING = Gpu("Turing", (7, 5), "13.0")
SLOW = pytest.mark.slow


@dataclass(frozen=True)
class Model:
    """A model folder and what its first build left behind."""

    folder: ModelFolder
    cache: EngineCache
    built: Built


@pytest.fixture(scope="module", autouse=True)
def without_a_gpu(needs_rtx) -> Iterator[None]:
    """Machines with a GPU run these tests as those without one, where nothing can be compared."""
    with pytest.MonkeyPatch.context() as patch:
        fake_machine.without_driver(patch)
        patch.setattr(building, "compare_with_fp32", lambda *_: pytest.fail("it compared"))
        yield


@pytest.fixture(
    scope="module",
    params=["echo-a4c", "vit_small", *(pytest.param(n, marks=SLOW) for n in ("sam-nano", "vit_b"))],
)
def model(request, tmp_path_factory) -> Model:
    """Vision transformers have random weights, which is all the same to a builder."""
    name = request.param
    path = request.getfixturevalue(name).folder if name.startswith("vit_") else registry.find(name)
    folder = artifacts.read(path, verify=False)
    cache = EngineCache(tmp_path_factory.mktemp("engines"))
    return Model(folder, cache, build(folder, REQUEST, cache=cache))


def test_every_graph_becomes_an_engine_with_all_its_weights(model):
    stored = {one.graph.name: one for one in model.folder.manifest.graphs.values()}
    assert [one.graph for one in model.built.engines] == list(stored)
    for one in model.built.engines:
        assert one.origin == "built"
        assert one.bytes >= 0.99 * sum(file.bytes for file in stored[one.graph].files)
    assert model.built.comparison.state == "not compared: no device"


def test_what_was_built_is_found_again(model):
    again = build(model.folder, REQUEST, cache=model.cache)
    assert {one.origin for one in again.engines} == {"cache"}
    assert [one.bytes for one in again.engines] == [one.bytes for one in model.built.engines]


def test_engines_run_where_they_fit_and_others_say_why_not(model, monkeypatch):
    stored = next(iter(model.folder.manifest.graphs.values()))

    def find(gpu: Gpu):
        return find_engine(model.folder, stored, TENSORRT_RTX, gpu, model.cache)

    assert find(ADA).card.key.targets == ("portable",)
    with pytest.raises(EngineError, match=r"built for portable, and this is Turing"):
        find(TURING)
    version = tensorrt_library.version(TENSORRT_RTX)
    monkeypatch.setattr(tensorrt_library, "version", lambda flavour: "1.9.9")
    with pytest.raises(EngineError, match=rf"built by tensorrt-rtx {version}, not 1\.9\.9"):
        find(ADA)


def test_a_truncated_engine_alone_is_built_anew(model):
    shortest = min(model.built.engines, key=lambda one: one.bytes)
    (engine,) = model.cache.all(shortest.graph)
    engine.path.write_bytes(engine.path.read_bytes()[:-1])
    again = build(model.folder, REQUEST, cache=model.cache)
    expected = {one.graph: "cache" for one in again.engines} | {shortest.graph: "built"}
    assert {one.graph: one.origin for one in again.engines} == expected


def test_another_target_is_built_anew_and_runs_there_alone(model, tmp_path):
    stored = model.folder.manifest.graphs
    shortest = min(model.built.engines, key=lambda one: one.bytes).graph
    graphs = {name: one for name, one in stored.items() if one.graph.name == shortest}
    alone = replace(model.folder, manifest=replace(model.folder.manifest, graphs=graphs))
    cache = EngineCache(tmp_path)
    named = build(alone, replace(REQUEST, targets=("sm120",)), cache=cache)
    assert [one.origin for one in named.engines] == ["built"]
    with pytest.raises(EngineError, match=r"built for sm120, and this is Ada"):
        find_engine(alone, next(iter(graphs.values())), TENSORRT_RTX, ADA, cache)


def test_a_folder_with_engines_keeps_every_file_of_the_model(tmp_path):
    """Also what no graph holds: the weights that the native decoder reads."""
    folder = artifacts.read(registry.find("sam-nano"))
    graphs = {"mask_head": folder.manifest.graphs["mask_head"]}
    manifest = replace(folder.manifest, graphs=graphs)
    assert manifest.weights
    out = tmp_path / "out"
    request = replace(REQUEST, out=out)
    build(replace(folder, manifest=manifest), request, cache=EngineCache(tmp_path))
    assert artifacts.read(out).manifest == manifest


@pytest.mark.parametrize("name", ["echo-a4c", pytest.param("sam-nano", marks=SLOW)])
def test_mixed_precision_graphs_become_engines_of_half_the_size(name, tmp_path):
    """As an export writes them that finds no block to keep in float32, which it does for these."""
    pytest.importorskip("torch", reason="exports need torch")
    from fastseg.export.fp16.convert import fp16_graph
    from fastseg.export.fp16.rewrite import to_fp16
    from fastseg.export.onnx.blocks import read_graph
    from fastseg.export.onnx.writer import save

    folder = artifacts.read(registry.find(name), verify=False)
    options = BuildOptions(TENSORRT_RTX, ("portable",))
    # The decoder with a mask prompt is the same again, and the longest to build.
    for stored in (one for key, one in folder.manifest.graphs.items() if key != "decoder_mask"):
        graph, path = fp16_graph(stored.graph), tmp_path / stored.file
        ports = {port.name: port.dtype for port in (*graph.inputs, *graph.outputs)}
        save(to_fp16(read_graph(folder.file(stored)), fp32_blocks=(), ports=ports), path)
        assert len(build_engine(path, graph, options)) >= 0.99 * weights_in(path)


def weights_in(path: Path) -> int:
    """Bytes of the weights of a graph."""
    onnx = pytest.importorskip("onnx", reason="reads a graph")
    return sum(onnx.numpy_helper.to_array(one).nbytes for one in onnx.load(path).graph.initializer)
