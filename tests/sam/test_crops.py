"""Crops and grids are where SAM's automatic mask generator looks."""

from __future__ import annotations

import pytest

from fastseg.sam.crops import crop_frames
from tests.helpers.reference_package import segment_anything


@pytest.mark.parametrize("image", [(480, 640), (303, 384), (1080, 1920), (64, 48)])
@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("overlap", [512 / 1500, 0.0, 0.5])
def test_crops_are_sams_crops_in_sams_order(image, layers, overlap):
    amg = segment_anything().utils.amg
    boxes, numbers = amg.generate_crop_boxes(image, layers, overlap)
    crops = crop_frames(image, 1024, layers=layers, overlap_ratio=overlap)
    assert [list(frame.crop_box) for _, frame in crops] == boxes
    assert [layer for layer, _ in crops] == numbers


def test_the_first_crop_is_the_whole_image():
    (layer, frame), *_ = crop_frames((30, 40), 64, layers=1, overlap_ratio=0.3)
    assert layer == 0
    assert frame.size == frame.image == (30, 40)
