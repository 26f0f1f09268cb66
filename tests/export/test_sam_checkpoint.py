"""Checkpoints that are read, and errors for the others."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from fastseg import artifacts
from fastseg.artifacts import published_models
from fastseg.artifacts.model_card import PublishedCheckpoint
from fastseg.errors import CheckpointError
from fastseg.export.checkpoints.sam import Checkpoint, read
from fastseg.export.networks.image_encoder import SHAPES
from fastseg.export.sam import load_modules
from tests.helpers.exported_sam import BOTH_SIZES, SIZES, small_size_known

POSITIONS = "image_encoder.pos_embed"


def positions(width: int = 768) -> Any:
    return {POSITIONS: torch.zeros(1, 2, 2, width)}


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def whole(kind: str) -> Checkpoint:
    """Every weight of a SAM by name and shape, without memory."""
    from fastseg.export.networks.image_encoder import ImageEncoder
    from fastseg.export.networks.mask_decoder import MaskDecoder
    from fastseg.export.networks.prompt_encoder import PromptEncoder

    with torch.device("meta"):
        modules = {
            "image_encoder": ImageEncoder(SIZES[kind]),
            "prompt_encoder": PromptEncoder(SIZES[kind].grid, SIZES[kind].side),
            "mask_decoder": MaskDecoder(),
        }
    weights = {
        f"{prefix}.{name}": tensor
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    return Checkpoint(Path(f"{kind}.pth"), kind, weights, "0" * 64)


@pytest.mark.parametrize("kind", SHAPES)
def test_sizes_are_told_apart_by_their_shapes(kind, tmp_path):
    path = saved(tmp_path / "weights.pth", positions(SHAPES[kind].width))
    assert read(path).kind == kind


@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_what_training_wraps_around_the_weights_is_taken_off(wrapper, tmp_path):
    weights = {f"module.{name}": tensor for name, tensor in positions().items()}
    path = saved(tmp_path / "weights.pth", {wrapper: weights, "epoch": 3})
    assert list(read(path).weights) == [POSITIONS]


def test_both_formats_of_torch_and_safetensors_are_read(tmp_path):
    from safetensors.torch import save_file

    old, safe = tmp_path / "old.pth", tmp_path / "weights.safetensors"
    torch.save(positions(), old, _use_new_zipfile_serialization=False)
    save_file(positions(), safe)
    assert read(old).kind == read(safe).kind == "vit_b"
    assert read(safe).sha256 == artifacts.sha256(safe)


@pytest.mark.parametrize("size", BOTH_SIZES)
def test_a_whole_checkpoint_fills_every_module(size, request):
    sam = request.getfixturevalue(size)
    weights = torch.load(sam.checkpoint, weights_only=True, mmap=True)
    for prefix, module in sam.modules().by_prefix().items():
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, weights[f"{prefix}.{name}"])


def test_half_precision_weights_are_widened(tmp_path):
    checkpoint = whole("vit_small")
    halves = {name: torch.zeros(t.shape).half() for name, t in checkpoint.weights.items()}
    with small_size_known():
        modules = load_modules(replace(checkpoint, weights=halves))
    assert {weight.dtype for weight in modules.mask_decoder.parameters()} == {torch.float32}


def test_missing_extra_and_misshapen_weights_are_all_listed():
    checkpoint = whole("vit_l")
    weights = dict(checkpoint.weights)
    del weights["mask_decoder.iou_token.weight"]
    weights["mask_decoder.surprise"] = torch.zeros(1)
    weights["prompt_encoder.no_mask_embed.weight"] = torch.zeros(1, 128)
    with pytest.raises(CheckpointError) as caught:
        load_modules(replace(checkpoint, weights=weights))
    message = str(caught.value)
    assert "1 missing: mask_decoder.iou_token.weight" in message
    assert "1 extra: mask_decoder.surprise" in message
    assert "prompt_encoder.no_mask_embed.weight (1, 128) instead of (1, 256)" in message


def test_a_long_list_is_counted_instead():
    checkpoint = whole("vit_b")
    kept = {name: t for name, t in checkpoint.weights.items() if name.startswith("image_encoder")}
    with pytest.raises(CheckpointError, match=r"137 missing: .* and 131 more"):
        load_modules(replace(checkpoint, weights=kept))


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.evidence),)


@pytest.mark.parametrize("modern", [True, False])
def test_a_pickle_with_code_in_it_is_refused_and_nothing_runs(modern, tmp_path):
    evidence, path = tmp_path / "evidence", tmp_path / "weights.pth"
    content = {**positions(), "trap": Trap(evidence)}
    torch.save(content, path, _use_new_zipfile_serialization=modern)
    with pytest.raises(CheckpointError, match="Nothing in it was executed"):
        read(path)
    assert not evidence.exists()


def test_a_bare_pickle_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps({POSITIONS: [1.0, 2.0]}))
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        read(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(suffix, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(positions(), path)
    else:
        save_file(positions(), path)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(CheckpointError, match="truncated or no checkpoint"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n and so on", b"PK\x03\x04"])
def test_another_kind_of_file_is_refused(content, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        read(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(CheckpointError, match="there is no checkpoint"):
            read(path)


RELATIVES = {
    "MobileSAM": {"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(32, 3, 3, 3)},
    "LiteMedSAM": {"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(32, 3, 1, 1)},
    "SAM-Adapter": {
        **positions(),
        "image_encoder.prompt_generator.shared_mlp.weight": torch.zeros(2, 2),
    },
    "RITM": {"state_dict": {"feature_extractor.conv1.weight": torch.zeros(1)}, "config": {}},
}


@pytest.mark.parametrize("network", RELATIVES)
def test_relatives_of_sam_are_recognised_and_refused(network, tmp_path):
    path = saved(tmp_path / "weights.pth", RELATIVES[network])
    with pytest.raises(CheckpointError, match=f"{network}, and this reads SAM alone"):
        read(path)


def test_weights_that_fit_but_want_other_images_are_refused(tmp_path, monkeypatch):
    path = saved(tmp_path / "weights.pth", positions())
    published = PublishedCheckpoint(path.name, path.stat().st_size, artifacts.sha256(path))
    medsam = next(card for card in published_models.KNOWN if card.name == "medsam")
    monkeypatch.setattr(published_models, "KNOWN", (replace(medsam, checkpoint=published),))
    with pytest.raises(CheckpointError, match=r"MedSAM.*this reads SAM alone"):
        read(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"conv.weight": torch.zeros(3)}, r"no image_encoder\.pos_embed.*conv\.weight"),
        (positions(512), "width 512, and SAM has 768, 1024, 1280"),
        ({POSITIONS: torch.full((1, 2, 2, 768), float("nan"))}, "not finite"),
        ({POSITIONS: torch.zeros(1, 2, 2, 768, dtype=torch.int32)}, "int32, not floating"),
        ({**positions(), "epoch": 3}, "holds epoch where weights were expected"),
        ([1, 2], "holds list, not weights by name"),
        ({}, "holds nothing"),
    ],
)
def test_what_is_wrong_with_the_weights_is_said(content, said, tmp_path):
    path = saved(tmp_path / "weights.pth", content)
    with pytest.raises(CheckpointError, match=said):
        read(path)
