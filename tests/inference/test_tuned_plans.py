"""Tuned plans are followed where the choice is free, and a broken cache never matters."""

from __future__ import annotations

import errno
import re
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import fastseg
from fastseg import artifacts
from fastseg.artifacts import ModelFolder
from fastseg.backends.onnxruntime import session as ort
from fastseg.environment import install_hint
from fastseg.errors import BackendUnavailableError
from fastseg.inference import tuned_plans
from fastseg.inference.sessions import FOR_FRAMES, UNMEASURED, Choice, Sessions
from fastseg.inference.tuned_plans import Candidate, TunedPlan
from fastseg.testing import tiny_sam_folder, tiny_unet_folder
from tests.helpers.processes import running

pytest.importorskip("onnx", reason="graphs are written with onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

GRAPHS = ("encoder", "image_state", "decoder", "decoder_mask", "mask_head")
CANDIDATE = Candidate({"encoder": "openvino:cpu bf16"}, 1.9, 100, 99, 0.998, 0.97, "")
PLAN = TunedPlan(
    {**dict.fromkeys(GRAPHS, "onnxruntime"), "encoder": "openvino"},
    dict.fromkeys(GRAPHS, "fp32"),
    (CANDIDATE, replace(CANDIDATE, refused="slow", mask_iou_mean=None)),
    "a processor, 2 cores",
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fastseg" / "tuned-plans"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> ModelFolder:
    return artifacts.read(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny"))


# Plans that are kept are found.


def test_a_kept_plan_is_found_again_whole(folder):
    assert tuned_plans.find(folder) is None
    assert tuned_plans.keep(folder, PLAN) == ""
    assert tuned_plans.find(folder) == PLAN
    tuned_plans.forget(folder)
    tuned_plans.forget(folder)
    assert tuned_plans.find(folder) is None


def test_a_plan_holds_for_its_threads_and_cores(folder, use_cores):
    tuned_plans.keep(folder, PLAN, threads=1)
    assert tuned_plans.find(folder, threads=1) == PLAN
    use_cores(64)
    assert tuned_plans.find(folder, threads=1) is None


@pytest.mark.parametrize("what", ["processor", "versions", "SCHEMA", "model"])
def test_another_processor_version_or_model_has_no_plan(folder, cache, monkeypatch, what):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    tuned_plans.keep(folder, PLAN)
    other = {"processor": lambda: "another", "versions": dict, "SCHEMA": tuned_plans.SCHEMA + 1}
    if what == "model":
        graphs = dict(folder.manifest.graphs)
        graphs["encoder"] = replace(graphs["encoder"], sha256="0" * 64)
        folder = replace(folder, manifest=replace(folder.manifest, graphs=graphs))
    else:
        monkeypatch.setattr(tuned_plans, what, other[what])
    assert tuned_plans.find(folder) is None


# They are followed where the choice is free, and nowhere else.


def test_a_free_choice_follows_the_plan_and_says_so(folder):
    pytest.importorskip("openvino", reason="openvino is not installed")
    tuned_plans.keep(folder, PLAN)
    with fastseg.load(folder.path) as model:
        assert model.backend == "openvino+onnxruntime"
        assert model.runs["encoder"] == "openvino:cpu fp32"
        assert "measured on a processor, 2 cores" in model.reason


@pytest.mark.parametrize(
    "named", [{"backend": "onnxruntime"}, {"precision": "fp32"}, {"threads": 1}]
)
def test_named_backends_precisions_and_threads_ignore_the_plan(folder, named, use_cores):
    use_cores(2)
    tuned_plans.keep(folder, PLAN)
    assert {*Sessions(folder, Choice(**named)).runs.values()} == {"onnxruntime:cpu fp32"}


def test_without_a_plan_fp32_runs_and_the_reason_names_calibrate(folder):
    graphs = Sessions(folder, Choice())
    assert {each.precision for each in graphs.plans.values()} == {"fp32"}
    assert graphs.reason == UNMEASURED
    assert "fastseg calibrate" in UNMEASURED


@pytest.mark.parametrize("wrong", [{"encoder": "tensorrt"}, {"encoder": "nonsense"}, {}])
def test_an_unusable_plan_gives_fp32_and_the_reason(folder, wrong):
    backends = {**PLAN.backends, **wrong} if wrong else {"decoder": "onnxruntime"}
    tuned_plans.keep(folder, replace(PLAN, backends=backends))
    graphs = Sessions(folder, Choice())
    assert {*graphs.runs.values()} == {"onnxruntime:cpu fp32"}
    assert graphs.reason.startswith(
        "FP32, because the faster plan of fastseg calibrate is not available: "
    )


def test_without_any_runtime_the_error_is_that_of_the_runtime(folder, monkeypatch):
    tuned_plans.keep(folder, PLAN)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailableError, match=re.escape(install_hint("cpu"))):
        Sessions(folder, Choice())
    assert ort.ONNXRUNTIME.name == "onnxruntime"


# A cache that is broken, full, read-only or shared.


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"schema": 1}',
        b'{"schema": 99, "backends": {}, "precisions": {}, "trials": [], "measured": ""}',
        b'{"schema": 1, "backends": {}, "precisions": {}, "trials": [], "measured": ""}',
        b'{"schema": 1, "backends": {"encoder": 1}, "precisions": {}, "trials": []}',
        b'{"schema": 1, "backends": {"encoder": "a"}, "precisions": {}, "trials": [], "x": 1}',
        b'{"schema": 1, "backends": {"encoder": "a"}, "precisions": {}, "trials": [{}]}',
    ],
)
def test_a_damaged_plan_is_ignored_and_replaced(folder, cache, content):
    tuned_plans.keep(folder, PLAN)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    assert Sessions(folder, Choice()).reason == UNMEASURED
    assert tuned_plans.keep(folder, PLAN) == ""
    assert tuned_plans.find(folder) == PLAN


