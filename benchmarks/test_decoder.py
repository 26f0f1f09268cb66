"""Speed of 64 points on one image: reference decoder, its plain ONNX, the two-stage decoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference and the export need torch")

from benchmarks.turns import milliseconds  # noqa: E402
from fastseg.backends.onnxruntime.session import OrtBackend  # noqa: E402
from fastseg.contract import GraphSpec, TensorSpec  # noqa: E402
from fastseg.environment import usable_cores  # noqa: E402
from fastseg.export.networks.mask_decoder import MaskDecoder  # noqa: E402
from fastseg.export.networks.prompt_encoder import PromptEncoder  # noqa: E402
from fastseg.export.networks.sam import SamModules  # noqa: E402
from fastseg.export.onnx.writer import Source, write  # noqa: E402
from fastseg.sam.two_stage_decoder import PROMPTS_PER_RUN  # noqa: E402
from tests.helpers.random_weights import scattered  # noqa: E402
from tests.helpers.reference_sam import reference_sam  # noqa: E402

PROMPTS, ROUNDS = 64, 4
GRID, SIDE = 64, 1024


class Plain(torch.nn.Module):
    """Prompt encoder and decoder in one graph, as in a plain export."""

    def __init__(self, modules: SamModules) -> None:
        super().__init__()
        self.prompts, self.decoder = modules.prompt_encoder, modules.mask_decoder

    def forward(self, embedding, coords, labels):
        encoded = self.prompts(coords, labels)
        logits, ious = self.decoder(embedding, self.prompts.dense_positions(), *encoded)
        return logits[:, 1:], ious[:, 1:]


@pytest.fixture(scope="module")
def modules() -> SamModules:
    torch.manual_seed(0)
    torch.set_num_threads(usable_cores())
    prompts, decoder = scattered(PromptEncoder(GRID, SIDE)), scattered(MaskDecoder())
    return SamModules(torch.nn.Identity(), prompts, decoder)


@pytest.fixture(scope="module")
def embedding() -> torch.Tensor:
    return torch.randn(1, 256, GRID, GRID, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return SIDE * np.random.default_rng(0).random((PROMPTS, 1, 2), dtype=np.float32)


@pytest.fixture(scope="module")
def reference(modules, embedding, points) -> Callable[[], np.ndarray]:
    weights = {
        f"{prefix}.{name}": tensor
        for prefix, module in modules.by_prefix().items()
        for name, tensor in module.state_dict().items()
    }
    sam = reference_sam(torch.nn.Identity(), weights)
    prompts = torch.from_numpy(points), torch.ones(PROMPTS, 1, dtype=torch.int64)

    def decode() -> np.ndarray:
        with torch.inference_mode():
            sparse, dense = sam.prompt_encoder(prompts, None, None)
            logits, _ = sam.mask_decoder(
                embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, True
            )
        return logits.numpy()

    return decode


@pytest.fixture(scope="module")
def plain(modules, embedding, points, tmp_path_factory) -> Callable[[], np.ndarray]:
    path = tmp_path_factory.mktemp("plain") / "plain.onnx"
    logits = (4 * GRID, 4 * GRID)
    graph = GraphSpec(
        "plain",
        (
            TensorSpec("embedding", "float32", (1, 256, GRID, GRID)),
            TensorSpec("coords", "float32", ("prompts", 2, 2)),
            TensorSpec("labels", "int32", ("prompts", 2)),
        ),
        (
            TensorSpec("logits", "float32", ("prompts", 3, *logits)),
            TensorSpec("ious", "float32", ("prompts", 3)),
        ),
    )
    traced = embedding, torch.zeros(5, 2, 2), torch.zeros(5, 2, dtype=torch.int32)
    write(Source(graph, Plain(modules).eval(), traced), path)
    backend = OrtBackend(path, graph)
    coords, labels = padded(points)

    def decode() -> np.ndarray:
        parts = []
        for first in range(0, PROMPTS, PROMPTS_PER_RUN):
            some = slice(first, first + PROMPTS_PER_RUN)
            inputs = {"coords": coords[some], "labels": labels[some]}
            parts.append(backend.run({"embedding": embedding.numpy(), **inputs})["logits"])
        return np.concatenate(parts)

    return decode


@pytest.fixture(scope="module")
def backends(modules, tmp_path_factory) -> dict[str, OrtBackend]:
    folder: Path = tmp_path_factory.mktemp("ours")
    found = {}
    for source in modules.sources():
        name = source.graph.name
        if name in ("image_state", "decoder", "mask_head"):
            write(source, folder / f"{name}.onnx")
            found[name] = OrtBackend(folder / f"{name}.onnx", source.graph)
    return found


def padded(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pad prompts without a box by SAM's padding point."""
    coords = np.concatenate([points, np.zeros_like(points)], axis=1)
    return coords, np.array([[1, -1]] * len(points), np.int32)


def ours(backends, embedding, points, *, per_run: int, survivors: bool = True):
    """Return a function that runs both stages for every point, or the first alone."""
    coords, labels = padded(points)

    def decode() -> np.ndarray:
        state = backends["image_state"].run({"embedding": embedding.numpy()})
        parts = []
        for first in range(0, PROMPTS, per_run):
            some = slice(first, first + per_run)
            prompts = {"point_coords": coords[some], "point_labels": labels[some]}
            found = backends["decoder"].run({**prompts, **state})
            del found["iou_predictions"]
            if survivors:
                vectors = np.ascontiguousarray(found["mask_vectors"][:, 1:])
                drawn = backends["mask_head"].run({**found, "mask_vectors": vectors})
                parts.append(drawn["low_res_logits"])
        return np.concatenate(parts) if parts else np.empty(0)

    return decode


def test_decoding_64_points(reference, plain, backends, embedding, points, table):
    runs = {
        "reference torch": reference,
        "plain ONNX": plain,
        **{
            f"ours, {per_run} prompts a run": ours(backends, embedding, points, per_run=per_run)
            for per_run in (4, 8, 16, 32)
        },
        "ours, first stage alone": ours(
            backends, embedding, points, per_run=PROMPTS_PER_RUN, survivors=False
        ),
    }
    expected = reference()
    for name in ("plain ONNX", "ours, 16 prompts a run"):
        difference = np.abs(runs[name]() - expected).max()
        assert difference <= 1e-5 * np.abs(expected).max()
    times = milliseconds(runs, ROUNDS)
    base = float(np.median(times["reference torch"]))
    rows = [("decoder", "median ms", "spread", "x reference")]
    for name, taken in times.items():
        median = float(np.median(taken))
        spread = f"{min(taken):.0f}..{max(taken):.0f}"
        rows.append((name, f"{median:.0f}", spread, f"{base / median:.1f}"))
    table(f"{PROMPTS} points on one image, all masks, {usable_cores()} threads", rows)
