"""Photographs without labels: their manifest, their regions, and the collages made of them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("skimage", reason="weak labels need scikit-image")

from tests.helpers import constructed_images
from training.sam_nano import figures, prompts, scene_mixture
from training.sam_nano.photographs import (
    __main__ as download,
)
from training.sam_nano.photographs import (
    camera,
    collages,
    hierarchy,
    labelled_photographs,
    manifest,
    regions,
    resources,
    sprites,
)
from training.sam_nano.photographs.collection import Collection


@pytest.fixture(autouse=True)
def one_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut all regions out of one crop: finding them takes half a second."""
    monkeypatch.setattr(sprites, "CUTOUT_CROPS", 1)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return Collection(constructed_images.write(tmp_path_factory.mktemp("images")))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_the_manifest_names_an_author_and_a_free_licence_for_every_image() -> None:
    entries = manifest.read()
    assert {entry.kind for entry in entries} == {"photograph", "texture", "drawing"}
    for entry in entries:
        assert entry.licence in {
            "CC0-1.0", "public-domain", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0",
        }  # fmt: skip
        assert entry.author
        assert "coins" not in entry.file  # what quality is measured on is never trained on
    assert len(set(entries)) == len(entries)


@pytest.mark.parametrize("licence", ["CC-BY-SA-4.0", "GPL-2+", "", "unknown"])
def test_a_manifest_with_another_licence_is_refused(tmp_path: Path, licence: str) -> None:
    file = tmp_path / "manifest.csv"
    file.write_text(f"package,file,author,licence,kind\nsome,a.jpg,A,{licence},photograph\n")
    with pytest.raises(ValueError, match=r"a\.jpg of some has licence"):
        manifest.read(file)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="images come from Debian packages")
def test_images_are_copied_out_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tmp_path / "content"
    (content / "DEBIAN").mkdir(parents=True)
    (content / "DEBIAN" / "control").write_text(
        "Package: some\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: d\n"
    )
    (content / "usr/share/images/deep").mkdir(parents=True)
    for name in ("one.jpg", "deep/two.jpg", "other.jpg"):
        (content / "usr/share/images" / name).write_bytes(name.encode())
    archive = tmp_path / "some_1_all.deb"
    subprocess.run([shutil.which("dpkg-deb"), "-b", content, archive], check=True)
    run = download._run

    def fetch(tool: str, *words: str | Path, folder: Path) -> None:
        if tool == "apt-get":
            assert words == ("download", "some")
            shutil.copy(archive, folder)
        else:
            run(tool, *words, folder=folder)

    monkeypatch.setattr(download, "_run", fetch)
    entries = [
        manifest.Entry("some", "usr/share/images/one.jpg", "A", "CC0-1.0", "photograph"),
        manifest.Entry("some", "usr/share/images/deep/*", "B", "CC0-1.0", "texture"),
    ]
    assert download.download(entries, tmp_path / "out") == 2
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.jpg")}
    assert sorted(found.values()) == [b"deep/two.jpg", b"one.jpg"]
    absent = manifest.Entry("some", "usr/share/absent.jpg", "A", "CC0-1.0", "photograph")
    with pytest.raises(FileNotFoundError, match=r"some holds no usr/share/absent\.jpg"):
        download.download([absent], tmp_path / "out")


def write_resource_file(file: Path, path: str, content: bytes) -> None:
    """Write a resource file of Qt with one member, in folders."""
    parts = ["", *path.split("/")]
    names, offsets = b"", []
    for part in parts:
        offsets.append(len(names))
        names += struct.pack(">HI", len(part), 0) + part.encode("utf-16-be")
    tree = b""
    for number, offset in enumerate(offsets):
        last = number == len(parts) - 1
        node = (offset, 0, 0, 0) if last else (offset, resources.FOLDER, 1, number + 1)
        tree += struct.pack(">iHii", *node) + bytes(8)  # the time of the last change
    header = resources.HEADER.size
    body = struct.pack(">I", len(content)) + content
    places = header, header + len(tree), header + len(tree) + len(body)
    file.write_bytes(resources.HEADER.pack(resources.MAGIC, 2, *places) + tree + body + names)


