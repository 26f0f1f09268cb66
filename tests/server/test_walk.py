"""The walk of docs/server.md through the page, step by step: from install to export.

``FASTSEG_SCREENSHOTS`` names a folder for images of the steps; ``docs/server.png`` is that of the
correction.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg.ops import rle_from_strings, rle_to_array
from tests.helpers import page as pages
from tests.helpers.processes import running

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
from tests.helpers.browser import Tab

expect = playwright.expect

COINS = pages.ROOT / "fastseg" / "demo_data" / "coins.png"
SIZE = (384, 303)
"""Width and height of the image."""

GOLD, SILVER, BRONZE, OTHER = (348, 185), (22, 34, 67, 75), (46, 260), (157, 51)
GROUND = (8, 290)

LEAST_IOU = 0.95


def steps() -> list[str]:
    """Read the steps that the page of the documentation lists, each in one line."""
    section = pages.read("docs/server.md").partition("### From install to export\n")[2]
    listed = re.findall(r"^\d+\. (.+(?:\n +.+)*)", section.partition("\n###")[0], flags=re.M)
    return [re.sub(r"\s+", " ", step) for step in listed]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Start the server by the command of the documentation, at a free port."""
    pytest.importorskip("onnxruntime", reason="sam-nano needs the extra cpu")
    block = pages.blocks("docs/server.md")[0]
    (_, install, *_), (program, *words) = block.commands()[0], block.commands()[-1]
    assert (install, program) == ("install", "fastseg")
    assert shlex.join(words) == "serve --model sam-nano"
    with running([sys.executable, "-m", "fastseg", *words, "--port", "0"]) as process:
        assert process.stderr
        line = process.stderr.readline()
        found = re.search(r"at (http://\S+)", line)
        assert found, line
        yield found[1]


class Walk:
    """The steps, each as its page says."""

    def __init__(self, tab: Tab, shots: Path, ending: str, *, is_narrow: bool) -> None:
        self.tab, self.page = tab, tab.page
        self.shots, self.ending = shots, ending
        self.is_narrow = is_narrow
        self.document: dict[str, Any] = {}

    def shot(self, name: str) -> None:
        """Keep an image of the whole page."""
        self.page.screenshot(path=self.shots / f"{name}-{self.ending}.png", full_page=True)

    def click(self, at: tuple[float, float]) -> None:
        self.tab.click(*at, *SIZE)
        expect(self.page.locator("#keep")).to_be_enabled()

    def keep(self, name: str, count: int) -> None:
        self.page.keyboard.press("n")
        self.page.keyboard.type(name)
        self.page.keyboard.press("Enter")
        self.tab.objects(count)
        expect(self.page.locator("#objects input").last).to_have_value(name)

    def install(self) -> None:
        expect(self.page.locator("#model")).to_contain_text("sam-nano")

    def open(self) -> None:
        self.shot("empty")
        with self.page.expect_file_chooser() as chooser:
            self.page.get_by_text("Open image").click()
        chooser.value.set_files(COINS)
        expect(self.page.locator("#status")).to_contain_text("384 x 303 pixels", timeout=30_000)

    def point(self) -> None:
        self.click(GOLD)
        self.tab.alternatives(3)
        self.shot("alternatives")

    def choose(self) -> None:
        shown = self.page.locator("#alternatives button")
        scores = [float(text.split(":")[1]) for text in shown.all_inner_texts()]
        chosen = [one.get_attribute("aria-checked") for one in shown.all()]
        assert scores[chosen.index("true")] == max(scores)
        for key in ("1", "2", "3", str(1 + chosen.index("true"))):
            self.page.keyboard.press(key)
            expect(shown.nth(int(key) - 1)).to_have_attribute("aria-checked", "true")

    def name(self) -> None:
        self.keep("gold", 1)

    def box(self) -> None:
        self.tab.drag(SILVER[:2], SILVER[2:], *SIZE)
        self.tab.alternatives(3)
        self.keep("silver", 2)

    def correct(self) -> None:
        self.click(BRONZE)
        outside = self.page.get_by_role("radio", name="Outside")
        if self.is_narrow:
            outside.click()
            self.click(GROUND)
            expect(outside).to_have_attribute("aria-checked", "true")
        else:
            self.page.keyboard.down("Shift")
            self.click(GROUND)
            self.page.keyboard.up("Shift")
        self.shot("corrected")

    def paint(self) -> None:
        self.page.get_by_role("radio", name="Brush").click()
        x, y = BRONZE
        self.tab.drag((x - 4, y), (x + 4, y), *SIZE)
        expect(self.page.locator("#hint")).to_contain_text("corrected by hand")
        self.page.get_by_role("button", name="Refine").click()
        self.tab.alternatives(3)
        self.page.get_by_role("radio", name="Prompt").click()
        self.keep("bronze", 3)
        self.shot("objects")

    def everything(self) -> None:
        self.page.get_by_role("button", name="Find everything").click()
        expect(self.page.locator("#candidates")).to_contain_text("to choose from", timeout=60_000)
        self.page.mouse.move(*self.tab.at(*OTHER, *SIZE))
        self.shot("everything")
        self.tab.click(*OTHER, *SIZE)
        self.tab.objects(4)
        self.page.keyboard.press("Escape")
        expect(self.page.locator("#candidates")).to_have_text("")

    def export(self) -> None:
        self.document = json.loads(self.tab.download("#export"))
        expect(self.page.locator("#status")).to_contain_text("Exported coins.png.json")
        self.shot("exported")
        self.page.select_option("#format", "png")
        labels = np.asarray(Image.open(BytesIO(self.tab.download("#export"))))
        areas = [one["area"] for one in self.document["annotations"]]
        assert labels.shape == SIZE[::-1]
        assert (labels > 0).sum() == pytest.approx(sum(areas), rel=0.01)

    def times(self) -> None:
        shown = self.page.locator("#clock-sum td").all_inner_texts()
        rows = list(csv.DictReader(self.tab.download("#csv").decode().splitlines()))
        assert [row["item"] for row in rows] == ["1", "2", "3", "4", "sum"]
        assert [row["status"] for row in rows[:4]] == ["drawn", "drawn", "corrected", "chosen"]
        for row in rows:
            parts = (row[name] for name in ("prompt_s", "wait_s", "choose_s", "name_s"))
            assert float(row["total_s"]) == pytest.approx(sum(map(float, parts)), abs=0.01)
        sums = [rows[-1][f"{name}_s"] for name in ("prompt", "wait", "choose", "name", "total")]
        assert list(map(float, shown)) == pytest.approx(list(map(float, sums)), abs=0.06)


