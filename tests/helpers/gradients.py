"""Tests of training with torch's gradient of depthwise weights and, if slow, the native one."""

from __future__ import annotations

import pytest

both_gradients = pytest.mark.parametrize(
    "gradient",
    ["torch", pytest.param("native", marks=pytest.mark.slow)],
    indirect=True,
)
