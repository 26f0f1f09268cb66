"""Engines of a model folder: built or found, compared with FP32 where there is a GPU, and kept."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from fastseg import artifacts
from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.builder import BuildOptions, Progress, build_engine
from fastseg.backends.tensorrt.engine_cache import (
    ENGINES,
    NOT_COMPARED,
    Comparison,
    EngineCache,
    StoredEngine,
    card_of,
    engines_in,
    write_engine,
)
from fastseg.backends.tensorrt.engine_key import EngineKey, Gpu, key_of
from fastseg.backends.tensorrt.library import Flavour
from fastseg.cuda import driver as cuda_driver
from fastseg.errors import BackendError, BackendUnavailableError, ParityError
from fastseg.inference.sessions import Choice
from fastseg.validation import comparison, probes
from fastseg.validation.comparison import Limits


@dataclass(frozen=True, slots=True)
class Request:
    """The engines to build."""

    backend: str
    """``"tensorrt"`` or ``"tensorrt-rtx"``."""

    precision: str = "fp16"
    """``"fp16"`` or ``"fp32"``; the folder must hold graphs in it."""

    targets: tuple[str, ...] = ()
    """Architectures to build for ahead of time, ``("sm86", "sm89")``; none means portable."""

    device: str = "auto"
    """The GPU to build or to compare on; ``"auto"`` is the first, or none if there is none."""

    out: Path | None = None
    """The model folder to write, with the engines in it; None fills only the cache."""

    overwrite: bool = False

    @property
    def flavour(self) -> Flavour:
        """The runtime named by ``backend``.

        Raises:
            BackendError: No runtime of this name builds engines.
        """
        if self.backend not in tensorrt_library.FLAVOURS:
            known = " or ".join(tensorrt_library.FLAVOURS)
            raise BackendError(f"engines are built for {known}, not for {self.backend!r}.")
        return tensorrt_library.FLAVOURS[self.backend]


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """One engine that was built or found."""

    graph: str
    bytes: int
    seconds: float
    """Wall-clock seconds of the build, or of finding it."""

    origin: str
    """``"built"``, ``"cache"`` or ``"model folder"``."""


@dataclass(frozen=True, slots=True)
class Built:
    """The result of a build."""

    engines: tuple[BuiltEngine, ...]
    comparison: Comparison
    table: str
    """The comparison as text, empty if there was none."""

    targets: tuple[str, ...]
    gpu: Gpu | None
    runtime_version: str
    cache: Path | None
    """The folder that keeps the engines; None without a home."""


def build(
    folder: ModelFolder,
    request: Request,
    *,
    progress: Progress = lambda _: None,
    cache: EngineCache | None = None,
) -> Built:
    """Build or find an engine for every graph of a model folder, and compare them with FP32.

    Engines are kept, in the cache and at ``request.out``, only if all were built and, where their
    GPU is at hand, the comparison passed.

    Args:
        folder: A model folder that was read and verified.
        request: The runtime, precision, targets and place of the engines.
        progress: Called with the name of each step as it begins.
        cache: The cache that keeps engines; the user's own if None.

    Raises:
        BackendUnavailableError: The runtime or a GPU that is needed is not available.
        BackendError: The folder lacks the precision, or has no graphs in FP32 to compare with.
        EngineError: A target is unknown, or the runtime rejects a graph.
        ModelFolderError: A file is damaged.
        ParityError: The comparison failed.
        OutputError: Something could not be written.
    """
    target = _Target.of(request)
    graphs = _graphs(folder, request)
    kept = EngineCache() if cache is None else cache
    with tempfile.TemporaryDirectory(prefix="fastseg-build-") as scratch:
        staging = replace(folder, path=Path(scratch))
        built, engines = [], []
        for number, stored in enumerate(graphs, start=1):
            title = f"{stored.graph.name} ({number} of {len(graphs)})"
            steps = _Steps(staging.path, title, progress)
            found, engine = _obtain(folder, stored, target, kept, steps)
            built.append(found)
            engines.append(engine)
        result, table = _compare(folder, staging, request, target, progress)
        engines = [_with(engine, result) for engine in engines]
        if request.out is not None:
            progress("writing the model folder")
            _write_folder(folder, engines, request.out, overwrite=request.overwrite)
        for engine in engines:
            kept.put(engine.read(), engine.card)
            kept.accept(engine.card, result)
    return Built(
        engines=tuple(built),
        comparison=result,
        table=table,
        targets=target.names,
        gpu=target.gpu,
        runtime_version=target.version,
        cache=kept.folder,
    )


@dataclass(frozen=True, slots=True)
class _Steps:
    """The staging folder of one engine, and who is told of each step of its build."""

    staging: Path
    """Holds the engines until all of them are accepted."""

    title: str
    progress: Progress

    def report(self, phase: str) -> None:
        self.progress(f"{self.title}: {phase}")


@dataclass(frozen=True, slots=True)
class _Target:
    """The runtime, architectures and GPU that engines are built for."""

    flavour: Flavour
    version: str
    names: tuple[str, ...]
    """Architectures, or ``("portable",)``."""

    gpu: Gpu | None
    """The GPU at hand; None if there is none."""

    device: str

    @classmethod
    def of(cls, request: Request) -> _Target:
        flavour = request.flavour
        version = tensorrt_library.version(flavour)
        names = tensorrt_library.check_targets(flavour, request.targets)
        gpu = _gpu(request.device, needed=not flavour.ahead_of_time)
        device = "cuda" if request.device == "auto" else request.device
        return cls(flavour, version, names, gpu, device)

    def key(self, stored: GraphFile) -> EngineKey:
        built_on = None if self.flavour.ahead_of_time else self.gpu
        return key_of(stored, self.flavour, self.version, targets=self.names, gpu=built_on)

    @property
    def order(self) -> BuildOptions:
        timed_on = "" if self.flavour.ahead_of_time else str(self.gpu)
        return BuildOptions(self.flavour, self.names, timed_on)


def _gpu(device: str, *, needed: bool) -> Gpu | None:
    if not re.fullmatch(r"auto|cuda(:\d+)?", device):
        raise BackendError(
            f'engines run on a GPU: device must be "auto", "cuda" or "cuda:1", not {device!r}.'
        )
    try:
        found = cuda_driver.require_device("cuda" if device == "auto" else device)
        return Gpu.of(found, cuda_driver.probe())
    except BackendUnavailableError:
        if needed or device != "auto":
            raise
        return None


def _graphs(folder: ModelFolder, request: Request) -> list[GraphFile]:
    names = {stored.graph.name: None for stored in folder.manifest.graphs.values()}
    return [folder.graph_file(name, request.precision) for name in names]


def _obtain(
    folder: ModelFolder, stored: GraphFile, target: _Target, cache: EngineCache, steps: _Steps
) -> tuple[BuiltEngine, StoredEngine]:
    """Find an engine or build it, and write it into the staging folder."""
    start, key = time.perf_counter(), target.key(stored)
    found, origin = cache.find(key), "cache"
    if found is None:
        inside = engines_in(folder.path / ENGINES, stored.graph.name)[0]
        found = next((one for one in inside if one.card.key == key), None)
        origin = "model folder"
    if found is not None:
        steps.report("found")
        content = found.read()
    else:
        content = build_engine(folder.file(stored), stored.graph, target.order, steps.report)
        origin = "built"
    card = card_of(key, content, Comparison(NOT_COMPARED))
    engine = write_engine(steps.staging / ENGINES, content, card)
    seconds = time.perf_counter() - start
    return BuiltEngine(stored.graph.name, len(content), seconds, origin), engine


def _compare(
    folder: ModelFolder, staging: ModelFolder, request: Request, target: _Target, progress: Progress
) -> tuple[Comparison, str]:
    """Compare staged engines with FP32 if their GPU is at hand.

    Raises:
        ParityError: The masks are outside the limits.
    """
    if target.gpu is None:
        return Comparison(NOT_COMPARED), ""
    stored = next(iter(folder.manifest.graphs.values()))
    key = target.key(stored)
    if foreign := key.differences(key.for_gpu(target.gpu)):
        return Comparison(f"not compared: {foreign[0]}"), ""
    progress("comparing with FP32")
    found = compare_with_fp32(folder, staging, request, target.device)
    # Engines in FP32 too: another order of sums moves numbers by more than two runtimes on one
    # processor differ, so the masks are held to limits and the tensors are not.
    limits = Limits.of_masks(folder.manifest.family)
    table = found.summary(limits)
    if not found.within(limits):
        raise ParityError(
            f"the engines of {folder.manifest.name} in {request.precision} are too far from FP32 "
            f"on {target.gpu}, so none was kept.\n{table}"
        )
    return Comparison("passed", target.gpu, found.as_dict()), table


def compare_with_fp32(
    folder: ModelFolder, engines: ModelFolder, request: Request, device: str
) -> comparison.Comparison:
    """Run a model's engines and its graphs in FP32 on the same generated images.

    Args:
        folder: The model folder, which holds the graphs in FP32.
        engines: The same with the engines.
        request: The runtime and precision that were built for.
        device: The GPU that runs the engines; FP32 runs on the processor.

    Raises:
        BackendError: The folder holds no graphs in FP32, or the engines do not run.
    """
    exact = Choice(device="cpu", precision="fp32")
    fast = Choice(
        device=device,
        backend=request.backend,
        precision=request.precision,
        allow_uncompared=True,
    )
    manifest = folder.manifest
    asked = [probes.build_probe(manifest, image) for image in comparison.samples(manifest)]
    return comparison.compare(
        probes.run_probes(folder, exact, asked), probes.run_probes(engines, fast, asked)
    )


def _with(engine: StoredEngine, comparison: Comparison) -> StoredEngine:
    return replace(engine, card=replace(engine.card, comparison=comparison))


def _write_folder(
    folder: ModelFolder, engines: list[StoredEngine], out: Path, *, overwrite: bool
) -> None:
    """Write a model folder with the graphs and engines of ``folder`` and the new engines."""
    new = {engine.card.key.digest for engine in engines}
    names = {stored.graph.name for stored in folder.manifest.graphs.values()}
    older = [
        engine
        for name in sorted(names)
        for engine in engines_in(folder.path / ENGINES, name)[0]
        if engine.card.key.digest not in new
    ]
    with artifacts.write(out, overwrite=overwrite) as temporary:
        for file in folder.manifest.files:
            shutil.copyfile(folder.path / file.file, temporary / file.file)
        artifacts.write_manifest(temporary, folder.manifest)
        for engine in (*older, *engines):
            write_engine(temporary / ENGINES, engine.read(), engine.card)
