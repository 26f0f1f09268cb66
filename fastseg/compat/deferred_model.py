"""A model folder with the methods that callers of torch modules use; loaded when first used."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, TypeVar

from fastseg.compat import tensors
from fastseg.inference.sessions import Choice
from fastseg.loading import load_sam
from fastseg.sam.model import Sam

Own = TypeVar("Own", bound="DeferredModel")


class DeferredModel(ABC):
    """A model folder as a model of another library.

    Args:
        folder: The model folder.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or such a ``torch.device``.
    """

    def __init__(self, folder: str | os.PathLike[str], device: object = "cpu") -> None:
        self._folder = folder
        self._device = str(device)

    @cached_property
    def loaded(self) -> Sam:
        """The same model as fastseg's own calls take it.

        Raises:
            CheckpointError: It is a model of another kind.
            BackendError: There is no such device here. It is a ``RuntimeError``.
        """
        return self._load(self._device)

    @property
    def device(self) -> Any:
        """A ``torch.device`` if torch is loaded, else the name of the device."""
        return tensors.device(self.loaded.device)

    def to(self: Own, device: object) -> Own:
        """Move to ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or such a ``torch.device``; returns itself.

        Raises:
            BackendError: There is no such device here. It is a ``RuntimeError``.
        """
        if str(device) != self._device:
            moved = self._load(str(device))
            if "loaded" in self.__dict__:
                self.loaded.close()
            self._device, self.__dict__["loaded"] = str(device), moved
        return self

    def cuda(self: Own) -> Own:
        """Move to the first GPU; see ``to``."""
        return self.to("cuda")

    def cpu(self: Own) -> Own:
        """Move to the CPU."""
        return self.to("cpu")

    def eval(self: Own) -> Own:
        """Return itself: fastseg does not train."""
        return self

    @abstractmethod
    def require(self, model: Sam) -> None:
        """Refuse a model of another kind.

        Raises:
            CheckpointError: It is one.
        """

    def _load(self, device: str) -> Sam:
        model = load_sam(self._folder, Choice(device=device), max_pixels=None)
        self.require(model)
        return model