def test_images_are_taken_out_of_resource_files(tmp_path: Path) -> None:
    inside = "game/images/fishes/fish1.webp"
    write_resource_file(tmp_path / "some.rcc", inside, b"pixels")
    assert resources.members(tmp_path / "some.rcc") == {inside: b"pixels"}
    entry = manifest.Entry("some", f"some.rcc!{inside}", "A", "CC0-1.0", "photograph")
    assert download.take(entry, tmp_path, tmp_path / "out") == 1
    (taken,) = (tmp_path / "out").rglob("*.webp")
    assert taken.read_bytes() == b"pixels"
    other = manifest.Entry("some", "some.rcc!absent.webp", "A", "CC0-1.0", "photograph")
    with pytest.raises(FileNotFoundError, match="some holds no"):
        download.take(other, tmp_path, tmp_path / "out")
    (tmp_path / "bad.rcc").write_bytes(b"not one")
    with pytest.raises(ValueError, match=r"bad\.rcc is no resource file"):
        resources.members(tmp_path / "bad.rcc")


def test_without_the_tools_of_debian_the_download_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "TOOLS", ("no-such-tool",))
    with pytest.raises(SystemExit):
        download.main([str(tmp_path)])
    assert "no-such-tool not found" in capsys.readouterr().err


def test_merging_joins_alike_neighbours_first() -> None:
    image, masks = constructed_images.known_regions()
    found = hierarchy.merge(image)
    contains = found.ancestors()
    assert contains[-1].all()
    assert (found.births[found.parents] >= found.births).all()
    regions_of = contains[:, found.segments]
    for name in ("disc", "square", "bar"):
        assert max(iou(mask, masks[name]) for mask in regions_of[:-1]) > 0.9 or name == "disc"
    around = masks["disc"] & ~masks["square"]
    assert max(iou(mask, around) for mask in regions_of[:-1]) > 0.9


def test_a_single_colour_has_no_regions() -> None:
    found = regions.find(np.random.default_rng(1), np.full((64, 80, 3), 90, np.uint8))
    assert found.labels.max() == 0
    assert found.wholes.tolist() == [0]


def test_weak_labels_are_the_known_regions_and_their_nesting() -> None:
    image, masks = constructed_images.known_regions()
    found = regions.find(np.random.default_rng(1), image)
    levels = regions.levels(found)
    best = {}
    for name, mask in masks.items():
        overlaps = [
            iou((levels == number).any(axis=0), mask) for number in range(1, len(found.wholes))
        ]
        best[name] = 1 + int(np.argmax(overlaps))
        assert max(overlaps) > 0.9, name
    assert found.wholes[best["square"]] == best["disc"]
    again = regions.find(np.random.default_rng(1), image)
    np.testing.assert_array_equal(found.labels, again.labels)


def test_noise_has_fewer_regions_than_it_has_segments() -> None:
    noise = np.random.default_rng(3).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    segments = hierarchy.merge(noise).segments.max() + 1
    assert len(regions.find(np.random.default_rng(1), noise).wholes) - 1 < segments / 3


def test_ragged_patches_are_no_regions() -> None:
    disc = np.hypot(*np.mgrid[-40:40, -40:40]) < 25
    crumbs = np.random.default_rng(2).random((80, 80)) < 0.5
    assert regions._is_smooth(disc)
    assert not regions._is_smooth(disc & crumbs)


def test_regions_nest_from_the_largest_on() -> None:
    masks = np.zeros((3, 40, 40), bool)
    masks[0, 10:20, 10:20] = masks[1, 5:35, 5:35] = masks[2, 0:4, 0:4] = True
    masks[1, 25:30, 25:30] = False  # a hole: what it encloses belongs to it
    found = regions.nest(masks, (80, 80))
    assert found.labels.shape == (80, 80)
    assert found.wholes.tolist() == [0, 1, 1, 3]
    assert found.labels[55, 55] == found.labels[15, 15] == 1
    assert found.labels[30, 30] == 2
    assert found.labels[2, 2] == 3


