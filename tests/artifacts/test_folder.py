"""The model folder: what is written can be read, and what was altered cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fastseg import artifacts
from fastseg.artifacts import folder as folders
from fastseg.artifacts.manifest import Manifest, from_json, to_json
from fastseg.artifacts.preprocessing import Preprocessing
from fastseg.contract import GraphSpec, TensorSpec
from fastseg.errors import ModelFolderError, ModelNotFoundError, OutputError

ENCODER = GraphSpec(
    "encoder",
    (TensorSpec("image", "float32", ("images", 3, 64, 64)),),
    (TensorSpec("embedding", "float32", ("images", 256, 4, 4)),),
)
CONTENT = bytes(range(256)) * 40
FILES = ["encoder.onnx", "encoder.weights", "decoder.safetensors"]


def fill(folder: Path) -> Manifest:
    """Write a folder of one graph with weights outside its file."""
    graph, weights = folder / "encoder.onnx", folder / "encoder.weights"
    graph.write_bytes(CONTENT)
    weights.write_bytes(CONTENT[::-1])
    (folder / "decoder.safetensors").write_bytes(CONTENT)
    manifest = Manifest(
        family="sam",
        name="nobody",
        preprocessing=Preprocessing(64, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)),
        graphs={"encoder": artifacts.graph_file(ENCODER, graph, data=(weights,))},
        weights={"decoder": artifacts.stored_file(folder / "decoder.safetensors")},
        source={"kind": "vit_b", "sha256": "0" * 64},
        licence="Apache-2.0",
        description="Für niemanden",
        written_by={"fastseg": "0.1.0"},
        parity=({"name": "embedding", "relative": 1e-7},),
        extra={"note": [1, None, True]},
    )
    artifacts.write_manifest(folder, manifest)
    return manifest


@pytest.fixture
def folder(tmp_path):
    with artifacts.write(tmp_path / "model") as temporary:
        fill(temporary)
    return tmp_path / "model"


def edit(folder: Path, change) -> None:
    """Change ``model.json`` as a hand or a bad tool would."""
    file = folder / "model.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def test_what_was_written_is_read_back_equal(tmp_path):
    with artifacts.write(tmp_path / "model") as temporary:
        manifest = fill(temporary)
    found = artifacts.read(tmp_path / "model")
    assert found.manifest == manifest
    assert found.file(manifest.graphs["encoder"]).read_bytes() == CONTENT
    assert from_json(to_json(manifest)) == manifest


def test_a_manifest_without_weights_names_no_weight_files(folder):
    edit(folder, lambda document: document.pop("weights"))
    assert artifacts.read(folder).manifest.weights == {}


def test_the_hash_is_sha256_of_the_whole_file(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert artifacts.sha256(tmp_path / "abc") == known


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match=rf"{name} is missing.*export the model again"):
        artifacts.read(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused_with_both_lengths(folder, name):
    (folder / name).write_bytes(CONTENT[:-1])
    for verify in (True, False):
        with pytest.raises(ModelFolderError, match=rf"{name} has 10239 bytes, not 10240"):
            artifacts.read(folder, verify=verify)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0, 5000, 10239])
def test_one_altered_bit_is_found_wherever_it_is(folder, name, where):
    content = bytearray((folder / name).read_bytes())
    content[where] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelFolderError, match=rf"{name} was altered.*export the model again"):
        artifacts.read(folder)


def test_a_link_in_place_of_a_file_is_refused(folder, tmp_path):
    (folder / "encoder.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "encoder.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ModelFolderError, match="is a link"):
        artifacts.read(folder)


@pytest.mark.parametrize(
    "name", ["../encoder.onnx", "/etc/passwd", "sub/encoder.onnx", "..\\encoder.onnx", "..", "."]
)
def test_a_file_outside_the_folder_is_refused(folder, name):
    edit(folder, lambda document: document["graphs"]["encoder"].update(file=name))
    with pytest.raises(ModelFolderError, match="not a plain name"):
        artifacts.read(folder)


def test_a_newer_schema_asks_for_a_newer_fastseg(folder):
    edit(folder, lambda document: document.update(schema=2, graphs="something new"))
    with pytest.raises(ModelFolderError, match=r"schema 2.*Upgrade fastseg"):
        artifacts.read(folder)


def test_a_field_that_a_later_version_added_is_ignored(folder):
    edit(folder, lambda document: document.update(colour="blue"))
    artifacts.read(folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.pop("graphs"), "graphs"),
        (lambda d: d.update(schema="1"), "schema"),
        (lambda d: d.update(schema=True), "schema"),
        (lambda d: d.update(name=7), "name"),
        (lambda d: d["preprocessing"].update(mean=[1, 2]), "mean"),
        (lambda d: d["preprocessing"].update(std=["a", "b", "c"]), "std"),
        (lambda d: d["preprocessing"].pop("side"), "side"),
        (lambda d: d["preprocessing"].update(side=100), "multiple of 16"),
        (lambda d: d["preprocessing"].update(std=[1, 0, 1]), "std must be positive"),
        (lambda d: d["preprocessing"].update(mean=[1, float("nan"), 1]), "finite"),
        (lambda d: d["preprocessing"].update(resize="stretch"), "stretch.*Upgrade fastseg"),
        (lambda d: d["graphs"].update(encoder=[]), "encoder"),
        (lambda d: d["graphs"]["encoder"].update(bytes="many"), "bytes"),
        (lambda d: d["graphs"]["encoder"]["graph"]["inputs"][0].update(dtype="int64"), "int64"),
        (lambda d: d["graphs"]["encoder"]["graph"]["inputs"][0].update(shape=[1.5]), "shape"),
        (lambda d: d["graphs"]["encoder"]["graph"]["inputs"].append("x"), "inputs"),
    ],
)
def test_a_field_that_is_missing_or_of_the_wrong_type_is_named(folder, change, named):
    edit(folder, change)
    with pytest.raises(ModelFolderError, match=named):
        artifacts.read(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_not_ours_is_refused(folder, content):
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ModelFolderError, match=r"model\.json"):
        artifacts.read(folder)


def test_a_huge_manifest_is_not_even_read(folder, monkeypatch):
    monkeypatch.setattr(folders, "MANIFEST_BYTES", 100)
    with pytest.raises(ModelFolderError, match="larger than any"):
        artifacts.read(folder)


def test_no_folder_and_no_model_folder_are_told_apart(tmp_path):
    with pytest.raises(ModelNotFoundError, match="no model folder"):
        artifacts.read(tmp_path / "nowhere")
    with pytest.raises(ModelFolderError, match=r"no model\.json"):
        artifacts.read(tmp_path)


def test_an_existing_model_is_overwritten_only_on_demand(folder):
    before = artifacts.read(folder).manifest
    with pytest.raises(OutputError, match="not empty"), artifacts.write(folder):
        pass
    with artifacts.write(folder, overwrite=True) as temporary:
        artifacts.write_manifest(temporary, replace(fill(temporary), name="successor"))
    assert artifacts.read(folder).manifest == replace(before, name="successor")


def test_a_folder_of_something_else_is_never_overwritten(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with (
        pytest.raises(OutputError, match="no model folder"),
        artifacts.write(tmp_path / "thesis", overwrite=True) as temporary,
    ):
        fill(temporary)
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError, ValueError])
def test_an_interrupted_export_leaves_only_the_earlier_model(folder, stop):
    before = artifacts.read(folder).manifest

    def export() -> None:
        with artifacts.write(folder, overwrite=True) as temporary:
            fill(temporary)
            raise stop

    with pytest.raises((stop, OutputError)):
        export()
    assert artifacts.read(folder).manifest == before
    assert list(folder.parent.iterdir()) == [folder]


def test_an_incomplete_folder_is_never_published(tmp_path):
    with pytest.raises(ModelFolderError, match=r"model\.json"), artifacts.write(tmp_path / "model"):
        pass

    def alter() -> None:
        with artifacts.write(tmp_path / "model") as temporary:
            fill(temporary)
            (temporary / "encoder.onnx").write_bytes(CONTENT[::-1])

    with pytest.raises(ModelFolderError, match="altered"):
        alter()
    assert list(tmp_path.iterdir()) == []
