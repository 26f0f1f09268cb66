"""Scripts written for ``segment_anything`` give the same arrays with fastseg's drop-in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the reference needs torch")
import skimage.data
import torch

from fastseg.compat import segment_anything as ours
from fastseg.compat.exported import (
    MissingCheckpointError,
    WrongCheckpointError,
    model_folder,
)
from fastseg.compat.segment_anything.sam import Sam
from fastseg.compat.segment_anything.transforms import ResizeLongestSide
from fastseg.errors import BackendError, CheckpointError, ImageError, OutputError, PromptError
from fastseg.storage.cache import user_cache_folder
from tests.helpers.exported_sam import small_size_known
from tests.helpers.fresh_interpreter import loaded_by
from tests.helpers.reference_package import segment_anything
from tests.helpers.reference_sam import nano_reference
from tests.helpers.remembered_exports import remembered_exports

README = """
from segment_anything import SamPredictor, sam_model_registry
sam = sam_model_registry[kind](checkpoint=checkpoint)
predictor = SamPredictor(sam)
predictor.set_image(image)
masks, _, _ = predictor.predict(box=box)
keep("README", masks)
"""
"""The predictor's example of the reference's README."""

PREDICTOR = """
import numpy as np
from segment_anything import SamPredictor, sam_model_registry

sam = sam_model_registry[kind](checkpoint=checkpoint)
sam.to(device="cpu")
predictor = SamPredictor(sam)
predictor.set_image(image)
keep("embedding", predictor.get_image_embedding())
keep("sizes", np.array([*predictor.original_size, *predictor.input_size]))
point, label = np.array([[60, 40]]), np.array([1])
for name, prompt in {
    "point": {"point_coords": point, "point_labels": label},
    "points": {"point_coords": np.array([[60, 40], [20.5, 70]]), "point_labels": np.array([1, 0])},
    "outside": {"point_coords": np.array([[-9, 500]]), "point_labels": label},
    "padding": {"point_coords": np.array([[60, 40], [0, 0]]), "point_labels": np.array([1, -1])},
    "box": {"box": box},
    "reversed": {"box": box[::-1]},
    "both": {"point_coords": point, "point_labels": label, "box": box[None]},
    "none": {},
    "single": {"box": box, "multimask_output": False},
}.items():
    masks, scores, logits = predictor.predict(**prompt)
    large, _, _ = predictor.predict(**prompt, return_logits=True)
    keep(name, masks, scores, logits, large)
again = {"mask_input": logits[:1]}
keep("mask", *predictor.predict(point, label, **again, multimask_output=False))
keep("mask alone", *predictor.predict(**again))

predictor.set_image(image, image_format="BGR")
keep("bgr", *predictor.predict(point, label))
"""
"""Calls of the predictor with arrays, as in the reference's notebooks and beyond."""

TENSORS = """
import torch
from segment_anything import SamPredictor, sam_model_registry

sam = sam_model_registry[kind](checkpoint=checkpoint)
sam.eval().to(torch.device("cpu"))
predictor = SamPredictor(sam)
predictor.set_image(image)
boxes = torch.tensor([[10, 10, 60, 60], [30, 5, 90, 70], [0, 0, 20, 20]], device=predictor.device)
square = predictor.transform.apply_boxes_torch(boxes, image.shape[:2])
keep("boxes", square)
keep("many", *predictor.predict_torch(
    point_coords=None, point_labels=None, boxes=square, multimask_output=False,
))
points = predictor.transform.apply_coords_torch(torch.tensor([[[60, 40]], [[9, 9]]]), (96, 128))
labels = torch.tensor([[1], [0]])
masks, scores, logits = predictor.predict_torch(points, labels, return_logits=True)
keep("points", masks, scores, logits)
one = logits[:1, :1]
keep("one mask for all", *predictor.predict_torch(points, labels, mask_input=one))

kept = predictor.get_image_embedding()
predictor.reset_image()
predictor.features, predictor.is_image_set = kept, True
predictor.original_size, predictor.input_size = (96, 128), (192, 256)
keep("embedding set", *predictor.predict_torch(points, labels))

resized = predictor.transform.apply_image(image)
tensor = torch.as_tensor(resized).permute(2, 0, 1).contiguous()
predictor.set_torch_image(tensor[None], image.shape[:2])
keep("torch image", *predictor.predict_torch(points, labels))
batch = [
    {"image": tensor, "boxes": square, "original_size": image.shape[:2]},
    {"image": tensor, "point_coords": points, "point_labels": labels, "original_size": (96, 128)},
]
for number, output in enumerate(sam(batch, multimask_output=True)):
    keep(f"batch {number}", *(output[k] for k in ("masks", "iou_predictions", "low_res_logits")))
keep("steps", sam.preprocess(tensor), sam.postprocess_masks(one, (192, 256), (96, 128)))
"""
"""Calls with tensors, as in the reference's notebooks, and an embedding that was kept."""

