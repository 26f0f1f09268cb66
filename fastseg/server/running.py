"""The running server: in the foreground of a process, or in a thread beside other work."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from types import TracebackType

import uvicorn

from fastseg.errors import ServerError
from fastseg.sam.model import Sam
from fastseg.server.app import create_app
from fastseg.server.settings import Settings

_START_S = 120.0
_LAST_ANSWERS_S = 3
_IDLE_S = 15
_BACKLOG = 1024


class Server:
    """A server of one model; in a ``with`` block it runs in a thread of its own.

    Args:
        model: A model that takes prompts; it stays open when the server ends.
        settings: The settings of the server; None is the defaults.

    Raises:
        ServerError: The address cannot be listened at.
    """

    def __init__(self, model: Sam, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self._socket = _listen(settings.host, settings.port)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"
        """Address of the server and of its page."""
        config = uvicorn.Config(
            create_app(model, settings),
            http="h11",
            ws="none",
            lifespan="on",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_LAST_ANSWERS_S,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve until the process is interrupted."""
        self._server.run(sockets=[self._socket])

    def __enter__(self) -> Server:
        """Serve in a thread, and return once the model is ready.

        Raises:
            ServerError: The server did not start.
        """
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()
        end = time.monotonic() + _START_S
        while not self._is_ready():
            if not self._thread.is_alive() or time.monotonic() > end:
                raise ServerError(0, f"the server at {self.url} did not start.")
            time.sleep(0.01)
        return self

    def _is_ready(self) -> bool:
        if not self._server.started:
            return False
        host, port = self._socket.getsockname()[:2]
        connection = http.client.HTTPConnection(host, port, timeout=_START_S)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the server, and wait for its last answers."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
        self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # By its protocol asyncio knows a connection that must not hold small parts of answers back.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(_BACKLOG)  # from here on clients wait instead of being turned away
    except OSError as error:
        found.close()
        reason = error.strerror or error
        raise ServerError(
            0, f"{host}:{port} cannot be listened at: {reason}. Choose another --port."
        ) from error
    return found
