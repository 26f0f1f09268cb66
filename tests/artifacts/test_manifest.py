"""``model.json`` of the two families: each read with its own preprocessing, nothing guessed."""

from __future__ import annotations

import json

import pytest

from fastseg import contract
from fastseg.artifacts import manifest
from fastseg.artifacts.manifest import GraphFile, Manifest
from fastseg.artifacts.preprocessing import FramePreprocessing, Preprocessing
from fastseg.errors import ModelFolderError

SAM = Manifest("sam", "photographs", Preprocessing(64, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), {})
UNET = Manifest(
    "unet",
    "frames",
    FramePreprocessing(side=64, channels=1),
    {"network": GraphFile(contract.unet_network(64, 1, 3), "n.onnx", "0" * 64, "fp32", 1)},
    extra={"view": "sax", "classes": ["cavity", "ring", "disc"]},
)


def altered(change) -> str:
    document = json.loads(manifest.to_json(UNET))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize("written", [SAM, UNET], ids=lambda written: written.family)
def test_what_was_written_is_read_back_equal(written):
    assert manifest.from_json(manifest.to_json(written)) == written


def test_a_network_for_frames_says_what_it_sees_and_shows():
    assert UNET.frame_preprocessing.cm_per_pixel == 20.0 / 64
    assert UNET.view == "sax"
    assert UNET.classes == ("cavity", "ring", "disc")


def test_a_model_of_one_family_is_refused_by_the_other():
    with pytest.raises(ModelFolderError, match=r"frames takes no prompts.*'unet'"):
        _ = UNET.image_preprocessing
    with pytest.raises(ModelFolderError, match=r"photographs takes no frames.*'sam'"):
        _ = SAM.frame_preprocessing


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d["preprocessing"].update(resize="longest_side_bilinear"), "longest_side"),
        (lambda d: d["preprocessing"].update(normalise="z_score"), "z_score.*Upgrade"),
        (
            lambda d: d["preprocessing"].update(side=100),
            "side must be a multiple of 16 up to 4096, not 100",
        ),
        (lambda d: d["preprocessing"].update(channels=2), "channels must be 1 or 3, not 2"),
        (lambda d: d["preprocessing"].update(field_of_view_cm=0.0), "field_of_view_cm"),
        (lambda d: d["preprocessing"].pop("channels"), "no field 'channels'"),
    ],
)
def test_a_way_of_preparing_frames_that_is_not_known_is_refused(change, named):
    with pytest.raises(ModelFolderError, match=named):
        manifest.from_json(altered(change))


@pytest.mark.parametrize("classes", [["LV", "LV"], ["LV", 3], None])
def test_classes_that_cannot_be_told_apart_are_refused(classes):
    found = manifest.from_json(altered(lambda d: d["extra"].update(classes=classes)))
    with pytest.raises(ModelFolderError, match="classes"):
        _ = found.classes
