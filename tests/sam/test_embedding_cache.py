"""An image that was seen before is not encoded again, and never mistaken for another."""

from __future__ import annotations

import errno
import json
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg.errors import EmbeddingError, ImageError, ModelFolderError
from fastseg.sam.embedding import Embedding
from fastseg.sam.embedding_cache import EmbeddingCache
from fastseg.testing import tiny_sam_folder, tiny_unet_folder
from fastseg.timings import Timings
from tests.helpers.processes import running

pytest.importorskip("onnx", reason="graphs are written with onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def model(folder) -> Iterator[fastseg.Sam]:
    with fastseg.load(folder) as loaded:
        yield loaded


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def size_of_one(model: fastseg.Sam) -> int:
    cache = EmbeddingCache()
    cache.embed(model, image())
    return cache.statistics.memory_bytes


@pytest.fixture
def places(tmp_path) -> Path:
    return tmp_path / "embeddings"


def kept_in(places: Path) -> list[Path]:
    return sorted(places.glob("*.npz"))


# Found again.


def test_an_image_is_encoded_once(model):
    cache = fastseg.EmbeddingCache()
    first, second = cache.embed(model, image()), cache.embed(model, image())
    assert cache.statistics[:2] == (1, 1)
    np.testing.assert_array_equal(first.features, second.features)
    np.testing.assert_array_equal(first.features, model.embed(image()).features)


def test_it_answers_as_the_image_does(model, places):
    expected = model.segment(image(), points=[60, 40])
    for cache in (EmbeddingCache(places), EmbeddingCache(places)):
        for _ in range(2):
            masks = model.segment(cache.embed(model, image()), points=[60, 40])
            np.testing.assert_array_equal(masks.array(), expected.array())
    assert cache.statistics[:2] == (2, 0)


def test_a_file_its_bytes_and_its_pixels_are_one_image(model, tmp_path):
    Image.fromarray(image()).save(tmp_path / "image.png")
    Image.fromarray(image()).save(tmp_path / "image.bmp")
    cache = EmbeddingCache()
    for source in (
        image(),
        tmp_path / "image.png",
        str(tmp_path / "image.bmp"),
        (tmp_path / "image.png").read_bytes(),
        Image.fromarray(image()),
        np.asfortranarray(image()),
    ):
        cache.embed(model, source)
    cache.embed(model, image()[..., ::-1], channels="bgr")
    assert cache.statistics[:2] == (6, 1)


def test_another_image_crop_or_shape_is_another(model):
    cache = EmbeddingCache()
    altered = image()
    altered[0, 0, 0] ^= 1
    for source in (image(), altered, image().reshape(128, 96, 3)):
        cache.embed(model, source)
    for crop in ((0, 0, 64, 48), (0, 0, 64, 49)):
        cache.embed(model, image(), crop=crop)
    assert cache.statistics[:2] == (0, 5)
    found = cache.embed(model, image(), crop=tuple(np.array([0, 0, 64, 48])))
    assert found.frame.crop == (0, 0, 64, 48)
    assert cache.statistics[:2] == (1, 5)


def test_another_model_never_finds_it(model, places, tmp_path):
    other = tiny_sam_folder(tmp_path / "other")
    manifest = json.loads((other / "model.json").read_text())
    manifest["preprocessing"]["mean"] = [0.0, 0.0, 0.0]
    (other / "model.json").write_text(json.dumps(manifest))
    cache = EmbeddingCache(places)
    cache.embed(model, image())
    with fastseg.load(other) as prepared_otherwise:
        found = cache.embed(prepared_otherwise, image())
        np.testing.assert_array_equal(found.features, prepared_otherwise.embed(image()).features)
    assert cache.statistics[:2] == (0, 2)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("encoder_sha256", "other"),
        ("runs", {"encoder": "openvino:cpu fp32", "image_state": "onnxruntime:cpu fp32"}),
        ("runs", {"encoder": "onnxruntime:cpu fp16", "image_state": "onnxruntime:cpu fp32"}),
        ("runs", {"encoder": "onnxruntime:cpu fp32", "image_state": "openvino:cpu fp32"}),
    ],
)
def test_another_encoder_runtime_or_precision_never_finds_it(folder, places, attribute, value):
    cache = EmbeddingCache(places)
    with fastseg.load(folder) as model:
        cache.embed(model, image())
        # A property of the class gives way to one of a subclass, an attribute to a new value.
        model.__class__ = type("Other", (type(model),), {attribute: value})
        vars(model).pop(attribute, None)
        cache.embed(model, image())
    assert cache.statistics[:2] == (0, 2)


def test_timings_tell_what_was_spent(model, places):
    cache = EmbeddingCache(places)
    assert cache.embed(model, image()).timings.encode > 0
    assert cache.embed(model, image()).timings == Timings()
    assert EmbeddingCache(places).embed(model, image()).timings == Timings()


