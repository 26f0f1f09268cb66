"""Every public function with some 200 odd values for each argument: a result or a typed error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fastseg
import fastseg.dicom
from fastseg import echo, measure
from fastseg.testing import tiny_sam_folder
from tests.helpers.odd_values import Entry, faults_of, odd_values

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (32, 40, 3), np.uint8)
FRAME = RANDOM.integers(0, 256, (32, 32), np.uint8)

NAMES = (
    "load", "read_image", "Frame", "Frame.to_model", "Frame.to_image", "list_models", "doctor",
    "Sam.embed", "Sam.segment", "Sam.stream", "Sam.everything",
    "Masks.__getitem__", "Masks.records", "Embedding.load", "Embedding.save",
    "EmbeddingCache", "EmbeddingCache.embed",
    "Unet.segment", "Unet.probabilities", "Unet.stream",
    "Sam.propagate", "Prototypes", "Prototypes.of_examples", "Prototypes.load", "Prototypes.save",
    "Prototypes.__call__", "Prototypes.from_embedding",
    "measure", "find", "Place", "study", "read_dicom", "imaging.read",
)  # fmt: skip


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Entry]]:
    place = tmp_path_factory.mktemp("odd")
    with (
        pytest.MonkeyPatch.context() as patch,
        fastseg.load(tiny_sam_folder(place / "tiny")) as sam,
        fastseg.load("echo-a4c") as unet,
    ):
        patch.chdir(place)  # a value may be a path, which is then written
        yield {entry.name: entry for entry in listed(place, sam, unet)}


def listed(place: Path, sam: fastseg.Sam, unet: fastseg.Unet) -> Iterator[Entry]:
    embedding = sam.embed(IMAGE)
    embedding.save(place / "saved.npz")
    masks = sam.segment(embedding, points=[10, 10])
    chambers = unet.segment(FRAME)
    at = echo.Place("a4c")
    found = echo.find(chambers, at, cm_per_pixel=0.1)
    frame = fastseg.Frame((32, 40))
    cache = fastseg.EmbeddingCache()
    yield Entry("load", fastseg.load, {"model": place / "tiny"})
    yield Entry("read_image", fastseg.read_image, {"source": IMAGE})
    yield Entry("Frame", fastseg.Frame, {"image": (32, 40)})
    yield Entry("Frame.to_model", frame.to_model, {})
    yield Entry("Frame.to_image", frame.to_image, {})
    yield Entry("list_models", fastseg.list_models, {})
    yield Entry("doctor", fastseg.doctor, {})
    yield Entry("Sam.embed", sam.embed, {"image": IMAGE})
    yield Entry("Sam.segment", sam.segment, {"image": embedding, "points": [10, 10]})
    several = {"images": [embedding] * 2, "points": [[10, 10]] * 2}
    yield Entry("Sam.stream", sam.stream, several)
    grid = {"image": IMAGE, "points_per_side": 2}
    dear = {"points_per_side": range(16, 10_001)}
    yield Entry("Sam.everything", sam.everything, grid, dear=dear)
    yield Entry("Masks.__getitem__", masks.__getitem__, {}, other_errors=(IndexError,))
    yield Entry("Masks.records", masks.records, {})
    yield Entry("Embedding.load", fastseg.Embedding.load, {"path": place / "saved.npz"})
    yield Entry("Embedding.save", embedding.save, {})
    yield Entry("EmbeddingCache", fastseg.EmbeddingCache, {})
    yield Entry("EmbeddingCache.embed", cache.embed, {"model": sam, "image": IMAGE})
    yield Entry("Unet.segment", unet.segment, {"frames": FRAME})
    yield Entry("Unet.probabilities", unet.probabilities, {"frames": FRAME})
    yield Entry("Unet.stream", unet.stream, {"frames": [FRAME]})
    volume = np.repeat(IMAGE[None, ..., 0], 2, axis=0)
    prompted = {"volume": volume, "boxes": [[4, 4, 20, 20]]}
    yield Entry("Sam.propagate", sam.propagate, prompted)
    labelled = sam.segment(IMAGE, boxes=[4, 4, 20, 20], names=["a"]).best()
    kinds = fastseg.Prototypes
    known = kinds.of_examples(sam, [(IMAGE, labelled)])
    known.save(place / "known.npz")
    made = {"sam": sam, "names": known.names, "vectors": known.vectors}
    yield Entry("Prototypes", kinds, made)
    yield Entry(
        "Prototypes.of_examples", kinds.of_examples, {"sam": sam, "examples": [(IMAGE, labelled)]}
    )
    yield Entry("Prototypes.load", kinds.load, {"path": place / "known.npz", "sam": sam})
    yield Entry("Prototypes.save", known.save, {})
    yield Entry("Prototypes.__call__", known, {"image": IMAGE, "masks": labelled})
    whole = {"embedding": embedding, "masks": labelled}
    yield Entry("Prototypes.from_embedding", known.from_embedding, whole)
    yield Entry("measure", measure.measure, {"masks": chambers, "cm_per_pixel": 0.1})
    yield Entry("find", echo.find, {"masks": chambers, "place": at, "cm_per_pixel": 0.1})
    yield Entry("Place", echo.Place, {"view": "a4c"})
    yield Entry("study", echo.study, {"findings": found})
    yield Entry("imaging.read", fastseg.imaging.read, {"source": IMAGE})
    yield Entry("read_dicom", fastseg.dicom.read_dicom, {"path": place / "no.dcm"})


def test_the_good_arguments_are_good(entries):
    for entry in entries.values():
        if entry.good and entry.name != "read_dicom":
            (argument, value), *_ = entry.good.items()
            entry.call(argument, value)


def test_there_are_some_two_hundred_values():
    assert 200 <= len(list(odd_values())) <= 300


SLOW = ("Unet.segment", "Unet.probabilities", "Unet.stream")
"""Functions that run a network of its full size for each value that they take."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NAMES]
)
def test_an_odd_value_gives_a_result_or_a_typed_error(entries, name):
    entry = entries[name]
    assert faults_of(entry) == {}


def test_every_public_callable_is_listed(entries):
    public = {
        name
        for name in fastseg.__all__
        if not (isinstance(found := getattr(fastseg, name), type) and issubclass(found, Exception))
    }
    made = {name.split(".")[0] for name in NAMES}
    # tests/cohort/test_odd_values.py, tests/guided/test_odd_values.py
    others = {"cohort", "Ritm", "Specialist"}
    assert public - made - others == {"Timings", "__version__", "calibrate"}
