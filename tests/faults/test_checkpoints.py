"""Checkpoints are read as training scripts leave them, and failed downloads are named."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="checkpoints are read by torch")

from fastseg.errors import CheckpointError
from fastseg.export.checkpoints import files

WEIGHTS = {"encoder.w": torch.ones(2), "decoder.w": torch.zeros(3)}


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in WEIGHTS.items()}


WRAPPED = {
    "bare": WEIGHTS,
    "model_state_dict": {"model_state_dict": WEIGHTS, "epoch": 1},
    "lightning": {"state_dict": prefixed("model.")},
    "module around it": prefixed("sam_model."),
    "compiled": prefixed("_orig_mod."),
    "compiled in parallel": {"model": prefixed("module._orig_mod.")},
    "some in parallel": {"module.encoder.w": torch.ones(2), "decoder.w": torch.zeros(3)},
}


@pytest.mark.parametrize("content", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_and_prefixes_are_removed(tmp_path, content):
    path = tmp_path / "x.pth"
    torch.save(content, path)
    found = files.unwrap(path, files.load(path, remedy="R."), remedy="R.")
    assert set(found) == set(WEIGHTS)


def test_a_prefix_of_some_names_is_theirs(tmp_path):
    mixed = {"model.w": torch.ones(1), "head.w": torch.ones(1)}
    assert set(files.unwrap(tmp_path, mixed, remedy="R.")) == set(mixed)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html><html>expired</html>", "a web page"),
        (b"\n<HTML>no such file", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    ],
)
def test_a_failed_download_is_named(tmp_path, content, says, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=says) as caught:
        files.load(path, remedy="R.")
    assert "weights_only" not in str(caught.value)
    assert "Download it again" in str(caught.value)