def test_nobody_can_change_what_others_get(model, places):
    cache = EmbeddingCache(places)
    embedding = cache.embed(model, image())
    again = EmbeddingCache(places).embed(model, image())
    for array in (embedding.features, again.features, *again.state.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


# Room.


def test_memory_forgets_what_was_not_used_for_longest(model):
    one = size_of_one(model)
    cache = EmbeddingCache(max_bytes=2 * one)
    for seed in (0, 1, 0, 2, 0, 1):
        cache.embed(model, image(seed))
    # Of 0, 1, 0 2 1: the second 1 had to make room for 2 and is made again.
    assert cache.statistics == (2, 4, 2 * one, 0)


def test_the_folder_forgets_what_was_not_used_for_longest(model, places):
    EmbeddingCache(places).embed(model, image())
    (one,) = kept_in(places)
    limit = 2 * one.stat().st_size + 1000
    for seed in (1, 0, 2):
        EmbeddingCache(places, max_bytes=limit).embed(model, image(seed))
    cache = EmbeddingCache(places, max_bytes=limit)
    assert cache.statistics.folder_bytes <= limit
    for seed in (0, 2):
        cache.embed(model, image(seed))
    assert cache.statistics[:2] == (2, 0)
    cache.embed(model, image(1))
    assert cache.statistics[:2] == (2, 1)


def test_without_room_everything_is_made_and_nothing_kept(model, places):
    cache = EmbeddingCache(places, max_bytes=0)
    for _ in range(2):
        cache.embed(model, image())
    assert cache.statistics == (0, 2, 0, 0)
    with pytest.raises(EmbeddingError, match="max_bytes"):
        EmbeddingCache(max_bytes=-1)


def test_what_is_cleared_is_made_again(model, places):
    cache = EmbeddingCache(places)
    cache.embed(model, image())
    cache.clear()
    assert cache.statistics == (0, 1, 0, 0)
    cache.embed(model, image())
    assert cache.statistics[:2] == (0, 2)


# Whatever happens to the folder.


@pytest.mark.parametrize("keep", [0, 10, 3000, -1])
def test_a_damaged_file_is_made_again(model, places, keep):
    expected = EmbeddingCache(places).embed(model, image())
    (kept,) = kept_in(places)
    kept.write_bytes(kept.read_bytes()[:keep])
    cache = EmbeddingCache(places)
    np.testing.assert_array_equal(cache.embed(model, image()).features, expected.features)
    assert cache.statistics[:2] == (0, 1)
    assert EmbeddingCache(places).embed(model, image()).state is not None
    assert kept_in(places) == [kept]


def test_the_file_of_another_model_under_this_name_is_dropped(model, places):
    made = EmbeddingCache(places).embed(model, image())
    (kept,) = kept_in(places)
    Embedding(made.features, made.frame, "0" * 64).save(kept)
    cache = EmbeddingCache(places)
    assert cache.embed(model, image()).model == model.encoder_sha256
    assert cache.statistics[:2] == (0, 1)


def test_a_folder_that_cannot_be_written_is_warned_of_once(model, tmp_path):
    (tmp_path / "file").write_text("")
    cache = EmbeddingCache(tmp_path / "file" / "embeddings")
    with pytest.warns(RuntimeWarning, match="memory alone") as warned:
        cache.embed(model, image())
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.embed(model, image(1))
        cache.embed(model, image())
    assert cache.statistics[:2] == (1, 2)


def test_a_full_disk_does_not_end_a_cohort(model, places, monkeypatch):
    cache = EmbeddingCache(places)
    cache.embed(model, image(0))

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        cache.embed(model, image(1))
    for seed in range(4):
        cache.embed(model, image(seed))
    assert cache.statistics[:2] == (2, 4)
    assert len(list(places.iterdir())) == 1


def test_bad_input_is_refused_and_not_counted(model, tmp_path):
    cache = EmbeddingCache()
    with pytest.raises(ImageError):
        cache.embed(model, np.zeros((0, 5, 3), np.uint8))
    with pytest.raises(ImageError, match="crop"):
        cache.embed(model, image(), crop=(0, 0, 1000, 1000))
    with (
        fastseg.load(tiny_unet_folder(tmp_path / "unet")) as unet,
        pytest.raises(ModelFolderError, match="takes no prompts"),
    ):
        cache.embed(unet, image())


# Together.


def test_eight_threads_share_one_cache(model, places):
    cache = EmbeddingCache(places)
    expected = [model.embed(image(seed)).features for seed in range(4)]
    wrong: list[int] = []

    def work() -> None:
        found = [cache.embed(model, image(seed)).features for seed in range(4)]
        wrong.extend(seed for seed in range(4) if not np.array_equal(found[seed], expected[seed]))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    hits, misses, memory_bytes, _ = cache.statistics
    assert hits + misses == 32
    assert memory_bytes == 4 * size_of_one(model)


WORK = """
import sys, numpy
import fastseg
folder, places, limit = sys.argv[1:]
model = fastseg.load(folder, threads=1)
for turn in range(3):
    cache = fastseg.EmbeddingCache(places, max_bytes=int(limit))
    for seed in range(6):
        image = numpy.random.default_rng(seed).integers(0, 256, (96, 128, 3), dtype=numpy.uint8)
        found = cache.embed(model, image).features
        assert (found == model.embed(image).features).all()
"""


def test_eight_processes_share_a_folder(model, folder, places):
    EmbeddingCache(places).embed(model, image())
    limit = 4 * kept_in(places)[0].stat().st_size
    command = [sys.executable, "-W", "error", "-c", WORK, str(folder), str(places), str(limit)]
    with ExitStack() as stack:
        workers = [stack.enter_context(running(command)) for _ in range(8)]
        failures = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 8, failures
    cache = EmbeddingCache(places, max_bytes=limit)
    cache.embed(model, image(99))
    assert 0 < cache.statistics.folder_bytes <= limit
    assert all(path in kept_in(places) for path in places.iterdir())
