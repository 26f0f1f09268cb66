"""Servers of the tiny model, and raw requests to them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the server needs the extra server")

from fastseg.client import Client
from fastseg.server import Server, Settings


@pytest.fixture(scope="module")
def serve(tiny_model) -> Iterator[Callable[..., str]]:
    """Start servers of the tiny model; they end with the module's tests."""
    with ExitStack() as stack:
        yield lambda **given: stack.enter_context(Server(tiny_model, Settings(port=0, **given))).url


@pytest.fixture(scope="module")
def url(serve) -> str:
    """Address of a server with default limits."""
    return serve()


@pytest.fixture
def client(url) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    from tests.helpers.browser import browser_program

    if (program := browser_program()) is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with driver.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def png() -> bytes:
    """A bright disc on a dark ground, 96 x 64 pixels."""
    rows, columns = np.indices((64, 96))
    disc = (rows - 30) ** 2 + (columns - 40) ** 2 < 15**2
    stream = BytesIO()
    Image.fromarray(np.where(disc, 220, 30).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


class Raw:
    """One request, sent as it is written here."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname, parts.port)

    def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        sent = dict(headers or {})
        if isinstance(body, dict | list):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()


@pytest.fixture
def raw(url) -> Raw:
    return Raw(url)
