"""A fake runtime in fastseg's table of runtimes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import SimpleNamespace

import pytest

PLACES = ("backends.runtime", "backends.select", "calibration")
"""Who has the table by name."""


def install(
    monkeypatch: pytest.MonkeyPatch,
    table: Mapping[str, str],
    *,
    settle: Callable,
    open_graph: Callable,
    own_layout: bool = False,
) -> SimpleNamespace:
    """Put a runtime on the processor into a table: the one whose module is called ``tests.NAME``.

    Args:
        monkeypatch: Takes it out again.
        table: Modules of runtimes by name, this one among them, in the order of preference.
        settle: As ``backends.runtime.Runtime`` describes it.
        open_graph: The same.
        own_layout: Whether it has a layout of its own.
    """
    (name,) = (name for name, module in table.items() if module == f"tests.{name}")
    module = SimpleNamespace(
        NAME=name,
        DEVICES=("cpu",),
        OWN_LAYOUT=own_layout,
        require=lambda device, precision: "cpu",
        settle=settle,
        open_graph=open_graph,
    )
    monkeypatch.setitem(sys.modules, f"tests.{name}", module)
    for place in PLACES:
        monkeypatch.setattr(f"fastseg.{place}.MODULES", table)
    monkeypatch.setattr("fastseg.backends.selection.BACKENDS", tuple(table))
    return module
