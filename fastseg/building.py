"""From a model folder to engines: built or found, compared with FP32 where there is a GPU, kept."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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

Gate = Callable[[ModelFolder, ModelFolder, "Request", str], "Verdict"]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be built."""

    backend: str
    """``"tensorrt"`` or ``"tensorrt-rtx"``."""

    precision: str = "fp16"
    """``"fp16"`` or ``"fp32"``: the folder must hold graphs in it."""

    targets: tuple[str, ...] = ()
    """Architectures to build for ahead of time, ``("sm86", "sm89")``; none is portable."""

    device: str = "auto"
    """The GPU to build or to compare on; ``"auto"`` is the first, or none if there is none."""

    out: Path | None = None
    """A model folder to write, with the engines in it; without one only the cache is filled."""

    overwrite: bool = False

    @property
    def flavour(self) -> Flavour:
        """The runtime that was asked for.

        Raises:
            BackendError: No runtime of this name builds engines.
        """
        if self.backend not in tensorrt_library.FLAVOURS:
            known = " or ".join(tensorrt_library.FLAVOURS)
            raise BackendError(f"engines are built for {known}, not for {self.backend!r}.")
        return tensorrt_library.FLAVOURS[self.backend]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison of engines with FP32 found."""

    passed: bool
    numbers: Mapping[str, Any]
    text: str
    """The table, for people."""


@dataclass(frozen=True, slots=True)
class Row:
    """One engine that was made or found."""

    graph: str
    bytes: int
    seconds: float
    """Wall-clock seconds of the build, or of finding it."""

    origin: str
    """``"built"``, ``"cache"`` or ``"model folder"``."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build left behind."""

    rows: tuple[Row, ...]
    comparison: Comparison
    table: str
    """The comparison for people, empty if there was none."""

    targets: tuple[str, ...]
    gpu: Gpu | None
    runtime_version: str
    cache: Path | None
    """The folder that keeps the engines; None without a home."""


def build(
    folder: ModelFolder,
    request: Request,
    *,
    gate: Gate,
    progress: Progress = lambda _: None,
    cache: EngineCache | None = None,
) -> Built:
    """Build every graph of a model folder, or find it, and compare the whole with FP32.

    Nothing is kept, in the cache or at ``request.out``, unless all graphs were built and, where
    there is a GPU that they are for, the comparison passed.

    Args:
        folder: A model folder that was read and verified.
        request: What to build.
        gate: Compares engines with FP32.
        progress: Is told what begins.
        cache: Where engines are kept; the user's cache if None.

    Raises:
        BackendUnavailableError: The runtime is not here, or a GPU that is needed.
        BackendError: The folder does not hold the precision.
        EngineError: A target is not known, or the runtime rejects a graph.
        ModelFolderError: A file is damaged.
        ParityError: The comparison failed.
        OutputError: Something could not be written.
    """
    bench = _Bench.of(request)
    graphs = _graphs(folder, request)
    kept = EngineCache() if cache is None else cache
    with tempfile.TemporaryDirectory(prefix="fastseg-build-") as scratch:
        staging = replace(folder, path=Path(scratch))
        rows, engines = [], []
        for number, stored in enumerate(graphs, start=1):
            title = f"{stored.graph.name} ({number} of {len(graphs)})"
            row, engine = _obtain(folder, stored, bench, kept, Stage(staging.path, title, progress))
            rows.append(row)
            engines.append(engine)
        comparison, table = _compare(folder, staging, request, bench, gate, progress)
        engines = [_with(engine, comparison) for engine in engines]
        if request.out is not None:
            progress("writing the model folder")
            _write_folder(folder, engines, request.out, overwrite=request.overwrite)
        for engine in engines:
            kept.put(engine.read(), engine.card)
            kept.accept(engine.card, comparison)
    return Built(
        rows=tuple(rows),
        comparison=comparison,
        table=table,
        targets=bench.targets,
        gpu=bench.gpu,
        runtime_version=bench.version,
        cache=kept.folder,
    )


@dataclass(frozen=True, slots=True)
class Stage:
    """Where engines lie until all of them are accepted, and who is told."""

    folder: Path
    title: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class _Bench:
    """What engines are built with, for and on."""

    flavour: Flavour
    version: str
    targets: tuple[str, ...]
    gpu: Gpu | None
    """The GPU at hand; None if there is none."""

    device: str

    @classmethod
    def of(cls, request: Request) -> _Bench:
        flavour = request.flavour
        version = tensorrt_library.version(flavour)
        targets = tensorrt_library.check_targets(flavour, request.targets)
        gpu = _gpu(request.device, needed=not flavour.ahead_of_time)
        device = "cuda" if request.device == "auto" else request.device
        return cls(flavour, version, targets, gpu, device)

    def key(self, stored: GraphFile) -> EngineKey:
        built_on = None if self.flavour.ahead_of_time else self.gpu
        return key_of(stored, self.flavour, self.version, targets=self.targets, gpu=built_on)

    @property
    def order(self) -> BuildOptions:
        timed_on = "" if self.flavour.ahead_of_time else str(self.gpu)
        return BuildOptions(self.flavour, self.targets, timed_on)


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
    folder: ModelFolder, stored: GraphFile, bench: _Bench, cache: EngineCache, stage: Stage
) -> tuple[Row, StoredEngine]:
    """Find an engine or build it, and lay it on the stage."""
    start, key = time.perf_counter(), bench.key(stored)
    found, origin = cache.find(key), "cache"
    if found is None:
        inside = engines_in(folder.path / ENGINES, stored.graph.name)[0]
        found = next((one for one in inside if one.card.key == key), None)
        origin = "model folder"
    if found is not None:
        stage.progress(f"{stage.title}: found")
        content = found.read()
    else:
        content = build_engine(
            folder.file(stored),
            stored.graph,
            bench.order,
            lambda phase: stage.progress(f"{stage.title}: {phase}"),
        )
        origin = "built"
    card = card_of(key, content, Comparison(NOT_COMPARED))
    engine = write_engine(stage.folder / ENGINES, content, card)
    row = Row(stored.graph.name, len(content), time.perf_counter() - start, origin)
    return row, engine


def _compare(
    folder: ModelFolder,
    staging: ModelFolder,
    request: Request,
    bench: _Bench,
    gate: Gate,
    progress: Progress,
) -> tuple[Comparison, str]:
    if bench.gpu is None:
        return Comparison(NOT_COMPARED), ""
    stored = next(iter(folder.manifest.graphs.values()))
    key = bench.key(stored)
    if foreign := key.differences(key.for_gpu(bench.gpu)):
        return Comparison(f"not compared: {foreign[0]}"), ""
    progress("comparing with FP32")
    verdict = gate(folder, staging, request, bench.device)
    if not verdict.passed:
        raise ParityError(
            f"the engines of {folder.manifest.name} in {request.precision} are too far from FP32 "
            f"on {bench.gpu}, so none was kept.\n{verdict.text}"
        )
    return Comparison("passed", bench.gpu, verdict.numbers), verdict.text


def _with(engine: StoredEngine, comparison: Comparison) -> StoredEngine:
    return replace(engine, card=replace(engine.card, comparison=comparison))


def _write_folder(
    folder: ModelFolder, engines: list[StoredEngine], out: Path, *, overwrite: bool
) -> None:
    """Write a model folder: the graphs of ``folder``, its engines and the new ones."""
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
