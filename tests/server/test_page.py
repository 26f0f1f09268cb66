"""The page, in a real browser: from opening an image to the export of masks and times."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastseg.server.app import PAGE
from tests.helpers import page as pages

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
from tests.helpers.browser import Tab

expect = playwright.expect

SIZES = [(1280, 800), (390, 844)]

COLUMNS = (
    "image,frame,item,name,status,prompts,prompt_s,wait_s,choose_s,name_s,total_s,"
    "score,area_px,area_cm2,ended"
)


@pytest.fixture
def tab(browser, url) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    opened = Tab(context, url)
    yield opened
    context.close()
    assert not opened.complaints
    assert all(sent.startswith((url, "blob:", "data:")) for sent in opened.requests)


@pytest.fixture(scope="module")
def disc(tmp_path_factory, png) -> Path:
    file = tmp_path_factory.mktemp("images") / "disc.png"
    file.write_bytes(png)
    return file


def test_from_an_image_to_its_export(tab, disc, tiny_model):
    page = tab.page
    tab.open(disc)
    tab.click(40, 30)
    tab.alternatives(3)
    page.keyboard.press("3")
    expect(page.locator("#alternatives button").nth(2)).to_have_attribute("aria-checked", "true")
    page.keyboard.press("n")
    page.keyboard.type("disc")
    page.keyboard.press("Enter")
    tab.objects(1)
    tab.drag((60, 10), (90, 50))
    tab.alternatives(3)
    page.keyboard.down("Shift")
    tab.click(85, 45)
    page.keyboard.up("Shift")
    tab.alternatives(3)
    page.fill("#name", "box, corrected")
    page.click("#keep")
    tab.objects(2)
    document = json.loads(tab.download("#export"))
    assert [one["name"] for one in document["categories"]] == ["disc", "box, corrected"]
    expected = tiny_model.segment(disc, points=[40.0, 30.0])
    areas = [one["area"] for one in document["annotations"]]
    # A click meets a place between pixels; the disc about it moves less than a pixel.
    assert areas[0] == pytest.approx(expected.areas[2], rel=0.02)
    rows = list(csv.reader(tab.download("#csv").decode().splitlines()))
    assert ",".join(rows[0]) == COLUMNS
    assert [row[2] for row in rows[1:]] == ["1", "2", "sum"]
    assert [row[3] for row in rows[1:]] == ["disc", "box, corrected", ""]
    assert [row[5] for row in rows[1:]] == ["1", "2", "3"]
    times = np.array([[float(cell) for cell in row[6:11]] for row in rows[1:]])
    assert (times[:, 0] > 0).all()
    assert times[0, 3] > 0
    assert times[:, 4] == pytest.approx(times[:, :4].sum(axis=1), abs=0.01)
    assert times[2] == pytest.approx(times[:2].sum(axis=0), abs=0.01)


@pytest.mark.slow
def test_work_that_was_not_exported_is_not_lost_by_leaving(tab, disc):
    page = tab.page
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    tab.open(disc)
    tab.click(40, 30)
    tab.alternatives(3)
    page.keyboard.press("Enter")
    tab.objects(1)
    page.close(run_before_unload=True)
    page.wait_for_timeout(500)
    assert asked == ["beforeunload"]
    tab.download("#export")
    page.close(run_before_unload=True)
    page.wait_for_event("close")
    assert asked == ["beforeunload"]


@pytest.mark.slow
def test_undo_and_redo_go_through_every_step(tab, disc):
    page = tab.page
    tab.open(disc)
    tab.click(40, 30)
    tab.alternatives(3)
    page.keyboard.press("Enter")
    tab.objects(1)
    page.keyboard.press("Control+z")
    tab.objects(0)
    tab.alternatives(3)
    page.keyboard.press("Control+z")
    tab.alternatives(0)
    page.keyboard.press("Control+Shift+z")
    page.keyboard.press("Control+y")
    tab.objects(1)
    expect(page.locator("#redo")).to_be_disabled()


@pytest.mark.slow
def test_everything_is_done_by_the_keyboard_alone(tab, disc):
    page = tab.page
    tab.open(disc)
    page.focus("#stage")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    tab.alternatives(3)
    for _ in range(8):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+Space")
    page.keyboard.press("o")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    page.keyboard.press("2")
    page.keyboard.press("n")
    page.keyboard.type("by key")
    page.keyboard.press("Enter")
    tab.objects(1)
    expect(page.locator("#objects input")).to_have_value("by key")
    # The next object begins with a point on it.
    expect(page.locator("[data-tool=prompt]")).to_have_attribute("aria-checked", "true")
    (row, _) = csv.DictReader(tab.download("#csv").decode().splitlines())
    assert row["prompts"] == "3"


@pytest.mark.slow
def test_everything_mode_offers_masks_to_choose_from(tab, disc):
    page = tab.page
    tab.open(disc)
    page.fill("#points-per-side", "6")
    page.click("#everything")
    expect(page.locator("#candidates")).to_contain_text("to choose from", timeout=30_000)
    count = int(page.locator("#candidates").text_content().split()[0])
    page.mouse.move(*tab.at(41, 31))
    page.mouse.click(*tab.at(40, 30))
    tab.objects(1)
    if count > 1:
        expect(page.locator("#candidates")).to_contain_text(f"{count - 1} masks")
        page.keyboard.press("Escape")
    expect(page.locator("#candidates")).to_have_text("")


@pytest.mark.slow
def test_a_mask_is_painted_corrected_and_given_back_to_the_model(tab, disc):
    page = tab.page
    tab.open(disc)
    tab.click(40, 30)
    tab.alternatives(3)
    page.keyboard.press("b")
    tab.drag((70, 50), (80, 50))
    tab.alternatives(1)
    expect(page.locator("#hint")).to_contain_text("corrected by hand")
    page.keyboard.press("f")
    tab.alternatives(3)
    page.keyboard.press("Enter")
    page.keyboard.press("x")
    page.mouse.click(*tab.at(5, 5))
    page.keyboard.press("p")
    document = json.loads(tab.download("#export"))
    assert len(document["annotations"]) == 1


@pytest.mark.slow
def test_a_stage_smaller_than_its_margins_is_drawn_and_grows_again(tab, disc):
    page = tab.page
    tab.open(disc)
    tab.click(40, 30)
    tab.alternatives(3)
    page.evaluate("document.getElementById('stage').style.height = '9px'")
    page.evaluate("document.getElementById('stage').style.flex = 'none'")
    page.wait_for_timeout(300)
    assert page.locator("#stage").bounding_box()["height"] < 16
    page.evaluate("document.getElementById('stage').removeAttribute('style')")
    page.wait_for_timeout(300)
    page.keyboard.press("Escape")
    tab.click(40, 30)
    tab.alternatives(3)


@pytest.mark.slow
def test_distances_and_areas_are_in_centimetres_and_frames_turn_by_the_wheel(tab, tmp_path):
    pytest.importorskip("pydicom", reason="DICOM needs the extra dicom")
    pages.write_dicom_files(tmp_path)
    page = tab.page
    tab.open(tmp_path / "clip_A4C.dcm")
    expect(page.locator("#frame-place")).to_have_text("1 of 2")
    page.mouse.click(*tab.at(120, 100, 256, 256))
    tab.alternatives(3)
    expect(page.locator("#hint")).to_contain_text("cm²")
    page.keyboard.press("Enter")
    page.mouse.wheel(0, 100)
    expect(page.locator("#frame-place")).to_have_text("2 of 2")
    page.keyboard.press("c")
    tab.objects(2)
    expect(page.locator("#status")).to_contain_text("1 proposed")
    document = json.loads(tab.download("#export"))
    assert sorted(one["image_id"] for one in document["annotations"]) == [1, 2]
    page.keyboard.press("Control+z")
    page.keyboard.press("PageUp")
    expect(page.locator("#frame-place")).to_have_text("1 of 2")
    page.keyboard.press("g")
    expect(page.locator("#status")).to_contain_text("on 1 other frames")
    tab.objects(2)


@pytest.mark.slow
def test_values_deeper_than_a_screen_are_seen_in_a_window(tab, tmp_path):
    deep = (np.indices((64, 96))[1] * 20).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    page = tab.page
    page.set_input_files("#file", str(tmp_path / "deep.png"))
    expect(page.locator("#status.bad")).to_contain_text("needs a window")
    page.get_by_label("Window").select_option("percentile:0.5,99.5")
    expect(page.locator("#status")).to_contain_text("96 x 64 pixels")
    expect(page.locator("#image-name")).to_have_text("deep.png")
    tab.click(40, 30)
    tab.alternatives(3)
    page.get_by_label("Window").select_option("bone")
    tab.alternatives(0)
    expect(page.get_by_label("Window")).to_have_value("bone")


@pytest.mark.slow
def test_a_folder_is_approved_or_modified_image_by_image(browser, serve, png, tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(png)
    context = browser.new_context(accept_downloads=True)
    tab = Tab(context, serve(root=tmp_path))
    page = tab.page
    page.click("#folder-open")
    expect(page.locator("#image-name")).to_have_text("a.png")
    page.select_option("#propose", "before")
    tab.click(40, 30)
    tab.alternatives(3)
    page.keyboard.press("Enter")
    tab.objects(1)
    page.click("#approve")
    expect(page.locator("#image-name")).to_have_text("b.png")
    tab.objects(1)
    page.click("#modify")
    expect(page.locator("#review")).to_have_text("modified")
    page.get_by_role("button", name="Remove object 1").click()
    tab.objects(0)
    page.click("#next")
    expect(page.locator("#image-name")).to_have_text("c.png")
    page.click("#previous")
    expect(page.locator("#image-name")).to_have_text("b.png")
    tab.objects(0)
    rows = list(csv.DictReader(tab.download("#csv").decode().splitlines()))
    assert [row["status"] for row in rows] == ["drawn", "approved", "modified", ""]
    tab.open(tmp_path / "c.png")
    expect(page.locator("#folder")).to_be_hidden()
    assert page.evaluate("document.querySelectorAll('#objects li').length") == 0
    assert not tab.complaints
    context.close()


@pytest.mark.slow
def test_a_page_without_a_token_asks_for_it(browser, serve, disc):
    token = "a-token-for-the-page"
    context = browser.new_context()
    tab = Tab(context, serve(tokens=(token,)))
    tab.page.fill("#token", token)
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#model")).to_contain_text("tiny")
    tab.open(disc)
    assert not tab.complaints
    context.close()


@pytest.mark.slow
def test_a_refusal_is_told_in_words(tab, tmp_path):
    (tmp_path / "text.png").write_bytes(b"no image")
    tab.page.set_input_files("#file", str(tmp_path / "text.png"))
    expect(tab.page.locator("#status.bad")).to_contain_text("text.png")
    expect(tab.page.locator("#empty")).to_be_visible()


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_and_every_control_has_a_name(browser, url, disc, size, scheme):
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    tab = Tab(context, url)
    tab.open(disc)
    tab.click(40, 30)
    tab.alternatives(3)
    tab.page.fill("#name", "a rather long name of a structure")
    tab.page.click("#keep")
    tab.objects(1)
    for control in tab.page.locator("button:visible, input:visible, select:visible").all():
        box = control.bounding_box()
        assert box["x"] >= 0, control
        assert box["x"] + box["width"] <= width + 0.5, control.evaluate("one => one.outerHTML")
    snapshot = tab.page.locator("body").aria_snapshot()
    unnamed = re.findall(
        r"- (?:button|textbox|combobox|spinbutton|radio|slider)(?:$|:| \[)", snapshot
    )
    assert not unnamed, snapshot
    context.close()


def luminance(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag(scheme):
    style = (PAGE / "style.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in style.split("dark) {")[:2]
    )
    colours = light if scheme == "light" else dark
    for text, ground in [
        ("ink", "ground"),
        ("ink", "panel"),
        ("ink", "field"),
        ("ink", "line"),
        ("quiet", "panel"),
        ("quiet", "ground"),
        ("on-accent", "accent"),
        ("bad", "ground"),
        ("panel", "good"),
    ]:
        high, low = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)
    for mark in ("edge", "accent", "focus"):
        high, low = sorted((luminance(colours[mark]), luminance(colours["panel"])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3, mark


def test_the_page_loads_nothing_from_elsewhere():
    for file in PAGE.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|eval\(|innerHTML", text), file.name
