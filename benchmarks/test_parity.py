"""Differences of the parity tests, as tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference needs torch")
data = pytest.importorskip("skimage.data", reason="the photograph comes with scikit-image")

import fastseg  # noqa: E402
from fastseg import ops  # noqa: E402
from fastseg.validation.parity import compare_arrays  # noqa: E402
from tests.conftest import vit_b  # noqa: E402, F401
from tests.helpers.reference_package import segment_anything  # noqa: E402
from tests.helpers.reference_sam import nano_reference  # noqa: E402
from tests.sam.test_mask_generator_parity import SETTINGS  # noqa: E402
from tests.sam.test_model_parity import PROMPTS, expected  # noqa: E402


@pytest.fixture(scope="module")
def coins() -> np.ndarray:
    return np.ascontiguousarray(np.stack([data.coins()] * 3, axis=-1))


def test_predictor(table: Callable[..., None], request: pytest.FixtureRequest, coins) -> None:
    sam = request.getfixturevalue("vit_b")
    predictor = segment_anything().SamPredictor(sam.reference())
    predictor.set_image(coins)
    rows = [["prompt", "logits, relative", "IoU predictions, absolute", "pixels that differ"]]
    with fastseg.load(sam.folder) as model:
        embedding = model.embed(coins)
        theirs = predictor.get_image_embedding()[0].numpy()
        gap = compare_arrays("embedding", embedding.features, theirs)
        rows.append(["(embedding)", f"{gap.relative:.1e}", "", ""])
        for name, prompt in PROMPTS.items():
            masks = model.segment(embedding, **prompt)
            arrays, scores, logits = expected(predictor, prompt)
            assert masks.logits is not None
            rows.append(
                [
                    name,
                    f"{compare_arrays(name, masks.logits, logits).relative:.1e}",
                    f"{np.abs(masks.scores - scores).max():.1e}",
                    f"{(masks.array() != arrays).sum()} of {arrays.size}",
                ]
            )
    table("coins, random ViT-B, against SamPredictor in float32", rows)


def test_generator(table: Callable[..., None], coins) -> None:
    rows = [["settings", "masks, reference", "masks, ours", "least IoU", "pixels that differ"]]
    with fastseg.load("sam-nano") as model:
        for name, settings in SETTINGS.items():
            amg = segment_anything().SamAutomaticMaskGenerator(nano_reference(), **settings)
            theirs = np.stack([record["segmentation"] for record in amg.generate(coins)])
            ours = model.everything(coins, **settings)
            pairs = ops.rle_iou(ours.runs, ops.rle_from_array(theirs)).diagonal()
            differ = (ours.array() != theirs).sum() if len(ours) == len(theirs) else "all"
            rows.append(
                [
                    name,
                    str(len(theirs)),
                    str(len(ours)),
                    f"{pairs.min():.6f}",
                    f"{differ} of {theirs.size}",
                ]
            )
    table("coins, sam-nano, in order, against SamAutomaticMaskGenerator in float32", rows)
