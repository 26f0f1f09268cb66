"""The page of the server in a tab of a real browser."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser_program() -> str | None:
    """Find a browser of this machine."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Tab:
    """A page of the server in a tab, and what it sent and complained about."""

    def __init__(self, context: Any, url: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)

    def at(self, x: float, y: float, width: int = 96, height: int = 64) -> tuple[float, float]:
        """Place a pixel of a fitted image on the screen."""
        stage = self.page.locator("#stage")
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        scale = min((box["width"] - 16) / width, (box["height"] - 16) / height)
        left = box["x"] + (box["width"] - width * scale) / 2
        top = box["y"] + (box["height"] - height * scale) / 2
        return left + x * scale, top + y * scale

    def open(self, file: Path) -> None:
        """Open an image, and wait until it is embedded."""
        self.page.set_input_files("#file", str(file))
        expect(self.page.locator("#status")).to_contain_text("pixels", timeout=30_000)

    def click(self, x: float, y: float, *size: int) -> None:
        """Click a pixel of the image."""
        self.page.mouse.click(*self.at(x, y, *size))

    def drag(self, start: tuple[float, float], end: tuple[float, float], *size: int) -> None:
        """Drag from one pixel of the image to another one."""
        self.page.mouse.move(*self.at(*start, *size))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(*end, *size), steps=5)
        self.page.mouse.up()

    def alternatives(self, count: int) -> None:
        """Wait until so many masks are there to choose from."""
        expect(self.page.locator("#alternatives button")).to_have_count(count)

    def objects(self, count: int) -> None:
        """Wait until so many objects are kept."""
        expect(self.page.locator("#objects li")).to_have_count(count)

    def download(self, button: str) -> bytes:
        """Press a button, and return the file that comes of it."""
        with self.page.expect_download() as waiting:
            self.page.click(button)
        return Path(waiting.value.path()).read_bytes()
