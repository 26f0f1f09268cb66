"""Frames without prompts: every chamber under its name, the same alone and in a stack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg import artifacts
from fastseg.benchmarking.peak_memory import peak_memory
from fastseg.echo.unet import Unet
from fastseg.errors import ImageError, MaskError, ModelFolderError, PromptError
from fastseg.inference.sessions import Choice
from fastseg.loading import load_sam, load_unet
from fastseg.testing import BRIGHTNESS, UNET_SIDE, tiny_sam_folder, tiny_unet_folder

SIDE = UNET_SIDE
LV, LA = (slice(8, 40), slice(20, 44)), (slice(44, 60), slice(22, 42))


def frame(size: int = SIDE, *, dtype: type = np.uint8) -> np.ndarray:
    """A black frame with a white corner, a bright ventricle and a grey atrium."""
    drawn = np.zeros((SIDE, SIDE))
    drawn[0, 0] = 1.0
    drawn[LV], drawn[LA] = BRIGHTNESS["LV"], BRIGHTNESS["LA"]
    grown = np.kron(drawn, np.ones((size // SIDE, size // SIDE)))
    return np.rint(grown * 255).astype(np.uint8) if dtype == np.uint8 else grown.astype(dtype)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_unet_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder):
    with fastseg.load(folder) as model:
        yield model


def expected(part: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[part] = True
    return mask


def test_a_frame_gives_every_chamber_under_its_name(model):
    masks = model.segment(frame())
    assert masks.names == model.chambers == ("LA", "LV")
    np.testing.assert_array_equal(masks.array(), [expected(LA), expected(LV)])
    np.testing.assert_array_equal(masks["LV"].array()[0], expected(LV))
    assert masks["LV"].names == ("LV",)
    assert masks.areas.tolist() == [16 * 20, 32 * 24]
    assert masks.boxes.tolist() == [[22, 44, 41, 59], [20, 8, 43, 39]]
    assert (masks.scores > 0.9).all()
    # The white corner is no ventricle, but nearly: it counts at the lower threshold alone.
    np.testing.assert_allclose(masks.stability, [1, 768 / 769], rtol=1e-6)
    assert len(masks.best()) == 2
    with pytest.raises(MaskError, match="no mask 'RV' here: LA, LV"):
        masks["RV"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_point_frames_give_the_same_masks(model, dtype):
    np.testing.assert_array_equal(
        model.segment(frame(dtype=dtype)).array(), model.segment(frame()).array()
    )


def test_colour_grey_files_and_images_give_the_same_masks(model, tmp_path):
    wanted = model.segment(frame()).array()
    colour = np.repeat(frame()[..., None], 3, axis=2)
    Image.fromarray(frame()).save(tmp_path / "frame.png")
    neutral = np.dstack([frame(), *[np.full((SIDE, SIDE), 128, np.uint8)] * 2])
    for source in (colour, tmp_path / "frame.png", Image.fromarray(colour)):
        np.testing.assert_array_equal(model.segment(source).array(), wanted)
    np.testing.assert_array_equal(model.segment(neutral, channels="ycbcr").array(), wanted)


def test_masks_come_back_in_the_frame_s_own_pixels(model):
    wide = np.pad(frame(4 * SIDE), ((0, 0), (64, 64)))[32:-32]
    wide[:24, :24] = 255  # for the corner that was cut away: the range stays what it was
    masks = model.segment(wide)
    assert masks.size == (4 * SIDE - 64, 4 * SIDE + 128)
    ventricle = masks["LV"].array()[0]
    rows, columns = np.nonzero(ventricle)
    # The frame is seen at 6 pixels to one of the square: its outline is known to about that.
    np.testing.assert_allclose((rows.min(), rows.max() + 1), (8 * 4 - 32, 40 * 4 - 32), atol=6)
    np.testing.assert_allclose((columns.min(), columns.max() + 1), (144, 240), atol=6)


def test_a_spacing_moves_the_window_and_not_the_masks(model):
    frame_of_40_cm = np.pad(frame(4 * SIDE), 2 * SIDE)
    seen = model.segment(frame_of_40_cm, cm_per_pixel=20 / (4 * SIDE))
    alone = model.segment(frame(4 * SIDE))
    inner = np.s_[:, 2 * SIDE : -2 * SIDE, 2 * SIDE : -2 * SIDE]
    np.testing.assert_array_equal(seen.array()[inner], alone.array())
    assert seen.areas.tolist() == alone.areas.tolist()


def test_a_stack_gives_what_its_frames_give_alone_and_in_order(model):
    frames = np.stack([np.roll(frame(), shift, axis=1) for shift in range(11)])
    alone = [model.segment(one).array() for one in frames]
    for many in (frames, list(frames), iter(frames), frames[..., None].repeat(3, axis=3)):
        found = model.segment(many)
        assert isinstance(found, list)
        np.testing.assert_array_equal([masks.array() for masks in found], alone)
    streamed = [masks.array() for masks in model.stream(frames, batch_size=3)]
    np.testing.assert_array_equal(streamed, alone)
    assert model.segment([]) == []


def test_an_endless_clip_is_read_two_batches_ahead_at_most(model):
    taken = []

    def clip():
        while True:
            taken.append(1)
            yield frame()

    stream = model.stream(clip(), batch_size=4)
    for _ in range(5):
        next(stream)
    stream.close()
    assert len(taken) <= 12


def test_a_thousand_frames_take_the_memory_of_a_few(model):
    large = frame(8 * SIDE)  # a quarter of a megabyte
    with peak_memory() as memory:
        count = sum(len(masks) for masks in model.stream(large.copy() for _ in range(1000)))
    assert count == 2000
    if memory.above is None:
        pytest.skip("the system does not tell how much memory was used")
    assert memory.above < 100 * 2**20


def test_frames_before_a_bad_one_are_answered_first(model):
    stream = model.stream([frame(), frame(), np.full((4, 4), np.nan), frame()])
    assert [len(next(stream)) for _ in range(2)] == [2, 2]
    with pytest.raises(ImageError):
        next(stream)
    np.testing.assert_array_equal(model.segment(frame())["LV"].array()[0], expected(LV))


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_constant_frame_has_no_chambers_and_no_warning(model, value, recwarn):
    masks = model.segment(np.full((SIDE, SIDE, 3), value, np.uint8), channels="ycbcr")
    assert masks.areas.tolist() == [0, 0]
    assert masks.scores.tolist() == [0, 0]
    assert masks.array().any() == False  # noqa: E712 - the array's own answer
    assert not recwarn.list


def test_probabilities_are_what_the_network_drew(model):
    one = model.probabilities(frame())
    assert one.shape == (3, SIDE, SIDE)
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one[1:] > 0.5, model.segment(frame()).array())
    many = model.probabilities([frame()] * 10)
    np.testing.assert_array_equal(many, np.broadcast_to(one, many.shape))
    assert model.probabilities([]).shape == (0, 3, SIDE, SIDE)
    with pytest.raises(ImageError):
        model.probabilities([frame(), np.zeros((0, 4), np.uint8)])


def test_timings_are_a_frame_s_share_and_say_what_ran(model):
    timings = model.segment([frame()] * 4)[0].timings
    assert (timings.backend, timings.device, timings.precision) == ("onnxruntime", "cpu", "fp32")
    assert timings.n_masks == 2
    assert timings.encode > 0
    assert timings.decode == 0
    assert timings.per_mask_ms == timings.total / 2


def test_calls_that_make_no_sense_are_refused(model):
    with pytest.raises(PromptError, match="batch_size"):
        list(model.stream([frame()], batch_size=0))
    with pytest.raises(ImageError, match="channels"):
        model.segment(frame(), channels="yuv")
    with pytest.raises(ImageError, match="cm_per_pixel"):
        model.segment(frame(), cm_per_pixel=-1)
    with pytest.raises(ImageError):
        list(model.stream(frame()))


def test_each_family_is_loaded_as_what_it_is(model, folder, tmp_path):
    sam = tiny_sam_folder(tmp_path / "sam")
    assert isinstance(model, Unet)
    assert isinstance(fastseg.load(sam), fastseg.Sam)
    with pytest.raises(ModelFolderError, match="without prompts"):
        load_sam(folder, Choice())
    with pytest.raises(ModelFolderError, match="takes prompts"):
        load_unet(sam, Choice())
    assert load_unet(folder, Choice()).view == "a2c"


def test_a_folder_with_more_classes_than_outputs_is_refused(folder, tmp_path):
    copy = tiny_unet_folder(tmp_path / "copy")
    manifest = json.loads((copy / artifacts.MANIFEST_FILE).read_text())
    manifest["extra"]["classes"].append("RV")
    (copy / artifacts.MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(ModelFolderError, match="names 4 classes and its network draws 3"):
        fastseg.load(copy)


def test_the_wall_is_the_disc_without_the_cavity():
    phantoms = pytest.importorskip("training.echo.phantom", reason="phantoms are in training/")
    phantom = phantoms.generate(np.random.default_rng(4), "sax")
    with fastseg.load("echo-sax") as sax:
        masks = sax.segment(phantom.frame[0])
    cavity, ring, disc = masks.array()
    assert masks.names == ("cavity", "ring", "disc")
    assert ring.any()
    np.testing.assert_array_equal(ring, disc & ~cavity)


def stored() -> np.ndarray:
    """The frame as DICOM stores it, with chroma near its middle."""
    luma = frame()
    chroma = np.full_like(luma, 131)
    return np.stack([luma, np.full_like(luma, 128), chroma], axis=2)


def test_luma_and_chroma_are_not_taken_for_colours(model):
    wanted = model.segment(stored(), channels="ycbcr").array()
    calls = (
        model.segment,
        model.probabilities,
        lambda one: model.segment([one, one]),
        lambda one: next(model.stream(iter([one]))),
        lambda one: model.probabilities([one]),
    )
    for call in calls:
        with pytest.raises(ImageError, match=r'luma and chroma.*channels="ycbcr"'):
            call(stored())
    np.testing.assert_array_equal(wanted, model.segment(frame()).array())
    assert len(model.segment(stored(), channels="rgb")) == 2


def test_a_model_names_itself_and_what_it_runs_on(model):
    about = f"{model.manifest.name} on {model.backend} cpu fp32"
    assert repr(model) == f"<Unet: {about}>"
