"""The arithmetic of the graphs does not grow unseen: counted, not timed."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="arithmetic is counted from torch modules")

from benchmarks.arithmetic import sam_gmac


@pytest.mark.parametrize(("kind", "encoder"), [("sam-nano", 17.9), ("vit_b", 471), ("vit_h", 2834)])
def test_a_prompt_costs_half_of_what_the_plain_decoder_does(kind, encoder):
    """The plain decoder takes 1.811 thousand million multiplications a prompt, 1855 a grid."""
    counted = sam_gmac(kind)
    assert 0 < counted["decoder"] <= 0.55
    assert 0 < counted["mask_head"] <= 0.42
    assert 0 < counted["image_state"] <= 0.41
    assert 0.98 * encoder < counted["encoder"] <= encoder
