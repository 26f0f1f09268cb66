"""The environment of a number or a result: versions, machine, processor and its usable cores."""

from __future__ import annotations

import ctypes
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from fastseg.errors import BackendUnavailableError

CUDA_DRIVER = "libcuda.so.1"
"""The library of the NVIDIA driver."""

_DISTRIBUTION = "fastseg-runtime"

_SOURCE = Path(__file__).parents[2]
"""The folder that the package stands in: a clone, or the place of installed packages."""

_CPUINFO = Path("/proc/cpuinfo")

_PACKAGES = (
    "numpy",
    "pillow",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "torch",
)


def versions() -> dict[str, str]:
    """List the versions of fastseg, Python and each installed package that can affect a result.

    Nothing is imported: the versions are those of the installed distributions. The version of a
    fastseg that runs from its source tree without being installed is ``"source tree"``.
    """
    found = {"fastseg": _version(_DISTRIBUTION) or "source tree"}
    found["python"] = platform.python_version()
    for package in _PACKAGES:
        if version := _version(package):
            found[package] = version
    return found


def machine() -> dict[str, str | int]:
    """Name the processor, the usable cores, the operating system and the current UTC time."""
    return {
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def processor() -> str:
    """Describe the processor in one line: its name and instruction sets.

    Rounding and speed depend on both.
    """
    return f"{_cpu_name()} {_cpuinfo(_CPUINFO).flags}"


def line() -> str:
    """Describe machine and versions in one line, for the head of a table."""
    about = machine()
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{about['cpu']}, {about['cores']} cores, {about['system']}; {packages}; {about['time']}"


def instructions() -> frozenset[str]:
    """List the instruction sets by their names in Linux; empty where the system has no list."""
    _, _, flags = _cpuinfo(_CPUINFO).flags.partition(":")
    return frozenset(flags.split())


def has_cuda_driver() -> bool:
    """Tell whether the library of an NVIDIA driver loads, without starting the driver.

    Where it does not load there is no CUDA device, and nothing of ``fastseg.cuda`` is needed.
    """
    return _loads(CUDA_DRIVER)


def usable_cores() -> int:
    """Count the cores that this process may run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count(threads: int) -> int:
    """Convert a ``threads=`` argument: 0 means every usable core, and more are never used."""
    cores = usable_cores()
    return min(threads or cores, cores)


def install_hint(extra: str = "") -> str:
    """Say how to install fastseg again, in the way in which it was installed.

    Args:
        extra: The extra that is to come along, ``"export"``; none if left out.

    Returns:
        A sentence without its full stop. From a clone it is a command for that folder. Otherwise no
        package is named: an index may have another one under that name.
    """
    clone = source_folder()
    if clone is None:
        return f"Install fastseg with its extra {extra!r}" if extra else "Install fastseg again"
    what = f"'.[{extra}]'" if extra else "."
    return f"In your clone, {clone}: pip install -e {what}"


@contextmanager
def needs_extra(extra: str, what: str = "") -> Iterator[None]:
    """Turn a missing package inside the block into an error that says how to install it.

    Args:
        extra: The extra that brings the package, ``"dicom"``.
        what: What cannot be done without it, ``"reading DICOM"``; the extra itself if left out.

    Raises:
        BackendUnavailableError: A package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise BackendUnavailableError(
            what or f"the extra {extra!r}",
            reason=f"{error.name} is not installed",
            remedy=install_hint(extra),
        ) from error


def source_folder() -> Path | None:
    """Find the folder of fastseg's source that it was installed from, or runs in.

    Returns:
        None if fastseg came as a wheel, or the folder is gone.
    """
    folders = [_SOURCE]
    with suppress(metadata.PackageNotFoundError, ValueError, KeyError, AttributeError, TypeError):
        stored = metadata.distribution(_DISTRIBUTION).read_text("direct_url.json") or "{}"
        origin = json.loads(stored)
        if "dir_info" in origin:
            folders.insert(0, Path(unquote(urlsplit(origin["url"]).path)))
    for folder in folders:
        with suppress(OSError):  # a folder that this user may not enter
            if (folder / "pyproject.toml").is_file():
                return folder
    return None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    """Return the processor's name where the system has it, else its architecture."""
    return _cpuinfo(_CPUINFO).name or platform.processor() or platform.machine()


class _CpuInfo(NamedTuple):
    """The entries of ``/proc/cpuinfo`` that are used; empty where they are missing."""

    name: str
    flags: str
    """The whole line, ``"flags : fpu vme ..."`` or ``"Features : fp asimd ..."``."""


@cache
def _cpuinfo(path: Path) -> _CpuInfo:
    """Parse the file once a process; it is long on machines with many cores."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return _CpuInfo("", "")
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    flags = (line for line in lines if line.partition(":")[0].strip() in ("flags", "Features"))
    return _CpuInfo(next(names, ""), next(flags, ""))


@cache
def _loads(library: str) -> bool:
    """Try to load a library once a process."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
