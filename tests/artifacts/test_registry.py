"""Names lead to model folders, or to how one is made."""

from __future__ import annotations

import pytest

from fastseg import artifacts
from fastseg.artifacts import published_models, registry
from fastseg.artifacts.pulling import pull
from fastseg.errors import CheckpointError, ModelNotFoundError
from fastseg.testing import tiny_sam_folder

pytest.importorskip("onnx", reason="graphs are written with onnx")


@pytest.fixture
def embedded(tmp_path, monkeypatch):
    """A fastseg that comes with one intact model and one damaged one."""
    models = tmp_path / "models"
    tiny_sam_folder(models / "tiny")
    tiny_sam_folder(models / "broken")
    (models / "broken" / "encoder.onnx").unlink()
    (models / "__pycache__").mkdir()
    (models / "README.md").write_text("")
    monkeypatch.setattr(registry, "EMBEDDED", models)
    return models


def test_an_embedded_model_is_found_by_its_name(embedded):
    assert registry.find("tiny") == embedded / "tiny"
    assert registry.embedded_folders() == [embedded / "broken", embedded / "tiny"]


def test_a_folder_is_found_by_its_path(embedded, tmp_path):
    elsewhere = tiny_sam_folder(tmp_path / "elsewhere")
    assert registry.find(elsewhere) == elsewhere
    assert registry.find(str(elsewhere)) == elsewhere


def test_a_name_goes_before_a_folder_in_the_working_directory(embedded, tmp_path, monkeypatch):
    (tmp_path / "work" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    assert registry.find("tiny") == embedded / "tiny"
    assert registry.find("./tiny").resolve() == tmp_path / "work" / "tiny"


def test_an_unknown_name_is_answered_with_the_names_there_are(embedded):
    with pytest.raises(ModelNotFoundError, match=r"'sam-giant'.*broken, tiny"):
        registry.find("sam-giant")


def test_without_embedded_models_the_error_says_none(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "EMBEDDED", tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match="none"):
        registry.find("tiny")


@pytest.mark.parametrize("card", published_models.KNOWN, ids=lambda card: card.name)
def test_a_published_model_is_refused_with_its_page_and_export(embedded, card):
    file = card.checkpoint.file if card.checkpoint else "FILE"
    with pytest.raises(ModelNotFoundError, match=rf"{card.page}.*fastseg export {file} --out"):
        registry.find(card.name)


@pytest.mark.parametrize("card", published_models.KNOWN, ids=lambda card: card.name)
def test_the_advice_for_a_published_model_can_be_followed(embedded, card, tmp_path):
    with pytest.raises(ModelNotFoundError, match=f"fastseg models pull {card.name} --from"):
        registry.find(card.name)
    assert card.exportable
    # The name is taken: what is refused is the folder, which holds no weights.
    with pytest.raises(CheckpointError, match="does not hold"):
        pull(card.name, tmp_path, sha256="0" * 64)


def test_a_checkpoint_file_is_answered_with_how_it_is_exported(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match=r"fastseg export .*weights\.pth --out"):
        registry.find(tmp_path / "weights.pth")


def test_embedded_models_are_listed_before_published_ones(embedded):
    cards = registry.list_models()
    assert [card.name for card in cards if card.embedded] == ["tiny"]
    assert cards[0].folder == embedded / "tiny"
    assert cards[0].family == "sam"
    assert cards[1:] == list(published_models.KNOWN)


def test_a_card_says_what_must_be_known_before_use():
    names = [card.name for card in registry.list_models()]
    assert len(set(names)) == len(names)
    for card in registry.list_models():
        assert card.licence
        assert card.description
        assert card.embedded or card.page.startswith("https://")


def test_published_checkpoints_are_told_apart_by_their_hashes():
    hashes = [
        card.checkpoint.sha256 for card in published_models.KNOWN if card.checkpoint is not None
    ]
    assert len(set(hashes)) == len(hashes)
    without = {card.name for card in published_models.KNOWN if card.checkpoint is None}
    known_by_name = {
        "lite-medsam", "sam-hq-vit-b", "sam-hq-vit-l", "sam-med2d", "sam-adapter",
        "efficient-sam-s",
    }  # fmt: skip
    ritm = {card.name for card in published_models.KNOWN if card.family == "ritm"}
    assert without == known_by_name | ritm
    assert len(ritm) == 4
    assert all(len(bytes.fromhex(sha256)) == 32 for sha256 in hashes)


@pytest.mark.parametrize("folder", registry.embedded_folders(), ids=lambda folder: folder.name)
def test_a_model_that_comes_with_fastseg_is_intact_and_small(folder):
    manifest = artifacts.read(folder).manifest
    assert manifest.name == folder.name
    assert manifest.licence
    length = sum(file.bytes for file in manifest.files)
    assert length <= 35_000_000


def test_every_published_model_that_is_listed_can_be_exported() -> None:
    assert all(card.exportable for card in published_models.KNOWN)


def test_a_model_says_which_weights_ran():
    for card in registry.list_models():
        assert card.ran_here == (
            "these weights" if card.embedded else "random weights of its shape"
        )
