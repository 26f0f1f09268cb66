"""Scripts written for ``sam2`` give the same arrays with fastseg's drop-in."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the reference needs torch")
import torch
from PIL import Image

from fastseg import artifacts
from fastseg.artifacts.manifest import to_json
from fastseg.artifacts.preprocessing import STRETCH_BILINEAR
from fastseg.artifacts.rules import CORNERS_FIRST, DIRECT, STABLE, OutputRules, PromptRules, Rules
from fastseg.compat import exported, sam2
from fastseg.compat.exported import MissingCheckpointError, WrongCheckpointError
from fastseg.compat.sam2 import automatic_mask_generator, build_sam, sam2_image_predictor
from fastseg.compat.sam2.prompts import square_prompts
from fastseg.errors import BackendError, CheckpointError, PromptError
from fastseg.testing import tiny_sam_folder
from tests.helpers.fresh_interpreter import loaded_by
from tests.helpers.reference_zoo import imported
from tests.helpers.small_sam2 import MAP_SIDES, small_reference

CONFIGURATION = "configs/sam2.1/sam2.1_hiera_t.yaml"
OURS = {
    "sam2": sam2,
    "sam2.build_sam": build_sam,
    "sam2.sam2_image_predictor": sam2_image_predictor,
    "sam2.automatic_mask_generator": automatic_mask_generator,
}

PREDICTOR = """
import numpy as np
import torch
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor

predictor = SAM2ImagePredictor(build_sam2(config, checkpoint, device="cpu"))
with torch.inference_mode():
    predictor.set_image(image)
    keep("embedding", predictor.get_image_embedding())
    point, label = np.array([[60, 40]]), np.array([1])
    box = np.array([20, 10, 90, 80])
    for name, prompt in {
        "point": {"point_coords": point, "point_labels": label},
        "points": {"point_coords": [[60, 40], [20.5, 70]], "point_labels": [1, 0]},
        "padding": {"point_coords": [[60, 40], [0, 0]], "point_labels": [1, -1]},
        "outside": {"point_coords": [[-9, 500]], "point_labels": [1]},
        "box": {"box": box},
        "both": {"point_coords": point, "point_labels": label, "box": box[None]},
        "corners": {"point_coords": box.reshape(2, 2), "point_labels": [2, 3]},
        "none": {},
        "single": {"box": box, "multimask_output": False},
        "shares": {
            "point_coords": [[0.5, 0.25]], "point_labels": [1], "normalize_coords": False
        },
        "boxes": {"box": np.array([[20, 10, 90, 80], [5, 5, 50, 60]]), "multimask_output": False},
        "many": {"point_coords": np.array([[[60, 40]], [[9, 9]]]), "point_labels": [[1], [0]]},
    }.items():
        masks, scores, logits = predictor.predict(**prompt)
        large, _, _ = predictor.predict(**prompt, return_logits=True)
        keep(name, masks, scores, logits, large)
    _, _, logits = predictor.predict(point, label)
    again = {"mask_input": logits[:1]}
    keep("mask", *predictor.predict(point, label, **again, multimask_output=False))
    keep("mask alone", *predictor.predict(**again))
    predictor.set_image(pillow_image)
    keep("pillow", *predictor.predict(point, label))
    predictor.set_image_batch([image, image[:50, :70]])
    batch = predictor.predict_batch([point, point / 2], [label, label], multimask_output=False)
    for name, arrays in zip(("masks", "scores", "logits"), batch):
        keep(f"batch {name}", *arrays)
    plain = build_sam2(config, checkpoint, device="cpu", apply_postprocessing=False)
    predictor = SAM2ImagePredictor(plain, mask_threshold=0.05)
    predictor.set_image(image)
    keep("slot 0", *predictor.predict(point, label, multimask_output=False))
"""
"""Calls of the reference's notebooks, and beyond."""

GENERATOR = """
from sam2.build_sam import build_sam2
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

model = build_sam2(config, checkpoint, device="cpu", apply_postprocessing=False)
records = SAM2AutomaticMaskGenerator(model, **settings).generate(image)
"""

