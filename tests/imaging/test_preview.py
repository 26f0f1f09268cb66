"""Images by which masks, embeddings and models show themselves in notebooks."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import fastseg
from fastseg.imaging import preview
from fastseg.imaging.palette import colours
from fastseg.masks import Masks
from fastseg.ops import rle_from_array
from fastseg.testing import tiny_sam_folder


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def masks_of(layers: np.ndarray) -> Masks:
    ones = np.ones(len(layers), np.float32)
    return Masks.from_rle(rle_from_array(layers), scores=ones, stability=ones)


def test_a_small_mask_lies_on_a_large_one():
    layers = np.zeros((2, 20, 30), bool)
    layers[0, 5:8, 5:8] = True
    layers[1, 2:18, 2:28] = True
    shown = opened(masks_of(layers)._repr_png_())
    large, small = colours(2)
    assert shown.shape == (20, 30, 3)
    assert shown[0, 0].tolist() == [24, 24, 24]
    assert shown[3, 3].tolist() == large.tolist()
    assert shown[6, 6].tolist() == small.tolist()


@pytest.mark.parametrize("size", [(1, 1), (513, 4), (3, 2000)])
def test_a_preview_is_no_larger_than_its_limit(size):
    shown = opened(masks_of(np.ones((1, *size), bool))._repr_png_())
    assert max(shown.shape) <= preview.LONG_SIDE
    assert (shown == colours(1)[0]).all()


def test_no_mask_is_a_dark_image():
    assert (opened(masks_of(np.zeros((0, 4, 5), bool))._repr_png_()) == 24).all()


def test_the_strongest_direction_is_red():
    features = np.zeros((4, 2, 2), np.float32)
    features[0] = [[0, 3], [3, 0]]
    features[1] = [[0, 0], [1, 1]]
    shown = opened(preview.project(features))
    corners = shown[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert shown.shape == (preview.LONG_SIDE, preview.LONG_SIDE, 3)
    assert corners[0, 0] < 100 < 200 < corners[1, 0]


def test_equal_features_are_one_colour():
    shown = opened(preview.project(np.ones((5, 2, 4), np.float32)))
    assert shown.shape == (preview.LONG_SIDE // 2, preview.LONG_SIDE, 3)
    assert (shown == 0).all()


def test_an_embedding_and_a_model_show_themselves(tiny_sam):
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    embedding = tiny_sam.embed(image)
    shown = opened(embedding._repr_png_())
    assert shown.shape == (preview.LONG_SIDE // 2, preview.LONG_SIDE, 3)
    table = tiny_sam._repr_html_()
    assert tiny_sam.manifest.name in table
    assert "<td>onnxruntime:cpu fp32</td>" in table


@pytest.fixture(scope="module")
def tiny_sam(tmp_path_factory):
    folder = tiny_sam_folder(tmp_path_factory.mktemp("tiny") / "model")
    with fastseg.load(folder) as model:
        yield model
