"""The fastest exact inference for promptable and prompt-free segmentation.

``import fastseg`` costs next to nothing: a name loads its module when it is first used, and a
runtime is loaded when a model is. Research use only; not a medical device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from fastseg.calibration import calibrate as calibrate
    from fastseg.diagnosis import doctor as doctor
    from fastseg.embedding import Embedding as Embedding
    from fastseg.embedding_cache import EmbeddingCache as EmbeddingCache
    from fastseg.errors import BackendError as BackendError
    from fastseg.errors import BackendUnavailableError as BackendUnavailableError
    from fastseg.errors import CheckpointError as CheckpointError
    from fastseg.errors import EmbeddingError as EmbeddingError
    from fastseg.errors import FastsegError as FastsegError
    from fastseg.errors import ImageError as ImageError
    from fastseg.errors import MaskError as MaskError
    from fastseg.errors import MeasurementError as MeasurementError
    from fastseg.errors import ModelError as ModelError
    from fastseg.errors import ModelFolderError as ModelFolderError
    from fastseg.errors import ModelNotFoundError as ModelNotFoundError
    from fastseg.errors import OutputError as OutputError
    from fastseg.errors import ParityError as ParityError
    from fastseg.errors import PromptError as PromptError
    from fastseg.everything import Sam as Sam
    from fastseg.geometry import Frame as Frame
    from fastseg.images import read_image as read_image
    from fastseg.loading import load as load
    from fastseg.masks import Masks as Masks
    from fastseg.registry import list_models as list_models
    from fastseg.timings import Timings as Timings
    from fastseg.unet import Unet as Unet

_ERRORS = (
    "BackendError",
    "BackendUnavailableError",
    "CheckpointError",
    "EmbeddingError",
    "FastsegError",
    "ImageError",
    "MaskError",
    "MeasurementError",
    "ModelError",
    "ModelFolderError",
    "ModelNotFoundError",
    "OutputError",
    "ParityError",
    "PromptError",
)
_HOMES = {
    **dict.fromkeys(_ERRORS, "errors"),
    "Embedding": "embedding",
    "EmbeddingCache": "embedding_cache",
    "Frame": "geometry",
    "Masks": "masks",
    "Sam": "everything",
    "Timings": "timings",
    "Unet": "unet",
    "calibrate": "calibration",
    "doctor": "diagnosis",
    "list_models": "registry",
    "load": "loading",
    "read_image": "images",
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("fastseg-runtime")
    if name not in _HOMES:
        raise AttributeError(f"module 'fastseg' has no attribute {name!r}")
    value = getattr(import_module(f"fastseg.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
