"""Folders of the native sources include downwards only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "csrc"
NETWORKS = {"cpu/sam_decoder", "cpu/sam_encoder", "cpu/echo_unet"}


def includes() -> Iterator[tuple[Path, str]]:
    for source in SOURCES.rglob("*"):
        if source.suffix in {".h", ".cpp", ".cu"}:
            for included in re.findall(r'^#include [<"](.+)[>"]', source.read_text(), re.M):
                yield source.relative_to(SOURCES), included


def folder(path: str | Path) -> str:
    """Folder of a source file; code for one instruction set belongs to the folder above it."""
    return Path(path).parent.as_posix().removesuffix("/x86")


def folders() -> dict[str, set[str]]:
    """Folders that the files of each folder include."""
    graph: dict[str, set[str]] = {}
    for source, included in includes():
        found = graph.setdefault(folder(source), set())
        if (SOURCES / included).is_file() and folder(included) != folder(source):
            found.add(folder(included))
    return graph


def test_folders_form_no_circle():
    assert len(list(TopologicalSorter(folders()).static_order())) > 10


def test_networks_stand_side_by_side_on_shared_code():
    graph = folders()
    assert graph.keys() >= NETWORKS
    for network in NETWORKS:
        assert graph[network] <= {"cpu/nn", "cpu/support"}
    assert graph["cpu/nn"] <= {"cpu/support"}


def test_common_code_includes_no_processor():
    assert folders()["common"] == set()


def test_nanobind_is_included_by_the_bindings_alone():
    users = {folder(source) for source, included in includes() if "nanobind" in included}
    assert users == {"bindings"}


def test_the_interface_includes_the_standard_library_alone():
    needed = [
        included
        for source, included in includes()
        if source.name == "kernels.h" and folder(source) == "."
    ]
    assert needed
    assert not any("/" in name or "." in name for name in needed)
