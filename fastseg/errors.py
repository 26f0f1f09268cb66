"""Every error that fastseg raises, as one tree: catch ``FastsegError`` to catch them all.

FastsegError
|- ImageError (ValueError)             an image that cannot be used
|- EmbeddingError (ValueError)         an embedding that is damaged or another model's
|- PromptError (ValueError)            points, boxes, labels or settings that make no sense
|- DeviceArrayError (ValueError)       an array that lies elsewhere or has gaps
|- CohortError (ValueError)            a manifest or a cohort's folder that contradicts itself
|- MaskError (ValueError)              run-length codes or masks that contradict themselves
|- MeasurementError (ValueError)       a scale, mode or view that gives no measurement
|- OutputError (OSError)               a result that could not be written
|- ModelError                          a model that cannot be used
|  |- ModelNotFoundError (LookupError)     no such name and no such folder
|  |- ModelFolderError                     the folder is incomplete, altered or too new
|  `- CheckpointError (ValueError)         the weights are not what the network needs
|- ServerError (RuntimeError)          a server that refused a request, or cannot be reached
|- ParityError                         two outputs that must agree do not
`- BackendError (RuntimeError)         a runtime that cannot do what was asked
   |- BackendUnavailableError              the runtime or the device is not here
   |- EngineError                          an engine that cannot be built, trusted or loaded
   `- DeviceMemoryError                    the device has too little memory for the call
"""

from __future__ import annotations


class FastsegError(Exception):
    """The root of every error that fastseg raises on purpose."""


class ImageError(FastsegError, ValueError):
    """An image cannot be used; the message names what was given and what would work."""


class EmbeddingError(FastsegError, ValueError):
    """An embedding file is damaged, or an embedding was made by another model."""


class PromptError(FastsegError, ValueError):
    """Points, labels, boxes, masks or settings are malformed."""


class DeviceArrayError(FastsegError, ValueError):
    """An array lies in another memory than the one it is needed in, or is not what is needed."""


class CohortError(FastsegError, ValueError):
    """A manifest cannot be used, or a folder holds another cohort."""


class MaskError(FastsegError, ValueError):
    """A mask or a run-length code contradicts itself."""


class MeasurementError(FastsegError, ValueError):
    """A scale, a mode or a view was given that masks cannot be measured with."""


class OutputError(FastsegError, OSError):
    """A result could not be written; nothing half-written remains."""


class ModelError(FastsegError):
    """A model cannot be used."""


class ModelNotFoundError(ModelError, LookupError):
    """Neither an embedded model nor a model folder has this name."""


class ModelFolderError(ModelError):
    """A model folder is incomplete, altered, or written by a newer fastseg."""


class CheckpointError(ModelError, ValueError):
    """A weights file is not the checkpoint of a network that fastseg knows."""


class ServerError(FastsegError, RuntimeError):
    """A server refused a request, or cannot be reached.

    ``status`` is the status of HTTP, 0 without an answer; ``retry_after`` the seconds to wait.
    """

    def __init__(self, status: int, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class ParityError(FastsegError):
    """Two outputs that must agree do not; the message carries the measured difference."""


class BackendError(FastsegError, RuntimeError):
    """A runtime failed, or cannot do what was asked."""


class BackendUnavailableError(BackendError):
    """The runtime or device that was asked for by name is not here.

    ``name`` is what was asked for, ``reason`` why it cannot be had, ``remedy`` what to do.
    """

    def __init__(self, name: str, *, reason: str, remedy: str) -> None:
        super().__init__(f"{name} is not available: {reason}. {remedy}")
        self.name = name
        self.reason = reason
        self.remedy = remedy


class EngineError(BackendError):
    """An engine cannot be built, was not written by fastseg, or is not for this machine."""


class DeviceMemoryError(BackendError):
    """A call needs more memory than the device has left, even in smaller pieces."""
