"""A report on this machine: what fastseg can use, and what is missing."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any

from fastseg import artifacts
from fastseg.artifacts import ModelFolder, registry
from fastseg.backends.base import Runtime
from fastseg.backends.selection import choose
from fastseg.backends.table import runtimes
from fastseg.cuda import driver
from fastseg.environment import install_hint, instructions, machine, usable_cores, versions
from fastseg.errors import BackendError, BackendUnavailableError, ModelError
from fastseg.inference.sessions import Choice, resolve_plans

CPU_FLAGS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_bf16", "avx512_vnni"),
    *("amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve"),
)
"""Instruction sets that decide the speed of a CPU, by their names in Linux."""

_WORTH = {
    "amx-bf16": 'AMX: precision="bf16" embeds 8 times and finds everything 2.5 times as fast as '
    "fp32 (SAM ViT-B, Intel Xeon)",
    "avx512-bf16": "AVX-512: prompts run natively in fp32; fastseg calibrate tells if bf16 is "
    "faster",
    "avx512": "AVX-512: prompts run natively, images on the best runtime until fastseg calibrate "
    "has measured the native encoder",
    "avx2": "AVX2: images and prompts run natively in fp32; an embedding is 1.3 times as fast as "
    "on the best runtime (SAM ViT-B, AMD Zen 3)",
    "neon": "NEON: prompts run natively in fp32; the speed was not measured",
    "portable": "no AVX2: prompts run natively in vectors of 128 bits; the speed was not measured",
}
"""Worth of each kernel table to a user, with the measurement of docs/performance.md."""

_CGROUP = Path("/sys/fs/cgroup")


def doctor() -> dict[str, Any]:
    """Check everything that fastseg needs; load the runtimes but no model, and never raise.

    Returns:
        A dictionary ready for JSON. ``ok`` is whether a model can run here at all; ``versions``,
        ``machine`` (sizes in bytes), ``native_kernels``, ``cuda_kernels``, ``runtimes``,
        ``devices`` and ``models`` say why. Each of the last five has ``ok``, and where that is
        False ``reason`` and ``remedy``.
    """
    kernels = _native_kernels()
    found = [each for each in runtimes(with_gpu=True) if each.runs_whole_models]
    reports = {each.name: _runtime(each) for each in found}
    models = {folder.name: _model(folder) for folder in registry.embedded_folders()}
    checked = [kernels, *models.values()]
    return {
        "ok": all(part["ok"] for part in checked) and any(run["ok"] for run in reports.values()),
        "versions": versions(),
        "machine": {**machine(), **_machine()},
        "native_kernels": kernels,
        "cuda_kernels": _cuda_kernels(),
        "runtimes": reports,
        "devices": {"cpu": {"ok": True, "threads": usable_cores()}, "cuda": _cuda()},
        "models": models,
    }


def _native_kernels() -> dict[str, Any]:
    try:
        from fastseg import ops

        ops.point_grid(1)
        tables = ops.kernel_tables()
    except Exception as error:  # a broken build fails in whatever way its loader fails
        return {
            "ok": False,
            "reason": str(error),
            "remedy": install_hint(),
        }
    return {"ok": True, "decoder": ",".join(tables), "worth": _WORTH[tables[0]]}


def _cuda_kernels() -> dict[str, Any]:
    """Report whether they were built, and for what; a device for them is reported elsewhere."""
    try:
        from fastseg.cuda import kernels as device_kernels

        module = device_kernels.cuda_module()
    except BackendUnavailableError as error:
        return {"ok": False, "reason": error.reason, "remedy": error.remedy}
    except ImportError as error:  # the native kernels are broken, which is reported beside this
        return {"ok": False, "reason": str(error), "remedy": install_hint()}
    return {"ok": True, "architectures": module.architectures, "toolkit": module.toolkit}


def _runtime(runtime: Runtime) -> dict[str, Any]:
    try:
        choose(backend=runtime.name)
    except BackendUnavailableError as error:
        use = runtime.use_without_device()
        reason = f"{use}: {error.reason}" if use else error.reason
        return {"ok": False, "reason": reason, "remedy": error.remedy}
    return {"ok": True, **runtime.report()}


def _cuda() -> dict[str, Any]:
    try:
        found = driver.probe()
    except BackendUnavailableError as error:
        return {"ok": False, "reason": error.reason, "remedy": error.remedy}
    report: dict[str, Any] = {"ok": True, "driver": found.release, "cuda": found.cuda_version}
    for one in found.devices:
        memory = f"{one.memory_bytes / 2**30:.1f} GiB"
        report[f"cuda:{one.index}"] = f"{one.name} ({one.architecture}, {memory})"
    return report


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
    """Name runtimes and precisions of a model where the choice is free, and the reason."""
    try:
        plans, reason = resolve_plans(folder, Choice())
    except BackendError as error:
        return f"nothing: {error}"
    words = " + ".join(dict.fromkeys(map(str, plans.values())))
    return f"{words} ({reason})"


def _machine() -> dict[str, Any]:
    """Report memory, disk and processor features; None where the system has no figure."""
    return {
        "kernel": platform.release(),
        "cpu_flags": _cpu_flags(),
        "memory": _meminfo("MemTotal"),
        "memory_available": _meminfo("MemAvailable"),
        "memory_limit": _memory_limit(),
        "disk_free": _disk_free(),
    }


def _disk_free() -> int | None:
    """Return the free bytes of the working folder's disk; None if that folder was removed."""
    try:
        return shutil.disk_usage(Path.cwd()).free
    except OSError:
        return None


def _read(path: Path) -> str:
    """Read a file of the system; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpu_flags() -> list[str]:
    """List those of ``CPU_FLAGS`` that the processor has."""
    present = instructions()
    return [flag for flag in CPU_FLAGS if flag in present]


def _meminfo(field: str) -> int | None:
    for line in _read(Path("/proc/meminfo")).splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None


def _memory_limit() -> int | None:
    """Read the memory limit of a container, which ``MemTotal`` does not show; None without one."""
    limit = _read(_CGROUP / "memory.max").strip()
    return int(limit) if limit.isdigit() else None
