"""``fastseg build`` keeps engines, finds them again, and keeps none that fails."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fastseg import artifacts, building
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.engine_cache import ENGINES, EngineCache, engines_in, find_engine
from fastseg.backends.tensorrt.engine_key import Gpu
from fastseg.backends.tensorrt.library import TENSORRT_RTX
from fastseg.building import Request, build
from fastseg.cli.root import run
from fastseg.cuda import driver as cuda_driver
from fastseg.errors import (
    BackendError,
    BackendUnavailableError,
    EngineError,
    ModelFolderError,
    OutputError,
    ParityError,
)
from fastseg.testing import tiny_unet_folder
from fastseg.validation.comparison import Comparison
from fastseg.validation.parity import Difference, Table
from tests.fakes import fake_machine
from tests.fakes.fake_machine import ADA

pytestmark = pytest.mark.usefixtures("needs_rtx")

FP32 = Request("tensorrt-rtx", "fp32")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> EngineCache:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return EngineCache()


@pytest.fixture(autouse=True)
def no_driver(monkeypatch) -> None:
    """Machines with a GPU run these tests as those without one, where nothing can be compared."""
    fake_machine.without_driver(monkeypatch)
    monkeypatch.setattr(building, "compare_with_fp32", lambda *_: pytest.fail("it compared"))


@pytest.fixture
def folder(tmp_path) -> artifacts.ModelFolder:
    return artifacts.read(tiny_unet_folder(tmp_path / "model"))


@pytest.fixture
def half(folder) -> artifacts.ModelFolder:
    """The folder with its graph declared to be in half precision as well."""
    single = folder.manifest.graphs["network"]
    graphs = {"network": single, "network fp16": replace(single, precision="fp16")}
    return replace(folder, manifest=replace(folder.manifest, graphs=graphs))


@pytest.fixture
def ada(monkeypatch) -> None:
    """A driver that lists a GPU, which is not there."""
    fake_machine.with_gpu(monkeypatch)


class FakeComparison:
    """A comparison that ends as the test says, and looks at the engines that it is given."""

    def __init__(self, passed: bool = True) -> None:
        iou = 1.0 if passed else 0.5
        masks = Difference("masks", 0.0, 0.0, 0.0, mask_iou_min=iou, mask_iou_mean=iou)
        self.result = Comparison((1, 1), images=1, masks=1, table=Table((masks,)))
        self.seen: list[str] = []

    def __call__(self, folder, engines, request, device) -> Comparison:
        gpu = Gpu.of(cuda_driver.require_device("cuda"), cuda_driver.probe())
        stored = replace(folder.manifest.graphs["network"], precision=request.precision)
        # Only the comparison may open engines that were not compared.
        found = find_engine(engines, stored, TENSORRT_RTX, gpu, allow_uncompared=True)
        self.seen.append(found.card.comparison.state)
        return self.result


def install(monkeypatch, comparison: FakeComparison) -> FakeComparison:
    """Let builds compare by a fake."""
    monkeypatch.setattr(building, "compare_with_fp32", comparison)
    return comparison


def kept(cache: EngineCache) -> list[Path]:
    return [] if not cache.folder.is_dir() else sorted(cache.folder.iterdir())


# Without a GPU.


def test_a_build_is_kept_and_found_again(folder, cache):
    first = build(folder, FP32)
    assert [one.origin for one in first.engines] == ["built"]
    assert first.targets == ("portable",)
    assert first.comparison.state == "not compared: no device"
    second = build(folder, FP32)
    assert [one.origin for one in second.engines] == ["cache"]
    assert second.engines[0].bytes == first.engines[0].bytes
    assert len(kept(cache)) == 2


def test_another_target_version_or_graph_is_built_anew(folder, monkeypatch, tmp_path):
    build(folder, FP32)
    named = replace(FP32, targets=("sm86", "sm89"))
    assert build(folder, named).engines[0].origin == "built"
    assert build(folder, replace(FP32, targets=("sm89", "sm86"))).targets == (
        "sm86",
        "sm89",
    )
    version = tensorrt_library.version(TENSORRT_RTX)
    monkeypatch.setattr(tensorrt_library, "version", lambda flavour: f"{version}.1")
    assert build(folder, FP32).engines[0].origin == "built"


@pytest.mark.parametrize("damage", [b"", b"not an engine"])
def test_a_damaged_engine_in_the_cache_is_built_anew(folder, cache, damage):
    build(folder, FP32)
    (engine,) = (path for path in kept(cache) if path.suffix == ".engine")
    engine.write_bytes(damage)
    assert build(folder, FP32).engines[0].origin == "built"
    assert build(folder, FP32).engines[0].origin == "cache"


def test_a_model_folder_with_engines_is_written_whole(folder, tmp_path, cache):
    out = tmp_path / "out"
    build(folder, replace(FP32, out=out))
    written = artifacts.read(out)
    assert written.manifest == folder.manifest
    (engine,), refused = engines_in(out / ENGINES, "network")
    assert refused == []
    assert engine.read()
    sidecar = json.loads(engine.path.with_suffix(".json").read_text())
    assert sidecar["comparison"]["state"] == "not compared: no device"
    assert sidecar["key"]["targets"] == ["portable"]


def test_engines_of_a_model_folder_are_found_and_others_stay(folder, tmp_path, cache):
    out = tmp_path / "out"
    build(folder, replace(FP32, out=out))
    for path in kept(cache):
        path.unlink()
    written = artifacts.read(out)
    more = replace(FP32, targets=("sm120",), out=out, overwrite=True)
    build(written, more)
    targets = {one.card.key.targets for one in engines_in(out / ENGINES, "network")[0]}
    assert targets == {("portable",), ("sm120",)}
    again = build(artifacts.read(out), FP32)
    assert [one.origin for one in again.engines] == ["model folder"]


def test_an_occupied_folder_is_not_replaced_and_nothing_is_kept(folder, tmp_path, cache):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        build(folder, replace(FP32, out=out))
    assert (out / "mine").read_text() == "mine"
    assert kept(cache) == []


def test_an_altered_engine_in_a_model_folder_is_named(folder, tmp_path, cache):
    out = tmp_path / "out"
    build(folder, replace(FP32, out=out))
    for path in kept(cache):
        path.unlink()
    (engine,) = engines_in(out / ENGINES, "network")[0]
    content = bytearray(engine.path.read_bytes())
    content[-1] ^= 1
    engine.path.write_bytes(content)
    with pytest.raises(EngineError, match=r"network-.*\.engine was altered"):
        build(artifacts.read(out), FP32)


def test_a_precision_that_the_folder_lacks_is_named(folder):
    with pytest.raises(BackendError, match="in fp32, not in fp16"):
        build(folder, Request("tensorrt-rtx", "fp16"))


def test_a_graph_that_is_damaged_leaves_nothing(folder, cache, tmp_path):
    stored = folder.manifest.graphs["network"]
    folder.file(stored).write_bytes(b"no graph")
    with pytest.raises(ModelFolderError):
        build(folder, replace(FP32, out=tmp_path / "out"))
    assert kept(cache) == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        (Request("onnxruntime"), BackendError, "built for tensorrt or tensorrt-rtx"),
        (replace(FP32, device="cpu"), BackendError, "engines run on a GPU"),
        (replace(FP32, device="cuda:3"), BackendUnavailableError, "no NVIDIA driver"),
        (replace(FP32, targets=("sm1",)), EngineError, "not for sm1"),
    ],
)
def test_what_cannot_be_built_is_said_before_anything_is(
    folder, monkeypatch, request_, error, says
):
    fake_machine.without_driver(monkeypatch)
    with pytest.raises(error, match=says):
        build(folder, request_)


# With a GPU that only the driver knows.


def test_engines_are_compared_before_they_are_kept(half, ada, cache, monkeypatch):
    comparison = install(monkeypatch, FakeComparison())
    built = build(half, Request("tensorrt-rtx", "fp16"))
    assert comparison.seen == ["not compared: no device"]
    assert built.comparison.passed
    assert built.comparison.gpu == ADA
    assert "mask IoU" in built.table
    stored = half.manifest.graphs["network fp16"]
    found = find_engine(half, stored, TENSORRT_RTX, ADA)
    assert found.card.comparison.numbers["rows"][-1]["mask_iou_mean"] == 1.0


def test_a_comparison_that_fails_keeps_nothing(half, ada, cache, tmp_path, monkeypatch):
    install(monkeypatch, FakeComparison(passed=False))
    request = Request("tensorrt-rtx", "fp16", out=tmp_path / "out")
    with pytest.raises(ParityError, match=r"too far from FP32 on Ada.*none was kept.\nname .*IoU"):
        build(half, request)
    assert kept(cache) == []
    assert not (tmp_path / "out").exists()


def test_an_engine_built_elsewhere_is_compared_by_building_again(
    half, cache, tmp_path, request, monkeypatch
):
    out = tmp_path / "out"
    order = Request("tensorrt-rtx", "fp16", out=out)
    build(half, order)
    for path in kept(cache):
        path.unlink()
    request.getfixturevalue("ada")
    carried, stored = replace(half, path=out), half.manifest.graphs["network fp16"]
    with pytest.raises(EngineError, match="never compared with FP32 on this GPU"):
        find_engine(carried, stored, TENSORRT_RTX, ADA)
    install(monkeypatch, FakeComparison())
    again = build(carried, replace(order, out=None))
    assert [one.origin for one in again.engines] == ["model folder"]
    assert find_engine(carried, stored, TENSORRT_RTX, ADA).read()


def test_engines_for_another_architecture_are_not_compared(half, ada):
    request = Request("tensorrt-rtx", "fp16", ("sm120",))
    built = build(half, request)
    assert built.comparison.state.startswith("not compared: it was built for sm120, and this is")
    assert not built.comparison.passed


# The command.


def test_the_command_lists_engines_that_were_not_compared(folder, capsys, tmp_path):
    words = ["build", str(folder.path), "--backend", "tensorrt-rtx", "--precision", "fp32"]
    assert run([*words, "--target", "sm86, sm89", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "for sm86, sm89" in out
    assert "not compared: no device" in out
    assert str(tmp_path / "out") in out
    assert run([*words, "--target", "sm86,sm89", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["engines"][0]["origin"] == "cache"
    assert answer["comparison"] == {"state": "not compared: no device", "numbers": None}


def test_the_command_ends_with_1_when_the_comparison_fails(folder, ada, capsys, monkeypatch):
    install(monkeypatch, FakeComparison(passed=False))
    words = ["build", str(folder.path), "--backend", "tensorrt-rtx", "--precision", "fp32"]
    assert run(words) == 1
    assert "too far from FP32" in capsys.readouterr().err


def test_the_command_ends_with_2_for_a_target_that_nobody_knows(folder, capsys):
    words = ["build", str(folder.path), "--backend", "tensorrt-rtx", "--target", "sm1"]
    assert run(words) == 2
    assert "not for sm1" in capsys.readouterr().err


def test_the_script_does_what_the_command_does(folder, tmp_path, capsys):
    sys.path.insert(0, str(Path(__file__).parents[1] / "export"))
    try:
        import build_engines
    finally:
        sys.path.pop(0)
    words = [str(folder.path), str(tmp_path / "out"), "--precision", "fp32", "--target", "sm89"]
    assert build_engines.main(words) == 0
    assert "not compared: no device" in capsys.readouterr().out
    assert build_engines.main([*words[:2], "--precision", "fp16"]) == 1
    assert building.ENGINES in {path.name for path in (tmp_path / "out").iterdir()}
