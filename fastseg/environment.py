"""The environment of a number or a result: versions, machine, processor and its usable cores."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

_DISTRIBUTION = "fastseg-runtime"

_SOURCE = Path(__file__).parents[1]
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
    """Versions of fastseg, Python and every installed package that can take part in a result.

    Nothing is imported for it: the versions are those of the installed distributions. A fastseg
    that runs from its source tree without being installed calls itself ``"source tree"``.
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
    """The processor's name and instructions, as one text: what rounding and speed depend on."""
    lines = _cpuinfo()
    instructions = (line for line in lines if line.startswith(("flags", "Features")))
    return f"{_cpu_name()} {next(instructions, '')}"


def line() -> str:
    """Machine and versions in one line, for the head of a table."""
    about = machine()
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{about['cpu']}, {about['cores']} cores, {about['system']}; {packages}; {about['time']}"


def instructions() -> frozenset[str]:
    """Instruction sets by the names that Linux has for them; none where it does not tell."""
    for line in _cpuinfo():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(flags.split())
    return frozenset()


def usable_cores() -> int:
    """Cores that this process may run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count(threads: int) -> int:
    """Threads that ``threads=`` means: 0 is every core, and more than there are cores is no use."""
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
    return next((folder for folder in folders if (folder / "pyproject.toml").is_file()), None)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    """The processor's own name where the system tells it, else its architecture."""
    for entry in _cpuinfo():
        if entry.startswith("model name"):
            return entry.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpuinfo() -> list[str]:
    try:
        return _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
