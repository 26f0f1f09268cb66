"""Images, manifests and results at addresses that fsspec opens give what folders give."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastseg.cohort import Item, read_items, run
from fastseg.errors import BackendUnavailableError, CohortError, OutputError
from tests.cohort.test_cohort import GRID, everything, results, write_images

fsspec = pytest.importorskip("fsspec", reason="needs the extra cohort")


@pytest.fixture
def images(tmp_path) -> Path:
    write_images(tmp_path / "images", 4)
    return tmp_path / "images"


@pytest.fixture
def bucket(images) -> Iterator[Any]:
    """The images in fsspec's file system in memory, under ``memory://bucket/images``."""
    files = fsspec.filesystem("memory")
    for file in images.iterdir():
        files.pipe_file(f"/bucket/images/{file.name}", file.read_bytes())
    yield files
    files.rm("/bucket", recursive=True)


def stored(bucket: Any, folder: str) -> dict[str, bytes]:
    """Read the results at an address, without the name of the image, which is another one."""
    found = {}
    for path in bucket.ls(f"{folder}/items", detail=False):
        document = json.loads(bucket.cat_file(path))
        found[document.pop("image").rpartition("/")[2]] = document
    return found


def local(out: Path) -> dict[str, Any]:
    found = {}
    for content in results(out).values():
        document = json.loads(content)
        found[document.pop("image").rpartition("/")[2]] = document
    return found


def test_results_at_an_address_are_those_of_a_folder_and_are_kept(
    tiny_model, images, bucket, tmp_path
) -> None:
    everything(images, tiny_model, tmp_path / "out")
    out = "memory://bucket/out"
    begun = run("memory://bucket/images", tiny_model, out=out, task="everything", settings=GRID)
    first = next(begun)
    begun.close()
    assert (first.status, first.file) == ("done", None)
    options: dict[str, Any] = {"out": out, "task": "everything", "settings": GRID}
    with pytest.raises(OutputError, match="holds a cohort"):
        run("memory://bucket/images", tiny_model, **options)
    outcomes = list(run("memory://bucket/images", tiny_model, **options, resume=True))
    assert [one.status for one in outcomes] == ["kept"] + ["done"] * 3
    assert stored(bucket, "/bucket/out") == local(tmp_path / "out")
    report = json.loads(bucket.cat_file("/bucket/out/report.json"))
    assert (report["done"], report["kept"]) == (3, 1)
    # A replaced image and a changed result are made again.
    bucket.pipe_file("/bucket/images/001.png", (images / "000.png").read_bytes())
    (result,) = bucket.glob("/bucket/out/items/003*.json")
    bucket.pipe_file(result, b"{}")
    outcomes = list(run("memory://bucket/images", tiny_model, **options, resume=True))
    assert [one.status for one in outcomes] == ["kept", "done", "kept", "done"]


def test_a_manifest_at_an_address_names_images_beside_it(
    tiny_model, images, bucket, tmp_path
) -> None:
    names = [*(f"{number:03}.png" for number in range(3)), "absent.png"]
    text = "\n".join(json.dumps({"image": one, "boxes": [[5, 5, 30, 30]]}) for one in names)
    bucket.pipe_file("/bucket/images/cohort.jsonl", text.encode())
    (images / "cohort.jsonl").write_text(text)
    address = "memory://bucket/images/cohort.jsonl"
    outcomes = list(run(address, tiny_model, out=tmp_path / "far"))
    list(run(images / "cohort.jsonl", tiny_model, out=tmp_path / "near"))
    assert [one.status for one in outcomes] == ["done"] * 3 + ["failed"]
    assert outcomes[3].error["type"] == "ImageError"
    assert "memory://bucket/images/absent.png" in outcomes[3].error["message"]
    assert results(tmp_path / "far") == results(tmp_path / "near")


def test_images_are_found_by_folder_pattern_and_name(bucket) -> None:
    bucket.pipe_file("/bucket/images/notes.txt", b"no image")
    everything_there = [item.image for item in read_items("memory://bucket/images")]
    assert everything_there == [f"memory:///bucket/images/{n:03}.png" for n in range(4)]
    assert len(read_items("memory://bucket/images/00[12].png")) == 2
    (one,) = read_items("memory://bucket/images/000.png")
    assert one.is_remote
    assert Item("a.png", folder="memory://bucket").address == "memory://bucket/a.png"


def test_a_local_address_is_a_folder_too(tiny_model, images, tmp_path) -> None:
    address = f"file://{tmp_path}/out"
    (outcome, *_) = run(images, tiny_model, out=address, task="everything", settings=GRID)
    assert outcome.status == "done"
    everything(images, tiny_model, tmp_path / "plain")
    assert results(tmp_path / "out") == results(tmp_path / "plain")


def test_addresses_that_cannot_be_used_are_refused(tiny_model, images, tmp_path, bucket) -> None:
    for source in ("nosuch://bucket/a*.png", "memory://bucket/none*.png", "memory://x/c.csv"):
        with pytest.raises(CohortError):
            read_items(source)
    with pytest.raises(OutputError, match="nosuch"):
        run(images, tiny_model, out="nosuch://bucket/out", task="everything")
    bucket.pipe_file("/bucket/other/thesis.tex", b"years of work")
    with pytest.raises(OutputError, match="holds no cohort"):
        run(images, tiny_model, out="memory://bucket/other", task="everything")


def test_fsspec_that_is_absent_is_an_error_with_the_remedy(tiny_model, images, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(BackendUnavailableError, match=r"\[cohort\]"):
        run(images, tiny_model, out="memory://bucket/out", task="everything")