GENERATOR = """
from segment_anything import SamAutomaticMaskGenerator, sam_model_registry
sam = sam_model_registry[kind](checkpoint=checkpoint)
mask_generator = SamAutomaticMaskGenerator(sam, **settings)
masks = mask_generator.generate(image)
"""
"""The generator's example of the reference's README."""

GENERATORS: dict[str, dict[str, Any]] = {
    "binary_mask": {"points_per_side": 3, "pred_iou_thresh": 0.7, "min_mask_region_area": 60},
    "uncompressed_rle": {
        "points_per_side": 6,
        "points_per_batch": 5,
        "pred_iou_thresh": 0.6,
        "stability_score_thresh": 0.85,
        "box_nms_thresh": 0.9,
    },
    "coco_rle": {
        "points_per_side": None,
        "point_grids": [np.array([[0.2, 0.3], [0.87, 0.15]]), np.array([[0.5, 0.5]])],
        "pred_iou_thresh": 0.5,
        "crop_n_layers": 1,
        "crop_nms_thresh": 0.6,
    },
}


def run_script(script: str, package: Any, registry: dict[str, Any], given: dict[str, Any]) -> Any:
    """Run a script with a package in the place of ``segment_anything``; return its variables."""
    found: dict[str, list[np.ndarray]] = {}

    def keep(name: str, *values: Any) -> None:
        assert name not in found
        found[name] = [np.asarray(value) for value in values]

    names = {**given, "keep": keep, "found": found}
    with pytest.MonkeyPatch.context() as patch:
        # One entry alone: modules that the script imports must stay.
        patch.setitem(sys.modules, "segment_anything", package)
        for kind, build in registry.items():
            patch.setitem(package.sam_model_registry, kind, build)
        exec(compile(script, "script", "exec"), names)
    return names


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def small(vit_small, image) -> Iterator[Any]:
    """Run a script with the package and with ours, on a small network of random weights."""

    reference = vit_small.reference()

    def drop_in(checkpoint: Path) -> Sam:
        return Sam(model_folder(checkpoint, "vit_small"))

    def both(script: str) -> list[dict[str, list[np.ndarray]]]:
        given = {
            "kind": "vit_small",
            "checkpoint": vit_small.checkpoint,
            "image": image,
            "box": np.array([20, 10, 90, 80]),
        }
        return [
            run_script(script, package, {"vit_small": build}, given)["found"]
            for package, build in (
                (segment_anything(), lambda checkpoint: reference),
                (ours, drop_in),
            )
        ]

    with small_size_known(), remembered_exports():
        yield both


@pytest.mark.parametrize(
    "script", [README, PREDICTOR, TENSORS], ids=["README", "arrays", "tensors"]
)
def test_a_script_gives_the_same_arrays_with_both(small, script) -> None:
    expected, found = small(script)
    assert list(found) == list(expected)
    for name, theirs in expected.items():
        for own, their in zip(found[name], theirs, strict=True):
            assert (own.shape, own.dtype) == (their.shape, their.dtype), name
            if own.dtype == bool:
                # Logits of random weights lie about 0, where a rounding turns a pixel over.
                assert (own != their).mean() <= 1e-4, name
                assert own.any() or name == "README"
            else:
                scale = np.abs(their).max()
                np.testing.assert_allclose(own, their, rtol=0, atol=2e-5 * scale, err_msg=name)


@pytest.fixture(scope="module")
def coins() -> np.ndarray:
    return np.ascontiguousarray(np.stack([skimage.data.coins()] * 3, axis=-1))


@pytest.mark.parametrize(
    "mode",
    ["binary_mask", *(pytest.param(m, marks=pytest.mark.slow) for m in [*GENERATORS][1:])],
)
def test_the_generator_gives_the_same_records(coins, mode) -> None:
    given = {
        "kind": "nano",
        "checkpoint": "sam-nano",
        "image": coins,
        "settings": {**GENERATORS[mode], "output_mode": mode},
    }
    expected, found = (
        run_script(GENERATOR, package, {"nano": build}, given)["masks"]
        for package, build in (
            (segment_anything(), lambda checkpoint: nano_reference()),
            (ours, ours.build_sam_vit_b),
        )
    )
    assert len(found) == len(expected) >= 3
    for own, theirs in zip(found, expected, strict=True):
        assert own.keys() == theirs.keys()
        assert {type(value) for value in own.values()} == {type(v) for v in theirs.values()}
        assert own["crop_box"] == theirs["crop_box"]
        assert own["point_coords"] == theirs["point_coords"]
        assert np.abs(np.subtract(own["bbox"], theirs["bbox"])).max() <= 1
        assert abs(own["area"] - theirs["area"]) <= 2
        assert own["predicted_iou"] == pytest.approx(theirs["predicted_iou"], abs=1e-4)
        segmentation, their = own["segmentation"], theirs["segmentation"]
        if mode == "binary_mask":
            assert segmentation.dtype == their.dtype
            assert (segmentation != their).sum() <= 2
        else:
            assert segmentation["size"] == their["size"]
            assert type(segmentation["counts"]) is type(their["counts"])


