"""An INT8 graph is kept only with the comparison that it passed, and run only where sums hold."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

import fastseg
from fastseg import (
    artifacts,
    environment,
)
from fastseg.artifacts.registry import find
from fastseg.backends import base
from fastseg.backends.selection import plan
from fastseg.cli.root import run
from fastseg.errors import (
    BackendError,
    BackendUnavailableError,
    ModelFolderError,
    ParityError,
)
from fastseg.export.int8 import convert as int8_convert
from fastseg.export.int8.convert import add_int8
from fastseg.inference.sessions import Choice
from fastseg.validation import comparison
from fastseg.validation.comparison import Limits
from fastseg.validation.probes import build_probe, run_probes
from fastseg.validation.synthetic import scenes, sectors


def integers_hold() -> bool:
    try:
        base.require_integers("this")
    except BackendUnavailableError:
        return False
    return True


needs_integers = pytest.mark.skipif(
    not integers_hold(), reason="this processor has no VNNI, and int8 is refused"
)


@pytest.fixture(scope="module")
def heart(tmp_path_factory):
    """echo-a4c with its network in both precisions, calibrated on two frames."""
    out = tmp_path_factory.mktemp("models") / "heart"
    add_int8(find("echo-a4c"), out, images=list(sectors(5))[3:])
    return artifacts.read(out)


@needs_integers
def test_the_int8_graph_and_its_comparison_join_the_fp32_one(heart):
    before = artifacts.read(find("echo-a4c")).manifest.graphs
    graphs = heart.manifest.graphs
    assert list(graphs) == [*before, "network.int8"]
    stored = graphs["network.int8"]
    assert (stored.graph, stored.precision) == (before["network"].graph, "int8")
    decided = {one["precision"] for one in stored.blocks}
    assert decided == {"int8", "fp32"}
    assert all((one["reason"] == "loss") == (one["precision"] == "fp32") for one in stored.blocks)
    least = min(one["nmse"] for one in stored.blocks if one["precision"] == "fp32")
    most = max(one["nmse"] for one in stored.blocks if one["precision"] == "int8")
    assert 0 < most <= least
    recorded = stored.comparison
    assert recorded["limits"] == {"mean_iou": 0.995, "count_change": 0.05}
    assert 0.995 <= recorded["rows"][-1]["mask_iou_mean"] < 1


@needs_integers
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_masks_of_other_frames_agree_in_either_runtime(heart, backend):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    asked = [build_probe(heart.manifest, frame) for frame in list(sectors(7))[5:]]
    exact, integers = (
        run_probes(heart, Choice("cpu", one, precision), asked)
        for one, precision in (("onnxruntime", "fp32"), (backend, "int8"))
    )
    found = comparison.compare(exact, integers)
    assert found.table.rows[0].nmse > 1e-7  # it is the other graph
    assert (found.of_masks.mask_iou_mean or 0) > 0.99


@needs_integers
def test_it_is_loaded_by_its_name_and_not_by_itself(heart, tmp_path):
    with fastseg.load(heart.path, backend="onnxruntime", precision="int8") as model:
        assert model.runs == {"network": "onnxruntime:cpu int8"}
    with fastseg.load(heart.path) as model:
        assert model.precision == "fp32"
    with pytest.raises(BackendError, match="export int8"):
        fastseg.load("echo-a4c", backend="onnxruntime", precision="int8")


@needs_integers
def test_prompts_are_answered_in_float32(small_folder, tmp_path):
    add_int8(small_folder, tmp_path / "out", images=scenes()[:1], limits=Limits())
    folder = artifacts.read(tmp_path / "out")
    plans = {name: str(plan(folder, name, precision="int8")) for name in ("encoder", "decoder")}
    faster = "openvino" if importlib.util.find_spec("openvino") else "onnxruntime"
    assert plans["encoder"] == f"{faster}:cpu int8"
    assert plans["decoder"].endswith("fp32")
    before = artifacts.read(small_folder).manifest.graphs
    assert folder.manifest.graphs["decoder"] == before["decoder"]


@needs_integers
def test_a_second_time_replaces_the_first_and_half_graphs_stay(small_fp16_folder, tmp_path):
    for source in (small_fp16_folder, tmp_path / "out"):
        add_int8(source, tmp_path / "out", images=scenes()[:1], limits=Limits())
    folder = artifacts.read(tmp_path / "out")
    precisions = [one.precision for one in folder.manifest.graphs.values()]
    assert precisions.count("int8") == 1
    assert precisions.count("fp16") == precisions.count("fp32") > 1


@needs_integers
def test_masks_that_differ_too_much_leave_nothing(tmp_path, monkeypatch):
    said: list[str] = []
    once: list[str] = []
    for module, name in ((int8_convert, "read_graph"), (comparison, "run_probes")):
        function = getattr(module, name)

        def counted(*given, function=function, name=name):
            once.append(name)
            return function(*given)

        monkeypatch.setattr(module, name, counted)
    with pytest.raises(ParityError, match=r"in int8 is too far .*not kept") as caught:
        add_int8(
            find("echo-a4c"),
            tmp_path / "out",
            images=list(sectors(1)),
            limits=Limits(mean_iou=1.0),
            progress=said.append,
        )
    assert "mask IoU" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    # The graph is read and asked once, however often it is compared.
    assert sorted(once) == ["read_graph", "run_probes"]
    # Every limit was tried, each with fewer products of integers than the one before.
    counts = [int(step.split()[0]) for step in said if "products" in step]
    assert len(counts) > 2
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] > 0


def test_a_graph_that_keeps_nothing_in_int8_is_none(monkeypatch):
    """Every measured graph has products of integers, however much each of them loses."""
    lost = {"first": 0.3, "second": 0.1}
    decided = int8_convert._choices(lost)
    assert [[one.precision for one in each] for each in decided] == [["int8", "int8"]]
    monkeypatch.setattr(int8_convert, "LOSSES", (1.0, 0.2, 0.2, 0.0))
    precisions = [[one.precision for one in each] for each in int8_convert._choices(lost)]
    assert precisions == [["int8", "int8"], ["fp32", "int8"]]


@needs_integers
def test_a_folder_without_float32_graphs_is_refused(heart, tmp_path):
    document = json.loads((heart.path / "model.json").read_text())
    del document["graphs"]["network"], document["weights"]["network"]
    only = tmp_path / "only"
    only.mkdir()
    (only / "network.int8.onnx").write_bytes((heart.path / "network.int8.onnx").read_bytes())
    (only / "model.json").write_text(json.dumps(document))
    with pytest.raises(ModelFolderError, match="lacks a float32 graph"):
        add_int8(only, tmp_path / "out")


@needs_integers
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_sums_that_would_be_cut_off_are_refused(heart, monkeypatch, runtime):
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    monkeypatch.setattr(environment.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(environment, "instructions", lambda: frozenset({"avx2", "avx512f"}))
    with pytest.raises(BackendUnavailableError, match="int8") as caught:
        plan(heart, "network", backend=runtime, precision="int8")
    assert "no instructions" in caught.value.reason
    monkeypatch.setattr(environment, "instructions", lambda: frozenset({"avx2", "avx_vnni"}))
    assert plan(heart, "network", backend=runtime, precision="int8").precision == "int8"


def test_an_export_is_refused_there_too(monkeypatch, tmp_path):
    monkeypatch.setattr(environment.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(environment, "instructions", lambda: frozenset({"avx2", "avx512f"}))
    with pytest.raises(BackendUnavailableError, match="no instructions"):
        add_int8(find("echo-a4c"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_instructions_are_read_under_either_name(monkeypatch, tmp_path):
    texts = {
        "processor : 0\nflags : fpu avx2 avx_vnni\nflags : other\n": {"fpu", "avx2", "avx_vnni"},
        "Features : fp asimd\n": {"fp", "asimd"},
        "model name : x\n": set(),
    }
    for number, (text, found) in enumerate(texts.items()):
        file = tmp_path / f"cpuinfo{number}"  # a file is read once a process
        file.write_text(text)
        monkeypatch.setattr(environment, "_CPUINFO", file)
        assert environment.instructions() == found
    monkeypatch.setattr(environment, "_CPUINFO", tmp_path / "missing")
    assert environment.instructions() == frozenset()


@needs_integers
def test_the_command_line_calibrates_on_images(tmp_path, capsys):
    from PIL import Image

    paths = []
    for index, frame in enumerate(sectors(2)):
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(np.asarray(frame)).save(paths[-1])
    out = tmp_path / "out"
    assert run(["export", "int8", "echo-a4c", *paths, "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["precision"], document["device"]) == ("int8", "cpu")
    assert document["comparison"]["rows"][-1]["mask_iou_mean"] >= 0.995
    assert "network.int8" in artifacts.read(out).manifest.graphs
