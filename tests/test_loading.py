"""``fastseg.load`` imports what the device needs, and nothing of a GPU on a CPU."""

from __future__ import annotations

import pytest

from tests.helpers.fresh_interpreter import loaded_by

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

GPU = (
    "fastseg.cuda.driver",
    "fastseg.cuda.device",
    "fastseg.cuda.arrays",
    "fastseg.cuda.kernels",
    "fastseg.sam.gpu.mask_generator",
    "fastseg.sam.gpu.crop",
    "fastseg.backends.tensorrt.runtime",
    "fastseg.backends.tensorrt.backend",
    "fastseg.backends.tensorrt.engine_cache",
)

WITHOUT_DRIVER = (
    "from fastseg import environment; environment.CUDA_DRIVER = 'libcuda-that-nobody-has.so.1'; "
)


@pytest.mark.parametrize("model", ["sam-nano", "echo-a4c"])
def test_a_model_on_the_cpu_imports_nothing_of_a_gpu(model):
    statement = f"import fastseg; fastseg.load({model!r}, device='cpu')"
    assert loaded_by(statement, GPU) == []


def test_auto_imports_nothing_of_a_gpu_where_there_is_no_driver():
    statement = f"{WITHOUT_DRIVER}import fastseg; fastseg.load('sam-nano')"
    assert loaded_by(statement, GPU) == []