def test_the_attributes_of_the_generator_have_the_names_of_the_reference() -> None:
    sam = ours.build_sam_vit_b("sam-nano")
    generator = ours.SamAutomaticMaskGenerator(sam, points_per_side=3, crop_n_layers=1)
    reference = segment_anything().SamAutomaticMaskGenerator(
        nano_reference(), points_per_side=3, crop_n_layers=1
    )
    assert vars(generator).keys() == vars(reference).keys()
    for own, theirs in zip(generator.point_grids, reference.point_grids, strict=True):
        np.testing.assert_array_equal(own, theirs)
    names = {name for name in vars(reference.predictor) if not name.startswith("_")}
    assert all(hasattr(generator.predictor, name) for name in names)
    assert ours.sam_model_registry.keys() == segment_anything().sam_model_registry.keys()


WRONG = {
    "predictor.predict(np.zeros((1, 2)), np.ones(1))": RuntimeError,
    "predictor.predict_torch(None, None)": RuntimeError,
    "predictor.get_image_embedding()": RuntimeError,
    "predictor.set_image(image, 'GBR')": AssertionError,
    "predictor.set_torch_image(torch.zeros(1, 3, 9, 9), (9, 9))": AssertionError,
    "predictor.set_image(image); predictor.predict(np.zeros((1, 2)))": AssertionError,
    "SamAutomaticMaskGenerator(sam, output_mode='mask')": AssertionError,
    "SamAutomaticMaskGenerator(sam, points_per_side=None)": AssertionError,
    "SamAutomaticMaskGenerator(sam, point_grids=[np.zeros((1, 2))])": AssertionError,
    "sam_model_registry['vit_b'](checkpoint='absent.pth')": FileNotFoundError,
    "sam_model_registry['vit_x']": KeyError,
}


@pytest.mark.parametrize("call", WRONG)
def test_errors_are_of_the_type_of_the_reference(call, image) -> None:
    for package, sam in (
        (segment_anything(), nano_reference()),
        (ours, ours.build_sam_vit_b("sam-nano")),
    ):
        names = {**vars(package), "sam": sam, "np": np, "torch": torch, "image": image}
        names["predictor"] = package.SamPredictor(sam)
        with pytest.raises(WRONG[call]):
            exec(call, names)


def test_messages_of_errors_are_those_of_the_reference(image) -> None:
    messages = []
    for package, sam in (
        (segment_anything(), nano_reference()),
        (ours, ours.build_sam_vit_b("sam-nano")),
    ):
        with pytest.raises(RuntimeError) as caught:
            package.SamPredictor(sam).predict()
        with pytest.raises(AssertionError) as refused:
            package.SamPredictor(sam).set_image(image, "GBR")
        messages.append((str(caught.value), str(refused.value)))
    assert messages[0] == messages[1]


def test_prompts_that_contradict_each_other_are_refused(image) -> None:
    predictor = ours.SamPredictor(ours.build_sam("sam-nano"))
    predictor.set_image(image)
    two, one = torch.zeros(2, 1, 2), torch.ones(1, 1)
    for points, labels, boxes, masks in (
        (two, one, None, None),
        (two, torch.full((2, 1), 2), None, None),
        (two, torch.ones(2, 1), torch.ones(3, 4), None),
        (two, torch.ones(2, 1), None, torch.ones(3, 1, 256, 256)),
        (None, None, None, torch.ones(256, 256)),
    ):
        with pytest.raises(PromptError):
            predictor.predict_torch(points, labels, boxes, masks)
    with pytest.raises(ImageError):
        predictor.model([{"image": torch.ones(3, 9, 9), "original_size": (9, 9)}], True)
    with pytest.raises(BackendError):
        predictor.model.to("tpu")
    assert predictor.model.cpu() is predictor.model


