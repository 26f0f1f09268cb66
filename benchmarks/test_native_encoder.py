"""Speed and errors of SAM ViT-B's encoder: the native kernel beside torch and two runtimes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.turns import milliseconds
from fastseg import contract, ops
from fastseg.artifacts import safetensors
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.contract import Array
from fastseg.environment import instructions, usable_cores
from fastseg.errors import BackendError

torch = pytest.importorskip("torch", reason="the encoder's weights are made with torch")

from benchmarks.arithmetic import sam_gmac  # noqa: E402
from fastseg.export.networks.image_encoder import SHAPES, ImageEncoder  # noqa: E402
from fastseg.export.networks.mask_decoder import MaskDecoder  # noqa: E402
from fastseg.export.networks.prompt_encoder import PromptEncoder  # noqa: E402
from fastseg.export.networks.sam import SamModules  # noqa: E402
from fastseg.export.onnx.writer import write  # noqa: E402

ROUNDS = 3
Embed = Callable[[], Array]

LEAST_GAIN = {"amx-bf16": 1.5, "avx2": 1.2}
"""Least speed of a kernel table as a multiple of the best runtime's in the same precision, or the
table is not worth its code."""


@pytest.fixture(scope="module")
def modules() -> SamModules:
    torch.manual_seed(0)
    encoder = ImageEncoder(SHAPES["vit_b"]).eval().requires_grad_(False)
    for name, weight in encoder.named_parameters():
        if "rel_pos" in name or name == "pos_embed":
            torch.nn.init.normal_(weight, std=0.1)
    return SamModules(encoder, PromptEncoder(), MaskDecoder())


@pytest.fixture(scope="module")
def graph(modules, tmp_path_factory) -> tuple[Path, contract.GraphSpec, Path]:
    """Export the encoder's graph, and the weights that it shares with the kernel."""
    folder = tmp_path_factory.mktemp("encoder")
    weights = folder / "encoder.safetensors"
    safetensors.write(weights, modules.encoder_weights())
    source = next(iter(modules.sources()))
    write(source, folder / "encoder.onnx", weights=weights)
    return folder / "encoder.onnx", source.graph, weights


@pytest.fixture(scope="module")
def contenders(modules, graph) -> dict[str, Embed]:
    path, described, weights = graph
    image = np.random.default_rng(0).standard_normal((1, 3, 1024, 1024)).astype(np.float32)
    torch.set_num_threads(usable_cores())

    def in_torch(bf16: bool) -> Embed:
        def embed() -> Array:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return modules.image_encoder(torch.from_numpy(image)).float().numpy()

        return embed

    found = {"torch FP32": in_torch(False)}
    in_bf16 = not instructions().isdisjoint(("avx512_bf16", "amx_bf16"))
    if in_bf16:
        found["torch BF16"] = in_torch(True)
    runtime = OrtBackend(path, described)
    found["ONNX Runtime FP32"] = lambda: runtime.run({"image": image})["embedding"]
    try:
        from fastseg.backends.openvino import OpenVinoBackend

        for precision in ("fp32", "bf16") if in_bf16 else ("fp32",):
            opened = OpenVinoBackend(path, described, precision=precision)
            found[f"OpenVINO {precision.upper()}"] = lambda opened=opened: opened.run(
                {"image": image}
            )["embedding"]
    except BackendError as error:
        print(f"OpenVINO: {error}")
    for name in kernel_tables():
        kernel = ops.EncoderKernel(safetensors.read(weights), kernel_table=name)
        found[f"native {name}"] = lambda kernel=kernel: kernel.embed(image)
    return found


def kernel_tables() -> list[str]:
    """List the tables with bfloat16 operands, and the fastest with float32 operands."""
    tables = ops.kernel_tables()
    exact = next(name for name in tables if not ops.computes_in_bf16(name))
    return [*filter(ops.computes_in_bf16, tables), exact]


def test_an_image(contenders, table):
    exact = contenders["torch FP32"]()
    errors = {
        name: float(np.sqrt(((embed() - exact) ** 2).mean() / (exact**2).mean()))
        for name, embed in contenders.items()
    }
    times = {name: np.array(ms) for name, ms in milliseconds(contenders, ROUNDS).items()}
    medians = {name: float(np.median(ms)) for name, ms in times.items()}
    gflop = 2 * sam_gmac("vit_b")["encoder"]
    base = medians["torch FP32"]
    peak = ops.peak_rates(kernel_tables()[-1])
    heading = ("ms", "least", "x torch", "GFLOP/s", "of FP32 peak", "relative error")
    rows = [("ViT-B, random weights", *heading)]
    for name, median in medians.items():
        speed, error = gflop / median * 1e3, errors[name]
        cells = (f"{median:.0f}", f"{times[name].min():.0f}", f"{base / median:.1f}")
        share = f"{100 * speed / peak.multiply_add:.0f} %"
        rows.append((name, *cells, f"{speed:.0f}", share, f"{error:.1e}"))
    rates = f"{peak.multiply_add:.0f} GFLOP/s at peak, {peak.product:.0f} in a product"
    table(f"one embedding, {usable_cores()} threads; FP32 here: {rates}", rows)
    for name, gain in LEAST_GAIN.items():
        if name in kernel_tables():
            in_bf16 = ops.computes_in_bf16(name)
            others = (
                median
                for other, median in medians.items()
                if not other.startswith("native") and (in_bf16 or other.endswith("FP32"))
            )
            assert min(others) > gain * medians[f"native {name}"]