def test_an_unwritable_cache_is_reported_and_loading_goes_on(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert str(tmp_path / "file") in tuned_plans.keep(folder, PLAN)
    tuned_plans.forget(folder)
    assert Sessions(folder, Choice()).reason == UNMEASURED


def test_a_full_disk_leaves_nothing_and_is_reported(folder, cache, monkeypatch):
    def full(file, text):
        file.write_text(text[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tuned_plans, "_write", full)
    assert "No space left" in tuned_plans.keep(folder, PLAN)
    assert list(cache.iterdir()) == []
    assert Sessions(folder, Choice()).reason == UNMEASURED


def test_a_user_without_a_home_folder_gets_the_reason(folder, monkeypatch):
    monkeypatch.setattr(tuned_plans, "user_cache_folder", lambda: None)
    assert "no home folder" in tuned_plans.keep(folder, PLAN)
    tuned_plans.forget(folder)
    assert Sessions(folder, Choice()).reason == UNMEASURED


SHARING = """
import sys
from fastseg import artifacts
from fastseg.inference import tuned_plans
from fastseg.inference.tuned_plans import TunedPlan
folder = artifacts.read(sys.argv[1])
mine = TunedPlan({"encoder": sys.argv[2] * 5000}, {"encoder": "fp32"}, (), "")
for turn in range(60):
    assert tuned_plans.keep(folder, mine) == ""
    found = tuned_plans.find(folder)
    assert found is None or len(set(found.backends["encoder"])) == 1, found
    assert found is not None
"""


def test_eight_processes_that_share_the_folder_see_whole_plans(folder, cache):
    program = [sys.executable, "-c", SHARING, folder.path]
    with ExitStack() as stack:
        sharing = [stack.enter_context(running([*program, str(number)])) for number in range(8)]
        for process in sharing:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    (file,) = cache.iterdir()
    assert file.suffix == ".json"


def test_a_network_for_frames_is_not_told_to_calibrate(tmp_path):
    graphs = Sessions(artifacts.read(tiny_unet_folder(tmp_path / "unet")), Choice())
    assert graphs.reason == FOR_FRAMES
    assert {each.precision for each in graphs.plans.values()} == {"fp32"}
