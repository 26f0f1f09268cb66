"""Promises of ``fastseg bench --table1``: what models cost, beside what is published."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastseg.benchmarking.annotation_times import read_annotation_times
from fastseg.benchmarking.model_costs import PUBLISHED, STRUCTURES, measure, quarters
from fastseg.benchmarking.repetition import StoppingRule
from fastseg.benchmarking.resource_table import resource_rows, sentences
from fastseg.cli.root import run
from fastseg.errors import MeasurementError
from fastseg.inference.sessions import Choice
from fastseg.testing import tiny_sam_folder, tiny_unet_folder

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
QUICK = StoppingRule(warm_up=1, min_rounds=2, max_rounds=2)
FACTS = Path(__file__).parents[3] / "shared" / "reference" / "published" / "ferreira_resources.csv"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    place = tmp_path_factory.mktemp("models")
    return str(tiny_sam_folder(place / "sam")), str(tiny_unet_folder(place / "unet"))


def test_a_promptable_model_needs_a_box_per_mask(folders):
    row = measure(folders[0], IMAGE, Choice(), QUICK)
    assert (row.prompts_per_mask, row.masks_to_choose_from, row.origin) == (1, 3, "measured")
    assert row.seconds_per_mask > 0
    assert row.seconds_per_further_mask > 0
    on_disk = sum(file.stat().st_size for file in Path(folders[0]).glob("*.onnx"))
    assert row.megabytes == pytest.approx(on_disk / 1e6)


def test_a_network_for_frames_needs_no_prompts(folders):
    row = measure(folders[1], IMAGE, Choice(), QUICK)
    assert (row.prompts_per_mask, row.masks_to_choose_from) == (0, 1)
    assert row.seconds_per_further_mask is None
    assert row.ran_on == "onnxruntime cpu fp32"


def test_parameters_are_those_of_the_folder_or_unknown(folders):
    assert measure("echo-a4c", IMAGE, Choice(), QUICK).million_parameters == 1.941173
    assert measure(folders[0], IMAGE, Choice(), QUICK).million_parameters is None


@pytest.mark.parametrize(("kind", "published"), [("vit_b", 93_735_472), ("vit_h", 641_090_608)])
def test_an_export_counts_the_published_number_of_parameters(kind, published):
    torch = pytest.importorskip("torch", reason="exports need torch")
    from fastseg.export.model_folder import parameter_count
    from fastseg.export.networks.image_encoder import SHAPES, ImageEncoder
    from fastseg.export.networks.mask_decoder import MaskDecoder
    from fastseg.export.networks.prompt_encoder import PromptEncoder

    shape = SHAPES[kind]
    with torch.device("meta"):
        encoder = ImageEncoder(shape)
        prompts = PromptEncoder(shape.grid, shape.side)
        assert parameter_count(encoder, prompts, MaskDecoder()) == published
        assert parameter_count(prompts, prompts) == parameter_count(prompts)


def test_published_figures_are_those_of_the_publication():
    if not FACTS.is_file():
        pytest.skip("the published figures do not lie beside this checkout")
    with FACTS.open() as file:
        facts = {row["row"]: row for row in csv.DictReader(file)}
    for row, column in zip(PUBLISHED, ("sam", "ssl"), strict=True):
        assert row.megabytes == float(facts["model size"][column])
        assert row.million_parameters == float(facts["parameters"][column])
        assert row.seconds_per_mask == float(facts["inference time per mask"][column])
        hours = float(facts["box prompting time"][column])
        assert (row.prompts_per_mask > 0) == (hours > 0)


def test_boxes_lie_apart_inside_the_image():
    boxes = quarters((60, 80))
    assert boxes.shape == (STRUCTURES, 4)
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= [80, 60]).all()


def test_the_table_shows_published_and_measured_rows(folders, capsys):
    assert run(["bench", *folders, "--table1", "--max-seconds", "0.01"]) == 0
    shown = capsys.readouterr().out
    assert "2560.0" in shown
    assert "2311.04847" in shown
    assert shown.count("onnxruntime cpu fp32") == 2
    assert run(["bench", *folders, "--table1", "--max-seconds", "0.01", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["origin"] for row in rows] == ["published"] * 2 + ["measured"] * 2


def test_the_eight_published_rows_come_out_as_printed():
    rows = {row.name: row for row in resource_rows(PUBLISHED)}
    values = {name: [cell.value for cell in row.cells] for name, row in rows.items()}
    assert values == {
        "training images": [11_000_000, 93_000],
        "manual labels": [1_100_000_000, 0],
        "box prompting time": [3, 0],
        "mask selection time": [1.1, 0],
        "model size": [2560, 93],
        "parameters": [636, 7.7],
        "training compute": [256, 1],
        "inference time per mask": [2.7, 0.1],
    }
    first, *_ = sentences(PUBLISHED)
    assert "4.1 h of prompting" in first
    assert "2.46 minutes a study" in first
    assert "755 h for 18,423 studies" in first


def test_times_of_people_are_marked_as_estimates_and_unknown_training_is_said(folders, capsys):
    assert run(["bench", *folders, "--table1", "--max-seconds", "0.01", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = {row["row"]: row["models"] for row in document["table1"]}
    assert len(rows) == 8
    assert [cell["origin"] for cell in rows["box prompting time"]][2:] == ["estimate", "estimate"]
    assert rows["training images"][-1]["value"] is None
    assert rows["training images"][-1]["origin"] == "unknown"
    assert rows["model size"][-1]["origin"] == "measured"


def test_embedded_models_learnt_from_no_real_image():
    costs = replace(PUBLISHED[1], name="x", origin="measured", training_data="generated phantoms")
    rows = {row.name: row.cells[0] for row in resource_rows([costs])}
    assert (rows["training images"].value, rows["manual labels"].value) == (0, 0)
    assert rows["training images"].text == "0 (card)"


HEAD = "image,frame,item,name,status,prompts,prompt_s,wait_s,choose_s,name_s,total_s"
ITEMS = (
    "a.png,0,1,x,drawn,1,4.0,0.1,1.0,0,5.1",
    "a.png,0,2,y,corrected,2,8.0,0.1,2.0,0,10.1",
    "a.png,0,3,z,chosen,0,0,0,6.0,0,6.0",
    "a.png,0,4,w,painted,0,0,0,30.0,0,30.0",
    "a.png,,sum,,,3,12.0,0.2,39.0,0,51.2",
)


def clock_file(folder: Path, *rows: str, head: str = HEAD) -> Path:
    (folder / "times.csv").write_text("\n".join((head, *rows)) + "\n", encoding="utf-8")
    return folder / "times.csv"


def test_the_clock_of_the_page_takes_the_place_of_estimates(folders, tmp_path, capsys):
    file = clock_file(tmp_path, *ITEMS)
    line = ["bench", *folders, "--table1", "--times", str(file), "--max-seconds", "0.01", "--json"]
    assert run(line) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["times"] == {
        "prompted": 2, "seconds_prompting": 6.0, "chosen": 3, "seconds_choosing": 3.0,
    }  # fmt: skip
    rows = {row["row"]: row["models"][2:] for row in document["table1"]}
    prompting, selection = rows["box prompting time"], rows["mask selection time"]
    assert [(cell["value"], cell["origin"]) for cell in prompting] == [
        (2.25, "measured"),  # 1350 x 6 s
        (0, "estimate"),
    ]
    assert (selection[0]["value"], selection[0]["origin"]) == (1.125, "measured")
    assert "3.4 h of prompting" in " ".join(document["sentences"])


@pytest.mark.parametrize(
    ("rows", "head", "reason"),
    [
        (ITEMS[2:], HEAD, "no mask that was drawn"),
        (ITEMS, "image,item", "no column status, prompt_s, choose_s"),
        ((ITEMS[0].replace("4.0", "soon"),), HEAD, "prompt_s 'soon' in row 1"),
        ((ITEMS[0].replace("4.0", "-1"),), HEAD, "prompt_s '-1' in row 1"),
        ((ITEMS[0].replace("1.0,0", "nan,0"),), HEAD, "choose_s 'nan' in row 1"),
    ],
)
def test_times_that_cannot_be_used_are_named(rows, head, reason, tmp_path):
    with pytest.raises(MeasurementError, match=re.escape(reason)):
        read_annotation_times([clock_file(tmp_path, *rows, head=head)])


def test_times_belong_to_the_table_and_must_be_there(folders, tmp_path, capsys):
    assert run(["bench", folders[0], "--times", "times.csv"]) == 2
    missing = str(tmp_path / "none.csv")
    assert run(["bench", folders[0], "--table1", "--times", missing]) != 0
    assert "none.csv cannot be read" in capsys.readouterr().err


def test_several_models_are_for_the_table_alone(folders, capsys):
    assert run(["bench", *folders]) == 2
    assert "--table1" in capsys.readouterr().err
