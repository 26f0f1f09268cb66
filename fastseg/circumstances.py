"""What a number or a result was made on: versions, processor, cores; and the notice it carries."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from fastseg.backends.protocol import usable_cores
from fastseg.manifest import Manifest

NOTICE = "For research use only; not a medical device."

_PACKAGES = (
    "numpy",
    "pillow",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "torch",
)


class LoadedModel(Protocol):
    """A model that says what it is and what it runs on."""

    backend: str
    device: str

    @property
    def manifest(self) -> Manifest:
        """What its folder says about it."""

    @property
    def precision(self) -> str:
        """What it computes in."""

    @property
    def runs(self) -> Mapping[str, str]:
        """What runs each graph, in which precision."""

    @property
    def reason(self) -> str:
        """Why these were chosen."""


def versions() -> dict[str, str]:
    """Versions of fastseg, Python and every installed package that can take part in a result.

    Nothing is imported for it: the versions are those of the installed distributions. A fastseg
    that runs from its source tree without being installed calls itself ``"source tree"``.
    """
    found = {"fastseg": _version("fastseg-runtime") or "source tree"}
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


def of_model(model: LoadedModel) -> dict[str, Any]:
    """Name a loaded model, and the backend, device and precision that it actually runs in."""
    return {
        "model": model.manifest.name,
        "backend": model.backend,
        "device": model.device,
        "precision": model.precision,
        "runs": dict(model.runs),
        "reason": model.reason,
    }


def line() -> str:
    """Machine and versions in one line, for the head of a table."""
    about = machine()
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{about['cpu']}, {about['cores']} cores, {about['system']}; {packages}; {about['time']}"


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
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
