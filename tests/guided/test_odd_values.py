"""Calls of networks with prompts as channels, with some 200 odd values for each argument."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

import fastseg
from fastseg.artifacts.guidance import BoxPreprocessing
from tests.helpers.odd_values import Entry, faults_of
from tests.helpers.tiny_specialist import write_tiny_specialist

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def entries(tiny_ritm, tmp_path_factory) -> Iterator[dict[str, Entry]]:
    place = tmp_path_factory.mktemp("odd")
    specialist = write_tiny_specialist(place / "specialist", BoxPreprocessing((32, 32)))
    with (
        pytest.MonkeyPatch.context() as patch,
        fastseg.load(tiny_ritm) as ritm,
        fastseg.load(specialist) as boxes,
    ):
        patch.chdir(place)  # a value may be a path, which is then written
        point, box = [[10, 10]], [4, 4, 20, 20]
        yield {
            "Ritm.embed": Entry("Ritm.embed", ritm.embed, {"image": IMAGE}),
            "Ritm.segment": Entry(
                "Ritm.segment", ritm.segment, {"image": ritm.embed(IMAGE), "points": point}
            ),
            "Ritm.stream": Entry(
                "Ritm.stream",
                ritm.stream,
                {"images": [ritm.embed(IMAGE)] * 2, "points": [point] * 2},
            ),
            "Ritm.everything": Entry(
                "Ritm.everything",
                ritm.everything,
                {"image": IMAGE, "points_per_side": 1},
                dear={"points_per_side": range(2, 10_001)},
            ),
            "Specialist.segment": Entry(
                "Specialist.segment", boxes.segment, {"image": IMAGE, "boxes": box}
            ),
            "Specialist.stream": Entry(
                "Specialist.stream", boxes.stream, {"images": [IMAGE], "boxes": [box]}
            ),
        }


@pytest.mark.parametrize(
    "name",
    [
        "Ritm.embed",
        "Ritm.segment",
        "Ritm.stream",
        "Ritm.everything",
        "Specialist.segment",
        "Specialist.stream",
    ],
)
def test_an_odd_value_gives_a_result_or_a_typed_error(entries, name):
    entry = entries[name]
    (argument, value), *_ = entry.good.items()
    entry.call(argument, value)
    assert faults_of(entry) == {}
