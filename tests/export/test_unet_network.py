"""The U-Net of the echo views has the published layers."""

from __future__ import annotations

import pytest
import torch

from fastseg.export.networks.unet import UNet


@pytest.mark.parametrize(
    ("channels", "classes", "parameters"),
    [(3, 3, 7_760_163), (3, 5, 7_760_229), (1, 3, 7_759_587)],
    ids=["a2c", "a4c", "sax"],
)
def test_each_view_has_the_published_number_of_parameters(channels, classes, parameters):
    network = UNet(channels, classes)
    assert sum(weight.numel() for weight in network.parameters()) == parameters


def test_each_level_has_the_published_number_of_parameters():
    network = UNet(3, 5)

    def sizes(module):
        return [sum(weight.numel() for weight in part.parameters()) for part in module]

    assert [sizes(level) for level in network.down] == [
        [896, 9_248],
        [18_496, 36_928],
        [73_856, 147_584],
        [295_168, 590_080],
        [1_180_160, 2_359_808],
    ]
    assert sizes(network.up) == [8_224, 32_832, 131_200, 524_544]
    assert [sizes(level) for level in network.merge] == [
        [18_464, 9_248],
        [73_792, 36_928],
        [295_040, 147_584],
        [1_179_904, 590_080],
    ]
    assert sizes([network.head]) == [33 * 5]


def test_weights_lie_under_their_documented_names():
    names = {name.rpartition(".")[0] for name in UNet(1, 3, width=2).state_dict()}
    pairs = {f"down.{i}.{j}" for i in range(5) for j in range(2)}
    pairs |= {f"merge.{i}.{j}" for i in range(4) for j in range(2)}
    assert names == pairs | {f"up.{i}" for i in range(4)} | {"head"}


@pytest.mark.parametrize("size", [(16, 16), (32, 48)])
def test_the_output_has_the_sides_of_the_input(size):
    logits = UNet(3, 5, width=2)(torch.rand(2, 3, *size))
    assert logits.shape == (2, 5, *size)


def test_the_network_runs_in_bfloat16_and_channels_last():
    network = UNet(3, 5, width=4).to(memory_format=torch.channels_last)
    frames = torch.rand(2, 3, 32, 32)
    expected = network(frames)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(frames.to(memory_format=torch.channels_last))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


def test_biases_start_at_zero_and_weights_in_glorots_bound():
    network = UNet(3, 5, width=4)
    for name, weight in network.named_parameters():
        if name.endswith("bias"):
            assert not weight.any(), name
    kernel = network.down[1][0].weight
    bound = (6 / (9 * (4 + 8))) ** 0.5
    assert 0.5 * bound < kernel.abs().max() <= bound
