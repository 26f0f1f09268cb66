"""Weights of the echo U-Net that are read, their tensors, and errors for the others."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from fastseg.echo.views import VIEWS
from fastseg.errors import BackendUnavailableError, CheckpointError
from fastseg.export.checkpoints.unet import read_unet_weights
from fastseg.export.networks.unet import UNet
from tests.helpers import keras_unet

WIDTH = 2


def network(view: str = "a2c", *, width: int = WIDTH) -> UNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(VIEWS[view].channels, len(VIEWS[view].classes), width)


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture
def keras():
    """A writer of .h5 files, which needs h5py."""
    pytest.importorskip("h5py", reason="Keras' files need h5py")
    return keras_unet.write


def keras_layers(view: str = "a2c") -> list[keras_unet.KerasLayer]:
    return keras_unet.unet(VIEWS[view].channels, len(VIEWS[view].classes), WIDTH)


def check_same(weights, expected) -> None:
    assert list(weights) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor), name


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_state_dict_comes_back_with_its_width(suffix, view, tmp_path):
    from safetensors.torch import save_file

    expected, path = network(view).state_dict(), tmp_path / f"weights{suffix}"
    save_file(expected, path) if suffix == ".safetensors" else torch.save(expected, path)
    weights, width = read_unet_weights(path, view)
    assert width == WIDTH
    check_same({name: weights[name] for name in expected}, expected)


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "weights"])
def test_what_training_wraps_around_the_weights_is_taken_off(wrapper, tmp_path):
    expected = network().state_dict()
    wrapped = {f"module.{name}": tensor for name, tensor in expected.items()}
    path = saved(tmp_path / "weights.pth", {wrapper: wrapped, "epoch": 3})
    check_same(read_unet_weights(path, "a2c")[0], expected)


def test_half_precision_weights_are_widened(tmp_path):
    halves = {name: tensor.half() for name, tensor in network().state_dict().items()}
    weights, _ = read_unet_weights(saved(tmp_path / "weights.pt", halves), "a2c")
    check_same(weights, {name: tensor.float() for name, tensor in halves.items()})


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("whole", [True, False], ids=["model.save", "save_weights"])
def test_weights_of_keras_give_the_answers_that_they_gave_there(whole, view, keras, tmp_path):
    layers = keras_layers(view)
    weights, width = read_unet_weights(keras(tmp_path / "a.h5", layers, whole=whole), view)
    module = UNet(VIEWS[view].channels, len(VIEWS[view].classes), width)
    module.load_state_dict(weights)
    frame = np.random.default_rng(1).random((32, 48, VIEWS[view].channels), np.float32)
    expected = keras_unet.forward(layers, frame)
    with torch.inference_mode():
        found = module(torch.from_numpy(frame).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_names_that_keras_counted_on_do_not_matter(keras, tmp_path):
    layers = keras_layers()
    first = keras(tmp_path / "first.h5", layers, whole=True)
    later = keras(tmp_path / "later.h5", layers, whole=True, made_before=19)
    expected, _ = read_unet_weights(first, "a2c")
    check_same(read_unet_weights(later, "a2c")[0], expected)


@pytest.mark.parametrize(
    ("position", "arrays", "said"),
    [
        (
            4,
            ((3, 3, 2, 5), (5,)),
            r"layer conv2d_2 has a kernel of \(3, 3, 2, 5\), and down\.1\.0.* has \(3, 3, 2, 4\)",
        ),
        (5, ((3, 3, 4, 4), (2,)), r"layer conv2d_3 has a bias of \(2,\), and down\.1\.1 has \(4,"),
        (
            15,
            ((2, 2, 32, 16), (16,)),
            r"layer conv2d_transpose has a kernel of \(2, 2, 32, 16\), and up\.3, .*\(2, 2, 16, 32",
        ),
        (5, ((5, 5, 4, 4), (4,)), "layer conv2d_3 has a 5x5 kernel"),
        (5, ((3, 3, 4, 4),), r"layer conv2d_3 holds \(3, 3, 4, 4\), and every layer"),
        (6, ((4,), (4,), (4,), (4,)), r"layer max_pooling2d_1 holds \(4,\), \(4,\)"),
        (-1, (), "it has no 1x1 convolution"),
    ],
)
def test_the_first_layer_that_differs_is_named(position, arrays, said, keras, tmp_path):
    layers = keras_layers()
    drawn = tuple(np.ones(shape, np.float32) for shape in arrays)
    layers[position] = keras_unet.KerasLayer(layers[position].kind, drawn)
    with pytest.raises(CheckpointError, match=said):
        read_unet_weights(keras(tmp_path / "a.h5", layers, whole=False), "a2c")


def test_a_layer_too_few_or_too_many_is_named(keras, tmp_path):
    layers = keras_layers()
    last = layers.pop(-2)
    few = keras(tmp_path / "few.h5", layers, whole=False)
    with pytest.raises(CheckpointError, match=r"kernel of \(3, 3, 2, 2\) is missing, merge\.0\.1"):
        read_unet_weights(few, "a2c")
    layers[-1:-1] = [last, last]
    many = keras(tmp_path / "many.h5", layers, whole=False)
    with pytest.raises(CheckpointError, match="layer conv2d_18 is one 3x3 convolution too many"):
        read_unet_weights(many, "a2c")


@pytest.mark.parametrize(
    ("position", "setting", "said"),
    [
        (1, {"activation": "elu"}, "layer conv2d has activation 'elu', and down.0.0 has 'relu'"),
        (2, {"padding": "valid"}, "layer conv2d_1 has padding 'valid', and down.0.1 has 'same'"),
        (15, {"activation": "relu"}, "conv2d_transpose has activation 'relu', and up.3 has"),
        (-1, {"activation": "softmax"}, "conv2d_18 has activation 'softmax', and head has"),
    ],
)
def test_a_layer_with_another_setting_is_named(position, setting, said, keras, tmp_path):
    layers = keras_layers()
    layers[position].settings.update(setting)
    with pytest.raises(CheckpointError, match=said):
        read_unet_weights(keras(tmp_path / "a.h5", layers, whole=True), "a2c")


def test_an_extra_layer_is_named_though_it_has_no_weights(keras, tmp_path):
    layers = keras_layers()
    layers.insert(2, keras_unet.KerasLayer("leaky_re_lu"))
    with pytest.raises(CheckpointError, match="layer leaky_re_lu is a LeakyReLU"):
        read_unet_weights(keras(tmp_path / "a.h5", layers, whole=True), "a2c")


def test_an_activation_may_be_a_layer_of_its_own(keras, tmp_path):
    layers = keras_layers()
    layers[1].settings["activation"] = "linear"
    path = tmp_path / "a.h5"
    with pytest.raises(CheckpointError, match="conv2d has activation 'linear'"):
        read_unet_weights(keras(path, layers, whole=True), "a2c")
    layers.insert(2, keras_unet.KerasLayer("re_lu"))
    assert read_unet_weights(keras(path, layers, whole=True), "a2c")[1] == WIDTH


def test_a_file_of_hdf5_that_is_not_from_keras_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py", reason="Keras' files need h5py")
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["measurements"] = np.zeros(3)
    with pytest.raises(CheckpointError, match=r"other\.h5 does not list its layers"):
        read_unet_weights(path, "a2c")


def test_a_list_of_layers_that_are_not_there_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py", reason="Keras' files need h5py")
    path = tmp_path / "promises.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv2d"]
    with pytest.raises(CheckpointError, match=r"promises\.h5 is truncated or no \.h5 file"):
        read_unet_weights(path, "a2c")


def test_without_h5py_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install .*\[export\]"):
        read_unet_weights(path, "a2c")


@pytest.mark.parametrize("suffix", [".h5", ".pt", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 100, 0.6, 0.999])
def test_a_truncated_file_is_refused(suffix, kept, keras, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / f"weights{suffix}"
    if suffix == ".h5":
        keras(path, keras_layers(), whole=True)
    elif suffix == ".pt":
        torch.save(network().state_dict(), path)
    else:
        save_file(network().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(CheckpointError, match="truncated or no"):
        read_unet_weights(path, "a2c")


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.evidence),)


def test_a_pickle_with_code_in_it_is_refused_and_nothing_runs(tmp_path):
    evidence = tmp_path / "evidence"
    path = saved(tmp_path / "a.pt", {**network().state_dict(), "trap": Trap(evidence)})
    with pytest.raises(CheckpointError, match="Nothing in it was executed"):
        read_unet_weights(path, "a2c")
    assert not evidence.exists()


@pytest.mark.parametrize("asked", VIEWS)
@pytest.mark.parametrize("held", VIEWS)
def test_weights_of_another_view_are_recognised(held, asked, keras, tmp_path):
    plain = saved(tmp_path / "a.pt", network(held).state_dict())
    for path in (plain, keras(tmp_path / "a.h5", keras_layers(held), whole=True)):
        if held == asked:
            assert read_unet_weights(path, asked)[1] == WIDTH
            continue
        with pytest.raises(CheckpointError, match=rf"not of view {asked}.*Ask for view {held}"):
            read_unet_weights(path, asked)


def test_sizes_of_no_view_are_counted(tmp_path):
    path = saved(tmp_path / "a.pt", UNet(3, 4, WIDTH).state_dict())
    with pytest.raises(CheckpointError, match=r"3 channels in and 4 out\. Views are a2c \(3"):
        read_unet_weights(path, "a2c")


def test_an_unknown_view_is_refused_before_the_file_is_opened(tmp_path):
    with pytest.raises(CheckpointError, match=r"no view 'plax'.*a2c, a4c, sax"):
        read_unet_weights(tmp_path / "absent.pt", "plax")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", [".pt", ".h5"])
def test_a_value_that_is_not_finite_names_its_weight(suffix, value, keras, tmp_path):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".h5":
        layers = keras_layers()
        layers[-1].arrays[0][0, 0, 1, 2] = value
        keras(path, layers, whole=True)
    else:
        weights = network().state_dict()
        weights["head.weight"][2, 1, 0, 0] = value
        torch.save(weights, path)
    with pytest.raises(CheckpointError, match=r"head\.weight in .* not finite"):
        read_unet_weights(path, "a2c")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"conv.weight": torch.zeros(3)}, r"lacks the kernel.*begins with conv\.weight"),
        ([1, 2], "holds list, not weights by name"),
        ({}, "holds nothing"),
        ({"down.0.0.weight": torch.zeros(2), "head.weight": torch.zeros(2)}, "lacks the kernel"),
    ],
)
def test_what_is_no_u_net_is_refused(content, said, tmp_path):
    with pytest.raises(CheckpointError, match=said):
        read_unet_weights(saved(tmp_path / "a.pt", content), "a2c")


def test_missing_extra_and_misshapen_weights_are_all_listed(tmp_path):
    weights = network().state_dict()
    del weights["up.3.bias"]
    weights["norm.weight"] = torch.zeros(1)
    weights["merge.0.0.weight"] = torch.zeros(2, 2, 3, 3)
    with pytest.raises(CheckpointError) as caught:
        read_unet_weights(saved(tmp_path / "a.pt", weights), "a2c")
    message = str(caught.value)
    assert "1 missing: up.3.bias" in message
    assert "1 extra: norm.weight" in message
    assert "merge.0.0.weight (2, 2, 3, 3) instead of (2, 4, 3, 3)" in message


@pytest.mark.parametrize("name", ["absent.pt", "absent.h5", "absent.safetensors"])
def test_a_missing_file_is_named(name, tmp_path):
    with pytest.raises(CheckpointError, match=f"there is no checkpoint .*{name}"):
        read_unet_weights(tmp_path / name, "a2c")
