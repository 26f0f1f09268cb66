"""Checkpoints are recognised by names and shapes, and others are told what they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from fastseg import artifacts
from fastseg.artifacts import published_models
from fastseg.artifacts.model_card import PublishedCheckpoint
from fastseg.errors import CheckpointError
from fastseg.export.checkpoints.identify import identify
from fastseg.export.checkpoints.kinds import KINDS, Kind
from fastseg.export.checkpoints.preparations import PREPARATIONS

PARAMETERS = {
    "sam-nano": 7_214_240,
    "vit_b": 93_735_472,
    "vit_l": 312_342_832,
    "vit_h": 641_090_608,
    "mobile-sam": 10_130_092 - 321_640,
    "lite-medsam": 9_791_300,
    "sam2-hiera-tiny": 31_440_721,
    "sam2-hiera-small": 38_538_577,
    "sam2-hiera-base-plus": 73_328_401,
    "sam2-hiera-large": 216_924_865,
    "sam-adapter-vit-b": 93_735_472 - 6220 + 256 + 63_312,
    "sam-adapter-vit-l": 312_342_832 - 6220 + 256 + 116_544,
    "sam-adapter-vit-h": 641_090_608 - 6220 + 256 + 186_960,
    "light-hq-sam": 10_578_604 - 321_640,
    "sam-hq-vit-b": 94_806_576,
    "sam-hq-vit-l": 313_676_080,
    "sam-hq-vit-h": 642_686_000,
    "sam-med2d": 271_241_776,
    "efficientvit-sam-l0": 34_792_784,
    "efficientvit-sam-l1": 47_650_128,
    "efficientvit-sam-l2": 61_328_592,
    "efficientvit-sam-xl0": 116_957_904,
    "efficientvit-sam-xl1": 203_346_128,
    "edge-sam": 9_582_112,
    "efficient-sam-ti": 10_223_204,
    "efficient-sam-s": 26_413_028,
    "ritm-h18s": 4_220_047,
    "ritm-h18": 10_032_019,
    "ritm-h32": 30_951_363,
    "deeplabv3plus-box": 26_680_721,
}
"""As published: of SAM 2 the part for images, TinyViT without its classifier. SAM-Adapter is
SAM with its adapter, and of the prompt encoder the embedding of no mask alone."""

BY_NAME = {kind.name: kind for kind in KINDS}
LITE = BY_NAME["lite-medsam"]


def without_memory(kind: Kind) -> dict[str, Any]:
    return {name: torch.empty(shape, device="meta") for name, shape in kind.shapes().items()}


@pytest.fixture(scope="module")
def weights() -> Mapping[str, Any]:
    return {name: torch.zeros(shape, dtype=torch.half) for name, shape in LITE.shapes().items()}


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_every_kind_has_the_published_number_of_weights():
    buffers = ("running_mean", "running_var", "gaussian_matrix")
    counts = {
        kind.name: sum(
            torch.Size(shape).numel()
            for name, shape in kind.shapes().items()
            if not name.endswith(buffers)
        )
        for kind in KINDS
    }
    assert counts == PARAMETERS


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_kind_is_told_from_every_other(kind):
    found = without_memory(kind)
    assert [other.name for other in KINDS if not other.mismatch(found)] == [kind.name]


def test_what_only_videos_or_a_classifier_need_may_be_there():
    sam2 = without_memory(BY_NAME["sam2-hiera-tiny"])
    sam2["memory_encoder.out_proj.weight"] = torch.empty(64, 256, 1, 1, device="meta")
    assert not BY_NAME["sam2-hiera-tiny"].mismatch(sam2)
    mobile = without_memory(BY_NAME["mobile-sam"])
    mobile["image_encoder.head.weight"] = torch.empty(1000, 320, device="meta")
    assert not BY_NAME["mobile-sam"].mismatch(mobile)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda weights: weights,
        lambda weights: {"model": {f"module.{name}": each for name, each in weights.items()}},
        lambda weights: {
            "state_dict": {f"_orig_mod.module.{name}": each for name, each in weights.items()},
            "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
            "epoch": 7,
        },
        lambda weights: {**weights, "image_encoder.bn.num_batches_tracked": torch.tensor(9)},
    ],
    ids=["flat", "wrapped", "training file", "counters"],
)
def test_wrapped_and_prefixed_weights_in_half_precision_are_recognised(wrapped, weights, tmp_path):
    path = saved(tmp_path / "lite.pth", wrapped(weights))
    found = identify(path)
    assert (found.kind, found.preparation, found.unused) == (LITE, "lite-medsam", ())
    assert found.sha256 == artifacts.sha256(path)
    assert found.published is None


def test_an_optimiser_that_was_saved_as_an_object_is_left_out(weights, tmp_path):
    """As SAM-Med2D's file holds one."""
    layer = torch.nn.Linear(2, 2)
    optimiser = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 3)
    path = tmp_path / "training.pth"
    found = identify(saved(path, {"model": weights, "optimizer": optimiser, "schedule": schedule}))
    assert found.kind is LITE
    evidence = tmp_path / "evidence"
    content = {"model": weights, "optimizer": optimiser, "trap": Trap(evidence)}
    with pytest.raises(CheckpointError, match="Nothing in it was executed"):
        identify(saved(path, content))
    assert not evidence.exists()


