"""Errors as answers: the status of each typed error, and the body that carries its message."""

from __future__ import annotations

import math
import sys
import traceback

from starlette.exceptions import HTTPException
from starlette.responses import Response

from fastseg.errors import (
    BackendUnavailableError,
    DeviceMemoryError,
    EmbeddingError,
    FastsegError,
    ImageError,
    MaskError,
    MeasurementError,
    OutputError,
    PromptError,
    ServerError,
)
from fastseg.inputs.text import printable
from fastseg.results import to_json

_STATUS: tuple[tuple[type[FastsegError], int], ...] = (
    (DeviceMemoryError, 503),
    (BackendUnavailableError, 501),
    (ImageError, 422),
    (PromptError, 422),
    (MaskError, 422),
    (MeasurementError, 422),
    (EmbeddingError, 422),
    (OutputError, 422),
)
"""Status of each error whose cause is in the request; any other is one of the server."""


class RefusalError(ServerError, HTTPException):
    """A refused request. FastAPI lets it pass through its own reading of bodies."""

    def __init__(self, status: int, message: str, *, retry_after: float | None = None) -> None:
        HTTPException.__init__(self, status_code=status, detail=message)
        ServerError.__init__(self, status, message, retry_after=retry_after)

    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.detail)


def status_of(error: FastsegError) -> int:
    """Return the status that tells of an error."""
    if isinstance(error, ServerError):
        return error.status or 500
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def error_body(error: BaseException) -> dict[str, object]:
    """Return the type and the message of an error, ready for JSON."""
    kind = "ServerError" if isinstance(error, ServerError) else type(error).__name__
    return {"error": {"type": kind, "message": printable(" ".join(str(error).split()))}}


def unforeseen(error: Exception) -> RefusalError:
    """Log an error that nobody foresaw, and return what the client is told."""
    if isinstance(error, MemoryError):
        return RefusalError(503, "the server has too little memory for this now.", retry_after=10)
    traceback.print_exception(error, file=sys.stderr)
    return RefusalError(500, "the server met an error of its own; its log tells more.")


def refusal(error: FastsegError) -> Response:
    """Make the answer that tells of an error."""
    status = status_of(error)
    headers = {}
    if isinstance(error, ServerError) and error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return json_answer(error_body(error), status, headers)


def json_answer(
    content: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Make an answer of JSON; numbers that JSON lacks are null."""
    return Response(to_json(content), status, headers, "application/json")
