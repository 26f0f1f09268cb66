"""Engines of TensorRT-RTX, built without a GPU, of exported networks other than SAM and U-Nets."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from fastseg.backends.tensorrt.builder import BuildOptions, build_engine
from fastseg.backends.tensorrt.library import TENSORRT_RTX
from fastseg.contract import guided_network
from fastseg.export.checkpoints.kinds import KINDS
from fastseg.export.networks.guided import GuidedModules
from fastseg.export.networks.ritm import SHAPES, SIDE_CHANNELS, Ritm
from fastseg.export.onnx.writer import Source, write
from tests.helpers.reference_ritm import random_weights

PORTABLE = BuildOptions(TENSORRT_RTX, ("portable",))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobile-sam", "sam2-hiera-tiny"])
def test_encoders_become_engines(needs_rtx, name, tmp_path):
    modules = next(kind for kind in KINDS if kind.name == name).build()
    for part in modules.by_prefix().values():
        part.eval().requires_grad_(False)
    source = next(iter(modules.sources()))
    write(source, tmp_path / "encoder.onnx")
    weights = 4 * sum(weight.numel() for weight in source.module.parameters())
    engine = build_engine(tmp_path / "encoder.onnx", source.graph, PORTABLE)
    assert len(engine) >= 0.9 * weights


@pytest.mark.slow
def test_ritm_h18s_becomes_an_engine_for_images_of_any_size(needs_rtx, tmp_path):
    network = random_weights(Ritm(SHAPES["ritm-h18s"]))
    modules = GuidedModules(network, guided_network(SIDE_CHANNELS))
    example = torch.zeros(2, 3, 64, 96), torch.zeros(2, 3, 64, 96)
    path = tmp_path / "network.onnx"
    write(Source(modules.graph, network, example, sizeless=True), path)
    assert len(build_engine(path, modules.graph, PORTABLE)) >= 4 * 4_000_000
