"""Image graphs in 8-bit integers: speed beside other precisions, and mask differences.

Run by ``python -m pytest benchmarks/test_int8.py -s``; ViT-B takes minutes, ``-k "not vit"`` leaves
it out. Fails if no choice of products gives the masks of FP32.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="exports need torch")

from benchmarks.turns import milliseconds
from fastseg import artifacts, environment
from fastseg.artifacts import ModelFolder, registry
from fastseg.artifacts.manifest import SAM
from fastseg.backends.base import require_integers
from fastseg.backends.selection import open_plan, plan
from fastseg.errors import BackendError, BackendUnavailableError
from fastseg.export.int8.convert import add_int8
from fastseg.validation import probes
from fastseg.validation.comparison import Comparison, samples
from tests.conftest import vit_b  # noqa: F401

pytestmark = pytest.mark.timeout(3600)

ROUNDS = 5
BASE = "onnxruntime fp32"
CONFIGURATIONS = (
    *(("onnxruntime", precision) for precision in ("fp32", "int8")),
    *(("openvino", precision) for precision in ("fp32", "bf16", "int8")),
    ("native", "bf16"),
)

Table = Callable[[str, list[tuple[str, ...]]], None]


@pytest.fixture(scope="module", params=["sam-nano", "echo-a4c", "vit-b"])
def added(request, tmp_path_factory) -> tuple[ModelFolder, Comparison]:
    """Return a model with an INT8 graph, and the comparison that it passed."""
    try:
        require_integers("an INT8 graph")
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    source: Path = (
        request.getfixturevalue("vit_b").folder
        if request.param == "vit-b"
        else registry.find(request.param)
    )
    out = tmp_path_factory.mktemp("int8") / request.param
    found = add_int8(source, out, progress=print)
    return artifacts.read(out), found


def test_speed_and_masks(added, table: Table) -> None:
    folder, found = added
    name = next(
        one.graph.name for one in folder.manifest.graphs.values() if one.graph.role == "image"
    )
    stored = folder.manifest.graphs[f"{name}.int8"]
    pixels = probes.build_probe(folder.manifest, samples(folder.manifest)[0]).pixels
    feed = {"image" if folder.manifest.family == SAM else "frames": pixels}
    runs = {}
    with ExitStack() as opened:
        for backend, precision in CONFIGURATIONS:
            try:
                resolved = plan(folder, name, device="cpu", backend=backend, precision=precision)
                graph = opened.enter_context(closing(open_plan(folder, resolved)))
            except BackendError as error:
                print(f"{backend} {precision}: {error}")
                continue
            if resolved.backend == backend and resolved.precision == precision:
                runs[f"{backend} {precision}"] = lambda graph=graph: graph.run(feed)
        times = milliseconds(runs, ROUNDS)
    base = float(np.median(times[BASE]))
    rows = [("", "median ms", "spread", f"x {BASE}")]
    for run, taken in times.items():
        median = float(np.median(taken))
        spread = f"{min(taken):.1f}..{max(taken):.1f}"
        rows.append((run, f"{median:.1f}", spread, f"{base / median:.2f}"))
    table(f"{folder.manifest.name}, {name}; {environment.line()}", rows)
    integers = sum(one["precision"] == "int8" for one in stored.blocks)
    print(f"{integers} of {len(stored.blocks)} products in int8, {stored.bytes / 1e6:.1f} MB")
    masks = found.of_masks
    print(f"{found.masks} masks: IoU {masks.mask_iou_mean:.5f}, least {masks.mask_iou_min:.5f}")
    print(f"of those that a pipeline would keep {found.kept}: {found.kept_iou}")
