"""A RITM of a few channels, exported once."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_ritm(tmp_path_factory) -> Path:
    """Its model folder."""
    pytest.importorskip("torch", reason="exports need torch")
    from tests.helpers.tiny_ritm import write_tiny_ritm

    path = tmp_path_factory.mktemp("ritm") / "tiny-ritm"
    write_tiny_ritm(path)
    return path
