"""Inputs that Python programs have at hand are taken, or refused by a typed error with a remedy."""

from __future__ import annotations

import copy
import io
import itertools
import pickle

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg.errors import (
    BackendError,
    FastsegError,
    ImageError,
    ModelNotFoundError,
    PromptError,
)
from fastseg.images import read_image

GREY = np.arange(60 * 80, dtype=np.uint8).reshape(60, 80)
POINT = [[40, 30]]


@pytest.fixture(scope="module")
def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, "png")
    return stream.getvalue()


class Upload:
    """An upload as web frameworks hand it over: it reads and seeks, and is no class of ``io``."""

    def __init__(self, content):
        self._content = io.BytesIO(content)

    def read(self, *size):
        return self._content.read(*size)

    def seek(self, *place):
        return self._content.seek(*place)


@pytest.mark.parametrize("kind", [io.BytesIO, Upload])
def test_an_open_file_is_one_image(tiny_model, png, kind):
    assert np.array_equal(read_image(kind(png)), read_image(png))
    expected = tiny_model.segment(png, points=POINT)
    assert np.array_equal(tiny_model.segment(kind(png), points=POINT).array(), expected.array())
    assert len(list(tiny_model.stream([kind(png), kind(png)], points=[POINT, POINT]))) == 2


def test_a_file_of_the_disk_is_one_image(tiny_model, png, tmp_path):
    (tmp_path / "image.png").write_bytes(png)
    with (tmp_path / "image.png").open("rb") as file:
        assert len(tiny_model.segment(file, points=POINT)) == 3


def test_files_that_give_no_bytes_are_named(png, tmp_path):
    closed = io.BytesIO(png)
    closed.close()
    for file in (io.StringIO("text"), closed, io.BytesIO(b""), io.BytesIO(b"no image")):
        with pytest.raises(ImageError, match=r"open (String|Bytes)IO"):
            read_image(file)


def test_tensors_that_need_gradients(tiny_model):
    torch = pytest.importorskip("torch", reason="its tensors are what is tried")
    box = torch.tensor([[10.0, 10, 40, 40]], requires_grad=True)
    expected = tiny_model.segment(GREY, boxes=[[10, 10, 40, 40]]).array()
    assert np.array_equal(tiny_model.segment(GREY, boxes=box).array(), expected)
    image = torch.full((60, 80, 3), 0.5, requires_grad=True)
    assert read_image(image).shape == (60, 80, 3)
    with pytest.raises(PromptError, match="boxes"):
        tiny_model.segment(GREY, boxes=[box[0]] * 2 + [None])


@pytest.mark.parametrize("endless", [itertools.repeat(POINT), itertools.cycle([POINT])])
def test_the_same_prompt_for_every_image(tiny_model, endless):
    assert len(list(tiny_model.stream([GREY, GREY], points=endless))) == 2


def test_prompts_that_are_too_many_are_still_refused(tiny_model):
    with pytest.raises(PromptError, match="more images than there are"):
        list(tiny_model.stream([GREY], points=[POINT, POINT]))


@pytest.mark.parametrize("prompts", [5, "points"])
def test_prompts_of_a_stream_that_are_no_iterable(tiny_model, prompts):
    with pytest.raises(PromptError, match="one entry for each"):
        list(tiny_model.stream([GREY], points=prompts))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_model_refuses_to_be_copied(tiny_model, copied):
    with pytest.raises(BackendError, match="Share the model between threads"):
        copied(tiny_model)


def test_a_model_is_pickled_as_its_folder_and_options(tiny_folder, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    monkeypatch.chdir(tiny_folder.parent)
    with fastseg.load(tiny_folder.name, backend="onnxruntime", max_pixels=2000) as model:
        kept = pickle.dumps(model)
        masks = model.segment(pixels, boxes=[3, 3, 20, 20])
    assert len(kept) < 1000
    monkeypatch.chdir(tmp_path)
    with pickle.loads(kept) as again:
        assert (again.runs, again.max_pixels) == (model.runs, 2000)
        found = again.segment(pixels, boxes=[3, 3, 20, 20])
    assert np.array_equal(found.array(), masks.array())


def test_results_can_be_pickled(tiny_model):
    embedding = tiny_model.embed(GREY)
    masks = tiny_model.segment(embedding, points=POINT)
    assert np.array_equal(pickle.loads(pickle.dumps(masks)).array(), masks.array())
    again = pickle.loads(pickle.dumps(tiny_model.decoder.complete(embedding)))
    assert np.array_equal(tiny_model.segment(again, points=POINT).array(), masks.array())


def test_representations_are_one_line(tiny_model):
    embedding = tiny_model.embed(GREY)
    masks = tiny_model.segment(embedding, points=POINT)
    for shown in (tiny_model, embedding, masks, masks.timings, embedding.frame):
        assert len(repr(shown)) < 400
        assert "\n" not in repr(shown)


def test_the_value_above_one_is_shown():
    above = np.full((5, 5), np.float32(1.0000001))
    with pytest.raises(ImageError, match=r"to 1\.0000001.*clip"):
        read_image(above)


LOADS = {
    "negative threads": {"threads": -1},
    "half a thread": {"threads": 1.5},
    "threads as text": {"threads": "4"},
    "no threads": {"threads": None},
    "no device": {"device": None},
    "a device that is no text": {"device": 0},
    "no backend": {"backend": None},
    "no precision": {"precision": 16},
    "pixels as text": {"max_pixels": "1"},
    "NaN pixels": {"max_pixels": float("nan")},
}


@pytest.mark.parametrize("words", LOADS.values(), ids=LOADS)
def test_load_names_what_it_cannot_use(tiny_folder, words):
    with pytest.raises(FastsegError, match=next(iter(words))):
        fastseg.load(tiny_folder, **words)


@pytest.mark.parametrize("model", [b"sam-nano", None, 5, ["sam-nano"]])
def test_a_model_is_text_or_a_path(model):
    with pytest.raises(ModelNotFoundError, match="name or the path"):
        fastseg.load(model)


@pytest.mark.parametrize(
    "crop", [(0, 0, 9), (0, 0, 9, 9, 9), "abcd", 5, (0, 0, 9, None), (0, 0, 9.5, 9), (0, 0, 1j, 9)]
)
def test_a_crop_is_four_whole_numbers(tiny_model, crop):
    with pytest.raises(ImageError, match="crop"):
        tiny_model.embed(GREY, crop=crop)


@pytest.mark.parametrize("size", [0, None, 1.5, "2"])
def test_a_batch_size_is_an_integer(tiny_model, size):
    with pytest.raises(PromptError, match="batch_size"):
        list(tiny_model.stream([GREY], points=[POINT], batch_size=size))
