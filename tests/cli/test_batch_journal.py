"""An interrupted ``segment`` or ``everything`` of many images loses none that is finished."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg.cli.root import run
from fastseg.sam.masks_file import pack_masks, unpack_masks
from tests.helpers.processes import running

GRID = ("--points-per-side", 2, "--pred-iou-thresh", 0, "--stability-score-thresh", 0)


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def interrupted(monkeypatch) -> list[int]:
    """Count the calls of everything mode, and interrupt the one whose number is added to it."""
    calls: list[int] = [0]
    real = fastseg.Sam.everything

    def call(self: Any, image: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] in calls[1:]:
            raise KeyboardInterrupt
        return real(self, image, **options)

    monkeypatch.setattr(fastseg.Sam, "everything", call)
    return calls


def call(*words: object) -> int:
    return run([str(word) for word in words])


def test_an_interrupted_call_is_gone_on_with(
    images, tiny_folder, tmp_path, interrupted, capsys
) -> None:
    (images / "1.png").write_bytes(b"no image")
    words = ("everything", images, "--model", tiny_folder, *GRID, "--format", "geojson")
    assert call(*words, "--out", tmp_path / "whole") == 1
    interrupted[:] = [0, 3]
    out = tmp_path / "out"
    assert call(*words, "--out", out) == 130
    assert "2 of 5 images are done; --resume goes on" in capsys.readouterr().err
    assert not (out / "masks.json").exists()
    assert call(*words, "--out", out) == 2
    assert "--resume" in capsys.readouterr().err
    assert call(*words, "--out", out, "--points-per-side", 3, "--resume") == 2
    assert "another settings" in capsys.readouterr().err
    interrupted[:] = [0]
    assert call(*words, "--out", out, "--resume") == 1
    assert interrupted == [2]
    names = {path.name for path in (tmp_path / "whole" / "masks").iterdir()}
    assert len(names) == 4
    for name in ("masks.json", "masks.csv", *(f"masks/{name}" for name in names)):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    ours, theirs = (
        [
            {**row, "timings": None}
            for row in json.loads((one / "results.json").read_text())["pictures"]
        ]
        for one in (out, tmp_path / "whole")
    )
    assert ours == theirs
    assert not list(tmp_path.glob(".*"))


def test_an_image_that_was_replaced_or_a_damaged_file_is_made_again(
    images, tiny_folder, tmp_path, interrupted
) -> None:
    words = ("everything", images, "--model", tiny_folder, *GRID, "--out", tmp_path / "out")
    interrupted[:] = [0, 4]
    assert call(*words) == 130
    Image.new("RGB", (64, 48)).save(images / "0.png")
    kept = sorted((tmp_path / ".out.unfinished" / "items").iterdir())
    assert len(kept) == 3
    for file in kept[:1]:
        file.write_bytes(file.read_bytes()[:-1])
    interrupted[:] = [0]
    assert call(*words, "--resume") == 0
    assert interrupted[0] in (3, 4)  # the damaged one may be that of the replaced image


def test_nothing_is_left_by_calls_that_end(images, tiny_folder, tmp_path, capsys) -> None:
    words = ("segment", "--box", 5, 5, 30, 30, "--model", tiny_folder, "--out", tmp_path / "out")
    assert call(*words, images / "0.png", images / "1.png") == 0
    for file in images.iterdir():
        file.write_bytes(b"no image")
    assert call(*words, images / "0.png", images / "1.png", "--overwrite") == 1
    alike = ("--box", 5, 5, 31, 31, "--format", "png")  # overlaps, which no label map can hold
    for number in range(2):
        Image.new("RGB", (64, 48)).save(images / f"{number}.png")
    assert call(*words, *alike, images / "0.png", images / "1.png", "--overwrite") == 1
    assert not list(tmp_path.glob(".*"))
    without = ("segment", images / "0.png", "--box", 1, 1, 9, 9, "--model", tiny_folder)
    assert call(*without, "--resume") == 2
    assert "--resume goes on with the call that --out names" in capsys.readouterr().err


def test_ctrl_c_says_how_far_it_came(images, tiny_folder, tmp_path) -> None:
    for number in range(5, 400):
        (images / f"{number}.png").write_bytes((images / f"{number % 5}.png").read_bytes())
    words = [sys.executable, "-m", "fastseg", "everything", images, "--model", tiny_folder]
    words += ["--out", tmp_path / "out", *map(str, GRID)]
    journal = tmp_path / ".out.unfinished" / "journal.jsonl"
    with running(words) as process:
        deadline = time.monotonic() + 60
        while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
            assert time.monotonic() < deadline, "nothing was done"
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, complained = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "of 400 images are done; --resume goes on with the rest" in complained
    assert "Traceback" not in complained


def test_masks_are_read_back_as_they_were(tiny_model) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    grid = {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    for masks in (
        tiny_model.segment(image, boxes=[[5, 5, 30, 30]], names=["liver"]),
        tiny_model.everything(image, **grid, crop_n_layers=1),
        tiny_model.segment(image, boxes=np.zeros((0, 4))),
    ):
        found = unpack_masks(pack_masks(masks))
        for name in masks.__dataclass_fields__:
            ours, theirs = getattr(found, name), getattr(masks, name)
            if isinstance(theirs, np.ndarray):
                np.testing.assert_array_equal(ours, theirs)
                assert ours.dtype == theirs.dtype
            elif name == "runs":
                np.testing.assert_array_equal(ours.counts, theirs.counts)
                assert ours.size == theirs.size
            else:
                assert ours == theirs
    for damage in (b"", b"no archive", pack_masks(masks)[:-30]):
        with pytest.raises(fastseg.MaskError, match="Make them again"):
            unpack_masks(damage)