STEPS = {
    "Install fastseg": Walk.install,
    "Open the address": Walk.open,
    "Click the large coin": Walk.point,
    "Look at each by": Walk.choose,
    "Press `N`, type `gold`": Walk.name,
    "Drag a box around": Walk.box,
    "Click the first coin of the last row": Walk.correct,
    "Paint with **Brush**": Walk.paint,
    "Press **Find everything**": Walk.everything,
    "Press **Export**": Walk.export,
    "Press **Export times (CSV)**": Walk.times,
}
"""Each step of the page by its first words."""


def test_every_step_of_the_page_is_taken() -> None:
    listed = steps()
    assert len(listed) == len(STEPS)
    for words, step in zip(STEPS, listed, strict=True):
        assert step.startswith(words)


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    """The masks of the model for the prompts of the walk, without the page."""
    with fastseg.load("sam-nano", precision="fp32") as model:
        gold = model.segment(COINS, points=GOLD).best()
        silver = model.segment(COINS, boxes=SILVER).best()
    return {"gold": gold.array()[0], "silver": silver.array()[0]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "scheme"), [((1280, 800), "light"), ((390, 844), "dark")], ids=["1280", "390"]
)
def test_the_walk_from_install_to_export(
    browser, address, expected, tmp_path, size, scheme
) -> None:
    viewport = dict(zip(("width", "height"), size, strict=True))
    shots = Path(os.environ.get("FASTSEG_SCREENSHOTS", tmp_path))
    context = browser.new_context(viewport=viewport, color_scheme=scheme, accept_downloads=True)
    walk = Walk(Tab(context, address), shots, f"{size[0]}-{scheme}", is_narrow=size[0] < 800)
    for step in STEPS.values():
        step(walk)
    assert not walk.tab.complaints
    context.close()
    annotations = walk.document["annotations"]
    names = {one["id"]: one["name"] for one in walk.document["categories"]}
    assert [names[one["category_id"]] for one in annotations] == [
        "gold",
        "silver",
        "bronze",
        "bronze",
    ]
    strings = [one["segmentation"]["counts"].encode() for one in annotations]
    masks = rle_to_array(rle_from_strings(strings, SIZE[::-1]))
    # A click meets a place between pixels, so that masks move by less than a pixel.
    for mask, name in zip(masks, expected, strict=False):
        assert (mask & expected[name]).sum() / (mask | expected[name]).sum() > LEAST_IOU
    assert masks[2][BRONZE[1], BRONZE[0]]
    assert not masks[2][GROUND[1], GROUND[0]]
    assert masks[3][OTHER[1], OTHER[0]]
