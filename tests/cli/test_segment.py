"""Promises of ``fastseg segment`` and ``fastseg everything``, on a tiny model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg import artifacts
from fastseg.artifacts.manifest import to_json
from fastseg.artifacts.rules import PromptRules, Rules
from fastseg.cli.root import run
from fastseg.demo import BOXES, PICTURE
from fastseg.storage.owned import RECORD
from fastseg.testing import tiny_sam_folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save_noise(tmp_path / "noise.png")


def save_noise(file: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON document of a call with ``--json``."""
    code = run([str(word) for word in words] + ["--json"])
    return code, json.loads(capsys.readouterr().out)


def test_segment_answers_as_the_library_does(tiny, image, capsys) -> None:
    call = ("segment", image, "--model", tiny, "--box", 5, 5, 30, 30, "--box", 0, 0, 60, 40)
    code, document = answer(capsys, *call)
    with fastseg.load(tiny) as model:
        masks = model.segment(image, boxes=[[5, 5, 30, 30], [0, 0, 60, 40]])
    assert code == 0
    found = document["pictures"][0]["annotations"]
    assert [one["segmentation"] for one in found] == masks.coco()
    assert [one["prompt"] for one in found] == [0, 0, 0, 1, 1, 1]


def test_all_points_are_one_prompt_and_join_the_only_box(tiny, image, capsys) -> None:
    call = ("segment", image, "--model", tiny, "--point", 10, 10, "--point", 20, 20)
    code, document = answer(capsys, *call, "--label", 1, "--label", 0, "--box", 5, 5, 30, 30)
    with fastseg.load(tiny) as model:
        masks = model.segment(
            image, points=[[10, 10], [20, 20]], labels=[1, 0], boxes=[5, 5, 30, 30]
        )
    assert code == 0
    found = document["pictures"][0]["annotations"]
    assert [one["segmentation"] for one in found] == masks.coco()
    assert document["settings"]["labels"] == [[1, 0]]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "--box"),
        (("--box", 1, 1, 9, 9, "--box", 2, 2, 8, 8, "--point", 3, 3), "not clear"),
        (("--point", 3, 3, "--point", 4, 4, "--label", 1), "2 points and 1 labels"),
        (("--point", 3, 3, "--label", 7), "7"),
        (("--point", "x", 3), "x"),
    ],
)
def test_prompts_that_make_no_sense_are_a_bad_call(tiny, image, capsys, options, reason) -> None:
    code, document = answer(capsys, "segment", image, "--model", tiny, *options)
    assert code == 2
    assert reason in document["error"]["message"]


def test_a_model_without_prompts_gets_the_images_alone(tiny, image, tmp_path, capsys) -> None:
    folder = tmp_path / "no-prompt"
    shutil.copytree(tiny, folder)
    none = PromptRules(points=False, boxes=False, masks=False, alternatives=False)
    changed = replace(artifacts.read(folder).manifest, rules=Rules(none))
    (folder / artifacts.MANIFEST_FILE).write_text(to_json(changed))
    code, document = answer(capsys, "segment", image, "--model", folder, "--name", "vessel")
    assert code == 0
    (found,) = document["pictures"][0]["annotations"]
    assert found["name"] == "vessel"
    code, document = answer(capsys, "segment", image, "--model", folder, "--point", 5, 5)
    assert code == 1
    assert "It takes no prompt" in document["pictures"][0]["error"]["message"]
    code, document = answer(capsys, "everything", image, "--model", folder)
    assert code == 2
    assert "segment(image)" in document["error"]["message"]


def test_best_and_single_give_one_mask_a_prompt(tiny, image, capsys) -> None:
    call = ("segment", image, "--model", tiny, "--point", 10, 10)
    for option in ("--best", "--single"):
        _, document = answer(capsys, *call, option)
        assert document["pictures"][0]["masks"] == 1


