"""The arithmetic of the graphs does not grow unseen: counted, not timed."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="arithmetic is counted from torch modules")

from benchmarks.arithmetic import gmac, sam_gmac, sam_sources
from fastseg.benchmarking import arithmetic


@pytest.mark.parametrize(("kind", "encoder"), [("sam-nano", 17.9), ("vit_b", 471), ("vit_h", 2834)])
def test_a_prompt_costs_half_of_what_the_plain_decoder_does(kind, encoder):
    """The plain decoder takes 1.811 thousand million multiplications a prompt, 1855 a grid."""
    counted = sam_gmac(kind)
    assert 0 < counted["decoder"] <= 0.55
    assert 0 < counted["mask_head"] <= 0.42
    assert 0 < counted["image_state"] <= 0.41
    assert 0.98 * encoder < counted["encoder"] <= encoder


@pytest.mark.parametrize("kind", arithmetic.ENCODER_GMAC)
def test_the_counts_of_the_command_are_those_of_the_modules(kind):
    counted = sam_gmac(kind)
    known = (arithmetic.ENCODER_GMAC[kind], arithmetic.IMAGE_STATE_GMAC)
    assert known == pytest.approx((counted["encoder"], counted["image_state"]), rel=5e-3)


def test_a_point_is_counted_with_its_padding_and_masks():
    decoder = next(one for one in sam_sources("sam-nano") if one.graph.name == "decoder")
    coords, labels, *shared = decoder.inputs
    two = replace(decoder, inputs=(coords[:, :2], labels[:, :2], *shared))
    point = gmac(two) / len(coords) + sam_gmac("sam-nano")["mask_head"]
    assert point == pytest.approx(arithmetic.POINT_GMAC, rel=5e-3)
