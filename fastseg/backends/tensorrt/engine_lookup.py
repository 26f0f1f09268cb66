"""Which engine runs a graph of a model folder on this GPU, or in words why none does."""

from __future__ import annotations

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile
from fastseg.backends.tensorrt import library as tensorrt_library
from fastseg.backends.tensorrt.engine_cache import ENGINES, EngineCache, StoredEngine, engines_in
from fastseg.backends.tensorrt.engine_key import Gpu, key_of
from fastseg.backends.tensorrt.library import PORTABLE, Flavour
from fastseg.errors import EngineError


def find_engine(
    folder: ModelFolder,
    stored: GraphFile,
    flavour: Flavour,
    gpu: Gpu,
    cache: EngineCache | None = None,
) -> StoredEngine:
    """Find the engine of a graph, in the model folder itself or in the cache.

    An engine fits if it was built from this very graph, in this precision, by this version of the
    runtime, for this GPU. Below FP32 it must also have passed a comparison on this GPU.

    Args:
        folder: The model folder.
        stored: Its graph.
        flavour: The runtime.
        gpu: The GPU at hand.
        cache: Where engines are kept; the user's cache if None.

    Raises:
        EngineError: There is no such engine. The message gives the reason of each that is there.
    """
    kept = EngineCache() if cache is None else cache
    wanted = key_of(stored, flavour, tensorrt_library.version(flavour), targets=(), gpu=gpu)
    inside, reasons = engines_in(folder.path / ENGINES, stored.graph.name)
    # The cache holds engines of every model: those of other graphs are no news.
    cached = [
        engine
        for engine in kept.all(stored.graph.name)
        if engine.card.key.graph_sha256 == wanted.graph_sha256
    ]
    fitting = []
    for engine in (*inside, *cached):
        different = engine.card.key.differences(wanted)
        if not different and not kept.accepts(engine.card, gpu):
            state = engine.card.comparison.state
            different = [f"its masks were never compared with FP32 on this GPU ({state})"]
        if different:
            reasons.append(f"{engine.path.name}: {'; '.join(different)}")
        else:
            fitting.append(engine)
    if not fitting:
        raise EngineError(_none_fits(folder, stored, flavour, gpu, reasons))
    # One that was built for this architecture alone is at least as good as a portable one.
    return min(fitting, key=lambda engine: engine.card.key.targets == (PORTABLE,))


def _none_fits(
    folder: ModelFolder, stored: GraphFile, flavour: Flavour, gpu: Gpu, reasons: list[str]
) -> str:
    found = " ".join(f"{reason}." for reason in reasons) or "There is none at all."
    return (
        f"{folder.manifest.name} has no {flavour.name} engine of {stored.graph.name} in "
        f"{stored.precision} for {gpu}. {found} Build and compare it here: fastseg build "
        f"{folder.path} --backend {flavour.name} --precision {stored.precision}."
    )