def test_an_image_that_fails_is_named_and_the_others_are_done(tiny, image, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image at all")
    out = tmp_path / "out"
    call = ("segment", broken, image, "--model", tiny, "--point", 10, 10, "--out", out)
    code = run([str(word) for word in call])
    assert code == 1
    assert f"fastseg: {broken}" in capsys.readouterr().err
    report = json.loads((out / "results.json").read_text())
    assert report["exit_code"] == 1
    assert report["pictures"][0]["error"]["type"] == "ImageError"
    assert report["pictures"][1]["masks"] == 3
    assert json.loads((out / "masks.json").read_text())["images"][0]["file_name"] == str(image)


def test_a_failed_image_is_named_once(tiny, tmp_path, capsys) -> None:
    missing = tmp_path / "missing.png"
    assert run(["segment", str(missing), "--model", tiny, "--point", "1", "1"]) == 1
    assert capsys.readouterr().err == f"fastseg: {missing}: no such file. Check the path.\n"


def test_when_every_image_fails_nothing_is_written(tiny, tmp_path, capsys) -> None:
    missing, out = tmp_path / "missing.png", tmp_path / "out"
    call = ("segment", missing, "--model", tiny, "--point", 1, 1, "--out", out)
    code, document = answer(capsys, *call)
    assert code == 1
    assert "missing.png" in document["pictures"][0]["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_result_folder_says_what_ran(tiny, image, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    call = ("segment", image, "--model", tiny, "--point", 10, 10, "--out", out, "--mask-png")
    code, document = answer(capsys, *call)
    assert code == 0
    report = json.loads((out / "results.json").read_text())
    for told in (document, report):
        assert told["backend"] == "onnxruntime"
        assert told["device"] == "cpu"
        assert told["precision"] == "fp32"
        assert "research use only" in told["notice"]
        assert told["versions"]["numpy"] == np.__version__
    assert len(list((out / "masks" / "noise").iterdir())) == 3
    assert (out / "overlays" / "noise.png").is_file()


def test_a_folder_of_other_files_is_never_overwritten(tiny, image, tmp_path, capsys) -> None:
    call = ("segment", image, "--model", tiny, "--point", 9, 9, "--out", tmp_path)
    code, document = answer(capsys, *call, "--overwrite")
    assert code == 2
    assert document["error"]["type"] == "OutputError"
    assert [file.name for file in tmp_path.iterdir()] == ["noise.png"]


def test_an_earlier_result_folder_is_replaced_only_on_demand(tiny, image, tmp_path, capsys):
    out = tmp_path / "out"
    call = ("segment", image, "--model", tiny, "--point", 9, 9, "--out", out)
    assert answer(capsys, *call)[0] == 0
    code, document = answer(capsys, *call)
    assert code == 2
    assert document["error"]["message"] == (
        f"{out}/ is not empty. Use another --out, or --overwrite."
    )
    assert answer(capsys, *call, "--overwrite")[0] == 0


def test_brackets_in_file_names_are_printed(tiny, tmp_path, capsys) -> None:
    image = save_noise(tmp_path / "scan [red] :heart:.png")
    assert run(["segment", str(image), "--model", tiny, "--point", "9", "9"]) == 0
    assert "scan [red] :heart:.png" in capsys.readouterr().out


def test_a_long_name_stands_in_one_line_of_what_is_not_a_terminal(tiny, tmp_path, capsys) -> None:
    image = save_noise(tmp_path / f"{'long ' * 40}name.png")
    assert run(["segment", str(image), "--model", tiny, "--point", "9", "9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(str(image) in line for line in lines)
    assert max(map(len, lines)) < 2 * len(str(image))


HINT = "sam-nano knows compact objects on a plain ground (coins, cells)"


@pytest.mark.parametrize(
    ("prompt", "hinted"),
    [(("--point", 85, 35, "--box", 60, 10, 110, 60), True), (("--box", *BOXES[0]), False)],
)
def test_segment_hints_that_sam_nano_found_nothing_sure(capsys, prompt, hinted) -> None:
    code = run([str(word) for word in ("segment", PICTURE, *prompt, "--best", "--json")])
    printed = capsys.readouterr()
    assert code == 0
    assert (printed.err.count(HINT) == 1) is hinted
    assert HINT not in printed.out


def test_everything_hints_where_sam_nano_keeps_no_mask(image, capsys) -> None:
    call = ("everything", image, "--points-per-side", "2")
    assert run([str(word) for word in call]) == 0
    printed = capsys.readouterr()
    assert printed.err.count(HINT) == 1
    assert "docs/models.md" in printed.err


def test_a_hint_counts_the_images_and_says_how_to_export_a_real_checkpoint(capsys, image):
    call = ("everything", image, PICTURE, "--points-per-side", "4")
    assert run([str(word) for word in call]) == 0
    hint = capsys.readouterr().err
    assert "nothing was found in 1 of 2 images" in hint
    assert "fastseg export sam --checkpoint sam_vit_b_01ec64.pth --out vit-b" in hint


def test_a_model_of_ones_own_gets_no_advice_about_sam_nano(tiny, image, capsys) -> None:
    call = ("everything", image, "--model", tiny, "--points-per-side", 2, "--pred-iou-thresh", 99)
    assert run([str(word) for word in call]) == 0
    hint = capsys.readouterr().err
    assert "nothing was found in 1 of 1 images. Lower --pred-iou-thresh" in hint
    assert "sam-nano" not in hint
    assert run(["segment", str(image), "--model", tiny, "--point", "9", "9"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "masks"),
    [
        (
            ("segment", "--point", 9, 9, "--best"),
            "the masks that the model predicted, before --best",
        ),
        (("everything", "--points-per-side", 2), "the masks that passed the filters"),
    ],
)
def test_the_caption_says_which_masks_the_time_is_divided_by(tiny, image, capsys, words, masks):
    verb, *options = words
    assert run([str(word) for word in (verb, image, "--model", tiny, *options)]) == 0
    assert f"ms per mask: ms divided by {masks}" in capsys.readouterr().out


def test_everything_takes_folders_and_sams_settings(tiny, tmp_path, capsys) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("b.png", "a.PNG"):
        save_noise(folder / name)
    (folder / "notes.txt").write_text("not a image")
    settings = ("--points-per-side", 3, "--pred-iou-thresh", -10, "--stability-score-thresh", -1)
    call = ("everything", folder, "--model", tiny, *settings, "--box-nms-thresh", 1)
    code, document = answer(capsys, *call)
    assert code == 0
    assert [Path(row["file"]).name for row in document["pictures"]] == ["a.PNG", "b.png"]
    with fastseg.load(tiny) as model:
        masks = model.everything(
            folder / "b.png",
            points_per_side=3,
            pred_iou_thresh=-10.0,
            stability_score_thresh=-1.0,
            box_nms_thresh=1.0,
        )
    found = document["pictures"][1]["annotations"]
    assert [one["segmentation"] for one in found] == masks.coco()
    assert document["settings"]["crop_overlap_ratio"] == pytest.approx(512 / 1500)


def test_the_search_is_told_for_each_image(tiny, image, capsys) -> None:
    loose = ("--pred-iou-thresh", 0.5, "--stability-score-thresh", 0.5)
    settings = ("--points-per-side", 6, *loose)
    for search, least, most in (("full", 36, 36), ("coarse-to-fine", 1, 35)):
        call = ("everything", image, "--model", tiny, *settings, "--search", search)
        code, document = answer(capsys, *call)
        assert code == 0
        assert document["settings"]["search"] == search
        told = document["pictures"][0]
        assert told["search"] == search
        assert least <= told["points_decoded"] <= most
    code, document = answer(capsys, "everything", image, "--model", tiny, "--search", "quick")
    assert code == 2
    assert "coarse-to-fine" in document["error"]["message"]


def test_a_setting_out_of_range_is_a_bad_call(tiny, image, capsys) -> None:
    code, document = answer(capsys, "everything", image, "--model", tiny, "--crop-n-layers", -1)
    assert code == 2
    assert "crop_n_layers" in document["error"]["message"]


def test_a_folder_without_images_is_an_input_that_fails(tiny, tmp_path, capsys) -> None:
    code, document = answer(capsys, "everything", tmp_path, "--model", tiny)
    assert code == 1
    assert str(tmp_path) in document["error"]["message"]


def test_a_missing_backend_named_in_the_call_is_an_error(tiny, image, capsys) -> None:
    call = ("segment", image, "--model", tiny, "--point", 1, 1, "--backend", "tensorrt")
    code, document = answer(capsys, *call)
    assert code == 2
    assert document["error"]["type"] == "BackendUnavailableError"


def test_max_pixels_refuses_a_large_image_and_0_lifts_it(tiny, image, capsys):
    call = ("segment", image, "--model", tiny, "--point", 9, 9, "--max-pixels")
    code, document = answer(capsys, *call, 1000)
    assert code == 1
    assert "noise.png" in document["pictures"][0]["error"]["message"]
    assert answer(capsys, *call, 0)[0] == 0


def test_overlays_are_left_out_when_asked(tiny, image, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    call = ("segment", image, "--model", tiny, "--point", 9, 9, "--out", out, "--no-overlay")
    assert answer(capsys, *call)[0] == 0
    files = {"masks.csv", "masks.json", "results.json", RECORD}
    assert {file.name for file in out.iterdir()} == files


def test_prompts_have_names(tiny, image, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    call = ("segment", image, "--model", tiny, "--box", 5, 5, 30, 30, "--box", 0, 0, 60, 40)
    code, document = answer(capsys, *call, "--name", "a", "--name", "b", "--best", "--out", out)
    assert code == 0
    assert document["settings"]["names"] == ["a", "b"]
    rows = (out / "masks.csv").read_text().splitlines()
    assert [row.split(",")[3] for row in rows] == ["name", "a", "b"]
    assert run([str(word) for word in (*call, "--name", "a", "--name", "b")]) == 0
    assert " name" in capsys.readouterr().out
    points = ("segment", image, "--model", tiny, "--point", 5, 5, "--point", 9, 9)
    assert answer(capsys, *points, "--name", "a")[0] == 0
    for names in (("--name", "a"), ("--name", "a", "--name", "b", "--name", "c")):
        assert answer(capsys, *call, *names)[0] == 2
    assert answer(capsys, *points, "--name", " ")[0] == 1


def test_prototypes_name_the_masks_of_everything(tiny, image, tmp_path, capsys) -> None:
    with fastseg.load(tiny) as model:
        examples = model.segment(image, boxes=[5, 5, 30, 30], names="blob").best()
        fastseg.Prototypes.of_examples(model, [(image, examples)]).save(tmp_path / "p.npz")
    call = ("everything", image, "--model", tiny, "--pred-iou-thresh", 0, "--points-per-side", 2)
    code, document = answer(capsys, *call, "--prototypes", tmp_path / "p.npz")
    assert code == 0
    found = document["pictures"][0]["annotations"]
    assert {one["name"] for one in found} == {"blob"}
    assert answer(capsys, *call, "--prototypes", tmp_path / "absent.npz")[0] == 2
