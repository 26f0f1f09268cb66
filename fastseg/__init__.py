"""The fastest exact inference for promptable and prompt-free segmentation.

``import fastseg`` costs next to nothing: a name loads its module when it is first used, and a
runtime is loaded when a model is. Research use only; not a medical device.
"""

from __future__ import annotations

from importlib import import_module

_ERRORS = (
    "BackendError",
    "BackendUnavailableError",
    "CheckpointError",
    "CohortError",
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
    "ServerError",
)
_HOMES = {
    **dict.fromkeys(_ERRORS, "errors"),
    "Embedding": "sam.embedding",
    "EmbeddingCache": "sam.embedding_cache",
    "Frame": "geometry",
    "Masks": "masks",
    "Prototypes": "sam.prototypes",
    "Ritm": "guided.ritm",
    "Sam": "sam.model",
    "Specialist": "guided.specialist",
    "Timings": "timings",
    "Unet": "echo.unet",
    "calibrate": "validation.autotune",
    "doctor": "diagnosis",
    "list_models": "artifacts.registry",
    "load": "loading",
    "read_image": "images",
}

_PACKAGES = ("cohort", "imaging")

__all__ = ["__version__", *sorted((*_HOMES, *_PACKAGES))]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("fastseg-runtime")
    if name in _PACKAGES:
        return import_module(f"fastseg.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'fastseg' has no attribute {name!r}")
    value = getattr(import_module(f"fastseg.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
