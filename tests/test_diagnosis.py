"""``doctor`` looks at everything and never fails, whatever is broken."""

from __future__ import annotations

import json
import sys

import pytest

import fastseg
from fastseg import diagnosis, environment, ops
from fastseg.artifacts import registry
from fastseg.backends import openvino
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.library import TENSORRT_RTX
from fastseg.cli.root import run
from fastseg.diagnosis import doctor
from fastseg.environment import install_hint
from fastseg.errors import BackendUnavailableError
from fastseg.testing import tiny_sam_folder
from tests.fakes import fake_machine
from tests.fakes.fake_driver import FakeDevice, FakeDriverLibrary
from tests.helpers import processes
from tests.helpers.fresh_interpreter import loaded_by


@pytest.fixture
def models(tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="graphs are written with onnx")
    monkeypatch.setattr(registry, "EMBEDDED", tmp_path / "models")
    return tmp_path / "models"


def test_the_report_is_json_and_names_every_part():
    report = json.loads(json.dumps(doctor(), allow_nan=False))
    assert set(report) == {
        "ok",
        "versions",
        "machine",
        "native_kernels",
        "cuda_kernels",
        "runtimes",
        "devices",
        "models",
    }
    assert {"fastseg", "python", "numpy", "pillow"} <= set(report["versions"])
    assert set(report["runtimes"]) == {"onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"}
    assert report["machine"]["disk_free"] > 0
    assert fastseg.doctor is doctor


def test_what_is_not_ok_has_a_reason_and_a_remedy():
    report = doctor()
    parts = [report["native_kernels"], report["cuda_kernels"], *report["models"].values()]
    parts += [*report["runtimes"].values(), *report["devices"].values()]
    assert any(not part["ok"] for part in parts)
    for part in parts:
        assert part["ok"] or (part["reason"] and part["remedy"])


@pytest.mark.parametrize(
    ("tables", "wanted"),
    [
        (("amx-bf16", "avx512-bf16", "avx512", "avx2", "portable"), "AMX"),
        (("avx512-bf16", "avx512", "avx2", "portable"), "calibrate"),
        (("avx512", "avx2", "portable"), "AVX-512"),
        (("avx2", "portable"), "AVX2"),
        (("neon",), "NEON"),
        (("portable",), "no AVX2"),
    ],
)
def test_one_line_says_what_the_processor_is_worth(monkeypatch, capsys, tables, wanted):
    monkeypatch.setattr(ops, "kernel_tables", lambda: tables)
    assert wanted in diagnosis._native_kernels()["worth"]
    monkeypatch.setattr(diagnosis, "doctor", lambda: report)
    report = {"ok": True, "machine": {}, "runtimes": {}, "devices": {}, "models": {}}
    report |= {"native_kernels": diagnosis._native_kernels(), "cuda_kernels": {"ok": True}}
    assert run(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "this processor:" in " ".join(lines)
    assert wanted in " ".join(lines)


def test_an_installed_runtime_is_named_with_its_version():
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    assert doctor()["runtimes"]["onnxruntime"] == {"ok": True, "version": onnxruntime.__version__}


def test_openvino_is_listed_with_the_processors_precisions(monkeypatch):
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setattr(openvino, "_capabilities", lambda: ["FP32", "BF16"])
    assert doctor()["runtimes"]["openvino"]["bf16"] is True
    monkeypatch.setattr(openvino, "_capabilities", lambda: ["FP32"])
    assert doctor()["runtimes"]["openvino"]["bf16"] is False


def test_a_machine_without_any_runtime_is_not_ok(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    report = doctor()
    assert not report["ok"]
    assert install_hint("cpu") in report["runtimes"]["onnxruntime"]["remedy"]
    assert install_hint("openvino") in report["runtimes"]["openvino"]["remedy"]


def test_embedded_models_are_verified_bit_by_bit(models):
    tiny_sam_folder(models / "tiny")
    tiny_sam_folder(models / "altered")
    file = models / "altered" / "decoder.onnx"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    report = doctor()
    assert not report["ok"]
    assert report["models"]["tiny"]["ok"]
    assert report["models"]["tiny"]["family"] == "sam"
    assert "decoder.onnx was altered" in report["models"]["altered"]["reason"]


def test_broken_native_kernels_are_reported_and_not_raised():
    program = """
import json, sys
sys.modules["fastseg._core"] = None
from fastseg.diagnosis import doctor
report = doctor()
print(json.dumps([report["ok"], report["native_kernels"]["ok"], bool(report["versions"])]))
"""
    done = processes.finish([sys.executable, "-c", program])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [False, False, True]


def test_cuda_kernels_that_were_not_built_do_not_matter_to_a_cpu(monkeypatch):
    before = doctor()["ok"]
    monkeypatch.setitem(sys.modules, "fastseg._cuda", None)
    report = doctor()
    assert not report["cuda_kernels"]["ok"]
    assert "nvcc" in report["cuda_kernels"]["remedy"]
    assert report["ok"] == before


def test_neither_torch_nor_a_model_is_loaded():
    statement = "from fastseg.diagnosis import doctor; doctor()"
    assert loaded_by(statement, ["torch", "onnx", "click"]) == []


def test_what_the_system_does_not_tell_is_left_open(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnosis, "_read", lambda path: "")
    monkeypatch.setattr(environment, "_CPUINFO", tmp_path / "missing")
    machine = doctor()["machine"]
    assert machine["memory"] is None
    assert machine["memory_limit"] is None
    assert machine["cpu_flags"] == []


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16 sse", ["avx2", "avx512f", "avx512_bf16"]),
        ("Features\t: fp asimd asimddp i8mm", ["asimd", "asimddp", "i8mm"]),
    ],
)
def test_the_instruction_sets_that_matter_are_listed(monkeypatch, tmp_path, line, flags):
    told = tmp_path / "cpuinfo"
    told.write_text(f"processor: 0\n{line}\n")
    monkeypatch.setattr(environment, "_CPUINFO", told)
    assert doctor()["machine"]["cpu_flags"] == flags


def test_a_containers_memory_limit_is_told(monkeypatch):
    monkeypatch.setattr(diagnosis, "_read", lambda path: "1073741824\n")
    assert doctor()["machine"]["memory_limit"] == 2**30


def test_devices_are_named_with_what_the_driver_says_of_them(monkeypatch):
    library = FakeDriverLibrary((FakeDevice("Large", (9, 0), 80 * 2**30),), cuda=12060)
    fake_machine.with_driver(monkeypatch, library, release="580.95")
    assert doctor()["devices"]["cuda"] == {
        "ok": True,
        "driver": "580.95",
        "cuda": "12.6",
        "cuda:0": "Large (sm90, 80.0 GiB)",
    }


def test_a_missing_driver_is_named(monkeypatch):
    fake_machine.without_driver(monkeypatch)
    found = doctor()["devices"]["cuda"]
    assert not found["ok"]
    assert "libcuda-that-nobody-has.so.1" in found["reason"]
    assert "Install the NVIDIA driver" in found["remedy"]


def test_a_runtime_that_builds_here_and_does_not_run_says_so(monkeypatch):
    fake_machine.without_driver(monkeypatch)
    try:
        version = tensorrt_library.version(TENSORRT_RTX)
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    reason = doctor()["runtimes"]["tensorrt-rtx"]["reason"]
    assert reason.startswith(f"version {version} can build engines here and not run them: there is")
