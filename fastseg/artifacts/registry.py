"""Known models: those that come with fastseg, and the checkpoints that it can export."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fastseg import artifacts
from fastseg.artifacts import published_models
from fastseg.artifacts.manifest import SAM
from fastseg.artifacts.model_card import ModelCard
from fastseg.errors import ModelError, ModelNotFoundError
from fastseg.inputs.numbers import shown
from fastseg.storage.paths import is_file, is_folder, user_path

EMBEDDED = Path(__file__).parents[1] / "models"
"""The folder of the model folders that come with fastseg."""


def list_models() -> list[ModelCard]:
    """List every known model: first those that come with fastseg, then the published ones.

    An embedded folder that cannot be read is left out; ``doctor`` says what is wrong with it.
    """
    return [*_embedded(), *published_models.KNOWN]


def published(sha256: str) -> ModelCard | None:
    """Find the published model whose weights file has this hash."""
    known = (
        card
        for card in published_models.KNOWN
        if card.checkpoint and card.checkpoint.sha256 == sha256
    )
    return next(known, None)


def embedded_folders() -> list[Path]:
    """List the model folders that come with fastseg, by name, intact or not."""
    if not EMBEDDED.is_dir():
        return []
    return sorted(path for path in EMBEDDED.iterdir() if artifacts.is_model_folder(path))


def find(model: str | os.PathLike[str]) -> Path:
    """Turn the name of an embedded model, or a path, into a model folder.

    Args:
        model: A name from ``list_models()``, which goes before a folder of the same name in the
            working directory, or the path of a model folder.

    Raises:
        ModelNotFoundError: There is neither. The message lists the names, and for a published
            model or a checkpoint file says how to make a model folder of it.
    """
    if not isinstance(model, str | os.PathLike) or not isinstance(os.fspath(model), str):
        raise ModelNotFoundError(
            f"a model is a name or the path of a folder, not {shown(model)}. Give text or a Path."
        )
    folders = {path.name: path for path in embedded_folders()}
    if str(model) in folders:
        return folders[str(model)]
    path = user_path(model)
    if is_folder(path, ModelNotFoundError):
        return path
    names = ", ".join(folders) or "none"
    if is_file(path, ModelNotFoundError):
        raise ModelNotFoundError(
            f"{model} is a file, and a model is a folder. Make one of a checkpoint: "
            f"fastseg export {model} --out FOLDER."
        )
    for card in published_models.KNOWN:
        if card.name == str(model):
            raise ModelNotFoundError(f"{_absence(card)} Models that come with fastseg: {names}.")
    raise ModelNotFoundError(
        f"there is no model and no folder {str(model)!r}. Models that come with fastseg: {names}."
    )


def _absence(card: ModelCard) -> str:
    """Say how to get a published model."""
    file = card.checkpoint.file if card.checkpoint else "FILE"
    return (
        f"{card.name} does not come with fastseg. Get its weights from {card.page}, for example by "
        f"fastseg models pull {card.name} --from FOLDER|URL, then: fastseg export {file} --out "
        f"{card.name}."
    )


def _embedded() -> Iterator[ModelCard]:
    for folder in embedded_folders():
        try:
            manifest = artifacts.read(folder, verify=False).manifest
        except ModelError:
            continue
        yield ModelCard(
            name=folder.name,
            family=manifest.family,
            description=manifest.description,
            licence=manifest.licence,
            page=str(manifest.source.get("page", "")),
            folder=folder,
            prompts=manifest.sam_rules.prompts.taken if manifest.family == SAM else "",
            modality="generated images",
        )