QUIET: dict[str, Any] = {
    "pred_iou_thresh": 0.1,
    "stability_score_thresh": 0.0,
    "box_nms_thresh": 1.0,
    "crop_nms_thresh": 1.0,
}
GENERATORS: dict[str, dict[str, Any]] = {
    "plain": {"points_per_side": 3, **QUIET},
    "single, refined": {
        "points_per_side": 3,
        "use_m2m": True,
        "multimask_output": False,
        "output_mode": "uncompressed_rle",
        **QUIET,
    },
    "crops, another threshold": {
        "points_per_side": None,
        "point_grids": [np.array([[0.2, 0.3], [0.87, 0.15]]), np.array([[0.5, 0.5]])],
        "crop_n_layers": 1,
        "mask_threshold": 0.02,
        **QUIET,
    },
}


def run_script(script: str, modules: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Run a script with these modules in the place of those of ``sam2``; return its variables."""
    found: dict[str, list[np.ndarray]] = {}

    def keep(name: str, *values: Any) -> None:
        assert name not in found
        found[name] = [np.asarray(value) for value in values]

    names = {**given, "keep": keep, "found": found}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        exec(compile(script, "script", "exec"), names)
    return names


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def theirs() -> Iterator[dict[str, Any]]:
    """The reference's modules, whose builder returns a small network with random weights."""
    model = small_reference()

    def build_sam2(_: str, __: Any, device: str, *, apply_postprocessing: bool = True) -> Any:
        model.sam_mask_decoder.dynamic_multimask_via_stability = apply_postprocessing
        return model.to(device)

    predictor = imported("sam2.sam2_image_predictor")
    generator = imported("sam2.automatic_mask_generator")

    class Predictor(predictor.SAM2ImagePredictor):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._bb_feat_sizes = MAP_SIDES

    builder = ModuleType("sam2.build_sam")
    builder.build_sam2 = build_sam2  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, "SAM2ImagePredictor", Predictor)
        patch.setattr(generator, "SAM2ImagePredictor", Predictor)
        yield {
            "sam2.build_sam": builder,
            "sam2.sam2_image_predictor": predictor,
            "sam2.automatic_mask_generator": generator,
        }


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A model folder of formulas with the rules of SAM 2."""
    place = tiny_sam_folder(tmp_path_factory.mktemp("models") / "tiny")
    manifest = artifacts.read(place).manifest
    rules = Rules(
        PromptRules(layout=CORNERS_FIRST), OutputRules(DIRECT, single=STABLE, logit_limit=32.0)
    )
    stretched = replace(manifest.image_preprocessing, resize=STRETCH_BILINEAR)
    changed = replace(manifest, preprocessing=stretched, rules=rules)
    (place / artifacts.MANIFEST_FILE).write_text(to_json(changed))
    return place


@pytest.mark.slow
def test_a_script_gives_the_same_arrays_with_both(theirs, sam2_small_folder, image) -> None:
    given = {"config": CONFIGURATION, "image": image, "pillow_image": Image.fromarray(image)}
    expected = run_script(PREDICTOR, theirs, {**given, "checkpoint": None})["found"]
    found = run_script(PREDICTOR, OURS, {**given, "checkpoint": sam2_small_folder})["found"]
    assert list(found) == list(expected)
    for name, arrays in expected.items():
        for own, their in zip(found[name], arrays, strict=True):
            assert (own.shape, own.dtype) == (their.shape, their.dtype), name
            if set(np.unique(their)) <= {0.0, 1.0}:
                # Logits of random weights lie about 0, where a rounding turns a pixel over.
                assert (own != their).mean() <= 1e-4, name
            else:
                scale = np.abs(their).max()
                np.testing.assert_allclose(own, their, rtol=0, atol=2e-5 * scale, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
def test_the_generator_gives_the_same_records(theirs, sam2_small_folder, image, name) -> None:
    given = {"config": CONFIGURATION, "image": image, "settings": GENERATORS[name]}
    expected = run_script(GENERATOR, theirs, {**given, "checkpoint": None})["records"]
    found = run_script(GENERATOR, OURS, {**given, "checkpoint": sam2_small_folder})["records"]
    assert len(found) == len(expected) >= 3
    for own, their in zip(found, expected, strict=True):
        assert {key: type(value) for key, value in own.items()} == {
            key: type(value) for key, value in their.items()
        }
        assert own["crop_box"] == their["crop_box"]
        assert own["point_coords"] == their["point_coords"]
        assert own["predicted_iou"] == pytest.approx(their["predicted_iou"], abs=1e-5)
        assert own["stability_score"] == pytest.approx(their["stability_score"], abs=1e-3)
        assert np.abs(np.subtract(own["bbox"], their["bbox"])).max() <= 1
        assert abs(own["area"] - their["area"]) <= 3
        if isinstance(own["segmentation"], np.ndarray):
            assert own["segmentation"].dtype == their["segmentation"].dtype
            assert (own["segmentation"] != their["segmentation"]).mean() <= 1e-3
        else:
            assert own["segmentation"]["size"] == their["segmentation"]["size"]


def test_calls_have_the_arguments_of_the_reference(theirs, tiny) -> None:
    for module, name in (
        ("sam2.sam2_image_predictor", "SAM2ImagePredictor"),
        ("sam2.automatic_mask_generator", "SAM2AutomaticMaskGenerator"),
    ):
        own = getattr(OURS[module], name)
        reference = getattr(theirs[module], name)
        reference = reference.__mro__[1] if reference.__name__ == "Predictor" else reference
        for call in ("__init__", *(word for word in vars(own) if not word.startswith("_"))):
            if inspect.isfunction(vars(own).get(call)):
                assert _arguments(getattr(own, call)) == _arguments(getattr(reference, call)), call
    model = sam2.build_sam2(CONFIGURATION, tiny, device="cpu")
    theirs_model = theirs["sam2.build_sam"].build_sam2("", None, "cpu")
    own = sam2.SAM2AutomaticMaskGenerator(model, points_per_side=3, crop_n_layers=1)
    their = theirs["sam2.automatic_mask_generator"].SAM2AutomaticMaskGenerator(
        theirs_model, points_per_side=3, crop_n_layers=1
    )
    assert vars(own).keys() == vars(their).keys()
    for grid, wanted in zip(own.point_grids, their.point_grids, strict=True):
        np.testing.assert_array_equal(grid, wanted)


def _arguments(function: Any) -> dict[str, Any]:
    found = inspect.signature(function).parameters
    return {name: one.default for name, one in found.items()}


WRONG = {
    "predictor.predict(np.zeros((1, 2)), np.ones(1))": RuntimeError,
    "predictor.get_image_embedding()": RuntimeError,
    "predictor.set_image('file.png')": NotImplementedError,
    "predictor.set_image_batch(image)": AssertionError,
    "predictor.set_image_batch(['file.png'])": AssertionError,
    "predictor.predict_batch()": AssertionError,
    "predictor.set_image(image); predictor.predict(np.zeros((1, 2)))": AssertionError,
    "generator(model, output_mode='mask')": AssertionError,
    "generator(model, points_per_side=None)": AssertionError,
    "generator(model, point_grids=[np.zeros((1, 2))])": AssertionError,
}


@pytest.mark.parametrize("call", WRONG)
def test_errors_are_of_the_type_and_text_of_the_reference(theirs, tiny, image, call) -> None:
    said = []
    for modules, checkpoint in ((theirs, None), (OURS, tiny)):
        model = modules["sam2.build_sam"].build_sam2(CONFIGURATION, checkpoint, device="cpu")
        names = {"model": model, "np": np, "image": image}
        names["generator"] = modules["sam2.automatic_mask_generator"].SAM2AutomaticMaskGenerator
        names["predictor"] = modules["sam2.sam2_image_predictor"].SAM2ImagePredictor(model)
        with pytest.raises(WRONG[call]) as caught:
            exec(call, names)
        said.append(str(caught.value))
    assert said[0] == said[1] or said[0] == ""  # a bare assertion has no text


def test_constructors_refuse_what_they_cannot_do(tiny, tmp_path) -> None:
    build = sam2.build_sam2
    with pytest.raises(CheckpointError, match="no configuration"):
        build("configs/other.yaml", tiny, device="cpu")
    with pytest.raises(CheckpointError, match="no networks with random weights"):
        build(CONFIGURATION, device="cpu")
    with pytest.raises(MissingCheckpointError):
        build(CONFIGURATION, tmp_path / "absent.pt", device="cpu")
    with pytest.raises(BackendError, match="does not train"):
        build(CONFIGURATION, tiny, device="cpu", mode="train")
    with pytest.raises(CheckpointError, match="no configuration to change"):
        build(CONFIGURATION, tiny, device="cpu", hydra_overrides_extra=["++model.x=1"])
    with pytest.raises(RuntimeError):
        build(CONFIGURATION, tiny, device="tpu")
    with pytest.raises(CheckpointError, match="not those of SAM 2"):
        build(CONFIGURATION, "sam-nano", device="cpu")
    for call in (
        sam2.SAM2ImagePredictor.from_pretrained,
        sam2.SAM2AutomaticMaskGenerator.from_pretrained,
        build_sam.build_sam2_hf,
    ):
        with pytest.raises(CheckpointError, match=r"downloads no 'facebook/sam2.*models pull"):
            call("facebook/sam2.1-hiera-tiny")


def test_a_checkpoint_is_exported_once_with_the_preparation_of_sam2(tiny, tmp_path, monkeypatch):
    from fastseg.export import promptable

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = []

    def export_checkpoint(checkpoint: Path, out: Path, **options: Any) -> None:
        asked.append((checkpoint.name, options["preprocess"]))
        tiny_sam_folder(out)
        manifest = artifacts.read(tiny).manifest
        known = replace(manifest, source={"kind": "sam2-hiera-small"})
        (out / artifacts.MANIFEST_FILE).write_text(to_json(known))

    monkeypatch.setattr(promptable, "export_checkpoint", export_checkpoint)
    file = tmp_path / "sam2.1_hiera_small.pt"
    file.write_bytes(b"weights")
    for _ in range(2):
        model = sam2.build_sam2("configs/sam2.1/sam2.1_hiera_s.yaml", file, device="cpu")
    assert model.image_size == 128
    assert asked == [("sam2.1_hiera_small.pt", "sam2")]
    with pytest.raises(WrongCheckpointError, match="is SAM sam2-hiera-small, not sam2-hiera-tiny"):
        sam2.build_sam2(CONFIGURATION, file, device="cpu")
    assert exported.model_folder(file, "sam2-hiera-small", preprocess="sam2").is_dir()


def test_prompts_that_contradict_each_other_are_refused() -> None:
    size = {"size": (96, 128), "side": 256}
    for points, labels, boxes, masks in (
        (np.zeros((2, 1, 2)), np.ones((1, 1)), None, None),
        (np.zeros((1, 2)), [7], None, None),
        (np.zeros((2, 1, 2)), np.ones((2, 1)), np.ones((3, 4)), None),
        (np.zeros((1, 2)), [1], None, np.ones((3, 1, 64, 64))),
        (None, None, None, np.ones((64, 64))),
        (np.zeros((1, 3)), [1], None, None),
    ):
        with pytest.raises(PromptError):
            square_prompts(points, labels, boxes, masks, **size)


def test_holes_and_sprinkles_are_kept_with_a_warning(tiny) -> None:
    model = sam2.build_sam2(CONFIGURATION, tiny, device="cpu")
    with pytest.warns(UserWarning, match="fills no holes"):
        sam2.SAM2ImagePredictor(model, max_hole_area=8)
    with pytest.warns(UserWarning, match="fills no holes"):
        sam2.SAM2AutomaticMaskGenerator(model, min_mask_region_area=10)


def test_a_device_is_changed_and_the_model_goes_on(tiny, image) -> None:
    model = sam2.build_sam2(CONFIGURATION, tiny, device=torch.device("cpu")).eval()
    predictor = sam2.SAM2ImagePredictor(model)
    predictor.set_image(image)
    assert predictor.device == torch.device("cpu")
    assert model.cpu() is model
    with pytest.raises(BackendError):
        model.to("tpu")
    masks, scores, logits = predictor.predict([[60, 40]], [1])
    assert masks.shape == (3, 96, 128)
    assert masks.dtype == np.float32
    assert (scores.shape, logits.shape) == ((3,), (3, 32, 32))


def test_arrays_need_no_torch(tiny) -> None:
    script = f"""
import numpy as np
from fastseg.compat.sam2 import SAM2AutomaticMaskGenerator, SAM2ImagePredictor, build_sam2
model = build_sam2({CONFIGURATION!r}, {str(tiny)!r}, device="cpu")
predictor = SAM2ImagePredictor(model)
image = np.zeros((20, 30, 3), np.uint8)
predictor.set_image(image)
assert predictor.predict(box=np.array([3, 3, 9, 9]))[0].shape == (3, 20, 30)
assert predictor.device == "cpu"
assert isinstance(SAM2AutomaticMaskGenerator(model, points_per_side=2).generate(image), list)
"""
    assert loaded_by(script, ["torch", "onnx"]) == []
