"""The guard before every request: who may send it, how large and how slow it may be."""

from __future__ import annotations

import asyncio
import hmac
import time
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastseg.server.metrics import Metrics
from fastseg.server.refusals import RefusalError, refusal
from fastseg.server.settings import Settings

_LINGER_S = 5.0
"""Seconds for which the rest of a refused body is thrown away."""

UPLOAD_PATH = "/v1/images"
_OPEN_PATHS = ("/", "/health", "/ready", "/favicon.ico")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

_PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'"
)


class Guard:
    """Checks a request before its body is read, and bounds its body and its answer."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, self._settings.limits.send_s, scope["path"])
        try:
            headers = Headers(scope=scope)
            scope.setdefault("state", {})["owner"] = self._check(scope, headers)
            body = _Body(receive, self._most_bytes(scope), self._settings.limits.upload_s)
            body.check_length(headers.get("content-length"))
            await self._app(scope, body, answer)
        except RefusalError as error:
            if not answer.begun:
                await refusal(error)(scope, receive, _Lingering(answer, receive))
        except TimeoutError:
            answer.status = 499  # the reader has gone; the connection is closed
        finally:
            self._observe(scope, answer)

    def _check(self, scope: Scope, headers: Headers) -> str:
        """Return the token of the client, empty without tokens.

        Raises:
            RefusalError: The request comes from another site's page, or carries no token.
        """
        settings = self._settings
        _check_origin(headers, settings.origins)
        if not settings.tokens:
            if settings.is_local:
                _check_host(headers)
            return ""
        path = scope["path"]
        if path in _OPEN_PATHS or path.startswith("/page/"):
            return ""
        kind, _, given = headers.get("authorization", "").partition(" ")
        given = given.strip()
        for token in settings.tokens:
            if kind.lower() == "bearer" and hmac.compare_digest(given.encode(), token.encode()):
                return token
        raise RefusalError(
            401, "the request carries no valid token. Send the header Authorization: Bearer TOKEN."
        )

    def _most_bytes(self, scope: Scope) -> int:
        limits = self._settings.limits
        return limits.max_bytes if scope["path"] == UPLOAD_PATH else limits.max_json_bytes

    def _observe(self, scope: Scope, answer: _Answer) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE") else "other"
        self._metrics.count(
            "fastseg_requests_total",
            "Requests by route and status.",
            route=route,
            method=method,
            status=str(answer.status),
        )
        self._metrics.observe(
            "fastseg_request_seconds",
            "Time from a request to the end of its answer.",
            time.perf_counter() - answer.start,
            route=route,
        )


class _Body:
    """The body of a request, up to a number of bytes and seconds."""

    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        self._receive = receive
        self._most = most
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._bytes = 0
        self._whole = False

    def check_length(self, length: str | None) -> None:
        """Refuse a body that says that it is too large, before any of it is read."""
        if length is not None and length.isdecimal() and int(length[:20]) > self._most:
            raise self._too_large()

    async def __call__(self) -> Message:
        """Receive a part."""
        if self._whole:  # the end of the connection, for which an answer may wait for long
            return await self._receive()
        left = max(0.0, self._end - time.monotonic())
        try:
            message = await asyncio.wait_for(self._receive(), left)
        except (asyncio.TimeoutError, TimeoutError):
            raise RefusalError(
                408, f"the body of the request took longer than {self._seconds:g} s to arrive."
            ) from None
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._bytes > self._most:
                raise self._too_large()
        return message

    def _too_large(self) -> RefusalError:
        return RefusalError(413, f"the body of the request has more than {self._most:,} bytes.")


class _Lingering:
    """An answer to a request whose body is not read: it is thrown away after the answer.

    A connection that is closed with bytes unread is reset, and the answer is lost with it.
    """

    def __init__(self, send: Send, receive: Receive) -> None:
        self._send = send
        self._receive = receive

    async def __call__(self, message: Message) -> None:
        """Send a part, and end the answer when the client has sent all or its time is over."""
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drain(), _LINGER_S)
        await self._send({"type": "http.response.body", "body": b""})

    async def _drain(self) -> None:
        more = True
        while more:
            message = await self._receive()
            more = message["type"] == "http.request" and message.get("more_body", False)


class _Answer:
    """The answer to a request; a reader that does not take it in time loses the connection."""

    def __init__(self, send: Send, seconds: float, path: str) -> None:
        self._send = send
        self._seconds = seconds
        self._path = path
        self.start = time.perf_counter()
        self.begun = False
        self.status = 0

    async def __call__(self, message: Message) -> None:
        """Send a part.

        Raises:
            TimeoutError: The reader takes nothing.
        """
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
            self._add_headers(MutableHeaders(scope=message))
        try:
            await asyncio.wait_for(self._send(message), self._seconds)
        except asyncio.TimeoutError:
            raise TimeoutError("the reader takes no more") from None

    def _add_headers(self, headers: MutableHeaders) -> None:
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Content-Security-Policy"] = _PAGE_POLICY
        if "cache-control" not in headers:
            headers["Cache-Control"] = "no-store"
        total = f"total;dur={(time.perf_counter() - self.start) * 1e3:.2f}"
        known = headers.get("server-timing")
        headers["Server-Timing"] = f"{known}, {total}" if known else total
        if self.status in (408, 413):
            headers["Connection"] = "close"


def _check_origin(headers: Headers, origins: tuple[str, ...]) -> None:
    """Refuse what a page of another site sends, unless the site is named."""
    origin = headers.get("origin")
    if origin is None or origin in origins:
        return
    if urlsplit(origin).netloc != headers.get("host"):
        raise RefusalError(
            403, "the request comes from a page of another site. Name it by --allow-origin."
        )


def _check_host(headers: Headers) -> None:
    """Refuse names of this machine that a page of another site can have made up."""
    host = headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if name not in _LOCAL_NAMES and not name.startswith("127."):
        raise RefusalError(403, "the server answers to localhost alone. Use that name, or tokens.")
