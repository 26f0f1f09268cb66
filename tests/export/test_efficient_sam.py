"""EfficientSAM computes what its description says, which a helper writes plainly in torch."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports need torch")

import fastseg
from fastseg import ops
from fastseg.errors import PromptError
from fastseg.export.checkpoints.kinds import KINDS
from fastseg.export.checkpoints.preparations import PREPARATIONS
from fastseg.export.model_folder import Card
from fastseg.export.networks import efficient_sam
from fastseg.export.networks.efficient_sam import SHAPES, EfficientSamModules
from fastseg.export.networks.plain_encoder import PlainShape
from fastseg.export.sam import write_sam_folder
from fastseg.geometry import Frame
from fastseg.sam.drawing import draw
from fastseg.sam.preprocessing import encoder_input
from fastseg.sam.prompts import PromptRequest, single_points
from tests.helpers import reference_efficient_sam as reference

SMALL = PlainShape(64, 1, depth=2, side=256)
IMAGE = np.random.default_rng(0).integers(0, 256, (150, 91, 3), dtype=np.uint8)
RULES = PREPARATIONS["efficient-sam"].rules


@cache
def weights() -> dict[str, Any]:
    return reference.random_weights(SMALL.width, depth=SMALL.depth)


def filled(shape: PlainShape, found: dict[str, Any]) -> EfficientSamModules:
    with torch.device("meta"):
        modules = efficient_sam.build(shape)
    for prefix, module in modules.by_prefix().items():
        own = {
            name: found[efficient_sam.published_name(f"{prefix}.{name}")]
            for name in module.state_dict()
        }
        module.load_state_dict(own, assign=True)
        module.eval().requires_grad_(False)
    return modules


def relative(actual, expected) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("size", SHAPES)
def test_names_and_shapes_are_the_published_ones(size):
    kind = next(kind for kind in KINDS if kind.name == f"efficient-sam-{size}")
    found = reference.random_weights(SHAPES[size].width)
    assert kind.shapes() == {name: tuple(each.shape) for name, each in found.items()}
    assert len(found) == 278


def test_the_encoder_and_its_native_kernel_equal_the_description():
    modules = filled(SMALL, weights())
    image = reference.prepared(IMAGE, SMALL.side)
    with torch.inference_mode():
        wanted = reference.encode(weights(), image, SMALL.heads)
        assert relative(modules.image_encoder(image), wanted) <= 1e-5
    stored = modules.encoder_weights()
    assert stored is not None
    table = next(name for name in ops.kernel_tables() if not ops.computes_in_bf16(name))
    kernel = ops.EncoderKernel(stored, kernel_table=table)
    assert relative(torch.from_numpy(kernel.embed(image.numpy())), wanted) <= 1e-5


@pytest.mark.slow
def test_the_smallest_network_embeds_at_its_size():
    shape, found = SHAPES["ti"], reference.random_weights(SHAPES["ti"].width)
    image = reference.prepared(IMAGE)
    with torch.inference_mode():
        wanted = reference.encode(found, image, shape.heads)
        assert relative(filled(shape, found).image_encoder(image), wanted) <= 1e-5


@pytest.mark.parametrize("labels", [[1], [2, 3], [1, 1, 2, 3], [1] * 6])
def test_both_forms_of_the_decoder_equal_the_description(labels):
    modules = filled(SMALL, weights())
    random = torch.Generator().manual_seed(len(labels))
    embedding = torch.randn(1, 256, SMALL.grid, SMALL.grid, generator=random)
    points = SMALL.side * torch.rand(len(labels), 2, generator=random)
    padded = torch.cat([points, torch.zeros(6 - len(labels), 2)])[None]
    marks = torch.tensor([labels + [-1] * (6 - len(labels))], dtype=torch.int32)
    prompts, decoder = modules.prompt_encoder, modules.mask_decoder
    with torch.inference_mode():
        logits, ious = reference.decode(
            weights(), embedding, points, torch.tensor(labels), SMALL.side
        )
        plain = decoder(embedding, prompts.dense_positions(), *prompts(padded, marks))
        graphs = {source.graph.name: source.module for source in modules.sources()}
        state = graphs["image_state"](embedding)
        scores, vectors, tokens = graphs["decoder"](padded, marks, *state)
        drawn = graphs["mask_head"](tokens, vectors)
    for found in (plain, (drawn, scores)):
        assert relative(found[0][0], logits) <= 1e-5
        assert relative(found[1][0], ious) <= 1e-5
    assert set(graphs) == {"encoder", "image_state", "decoder", "mask_head"}


@pytest.mark.parametrize("size", [(150, 91), (1500, 900)])
def test_images_are_stretched_by_interpolation(size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    about = PREPARATIONS["efficient-sam"].preprocessing
    found = encoder_input(image, about.frame(size), about)
    np.testing.assert_allclose(found, reference.prepared(image).numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("crop", [None, (7, 5, 80, 120)])
def test_logits_are_enlarged_by_cubic_interpolation(crop):
    assert RULES is not None
    logits = np.random.default_rng(0).standard_normal((3, 64, 64)).astype(np.float32)
    frame = Frame((150, 91), SMALL.side, crop, stretched=True)
    wanted = reference.enlarged(torch.from_numpy(logits), frame.size).numpy()
    found = draw(logits, frame, RULES.output, chosen=np.array([2, 0]))
    x0, y0, x1, y1 = frame.crop_box
    masks = ops.rle_to_array(found.runs)
    for mask, values, area, stability in zip(
        masks, wanted[[2, 0]], found.areas, found.stability, strict=True
    ):
        clear = np.abs(values) > 1e-5
        np.testing.assert_array_equal(mask[y0:y1, x0:x1][clear], (values > 0)[clear])
        assert mask.sum() == area == mask[y0:y1, x0:x1].sum()
        assert abs(stability - (values > 1).sum() / (values > -1).sum()) <= 1e-3
    assert len(draw(logits[:0], frame, RULES.output).areas) == 0


def test_prompts_are_filled_up_to_six_points_of_the_foreground():
    assert RULES is not None
    frame = Frame((150, 91), 1024, stretched=True)

    def checked(**prompts: Any) -> Any:
        return PromptRequest(**prompts).check(frame, mask_side=256, rules=RULES.prompts)

    found = checked(points=[[[5, 6], [7, 8]], [[1, 2]]], boxes=[[1, 2, 30, 40], [3, 4, 50, 60]])
    np.testing.assert_array_equal(found.offsets, [0, 6, 12])
    np.testing.assert_array_equal(found.labels, [1, 1, 2, 3, -1, -1, 1, 2, 3, -1, -1, -1])
    np.testing.assert_array_equal(found.points[6:9], [[1, 2], [3, 4], [50, 60]])
    (batch,) = found.batches(frame, limit=8)
    assert batch.point_coords.shape == (2, 6, 2)
    assert single_points(np.ones((3, 2)), RULES.prompts).labels.tolist() == [1, *[-1] * 5] * 3
    with pytest.raises(PromptError, match="not trained for points of the background"):
        checked(points=[[5, 6]], labels=[0])
    with pytest.raises(PromptError, match="7 points, and this model takes 6"):
        checked(points=[[[5, 6]] * 5], boxes=[[1, 2, 30, 40]])
    with pytest.raises(PromptError, match="not trained for mask_logits"):
        checked(mask_logits=np.zeros((256, 256)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("efficient") / "small"
    preparation = PREPARATIONS["efficient-sam"]
    scaled = replace(preparation, preprocessing=replace(preparation.preprocessing, side=SMALL.side))
    write_sam_folder(filled(SMALL, weights()), out, Card("small"), preparation=scaled)
    return out


def expected(points: list[list[float]], labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits (4, 64, 64) and scores of one prompt on the image."""
    height, width = IMAGE.shape[:2]
    places = torch.tensor(points) * SMALL.side / torch.tensor([width, height])
    with torch.inference_mode():
        image = reference.prepared(IMAGE, SMALL.side)
        embedding = reference.encode(weights(), image, SMALL.heads)
        logits, ious = reference.decode(
            weights(), embedding, places, torch.tensor(labels), SMALL.side
        )
    return logits.numpy(), ious.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "onnxruntime", "openvino"])
