"""The key of an engine: what it was built from and for, and the differences between two keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

from fastseg.artifacts.manifest import GraphFile
from fastseg.backends.tensorrt.library import PORTABLE, Flavour
from fastseg.backends.tensorrt.optimization_profiles import profiles_of
from fastseg.cuda.driver import CudaDevice, CudaDriver

RECIPE = 1
"""Version of the build; raised when it changes engines of the same key, so that none fits."""

_PORTABLE_FROM = (8, 0)
"""The oldest architecture that a portable engine runs on, as NVIDIA documents it."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU and driver that an engine was built or compared on."""

    name: str
    compute_capability: tuple[int, int]
    driver: str

    @classmethod
    def of(cls, device: CudaDevice, driver: CudaDriver) -> Gpu:
        """Describe a device."""
        return cls(device.name, device.compute_capability, driver.release)

    def __str__(self) -> str:
        major, minor = self.compute_capability
        return f"{self.name} (sm{major}{minor}, driver {self.driver})"


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that an engine depends on."""

    graph: str
    """Name of the graph, ``"decoder"``."""

    graph_sha256: str
    """Hash of the ONNX file and its outside weights together."""

    precision: str
    runtime: str
    runtime_version: str
    targets: tuple[str, ...]
    """Architectures that it was built for ahead of time; empty for the GPU of the machine."""

    gpu: Gpu | None
    """The GPU of the machine; None for an engine that was built ahead of time."""

    profiles: tuple[Mapping[str, tuple[int, int, int]], ...]
    """Smallest, usual and largest size of each open dimension."""

    recipe: int = RECIPE

    @property
    def digest(self) -> str:
        """Hash of the key, 64 hexadecimal digits."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def for_gpu(self, gpu: Gpu | None) -> EngineKey:
        """Return the same key for another GPU."""
        return replace(self, gpu=gpu)

    def differences(self, wanted: EngineKey) -> list[str]:
        """List in words why an engine of this key is not one of ``wanted``; empty if it is.

        ``wanted`` names the GPU of this machine. An engine that was built ahead of time fits it if
        one of its targets does.
        """
        pairs = (
            ("is of the graph", self.graph, wanted.graph),
            ("was built from a graph with sha256", self.graph_sha256, wanted.graph_sha256),
            ("computes in", self.precision, wanted.precision),
            ("is for the runtime", self.runtime, wanted.runtime),
            (f"was built by {self.runtime}", self.runtime_version, wanted.runtime_version),
            ("takes the sizes", self.profiles, wanted.profiles),
            ("was built by recipe", self.recipe, wanted.recipe),
        )
        found = [f"it {what} {own}, not {other}" for what, own, other in pairs if own != other]
        if (reason := self._unfit(wanted.gpu)) is not None:
            found.append(reason)
        return found

    def _unfit(self, gpu: Gpu | None) -> str | None:
        if not self.targets:
            return None if self.gpu == gpu else f"it was built on {self.gpu}, and this is {gpu}"
        if gpu is None:
            return None
        major, minor = gpu.compute_capability
        portable = self.targets == (PORTABLE,) and gpu.compute_capability >= _PORTABLE_FROM
        if portable or f"sm{major}{minor}" in self.targets:
            return None
        return f"it was built for {', '.join(self.targets)}, and this is {gpu}"


def key_of(
    stored: GraphFile,
    flavour: Flavour,
    runtime_version: str,
    *,
    targets: tuple[str, ...],
    gpu: Gpu | None,
) -> EngineKey:
    """Make the key of an engine of a model folder's graph."""
    return EngineKey(
        graph=stored.graph.name,
        graph_sha256=stored.content,
        precision=stored.precision,
        runtime=flavour.name,
        runtime_version=runtime_version,
        targets=targets,
        gpu=gpu,
        profiles=tuple(
            {name: (one.least, one.usual, one.most) for name, one in profile.items()}
            for profile in profiles_of(stored.graph)
        ),
    )


def to_document(key: EngineKey) -> dict[str, Any]:
    """Convert a key to what JSON can hold."""
    return asdict(key)


def from_document(document: Mapping[str, Any]) -> EngineKey:
    """Read what ``to_document`` wrote.

    Raises:
        KeyError, TypeError, ValueError: Something else wrote it.
    """
    fields = dict(document)
    gpu = fields.pop("gpu")
    profiles = tuple(
        {str(name): _triple(sizes) for name, sizes in profile.items()}
        for profile in fields.pop("profiles")
    )
    return EngineKey(
        **{**fields, "targets": tuple(map(str, fields["targets"]))},
        gpu=None if gpu is None else gpu_from_document(gpu),
        profiles=profiles,
    )


def gpu_from_document(document: Mapping[str, Any]) -> Gpu:
    """Read a GPU from JSON."""
    major, minor = document["compute_capability"]
    return Gpu(str(document["name"]), (int(major), int(minor)), str(document["driver"]))


def _triple(sizes: Any) -> tuple[int, int, int]:
    least, usual, most = map(int, sizes)
    return least, usual, most
