"""Masks from low-resolution logits, of which padding is not read."""

import numpy as np
import pytest

from fastseg.artifacts.rules import DIRECT, DIRECT_CUBIC, PROBABILITIES, OutputRules
from fastseg.geometry import Frame
from fastseg.sam.drawing import draw, drawn_extent

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize(
    "frame",
    [
        Frame((1155, 1732)),
        Frame((1732, 1155)),
        Frame((683, 1024)),
        Frame((680, 1024)),
        Frame((3, 1024)),
        Frame((1024, 1)),
        Frame((90, 120), crop=(10, 20, 100, 50)),
        Frame((90, 120), side=64),
        Frame((500, 300), stretched=True),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "rules", [OutputRules(), OutputRules(resize=DIRECT)], ids=["sam", "direct"]
)
def test_logits_outside_of_the_extent_do_not_matter(frame, rules):
    low = frame.side // 4
    logits = RANDOM.normal(size=(2, low, low)).astype(np.float32)
    rows, columns = drawn_extent(frame, rules, low)
    for outside in (np.nan, np.inf, -1e30):
        other = np.full_like(logits, outside)
        other[:, :rows, :columns] = logits[:, :rows, :columns]
        wanted, found = draw(logits, frame, rules), draw(other, frame, rules)
        assert found.runs.lists() == wanted.runs.lists()
        np.testing.assert_array_equal(found.stability, wanted.stability)


def test_a_photograph_of_two_by_three_leaves_a_third_of_the_logits():
    assert drawn_extent(Frame((1155, 1732)), OutputRules(), 256) == (173, 256)
    assert drawn_extent(Frame((1732, 1155)), OutputRules(), 256) == (256, 173)


@pytest.mark.parametrize(
    "rules", [OutputRules(resize=DIRECT_CUBIC), OutputRules(interpolate=PROBABILITIES)]
)
def test_rules_that_read_all_logits_have_no_extent(rules):
    assert drawn_extent(Frame((1155, 1732)), rules, 256) is None
