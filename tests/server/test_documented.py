"""The requests of docs/server.md, sent as the page shows them."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tests.helpers import page


def test_the_commands_of_curl_do_as_the_page_says(url, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (block,) = (one for one in page.blocks("docs/server.md") if "curl" in one.text)
    page.write_files(tmp_path)
    number = ""
    for line in block.text.splitlines()[1:]:
        command = line.replace("http://127.0.0.1:8765", url).replace("/ID", f"/{number}")
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        number = json.loads((tmp_path / "image.json").read_text())["id"]
    masks = json.loads((tmp_path / "masks.json").read_text())["masks"]
    assert [mask["prompt"] for mask in masks] == [0, 0, 0, 1, 1, 1]
    events = [
        json.loads(line) for line in (tmp_path / "everything.ndjson").read_text().splitlines()
    ]
    assert events[-1]["event"] == "result"


def test_the_page_names_every_column_of_the_clock():
    from tests.server.test_page import COLUMNS

    text = page.read("docs/server.md").partition("### The clock")[2]
    assert all(f"`{column}`" in text for column in COLUMNS.split(","))
