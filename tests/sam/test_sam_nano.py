"""Promises of the model card of sam-nano."""

from __future__ import annotations

import pytest

from fastseg.artifacts import registry

pytest.importorskip("onnxruntime", reason="the embedded model runs in onnxruntime")
pytest.importorskip("skimage", reason="the photograph comes with scikit-image")
pytest.importorskip("scipy", reason="the reference masks need scipy")

from training.sam_nano import evaluation


def test_the_folder_takes_at_most_35_megabytes() -> None:
    folder = registry.find("sam-nano")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 35_000_000


@pytest.mark.slow
def test_coins_that_training_never_saw_are_found() -> None:
    quality = evaluation.evaluate("sam-nano")
    assert quality.coins == 22
    assert quality.box_single >= 0.95
    assert quality.box_chosen >= 0.95
    assert quality.point_chosen >= 0.94
    assert quality.found >= 20
