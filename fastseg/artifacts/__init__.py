"""The model folder: ``model.json`` and the graphs and weights that it lists by their hashes."""

from fastseg.artifacts.folder import (
    MANIFEST_FILE,
    ModelFolder,
    graph_file,
    is_model_folder,
    read,
    remove,
    stored_file,
    write,
    write_manifest,
)
from fastseg.storage.owned import sha256

__all__ = [
    "MANIFEST_FILE",
    "ModelFolder",
    "graph_file",
    "is_model_folder",
    "read",
    "remove",
    "sha256",
    "stored_file",
    "write",
    "write_manifest",
]
