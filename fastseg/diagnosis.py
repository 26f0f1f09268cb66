"""What this machine offers fastseg, and what is wrong with it."""

from __future__ import annotations

import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from fastseg import artifacts
from fastseg.artifacts import ModelFolder, registry
from fastseg.backends import openvino
from fastseg.backends.selection import BACKENDS, choose
from fastseg.backends.table import FOR_PROMPTS
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.library import FLAVOURS
from fastseg.cuda import driver as cuda_driver
from fastseg.environment import install_hint, instructions, machine, usable_cores, versions
from fastseg.errors import BackendError, BackendUnavailableError, ModelError
from fastseg.inference.sessions import Choice, settle

CPU_FLAGS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_bf16", "avx512_vnni"),
    *("amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve"),
)
"""Instruction sets that decide how fast a CPU is here, as Linux names them."""

_CGROUP = Path("/sys/fs/cgroup")


def doctor() -> dict[str, Any]:
    """Look at everything that fastseg needs; loads the runtimes but no model, and never raises.

    Returns:
        A dictionary ready for JSON. ``ok`` is whether a model can run here at all; ``versions``,
        ``machine`` (sizes in bytes), ``native_kernels``, ``cuda_kernels``, ``runtimes``,
        ``devices`` and ``models`` say why. Each of the last five has ``ok``, and where that is
        False ``reason`` and ``remedy``.
    """
    kernels = _native_kernels()
    runtimes = {name: _runtime(name) for name in BACKENDS if name not in FOR_PROMPTS}
    models = {folder.name: _model(folder) for folder in registry.embedded_folders()}
    checked = [kernels, *models.values()]
    return {
        "ok": all(part["ok"] for part in checked) and any(run["ok"] for run in runtimes.values()),
        "versions": versions(),
        "machine": {**machine(), **_machine()},
        "native_kernels": kernels,
        "cuda_kernels": _cuda_kernels(),
        "runtimes": runtimes,
        "devices": {"cpu": {"ok": True, "threads": usable_cores()}, "cuda": _cuda()},
        "models": models,
    }


def _native_kernels() -> dict[str, Any]:
    try:
        from fastseg import ops

        ops.point_grid(1)
        tables = ",".join(ops.decoder_tables())
    except Exception as error:  # a broken build fails in whatever way its loader fails
        return {
            "ok": False,
            "reason": str(error),
            "remedy": install_hint(),
        }
    return {"ok": True, "decoder": tables}


def _cuda_kernels() -> dict[str, Any]:
    """Whether they were built, and for what; a device to run them on is another question."""
    try:
        from fastseg.cuda import kernels as device_kernels

        module = device_kernels.cuda_module()
    except BackendUnavailableError as error:
        return {"ok": False, "reason": error.reason, "remedy": error.remedy}
    except ImportError as error:  # the native kernels are broken, which is said beside this
        return {"ok": False, "reason": str(error), "remedy": install_hint()}
    return {"ok": True, "architectures": module.architectures, "toolkit": module.toolkit}


def _runtime(name: str) -> dict[str, Any]:
    try:
        choose(backend=name)
    except BackendUnavailableError as error:
        return {"ok": False, "reason": _builds(name) + error.reason, "remedy": error.remedy}
    if name in FLAVOURS:
        return {"ok": True, "version": tensorrt_library.version(FLAVOURS[name])}
    found: dict[str, Any] = {"ok": True, "version": _version(name)}
    if name == openvino.NAME:
        found["bf16"] = "bf16" in openvino.precisions()
    return found


def _version(name: str) -> str:
    """Version of a runtime; of ONNX Runtime there are two packages."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return metadata.version(f"{name}-gpu")


def _builds(name: str) -> str:
    """That a runtime, which cannot run here, can build engines; empty if it cannot."""
    if name not in FLAVOURS or not FLAVOURS[name].ahead_of_time:
        return ""
    try:
        version = tensorrt_library.version(FLAVOURS[name])
    except BackendUnavailableError:
        return ""
    return f"version {version} can build engines here and not run them: "


def _cuda() -> dict[str, Any]:
    try:
        driver = cuda_driver.probe()
    except BackendUnavailableError as error:
        return {"ok": False, "reason": error.reason, "remedy": error.remedy}
    found: dict[str, Any] = {"ok": True, "driver": driver.release, "cuda": driver.cuda_version}
    for one in driver.devices:
        memory = f"{one.memory_bytes / 2**30:.1f} GiB"
        found[f"cuda:{one.index}"] = f"{one.name} ({one.architecture}, {memory})"
    return found


def _model(folder: Path) -> dict[str, Any]:
    try:
        found = artifacts.read(folder)
    except ModelError as error:
        return {
            "ok": False,
            "reason": str(error),
            "remedy": install_hint(),
        }
    manifest = found.manifest
    length = sum(file.bytes for file in manifest.files)
    return {"ok": True, "family": manifest.family, "bytes": length, "auto": _auto(found)}


def _auto(folder: ModelFolder) -> str:
    """What a model runs on where the choice is left to fastseg, and why."""
    try:
        plans, reason = settle(folder, Choice())
    except BackendError as error:
        return f"nothing: {error}"
    words = " + ".join(dict.fromkeys(map(str, plans.values())))
    return f"{words} ({reason})"


def _machine() -> dict[str, Any]:
    """Memory, disk and processor features, None where the system does not tell."""
    return {
        "kernel": platform.release(),
        "cpu_flags": _cpu_flags(),
        "memory": _meminfo("MemTotal"),
        "memory_available": _meminfo("MemAvailable"),
        "memory_limit": _memory_limit(),
        "disk_free": shutil.disk_usage(Path.cwd()).free,
    }


def _read(path: Path) -> str:
    """The text of a file of the system, empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpu_flags() -> list[str]:
    """Those of ``CPU_FLAGS`` that the processor has."""
    present = instructions()
    return [flag for flag in CPU_FLAGS if flag in present]


def _meminfo(field: str) -> int | None:
    for line in _read(Path("/proc/meminfo")).splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None


def _memory_limit() -> int | None:
    """What a container may use, which ``MemTotal`` does not show; None without a limit."""
    limit = _read(_CGROUP / "memory.max").strip()
    return int(limit) if limit.isdigit() else None
