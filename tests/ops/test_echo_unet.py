"""The native U-Net against the torch module, and against torch with the same roundings."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the module is torch's")

from torch import Tensor, nn
from torch.nn import functional

from fastseg import ops
from fastseg.errors import BackendError, ModelFolderError
from fastseg.export.networks.unet import UNet
from fastseg.ops import echo_unet

needs_amx = pytest.mark.skipif(
    ops.UNET_KERNEL_TABLE not in ops.kernel_tables(), reason="this processor has no AMX"
)

WORSE = 1.1
"""Times the error of torch with the same roundings that the kernel's may be: sums in another order
round differently now and then, so the two do not agree in bits."""

SEEN = 2
"""Times that error, the least that a single weight's or bias's absence must make."""

SHAPES = {
    "the embedded networks": (3, 5, 16, 256),
    "the published width": (3, 5, 32, 256),
    "grey frames": (1, 3, 16, 256),
    "one pixel in the end": (1, 1, 16, 16),
    "rows that are no whole tiles": (2, 16, 48, 80),
    "four channels and an odd number of tiles": (4, 7, 16, 112),
}


def network(channels: int, classes: int, width: int, side: int = 0) -> UNet:
    """Random weights by which neither details nor biases vanish on the way."""
    random = torch.Generator().manual_seed(7)
    module = UNet(channels, classes, width).eval().requires_grad_(False)
    for name, weight in module.named_parameters():
        values = torch.rand(weight.shape, generator=random) * 2 - 1
        inputs = weight[0].numel() if not name.startswith("up") else weight.shape[0]
        weight.copy_(values * (0.3 if weight.ndim == 1 else (6 / inputs) ** 0.5))
    return module


def frames(channels: int, side: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(3).random((count, channels, side, side), np.float32)


def kernel(module: UNet, side: int) -> ops.UnetKernel:
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    return ops.UnetKernel(weights, side=side)


def rounded(values: Tensor) -> Tensor:
    return values.to(torch.bfloat16).float()


def with_roundings(module: UNet, images: Tensor) -> Tensor:
    """The module's logits, with operands rounded as the kernel rounds them."""

    def convolved(layers: nn.Sequential, features: Tensor) -> Tensor:
        for layer in layers:
            sums = functional.conv2d(features, rounded(layer.weight), layer.bias, padding=1)
            features = rounded(functional.relu(sums))
        return features

    features, finer = convolved(module.down[0], rounded(images)), []
    for level in module.down[1:]:
        finer.append(features)
        features = convolved(level, functional.max_pool2d(features, 2))
    for up, merge in zip(reversed(module.up), reversed(module.merge), strict=True):
        raised = functional.conv_transpose2d(features, rounded(up.weight), up.bias, stride=2)
        features = convolved(merge, torch.cat([rounded(raised), finer.pop()], dim=1))
    return functional.conv2d(features, rounded(module.head.weight), module.head.bias)


def expected(module: UNet, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities in float32, and with the kernel's roundings."""
    given = torch.from_numpy(images)
    exact, same = module(given), with_roundings(module, given)
    return torch.sigmoid(exact).numpy(), torch.sigmoid(same).numpy()


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(((found - expected) ** 2).mean()) / expected.std())


@needs_amx
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_draws_as_torch(shape):
    channels, _, _, side = shape
    module, images = network(*shape), frames(channels, side)
    found = kernel(module, side).probabilities(images, threads=1)
    exact, same = expected(module, images)
    assert found.shape == exact.shape
    assert error(found, exact) < WORSE * error(same, exact)


def test_what_is_compared_depends_on_every_part():
    images = frames(3, 48)
    exact, same = expected(network(3, 5, 16), images)
    for name, _ in network(3, 5, 16).named_parameters():
        module = network(3, 5, 16)
        weight = module.get_parameter(name)
        if weight.ndim == 1:
            weight.zero_()
        else:
            weight[..., 0, 0] = 0  # one of the neighbours, or of the pixels that are made
        changed, _ = expected(module, images)
        assert error(changed, exact) > SEEN * error(same, exact), name


@needs_amx
def test_the_border_is_seen_as_zeros():
    module, images = network(1, 2, 16), frames(1, 64)
    exact, same = expected(module, images)
    found = kernel(module, 64).probabilities(images)
    edge = np.ones((64, 64), bool)
    edge[1:-1, 1:-1] = False
    assert error(found[..., edge], exact[..., edge]) < WORSE * error(
        same[..., edge], exact[..., edge]
    )


@needs_amx
@pytest.mark.parametrize("side", [256, 80])
def test_bits_depend_neither_on_threads_nor_on_the_batch(side):
    opened, images = kernel(network(3, 5, 16), side), frames(3, side, 5)
    together = opened.probabilities(images, threads=1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(opened.probabilities(images, threads=threads), together)
    np.testing.assert_array_equal(opened.probabilities(images[3:4], threads=2), together[3:4])
    np.testing.assert_array_equal(opened.probabilities(images[3:4], threads=1), together[3:4])


@needs_amx
def test_no_frames_are_no_work():
    opened = kernel(network(3, 5, 16), 64)
    assert (opened.side, opened.channels, opened.classes) == (64, 3, 5)
    assert opened.probabilities(frames(3, 64, 0)).shape == (0, 5, 64, 64)


@needs_amx
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w.pop("merge.1.1.weight"), r"no merge\.1\.1\.weight"),
        (lambda w: w.update({"up.0.weight": w["up.0.weight"][:, :9]}), r"up\.0\.weight is"),
        (lambda w: w.update({"head.bias": w["head.bias"][:4]}), r"head\.bias is"),
        (lambda w: w.update({"down.0.0.weight": w["down.0.0.weight"][0]}), "four axes"),
        (lambda w: w.update({"down.0.0.weight": w["down.0.0.weight"][:8]}), "8 channels at"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(change, named):
    changed = {name: value.numpy() for name, value in network(3, 5, 16).state_dict().items()}
    change(changed)
    with pytest.raises(ModelFolderError, match=named):
        ops.UnetKernel(changed, side=64)


@needs_amx
def test_frames_of_another_size_are_refused():
    with pytest.raises(BackendError, match=r"frames must be \(1, 3, 64, 64\)"):
        kernel(network(3, 5, 16), 64).probabilities(frames(3, 80))


@needs_amx
def test_sizes_that_it_is_not_made_for_are_told():
    fits = {"width": 32, "channels": 3, "classes": 5, "side": 256}
    assert ops.unet_unsupported_reason(**fits) == ""
    for change in ({"width": 24}, {"width": 144}, {"channels": 5}, {"classes": 17}, {"side": 100}):
        assert str(next(iter(change.values()))) in ops.unet_unsupported_reason(**{**fits, **change})


def test_a_processor_without_amx_is_told_so(monkeypatch):
    monkeypatch.setattr(echo_unet, "kernel_tables", lambda: ("avx512-bf16", "portable"))
    with pytest.raises(BackendError, match="needs AMX"):
        kernel(network(1, 1, 16), 64)
