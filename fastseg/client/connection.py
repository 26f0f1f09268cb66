"""Connection to a server: requests, answers and their errors, over the standard library alone."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from fastseg.errors import ServerError

Json: TypeAlias = Mapping[str, Any]


class Connection:
    """A connection for each thread that uses it.

    Args:
        url: Address of the server.
        token: Bearer token, where the server asks for one.
        timeout: Seconds that the server may be silent.

    Raises:
        ServerError: The address is none.
    """

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServerError(0, f"{url!r} is no address of a server. Write http://host:port.")
        self._parts = parts
        self._token = token
        self._timeout = timeout
        self._local = threading.local()

    def close(self) -> None:
        """Close the connection of this thread."""
        held = getattr(self._local, "connection", None)
        if held is not None:
            held.close()
            self._local.connection = None

    def json(self, method: str, path: str, body: Json | None = None) -> Json:
        """Send a request and read its answer as JSON."""
        content = None if body is None else json.dumps(body).encode()
        answer = self.request(method, path, content, {"Content-Type": "application/json"})
        found: Json = json.loads(answer) if answer else {}
        return found

    def request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> bytes:
        """Send a request and return the body of its answer."""
        try:
            answer = self._send(method, path, body, headers)
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ServerError(0, f"{self._parts.netloc} does not answer: {error}.") from error
        _check(answer, content)
        return content

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        held = getattr(self._local, "connection", None)
        try:
            return self._exchange(held or self._connect(), method, path, body, headers)
        except (http.client.RemoteDisconnected, ConnectionError):
            # A connection that was idle may have been closed meanwhile.
            self.close()
            if held is None:
                raise
            return self._exchange(self._connect(), method, path, body, headers)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        sent = dict(headers)
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        # A server that refuses a large body answers before it has read it.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body, sent)
        return connection.getresponse()

    def _connect(self) -> http.client.HTTPConnection:
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        host, port = self._parts.hostname or "", self._parts.port
        self._local.connection = kind(host, port, timeout=self._timeout)
        connection: http.client.HTTPConnection = self._local.connection
        return connection

    def lines(self, path: str, body: Json) -> Iterator[Json]:
        """Yield the JSON lines of an answer as they arrive."""
        headers = {"Content-Type": "application/json"}
        try:
            answer = self._send("POST", path, json.dumps(body).encode(), headers)
            if answer.status >= 400:
                _check(answer, answer.read())
            for line in answer:
                yield json.loads(line)
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(0, f"{self._parts.netloc} stopped answering: {error}.") from error
        finally:
            self.close()


def _check(answer: http.client.HTTPResponse, content: bytes) -> None:
    if answer.status < 400:
        return
    message, after = answer.reason, answer.getheader("Retry-After")
    with suppress(ValueError, KeyError, TypeError):
        message = json.loads(content)["error"]["message"]
    raise ServerError(answer.status, message, retry_after=float(after) if after else None)