@pytest.mark.parametrize("name", sorted(figures.FIGURES))
def test_figures_have_parts_within_reach(name: str) -> None:
    for seed in range(8):
        parts = figures.draw(np.random.default_rng(seed), name)
        again = figures.draw(np.random.default_rng(seed), name)
        assert parts
        for part, same in zip(parts, again, strict=True):
            assert part.outline.shape[1] == 2
            assert np.abs(part.outline).max() < 1.6
            np.testing.assert_array_equal(part.outline, same.outline)


@pytest.mark.parametrize("source", sprites.SOURCES)
def test_sprites_have_the_side_that_is_asked_for(collection: Collection, source: str) -> None:
    sprite = sprites.draw(np.random.default_rng(4), collection, 90.0, source)
    assert sprite.colours.shape == (*sprite.coverage.shape, 3)
    assert sprite.parts.shape == sprite.coverage.shape
    assert 80 <= max(sprite.coverage.shape) <= 100
    assert 0 <= sprite.colours.min() <= sprite.colours.max() <= 1
    assert 0.05 < sprite.inside.mean() <= 1


def test_a_pasted_object_is_labelled_where_it_is_seen(collection: Collection) -> None:
    collage = collages.Collage(np.random.default_rng(1), collection, (120, 160))
    ground = collage.colours.copy()
    coverage = np.zeros((40, 30), np.float32)
    coverage[5:35, 5:25] = 1
    red = np.zeros((40, 30, 3), np.float32)
    red[..., 0] = 1
    parts = np.where(np.arange(40)[:, None] < 20, 1, 2).astype(np.int16) * np.ones(
        (1, 30), np.int16
    )
    number = collage.paste(sprites.Sprite(red, coverage, parts), (100, 50))
    assert number == 1
    inside = np.zeros((120, 160), bool)
    inside[55:85, 105:125] = True
    np.testing.assert_array_equal(collage.labels > 0, inside)
    assert collage.wholes == [0, 1, 1, 1]
    assert collage.labels[60, 110] == 2
    assert collage.labels[80, 110] == 3
    core = np.s_[60:80, 110:120]
    assert (collage.colours[core][..., 0] > 0.95).all()
    np.testing.assert_array_equal(collage.colours[:20, :40], ground[:20, :40])
    assert collage.paste(sprites.Sprite(red, coverage, parts), (500, 50)) == 0


@pytest.mark.parametrize("kind", scene_mixture.KINDS)
def test_scenes_of_the_mixture_are_reproducible_and_have_objects(
    collection: Collection, kind: scene_mixture.MixtureKind
) -> None:
    one, two = (
        scene_mixture.generate(np.random.default_rng(6), collection, (112, 128), kind)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert one.image.shape == (112, 128, 3)
    assert one.image.dtype == np.uint8
    assert one.labels.max() < len(one.wholes)
    assert prompts.targets(one)
    assert one.ground_known or kind in {"collage", "photograph"}


def test_a_labelled_photograph_shows_the_colours_of_its_regions(collection: Collection) -> None:
    scene = labelled_photographs.generate(np.random.default_rng(2), collection, (112, 128))
    spread = scene.image.reshape(-1, 3).std(axis=0).mean()
    within = [
        scene.image[mask].std(axis=0).mean()
        for mask in (scene.labels == number for number in range(1, len(scene.wholes)))
        if mask.sum() > 200
    ]
    assert within
    assert min(within) < 0.5 * spread


def test_the_camera_keeps_size_and_order_of_brightness() -> None:
    colours = np.zeros((64, 96, 3), np.float32)
    colours[:, 48:] = 0.8
    for seed in range(12):
        image = camera.expose(np.random.default_rng(seed), colours)
        assert image.shape == (64, 96, 3)
        assert image.dtype == np.uint8
        assert image[:, 60:].mean() > image[:, :36].mean() + 30


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no photographs"):
        Collection(tmp_path)
