"""What a number or a result was made on: versions, processor, cores; and the notice it carries."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Protocol

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


def of_model(model: LoadedModel) -> dict[str, str]:
    """Name a loaded model, and the backend, device and precision that it actually runs in."""
    return {
        "model": model.manifest.name,
        "backend": model.backend,
        "device": model.device,
        "precision": model.precision,
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
    try:
        for entry in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if entry.startswith("model name"):
                return entry.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