def test_a_folder_segments_as_described(folder, backend):
    if backend == "openvino":
        pytest.importorskip("openvino", reason="the runtime under test")
    prompts = (
        ({"points": [[30, 20]]}, ([[30.0, 20.0]], [1])),
        ({"boxes": [10, 10, 60, 50]}, ([[10.0, 10.0], [60.0, 50.0]], [2, 3])),
    )
    with fastseg.load(folder, device="cpu", backend=backend) as model:
        assert model.runs["decoder"].startswith("native") == (backend == "auto")
        for given, named in prompts:
            logits, scores = expected(*named)
            for several, slots in ((True, slice(1, 4)), (False, slice(0, 1))):
                found = model.segment(IMAGE, multimask=several, **given)
                np.testing.assert_allclose(found.scores, scores[slots], rtol=0, atol=1e-5)
                assert np.abs(found.logits - logits[slots]).max() <= 1e-5 * np.abs(logits).max()
                drawn = reference.enlarged(torch.from_numpy(logits[slots]), IMAGE.shape[:2])
                assert (found.array() != (drawn > 0).numpy()).mean() <= 1e-4


@pytest.mark.slow
def test_everything_finds_the_masks_of_its_points(folder):
    grid = {"points_per_side": 3, "pred_iou_thresh": -9.0, "stability_score_thresh": 0.0}
    with fastseg.load(folder, device="cpu") as model:
        found = model.everything(IMAGE, box_nms_thresh=1.0, **grid)
        centres = (np.arange(3) + 0.5) / 3
        points = [[x * 91, y * 150] for y in centres for x in centres]
        each = model.segment(IMAGE, points=np.array(points)[:, None])
    assert len(found) == len(each) == 27
    key = lambda masks: sorted(  # noqa: E731
        zip(masks.areas.tolist(), map(tuple, masks.boxes.tolist()), strict=True)
    )
    assert key(found) == key(each)
