"""Engines of TensorRT-RTX, built without a GPU, of exported networks other than SAM and U-Nets."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="exports need torch")

from fastseg.backends.tensorrt.builder import BuildOptions, build_engine
from fastseg.backends.tensorrt.library import TENSORRT_RTX
from fastseg.export.checkpoints.kinds import KINDS
from fastseg.export.onnx.writer import write

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