def test_weights_are_filled_into_the_modules_widened(weights):
    modules = LITE.fill({**weights, "mask_decoder.iou_token.weight": torch.ones(1, 256).half()})
    token = modules.mask_decoder.iou_token.weight.detach()
    assert token.dtype == torch.float32
    assert float(token.sum()) == 256.0
    assert not any(each.is_meta for each in modules.image_encoder.parameters())
    assert not any(each.is_meta for each in modules.image_encoder.buffers())


def test_a_published_file_is_known_by_its_hash(weights, tmp_path, monkeypatch):
    path = saved(tmp_path / "lite.pth", weights)
    file = PublishedCheckpoint("lite.pth", None, artifacts.sha256(path))
    card = replace(
        published_models.KNOWN[0], name="lite", preparation="lite-medsam", checkpoint=file
    )
    monkeypatch.setattr(published_models, "KNOWN", (card,))
    assert identify(path).as_dict()["published_as"] == "lite"


def test_two_sets_of_weights_are_named_and_one_may_be_chosen(weights, tmp_path):
    path = saved(tmp_path / "both.pth", {"model": weights, "model_ema": weights})
    with pytest.raises(CheckpointError, match=r"model, model_ema.*--key"):
        identify(path)
    assert identify(path, key="model_ema").kind is LITE
    with pytest.raises(CheckpointError, match="no weights under 'other'"):
        identify(path, key="other")


def test_a_folder_names_the_checkpoints_in_it(tmp_path):
    (tmp_path / "a.pth").touch()
    (tmp_path / "b.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"a\.pth, b\.safetensors"):
        identify(tmp_path)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.evidence),)


def test_code_is_refused_and_a_truncated_download_is_one(weights, tmp_path):
    evidence = tmp_path / "evidence"
    with pytest.raises(CheckpointError, match="Nothing in it was executed"):
        identify(saved(tmp_path / "trap.pth", {**weights, "trap": Trap(evidence)}))
    assert not evidence.exists()
    short = saved(tmp_path / "short.pth", weights)
    short.write_bytes(short.read_bytes()[:-9000])
    with pytest.raises(CheckpointError, match="truncated or no checkpoint"):
        identify(short)


def test_values_that_are_not_finite_are_named(weights, tmp_path):
    name = "mask_decoder.iou_token.weight"
    broken = {**weights, name: torch.full((1, 256), float("nan"))}
    with pytest.raises(CheckpointError, match=f"{name}.*not finite"):
        identify(saved(tmp_path / "nan.pth", broken))


def test_the_nearest_kind_and_every_difference_are_said(weights, tmp_path):
    changed = {**weights, "surprise": torch.zeros(1)}
    del changed["mask_decoder.iou_token.weight"]
    changed["prompt_encoder.no_mask_embed.weight"] = torch.zeros(1, 128)
    with pytest.raises(CheckpointError) as caught:
        identify(saved(tmp_path / "near.pth", changed))
    message = str(caught.value)
    assert "The nearest is LiteMedSAM" in message
    assert "1 missing: mask_decoder.iou_token.weight" in message
    assert "1 extra: surprise" in message
    assert "no_mask_embed.weight (1, 128) instead of (1, 256)" in message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("conv.weight", "of no network that fastseg exports"),
        ("feature_extractor.conv1.weight", "RITM"),
        ("sam_mask_decoder.hf_token.weight", "HQ-SAM 2"),
    ],
)
def test_other_networks_are_named(name, said, tmp_path):
    with pytest.raises(CheckpointError, match=said):
        identify(saved(tmp_path / "other.pth", {name: torch.zeros(2, 2)}))


def test_a_fine_tune_does_not_silently_get_a_preparation(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "fastseg.export.checkpoints.identify.KINDS",
        (replace(LITE, preparations=("sam", "medsam"), certain=False),),
    )
    path = saved(tmp_path / "tuned.pth", weights)
    found = identify(path)
    assert found.preparation is None
    with pytest.raises(CheckpointError, match=r"--preprocess sam .*--preprocess medsam"):
        found.require_preparation()
    named = identify(path, preprocess="medsam")
    assert named.require_preparation() is PREPARATIONS["medsam"]
    with pytest.raises(CheckpointError, match="not 'sam2'"):
        identify(path, preprocess="sam2")


def test_a_published_base_does_not_tell_the_preparation_of_a_fine_tune(
    weights, tmp_path, monkeypatch
):
    kind = replace(LITE, certain=False)
    monkeypatch.setattr("fastseg.export.checkpoints.identify.KINDS", (kind,))
    base = saved(tmp_path / "base.pth", weights)
    file = PublishedCheckpoint("base.pth", None, artifacts.sha256(base))
    card = replace(published_models.KNOWN[0], preparation="lite-medsam", checkpoint=file)
    monkeypatch.setattr(published_models, "KNOWN", (card,))
    decoder = {name: each for name, each in weights.items() if name.startswith("mask_decoder.")}
    tuned = identify(base, decoder=saved(tmp_path / "decoder.pth", decoder))
    assert identify(base).preparation == "lite-medsam"
    assert tuned.preparation is None
    assert tuned.parts["decoder"]["file"] == "decoder.pth"


def test_every_published_model_says_how_it_is_prepared():
    for card in published_models.KNOWN:
        assert card.preparation in PREPARATIONS
        assert card.prompts == PREPARATIONS[card.preparation].prompts
