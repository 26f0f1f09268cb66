"""The Python modules of TensorRT's two flavours: finding, loading and checking them."""

from __future__ import annotations

import ctypes
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastseg.backends.base import USE_CPU
from fastseg.environment import install_hint
from fastseg.errors import BackendUnavailableError, EngineError

PORTABLE = "portable"
"""The target of an engine that runs on every GPU of its flavour."""

DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32"}
"""TensorRT's names of the dtypes of graphs."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """One of the two runtimes that share TensorRT's API."""

    name: str
    """The word that ``backend=`` takes."""

    modules: tuple[str, ...]
    """Names of its Python module, of which the first that is installed is used."""

    libraries: tuple[str, ...]
    """Libraries that the module needs, in the order of loading; empty if it loads them itself."""

    packages: tuple[str, ...]
    """Python packages that contain those libraries."""

    ahead_of_time: bool
    """True if it builds engines for other GPUs than that of this machine, and without any."""

    oldest: tuple[int, int]
    """The first version that has the API used here."""


TENSORRT = Flavour("tensorrt", ("tensorrt",), (), (), ahead_of_time=False, oldest=(10, 3))

TENSORRT_RTX = Flavour(
    "tensorrt-rtx",
    ("tensorrt_rtx", "tensorrt_rtx_bindings"),
    ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"),
    ("tensorrt_rtx_libs", "onnxruntime_ep_nv_tensorrt_rtx"),
    ahead_of_time=True,
    oldest=(1, 2),
)

FLAVOURS = {flavour.name: flavour for flavour in (TENSORRT, TENSORRT_RTX)}


@cache
def runtime(flavour: Flavour) -> Any:
    """Import a flavour's module, its libraries first.

    Raises:
        BackendUnavailableError: It is not installed, does not load, or is too old.
    """
    for library in flavour.libraries:
        _load(flavour, library)
    module = _import(flavour)
    version = str(getattr(module, "__version__", "unknown"))
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or not hasattr(module, "Builder"):
        raise _unavailable(flavour, f"the module {module.__name__} here is not the runtime")
    if (int(found[1]), int(found[2])) < flavour.oldest:
        oldest = ".".join(map(str, flavour.oldest))
        raise _unavailable(flavour, f"its version {version} is older than {oldest}")
    _check_libraries(flavour, version)
    return module


def version(flavour: Flavour) -> str:
    """Return the version of the runtime, ``"1.7.1.116"``."""
    return str(runtime(flavour).__version__)


def targets(flavour: Flavour) -> tuple[str, ...]:
    """List the architectures that engines can be built for, ``("sm75", "sm80", ...)``."""
    if not flavour.ahead_of_time:
        return ()
    members = runtime(flavour).ComputeCapability.__members__
    return tuple(name.lower() for name in members if name.startswith("SM"))


def check_targets(flavour: Flavour, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Normalise the targets of a build: sorted, once each, ``("portable",)`` if there are none.

    Raises:
        EngineError: The flavour builds only for the GPU of this machine, or not for a target.
    """
    if not flavour.ahead_of_time:
        if asked:
            raise EngineError(
                f"{flavour.name} builds for the GPU that it runs on, not for {', '.join(asked)}. "
                "Leave the target out, or use tensorrt-rtx."
            )
        return ()
    known = (PORTABLE, *targets(flavour))
    if unknown := [target for target in asked if target not in known]:
        raise EngineError(
            f"{flavour.name} {version(flavour)} builds for {', '.join(known)}, not for "
            f"{', '.join(unknown)}. Name one of those, or no target for a portable engine; or "
            "build with tensorrt on a machine with that GPU."
        )
    if PORTABLE in asked and len(set(asked)) > 1:
        raise EngineError(
            f"a portable engine runs on every GPU of {flavour.name}: name no other target with it."
        )
    return tuple(sorted(set(asked))) or (PORTABLE,)


def _import(flavour: Flavour) -> Any:
    name = next(filter(_is_installed, flavour.modules), flavour.modules[0])
    try:
        return importlib.import_module(name)
    except Exception as error:  # a placeholder package fails in a way of its own
        raise _unavailable(flavour, f"it cannot be imported ({error})") from error


def _load(flavour: Flavour, library: str) -> None:
    """Load a library with global symbols, so that the module finds it by its name.

    A library that the process has loaded, or that the system finds, is used as it is: a second copy
    would have a state of its own.
    """
    candidates = (library, *map(str, _packaged(flavour, library)))
    if not any(_loads(candidate) for candidate in candidates):
        raise _unavailable(flavour, f"the library {candidates[-1]} is missing or does not load")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # of a package that is half there
        return False


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def _packaged(flavour: Flavour, library: str) -> Iterator[Path]:
    """List the files of a library in its packages: their names have more version numbers."""
    for package in flavour.packages:
        # Found without an import: the package would change files and the environment.
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            yield from sorted(Path(folder).glob(f"{library}*"), reverse=True)


def _check_libraries(flavour: Flavour, version: str) -> None:
    """Refuse a module whose libraries are of another release: their layouts differ."""
    if not flavour.libraries:
        return
    library = ctypes.CDLL(flavour.libraries[0])
    parts = (library.getInferLibMajorVersion, library.getInferLibMinorVersion)
    numbers = (*(int(part()) for part in parts), int(library.getInferLibPatchVersion()))
    loaded = ".".join(map(str, numbers))
    if not version.startswith(loaded):
        raise _unavailable(
            flavour, f"its module has version {version} and its libraries have {loaded}"
        )


def _unavailable(flavour: Flavour, reason: str) -> BackendUnavailableError:
    return BackendUnavailableError(
        flavour.name,
        reason=reason,
        remedy=f"{install_hint(flavour.name)} (docs/gpu.md says from where). {USE_CPU}",
    )
