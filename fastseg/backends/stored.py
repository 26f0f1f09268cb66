"""Which file of a model folder holds a graph."""

from __future__ import annotations

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import GraphFile
from fastseg.errors import BackendError, ModelFolderError


def choose_file(folder: ModelFolder, graph_name: str, *, precision: str = "auto") -> GraphFile:
    """Settle which file of a folder holds a graph in the wanted precision.

    Args:
        folder: A model folder that was read.
        graph_name: ``"encoder"``, ``"decoder"``, ... as in ``contract.SAM_GRAPHS``.
        precision: ``"auto"`` or a precision that a file can hold; ``"auto"`` prefers ``"fp32"``.

    Raises:
        BackendError: The folder does not have the graph in this precision.
        ModelFolderError: The folder does not have the graph in any precision.
    """
    graphs = folder.manifest.graphs.values()
    found = {stored.precision: stored for stored in graphs if stored.graph.name == graph_name}
    if not found:
        raise ModelFolderError(
            f"{folder.path} has no graph {graph_name!r}. Export the model again."
        )
    if precision == "auto":
        return found.get("fp32") or next(iter(found.values()))
    if precision not in found:
        add = {"fp16": "half", "int8": "int8"}.get(precision)
        how = f"add it: fastseg export {add}" if add else "export the model anew"
        raise BackendError(
            f"{folder.path} holds {graph_name} in {', '.join(found)}, not in {precision}. "
            f'Use precision="auto", or {how}.'
        )
    return found[precision]