def test_another_threshold_cuts_the_logits_of_all_pixels(image) -> None:
    sam = ours.build_sam("sam-nano")
    predictor = ours.SamPredictor(sam)
    predictor.set_image(image)
    box = np.array([20, 10, 90, 80])
    logits, _, _ = predictor.predict(box=box, return_logits=True)
    sam.mask_threshold = float(np.median(logits))
    masks, _, _ = predictor.predict(box=box)
    np.testing.assert_array_equal(masks, logits > sam.mask_threshold)


def test_coordinates_are_mapped_as_in_the_reference(image) -> None:
    theirs = sys.modules["segment_anything"].utils.transforms.ResizeLongestSide(1024)
    own = ResizeLongestSide(1024)
    points = np.array([[3, 4], [70.5, 90]])
    for size in ((96, 128), (700, 33), (1, 5000)):
        assert own.get_preprocess_shape(*size, 1024) == theirs.get_preprocess_shape(*size, 1024)
        for name in ("apply_coords", "apply_boxes"):
            mapped = getattr(own, name)(points, size)
            np.testing.assert_array_equal(mapped, getattr(theirs, name)(points, size))
            tensor = torch.as_tensor(points)
            mapped = getattr(own, f"{name}_torch")(tensor, size)
            assert torch.equal(mapped, getattr(theirs, f"{name}_torch")(tensor, size))
    np.testing.assert_array_equal(own.apply_image(image), theirs.apply_image(image))


def test_arrays_need_no_torch() -> None:
    script = """
import numpy as np
from fastseg.compat.segment_anything import SamPredictor, sam_model_registry
predictor = SamPredictor(sam_model_registry["vit_b"](checkpoint="sam-nano"))
predictor.set_image(np.zeros((20, 30, 3), np.uint8))
assert predictor.predict(box=np.array([3, 3, 9, 9]))[0].shape == (3, 20, 30)
assert predictor.device == "cpu"
"""
    assert loaded_by(script, ["torch", "onnx"]) == []


def test_a_checkpoint_is_exported_once_for_its_content(
    small, vit_small, tmp_path, monkeypatch
) -> None:
    from fastseg.export import sam as export

    moved = tmp_path / "moved.pth"
    moved.write_bytes(vit_small.checkpoint.read_bytes())
    folder = model_folder(vit_small.checkpoint, "vit_small")
    monkeypatch.setattr(export, "export_sam", lambda *_, **__: pytest.fail("it was exported again"))
    assert model_folder(str(moved), "vit_small") == folder
    assert user_cache_folder() in folder.parents
    assert model_folder(folder, "vit_b") == folder  # a folder is the caller's own choice
    with pytest.raises(WrongCheckpointError, match="is SAM vit_small, not vit_b") as caught:
        ours.build_sam_vit_b(moved)
    assert isinstance(caught.value, RuntimeError)


def test_what_is_no_checkpoint_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match="no networks with random weights"):
        ours.build_sam()
    with pytest.raises(MissingCheckpointError, match="there is no file"):
        ours.build_sam_vit_l(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(CheckpointError):
        ours.build_sam_vit_b(tmp_path / "text.pth")
    left = list((tmp_path / "cache" / "fastseg" / "exports").iterdir())
    assert [path.suffix for path in left] == [".lock"]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="XDG_CACHE_HOME"):
        ours.build_sam_vit_b(tmp_path / "text.pth")


EXPORTING = """
import sys
from types import ModuleType
from fastseg.compat import exported
from fastseg.testing import tiny_sam_folder
def export_sam(checkpoint, out, **options):
    print("exporting", flush=True)
    sys.stdin.readline()
    tiny_sam_folder(out)
stand_in = ModuleType("fastseg.export.sam")
stand_in.export_sam = export_sam
sys.modules[stand_in.__name__] = stand_in
exported._require_kind = lambda checkpoint, folder, kind: folder
print(exported.model_folder(sys.argv[1], "vit_b"), flush=True)
"""
"""Export a checkpoint by a stand-in that waits for a line before it writes the folder."""


def test_one_process_exports_and_others_wait_also_for_one_that_is_killed(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checkpoint = tmp_path / "a.pth"
    checkpoint.write_bytes(b"weights")
    command = [sys.executable, "-c", EXPORTING, str(checkpoint)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first:
        assert first.stdout.readline() == "exporting\n"
        with subprocess.Popen(command, **pipes) as second:
            first.kill()
            assert second.stdout.readline() == "exporting\n"
            with subprocess.Popen(command, **pipes) as third:
                second.stdin.write("\n")
                second.stdin.flush()
                found = second.stdout.readline()
                assert third.stdout.readline() == found
    assert (Path(found.strip()) / "model.json").is_file()
