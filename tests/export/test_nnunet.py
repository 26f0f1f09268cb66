"""Training files of 2D plans of nnU-Net: recognised with their plan, and computed as described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from torch.nn import functional

import fastseg
from fastseg.artifacts.guidance import TILES, UNIT, Z_SCORE
from fastseg.errors import CheckpointError
from fastseg.export.checkpoints.identify import identify
from fastseg.export.networks.plain_unet import PlainUNet, PlainUNetShape, shape_of
from fastseg.export.promptable import export_checkpoint
from fastseg.validation.synthetic import scenes
from tests.helpers.random_weights import scattered

SHAPE = PlainUNetShape(
    channels=4,
    widths=(4, 8, 8),
    kernels=((3, 3), (3, 3), (1, 3)),
    strides=((1, 1), (2, 2), (2, 1)),
    encoder=(2, 2, 3),
    decoder=(2, 1),
)


@pytest.fixture(scope="module")
def network() -> PlainUNet:
    torch.manual_seed(0)
    return scattered(PlainUNet(SHAPE))


def as_written(network: PlainUNet, *, schemes: Any = None, **plan: Any) -> dict[str, Any]:
    """The content of ``checkpoint_final.pth``: weights under two and three names, plan and log."""
    weights: dict[str, Any] = {}
    for name, each in network.state_dict().items():
        weights[name] = each
        again = name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
        weights[again] = each
        if name.startswith("encoder."):
            weights[f"decoder.{name}"] = each
    configuration = {
        "patch_size": [64, 48],
        "normalization_schemes": schemes or ["ZScoreNormalization"] * 4,
        "use_mask_for_norm": [False] * 4,
        **plan,
    }
    arguments = {"plans": {"configurations": {"2d": configuration}}, "configuration": "2d"}
    return {
        "network_weights": weights,
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.25)]},
        "current_epoch": 1000,
        "init_args": {**arguments, "fold": "all"},
        "trainer_name": "nnUNetTrainer",
    }


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def plainly(weights: Any, x: Any) -> Any:
    """The forward pass by names, without the module."""

    def block(name: str, x: Any, stride: Any) -> Any:
        kernel = weights[f"{name}.conv.weight"]
        around = (kernel.shape[2] // 2, kernel.shape[3] // 2)
        x = functional.conv2d(x, kernel, weights[f"{name}.conv.bias"], stride, around)
        mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
        x = (x - mean) / (var + 1e-5).sqrt()
        scale, shift = weights[f"{name}.norm.weight"], weights[f"{name}.norm.bias"]
        x = x * scale[:, None, None] + shift[:, None, None]
        return torch.where(x > 0, x, 0.01 * x)

    skips = []
    for stage, (count, stride) in enumerate(zip(SHAPE.encoder, SHAPE.strides, strict=True)):
        for number in range(count):
            first = stride if number == 0 else 1
            x = block(f"encoder.stages.{stage}.0.convs.{number}", x, first)
        skips.append(x)
    for stage, count in enumerate(SHAPE.decoder):
        name = f"decoder.transpconvs.{stage}"
        factor = SHAPE.strides[len(SHAPE.strides) - 1 - stage]
        x = functional.conv_transpose2d(
            x, weights[f"{name}.weight"], weights[f"{name}.bias"], factor
        )
        x = torch.cat([x, skips[-2 - stage]], 1)
        for number in range(count):
            x = block(f"decoder.stages.{stage}.convs.{number}", x, 1)
    last = f"decoder.seg_layers.{len(SHAPE.decoder) - 1}"
    return functional.conv2d(x, weights[f"{last}.weight"], weights[f"{last}.bias"])


def test_sizes_are_read_from_the_weights(network):
    assert shape_of(network.state_dict()) == SHAPE
    assert SHAPE.divisor == 4


def test_it_is_its_plain_form_and_its_sigmoid_the_softmax(network):
    random = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, 64, 48, generator=random)
    box = torch.randn(2, 1, 64, 48, generator=random)
    with torch.inference_mode():
        found = network(image, box)
        expected = plainly(network.state_dict(), torch.cat([image, box], 1))
    difference = expected[:, 1:] - expected[:, :1]
    assert float((found - difference).abs().max() / difference.abs().max()) <= 1e-5
    chance = expected.softmax(1)[:, 1:]
    assert float((found.sigmoid() - chance).abs().max()) <= 1e-5


def test_a_training_file_is_recognised_with_its_plan(network, tmp_path):
    schemes = ["RGBTo01Normalization"] * 3 + ["ZScoreNormalization"]
    found = identify(saved(tmp_path / "checkpoint_final.pth", as_written(network, schemes=schemes)))
    assert (found.kind.name, found.preparation, found.unused) == ("nnunet-2d-box", "nnunet", ())
    rules = found.require_preparation().preprocessing
    assert (rules.size, rules.resize, rules.channels) == ((64, 48), TILES, 3)
    assert (rules.normalise, rules.normalise_box) == (UNIT, Z_SCORE)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"schemes": ["CTNormalization"] * 4}, "does not follow.*CTNormalization"),
        ({"schemes": ["ZScoreNormalization"]}, "does not follow"),
        ({"use_mask_for_norm": [True] * 4}, "inside a mask"),
        ({"patch_size": [64, 64, 64]}, "does not follow"),
        ({"patch_size": [62, 48]}, "does not divide"),
    ],
)
def test_a_plan_that_is_not_followed_is_named(network, tmp_path, changed, says):
    path = saved(tmp_path / "checkpoint_final.pth", as_written(network, **changed))
    with pytest.raises(CheckpointError, match=says):
        identify(path)


def test_bare_weights_and_other_classes_are_refused(network, tmp_path):
    with pytest.raises(CheckpointError, match="without its plan"):
        identify(saved(tmp_path / "bare.pth", network.state_dict()))
    content = as_written(network)
    content["network_weights"]["decoder.seg_layers.1.weight"] = torch.zeros(5, 4, 1, 1)
    with pytest.raises(CheckpointError, match="two classes"):
        identify(saved(tmp_path / "five.pth", content))


def test_a_training_file_becomes_a_folder_that_takes_boxes(network, tmp_path):
    path = saved(tmp_path / "checkpoint_final.pth", as_written(network))
    table = export_checkpoint(path, tmp_path / "unet")
    assert table.within(1e-5)
    image = scenes([11])[0][::4, ::4].copy()
    with fastseg.load(tmp_path / "unet", backend="onnxruntime") as model:
        masks = model.segment(image, boxes=[[30, 20, 110, 90]])
        assert isinstance(model, fastseg.Specialist)
    assert masks.size == (120, 160)
    pytest.importorskip("openvino", reason="openvino is not installed")
    with fastseg.load(tmp_path / "unet", backend="openvino") as other:
        again = other.segment(image, boxes=[[30, 20, 110, 90]])
    assert np.mean(again.array() != masks.array()) <= 1e-4
