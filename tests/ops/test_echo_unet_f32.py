"""The native U-Net in float32 against the torch module, with every table of this processor."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the module is torch's")

import fastseg
from fastseg import ops
from fastseg.artifacts import safetensors
from fastseg.errors import BackendError, ModelFolderError
from fastseg.export.networks.unet import UNet
from fastseg.ops import echo_unet
from tests.helpers.processes import finish
from tests.ops.test_echo_unet import frames, network

TABLES = [table for table in ops.kernel_tables() if not ops.computes_in_bf16(table)]

EMBEDDED = Path(fastseg.__file__).parent / "models"

LOGIT_TOLERANCE = 1e-5
"""Of the largest logit."""

SIGMOID_TOLERANCE = 4e-7
"""Of the sigmoid in float32: a few units in the last place of 1."""

SHAPES = {
    "small": (3, 5, 16, 64),
    "one pixel in the end": (1, 1, 16, 16),
    "tiles over the border of every level": (2, 16, 48, 48),
    "four channels": (4, 7, 16, 112),
    "the published width": (3, 5, 32, 64),
}


def kernel(module: UNet, side: int, table: str) -> ops.UnetKernel:
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    return ops.UnetKernel(weights, side=side, kernel_table=table)


def assert_is_torch(found: np.ndarray, module: UNet, images: np.ndarray) -> None:
    """Compare probabilities: an error of a logit counts as much as the sigmoid is steep there."""
    with torch.no_grad():
        logits = module(torch.from_numpy(images)).numpy().astype(np.float64)
    expected = 1 / (1 + np.exp(-logits))
    steep = np.maximum(expected * (1 - expected), found * (1 - found.astype(np.float64)))
    allowed = LOGIT_TOLERANCE * np.abs(logits).max() * steep + SIGMOID_TOLERANCE
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= allowed).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("table", TABLES)
def test_it_draws_as_torch(table, shape):
    channels, _, _, side = shape
    module, images = network(*shape), frames(channels, side)
    assert_is_torch(kernel(module, side, table).probabilities(images), module, images)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", ["echo-a2c", "echo-a4c", "echo-sax"])
def test_embedded_networks_draw_as_torch(table, name):
    weights = safetensors.read(EMBEDDED / name / "network.safetensors")
    width, channels = weights["down.0.0.weight"].shape[:2]
    module = UNet(channels, len(weights["head.bias"]), width).eval()
    module.load_state_dict({key: torch.tensor(value) for key, value in weights.items()})
    images = frames(channels, 256)
    opened = ops.UnetKernel(weights, side=256, kernel_table=table)
    assert_is_torch(opened.probabilities(images), module, images)


def test_what_is_compared_depends_on_every_part():
    images, module = frames(3, 32), network(3, 5, 16)
    found = kernel(module, 32, TABLES[0]).probabilities(images)
    assert_is_torch(found, module, images)
    for _, weight in module.named_parameters():
        part = weight if weight.ndim == 1 else weight[..., 0, 0]  # of neighbours, or of pixels made
        before = part.clone()
        part.zero_()
        with pytest.raises(AssertionError):
            assert_is_torch(found, module, images)
        part.copy_(before)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("side", [128, 80])
def test_bits_depend_neither_on_threads_nor_on_the_batch(table, side):
    opened, images = kernel(network(3, 5, 16), side, table), frames(3, side, 5)
    together = opened.probabilities(images, threads=1)
    for threads in (2, 3, 7, 40):
        np.testing.assert_array_equal(opened.probabilities(images, threads=threads), together)
        alone = opened.probabilities(images[3:4], threads=threads)
        np.testing.assert_array_equal(alone, together[3:4])
    np.testing.assert_array_equal(opened.probabilities(images[:0]), together[:0])


@pytest.mark.parametrize("layer", ["down.0.0.weight", "merge.1.0.weight", "up.2.bias"])
def test_weights_that_are_not_finite_are_refused_by_name(layer):
    weights = {name: value.numpy() for name, value in network(3, 5, 16).state_dict().items()}
    for value in (np.nan, np.inf):
        weights[layer].flat[5] = value
        with pytest.raises(ModelFolderError, match=f"{layer} has values that are not finite"):
            ops.UnetKernel(weights, side=64, kernel_table=TABLES[0])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w.pop("merge.1.1.weight"), r"no merge\.1\.1\.weight"),
        (lambda w: w.update({"up.0.weight": w["up.0.weight"][:, :9]}), r"up\.0\.weight is"),
        (lambda w: w.update({"head.bias": w["head.bias"][:4]}), r"head\.bias is"),
        (lambda w: w.update({"down.0.0.weight": w["down.0.0.weight"][:8]}), "8 channels at"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(change, named):
    changed = {name: value.numpy() for name, value in network(3, 5, 16).state_dict().items()}
    change(changed)
    with pytest.raises(ModelFolderError, match=named):
        ops.UnetKernel(changed, side=64, kernel_table=TABLES[0])


def test_a_table_that_the_processor_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(echo_unet, "kernel_tables", lambda: ("avx512-bf16", "portable"))
    with pytest.raises(BackendError, match="needs the table 'avx9', which this processor"):
        kernel(network(1, 1, 16), 64, "avx9")
    with pytest.raises(BackendError, match="needs AMX for bfloat16"):
        kernel(network(1, 1, 16), 64, "avx512-bf16")


FORKED = """
import os, sys
import numpy as np
from tests.ops.test_echo_unet import frames, network
from tests.ops.test_echo_unet_f32 import kernel
opened, images = kernel(network(3, 5, 16), 64, sys.argv[1]), frames(3, 64, 3)
wanted = opened.probabilities(images, threads=2)
child = os.fork()
if child == 0:
    again = opened.probabilities(images, threads=2)
    os._exit(0 if np.array_equal(again, wanted) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_that_was_forked_after_load_draws_alike():
    done = finish([sys.executable, "-c", FORKED, TABLES[0]])
    assert done.returncode == 0, done.stderr
