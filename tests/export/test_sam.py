"""A model folder is written whole, with its comparison, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

from fastseg import artifacts, contract
from fastseg.artifacts import safetensors
from fastseg.backends.onnxruntime.session import OrtBackend
from fastseg.errors import OutputError, ParityError
from fastseg.export import sam as export
from fastseg.export.model_folder import Card
from fastseg.export.sam import write_sam_folder
from fastseg.validation.parity import Table, compare_arrays
from tests.helpers.exported_sam import BOTH_SIZES
from tests.helpers.scripts import run_script


@pytest.fixture
def quick(monkeypatch):
    """Write empty graphs that seem to be right: what is tested is what happens around them."""

    def write(source, path, **_):
        path.write_bytes(source.graph.name.encode())
        return ()

    monkeypatch.setattr(export, "write", write)
    monkeypatch.setattr(export, "compare", lambda *_: Table(()))


def test_a_folder_has_every_graph_and_the_comparison(small_folder):
    manifest = artifacts.read(small_folder).manifest
    assert list(manifest.graphs) == list(contract.SAM_GRAPHS)
    assert (manifest.family, manifest.name, manifest.preprocessing.side) == ("sam", "small", 256)
    assert manifest.preprocessing.mean == (123.675, 116.28, 103.53)
    names = {row["name"] for row in manifest.parity}
    assert names >= {"embedding", "decoder low_res_logits", "decoder_mask low_res_logits"}
    assert all(row["relative"] <= 1e-5 for row in manifest.parity)
    assert {"torch", "onnxruntime"} <= set(manifest.written_by)


@pytest.mark.parametrize("size", BOTH_SIZES)
def test_a_card_says_where_the_weights_came_from(size, request):
    sam = request.getfixturevalue(size)
    manifest = artifacts.read(sam.folder).manifest
    assert manifest.source["sha256"] == artifacts.sha256(sam.checkpoint)
    assert manifest.source["kind"] == size
    assert manifest.licence == "none"
    assert manifest.name == size.replace("_", "-")


def test_weights_stored_as_float16_equal_the_rounded_modules(small_folder, small_modules):
    stored = artifacts.read(small_folder).manifest.graphs
    weights = sum(w.numel() for w in small_modules.mask_decoder.transformer.parameters())
    assert stored["decoder"].bytes < 2.8 * weights
    image = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    backend = OrtBackend(small_folder / stored["encoder"].file, stored["encoder"].graph)
    found = backend.run({"image": image.numpy()})["embedding"]
    expected = small_modules.image_encoder(image).numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_folder_holds_the_decoders_weights_by_their_names(small_folder, small_modules):
    folder = artifacts.read(small_folder)
    found = safetensors.read(folder.file(folder.manifest.weights["decoder"]))
    wanted = {
        f"{prefix}.{name}": tensor
        for prefix in ("prompt_encoder", "mask_decoder")
        for name, tensor in getattr(small_modules, prefix).state_dict().items()
    }
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


def test_graphs_that_differ_leave_nothing(quick, small_modules, tmp_path, monkeypatch):
    wrong = compare_arrays("embedding", np.array([1.1]), np.array([1.0]))
    monkeypatch.setattr(export, "compare", lambda *_: Table((wrong,)))
    with pytest.raises(ParityError, match="embedding"):
        write_sam_folder(small_modules, tmp_path / "model", Card("wrong"))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_what_was_there(quick, small_modules, tmp_path):
    out = tmp_path / "model"
    write_sam_folder(small_modules, out, Card("first"))

    def interrupt(step: str) -> None:
        if "decoder_mask" in step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sam_folder(small_modules, out, Card("second"), progress=interrupt)
    assert artifacts.read(out).manifest.name == "first"
    assert list(tmp_path.iterdir()) == [out]


def test_a_model_folder_is_replaced_and_another_folder_is_not(quick, small_modules, tmp_path):
    model, other = tmp_path / "model", tmp_path / "other"
    for name in ("first", "second"):
        write_sam_folder(small_modules, model, Card(name))
    assert artifacts.read(model).manifest.name == "second"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    with pytest.raises(OutputError):
        write_sam_folder(small_modules, other, Card("third"))
    assert (other / "letter.txt").read_text() == "mine"


def test_every_step_is_told(quick, small_modules, tmp_path):
    steps: list[str] = []
    write_sam_folder(small_modules, tmp_path / "model", Card("told"), progress=steps.append)
    assert steps == [
        *(f"writing {name}" for name in contract.SAM_GRAPHS),
        "comparing the graphs with their source",
    ]


@pytest.mark.slow
def test_a_folder_is_checked_against_its_checkpoint(vit_b, capsys, monkeypatch):
    assert run_script(monkeypatch, "check.py", vit_b.checkpoint, vit_b.folder) == 0
    assert "decoder_mask low_res_logits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "first_missing"), [("sam_to_onnx.py", "absent.pth"), ("check.py", "no model folder")]
)
def test_a_script_says_in_one_line_what_is_wrong(
    script, first_missing, tmp_path, capsys, monkeypatch
):
    arguments = tmp_path / "absent.pth", tmp_path / "model"
    assert run_script(monkeypatch, script, *arguments) == 1
    told = capsys.readouterr().err
    assert first_missing in told
    assert len(told.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
