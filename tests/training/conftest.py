"""Training runs on torch alone in tests that are not slow."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def gradient(request, monkeypatch) -> str:
    """Leave the native gradient of depthwise weights, which has to be compiled, to slow tests."""
    if request.node.get_closest_marker("slow") is not None:
        return "native"
    pytest.importorskip("torch", reason="training needs torch")
    monkeypatch.setattr("training.sam_nano.depthwise.compiled", lambda: None)
    return "torch"
