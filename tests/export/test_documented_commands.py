"""docs/models.md takes every network from its file to masks in two commands."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="exports need torch")

from benchmarks.networks.exports import NETWORKS
from fastseg.cli.export_checkpoint import checkpoint
from fastseg.cli.root import root
from fastseg.cli.segment import segment
from fastseg.export.checkpoints.kinds import Kind
from fastseg.export.checkpoints.preparations import PREPARATIONS
from tests.helpers import page

EXPORTED = [kind for kind in NETWORKS if kind.name != "sam-nano"]


@pytest.fixture
def parsed(monkeypatch):
    """Parse a command as its verb does, and return the options instead of running it."""
    for command in (checkpoint, segment):
        monkeypatch.setattr(command, "callback", lambda **options: options)
    return lambda words: root.main(args=words, standalone_mode=False)


@pytest.mark.parametrize("kind", EXPORTED, ids=lambda kind: kind.name)
def test_a_network_is_exported_and_run_by_two_commands(kind: Kind, parsed):
    export, run, *_ = page.commands_by_title()[kind.title]
    assert (export[0], run[0]) == ("fastseg", "fastseg")
    exported, ran = parsed(export[1:]), parsed(run[1:])
    assert str(exported["out"]) == ran["model"]
    prompts = PREPARATIONS[kind.preparations[0]]
    taken = {word for word in ("point", "box") if word in prompts.prompts}
    given = {word for word in ("point", "box") if ran[word]}
    assert given <= taken
    assert bool(given) is bool(taken)
