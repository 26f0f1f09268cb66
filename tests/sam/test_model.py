"""One image, many prompts: what ``segment``, ``embed`` and ``stream`` promise."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

import fastseg
from fastseg import ops
from fastseg.environment import usable_cores
from fastseg.errors import BackendError, EmbeddingError, ImageError, PromptError
from fastseg.testing import tiny_sam_folder
from tests.helpers.fresh_interpreter import loaded_by

POINTS = np.array([[[20.0, 20.0]], [[60.0, 40.0]], [[100.0, 70.0]]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder) -> Iterator[fastseg.Sam]:
    with fastseg.load(folder) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def same(a: fastseg.Masks, b: fastseg.Masks) -> bool:
    return (
        np.array_equal(a.array(), b.array())
        and np.allclose(a.scores, b.scores)
        and np.array_equal(a.prompt, b.prompt)
    )


@pytest.mark.parametrize(("asked", "used"), [(0, usable_cores()), (1, 1), (1000, usable_cores())])
def test_no_kernel_gets_more_threads_than_there_are_cores(folder, image, monkeypatch, asked, used):
    given = []
    binarise = ops.binarise

    def watched(*arguments, threads, **others):
        given.append(threads)
        return binarise(*arguments, threads=threads, **others)

    monkeypatch.setattr(ops, "binarise", watched)
    with fastseg.load(folder, threads=asked) as model:
        model.segment(image, points=POINTS)
        model.everything(image, points_per_side=2, pred_iou_thresh=-1.0)
    assert len(given) > 1
    assert set(given) == {used}


def test_an_embedding_answers_as_its_image_does(model, image):
    embedding = model.embed(image)
    assert same(model.segment(embedding, points=POINTS), model.segment(image, points=POINTS))


def test_a_saved_embedding_answers_as_before(model, image, tmp_path):
    embedding = model.embed(image)
    embedding.save(tmp_path / "image.npz")
    loaded = fastseg.Embedding.load(tmp_path / "image.npz")
    assert same(model.segment(loaded, points=POINTS), model.segment(embedding, points=POINTS))


def test_a_prompt_gives_three_masks_or_one(model, image):
    several = model.segment(image, points=POINTS)
    single = model.segment(image, points=POINTS, multimask=False)
    np.testing.assert_array_equal(several.prompt, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(single.prompt, [0, 1, 2])
    assert several.logits is not None
    assert several.logits.shape == (9, model.mask_side, model.mask_side)


def test_a_mask_contains_its_point_and_fills_its_box(model, image):
    masks = model.segment(image, points=POINTS).best().array()
    for mask, ((x, y),) in zip(masks, POINTS.astype(int), strict=True):
        assert mask[y, x]
    boxed = model.segment(image, boxes=[[30, 20, 90, 60]]).best()
    assert np.abs(boxed.boxes[0] - [30, 20, 90, 60]).max() <= 8


def test_prompts_in_one_call_answer_as_they_do_alone(model, image):
    embedding = model.embed(image)
    ragged = [[[20, 20]], [[60, 40], [64, 44]], [[100, 70]], [[10, 80], [12, 82], [14, 84]]]
    together = model.segment(embedding, points=ragged)
    for index, points in enumerate(ragged):
        alone = model.segment(embedding, points=[points])
        ours = together[together.prompt == index]
        np.testing.assert_array_equal(ours.array(), alone.array())
        np.testing.assert_allclose(ours.scores, alone.scores, rtol=1e-5)


def test_no_prompts_give_no_masks(model, image):
    masks = model.segment(image, boxes=np.zeros((0, 4)))
    assert len(masks) == 0
    assert masks.array().shape == (0, 96, 128)
    assert masks.coco() == masks.rle() == masks.records() == masks.polygons() == []
    assert len(masks.best()) == 0


def test_thousands_of_prompts_are_one_call(model, image):
    points = np.random.default_rng(1).uniform([0, 0], [128, 96], (4096, 1, 2))
    masks = model.segment(image, points=points, multimask=False)
    assert len(masks) == 4096
    np.testing.assert_array_equal(masks.prompt, np.arange(4096))


def test_logits_go_back_in_as_a_mask_prompt(model, image):
    embedding = model.embed(image)
    first = model.segment(embedding, points=POINTS).best()
    refined = model.segment(embedding, points=POINTS, mask_logits=first.logits, multimask=False)
    assert len(refined) == 3
    alone = model.segment(embedding, mask_logits=first.logits, multimask=False)
    assert len(alone) == 3


def test_timings_say_what_ran_and_how_long(model, image):
    timings = model.segment(image, points=POINTS).timings
    assert (timings.backend, timings.device, timings.precision) == ("onnxruntime", "cpu", "fp32")
    assert timings.n_masks == 9
    assert min(timings.preprocess, timings.encode, timings.decode, timings.postprocess) > 0
    assert timings.per_mask_ms == pytest.approx(timings.total / 9)
    again = model.segment(model.embed(image), points=POINTS).timings
    assert again.preprocess == again.encode == 0


def test_many_images_give_a_list_in_order(model, image):
    several = [image, image[:48], image[:, :64]]
    boxes = [[10, 10, 40, 40]] * 3
    for stack in (several, iter(several)):
        results = model.segment(stack, boxes=boxes)
        assert [result.size for result in results] == [(96, 128), (48, 128), (96, 64)]
    stacked = model.segment(np.stack([image] * 2), boxes=boxes[:2])
    assert [result.size for result in stacked] == [(96, 128)] * 2


def test_a_stream_reads_only_a_few_images_ahead(model, image):
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield image

    def boxes() -> Iterator[list[int]]:
        while True:
            yield [10, 10, 40, 40]

    stream = model.stream(endless(), boxes=boxes(), batch_size=3)
    for done in range(1, 6):
        next(stream)
        assert taken <= done + 2
    stream.close()


def test_a_stream_wants_equally_many_images_and_prompts(model, image):
    with pytest.raises(PromptError, match="there are more images"):
        list(model.stream([image, image], boxes=[[10, 10, 40, 40]]))
    with pytest.raises(PromptError, match="more images than there are"):
        list(model.stream([image], boxes=[[10, 10, 40, 40]] * 2))


def test_a_crop_is_encoded_alone_in_the_images_coordinates(model, image):
    embedding = model.embed(image, crop=(32, 24, 96, 72))
    masks = model.segment(embedding, points=[[60, 40]])
    assert masks.size == (96, 128)
    array = masks.array()
    assert array[:, 40, 60].any()
    outside = np.ones((96, 128), bool)
    outside[24:72, 32:96] = False
    assert not array[:, outside].any()


@pytest.mark.parametrize("crop", [(0, 0, 129, 10), (-1, 0, 10, 10), (5, 5, 5, 10)])
def test_a_crop_outside_the_image_is_refused(model, image, crop):
    with pytest.raises(ImageError, match="inside the image"):
        model.embed(image, crop=crop)


def test_a_failed_call_leaves_the_model_usable(model, image):
    expected = model.segment(image, points=POINTS)
    with pytest.raises(PromptError):
        model.segment(image, points=[[500, 500]])
    with pytest.raises(ImageError):
        model.segment(b"no image", points=POINTS)
    assert same(model.segment(image, points=POINTS), expected)


def test_an_embedding_of_another_model_is_refused(model, image, tmp_path):
    embedding = model.embed(image)
    stranger = fastseg.Embedding(
        features=embedding.features,
        frame=embedding.frame,
        model="0" * 64,
        state=None,
        timings=embedding.timings,
    )
    with pytest.raises(EmbeddingError):
        model.segment(stranger, points=POINTS)


def test_an_image_over_the_pixel_limit_is_refused(folder, image):
    with fastseg.load(folder, max_pixels=1000) as small, pytest.raises(ImageError, match="max_pix"):
        small.embed(image)
    with fastseg.load(folder, max_pixels=None) as any_size:
        any_size.embed(image)


def test_a_closed_model_says_so(folder, image):
    model = fastseg.load(folder)
    embedding = model.embed(image)
    model.close()
    with pytest.raises(BackendError, match="closed"):
        model.segment(embedding, points=POINTS)


def test_several_threads_share_a_model(model, image):
    expected = model.segment(image, points=POINTS)
    wrong: list[int] = []

    def work(index: int) -> None:
        if not same(model.segment(image, points=POINTS), expected):
            wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_model_names_itself_and_what_it_runs_on(model):
    about = f"{model.manifest.name} on {model.backend} cpu fp32"
    assert repr(model) == f"<Sam: {about}>"
    assert model.provenance()["runs"] == dict(model.runs)


def test_a_model_on_the_cpu_loads_nothing_for_gpus(folder):
    call = (
        "import fastseg, numpy\n"
        f"with fastseg.load({str(folder)!r}, device='cpu', backend='onnxruntime') as model:\n"
        "    model.everything(numpy.zeros((32, 32, 3), numpy.uint8), points_per_side=2)\n"
    )
    for_gpus = ("fastseg.sam.gpu", "fastseg.cuda.arrays", "fastseg.cuda.device", "pycuda")
    assert loaded_by(call, for_gpus) == []
