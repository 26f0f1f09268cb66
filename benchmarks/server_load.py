"""Load on ``fastseg serve``: many clients, bad requests, large images, and the page.

``python -m benchmarks.server_load`` starts a server in a process of its own and prints one table.
Clients click as people do: each waits between an answer and its next point, ``--pause`` seconds
on average. A row that ends in "no" is outside of its bound, and the command then ends with 1.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from fastseg import environment
from fastseg.client import Client
from fastseg.errors import ServerError
from fastseg.validation.synthetic import scenes

SINGLE_POINTS = 60
REST_S = 6.0
"""Seconds after which the server has given freed memory back."""

MOST_RATIO = 6.0
MOST_GROWTH = 0.05
MOST_FIRST_MASK_S = 2.0
MOST_BEYOND_DECODE_MS = 100.0


@dataclass
class Table:
    """Rows of the result; each says if it is within its bound."""

    failed: int = 0
    rows: list[tuple[str, str, bool | None]] = field(default_factory=list)

    def add(self, what: str, value: str, within: bool | None = None) -> None:
        self.rows.append((what, value, within))
        self.failed += within is False
        word = {None: "", True: "yes", False: "no"}[within]
        print(f"| {what} | {value} | {word} |", flush=True)


@contextmanager
def server(model: str) -> Iterator[str]:
    """Run ``fastseg serve`` on a free port, and yield its address."""
    words = [sys.executable, "-m", "fastseg", "serve", "--port", "0", "--model", model]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline() if process.stderr else ""
            url = re.search(r"at (http://\S+)", line)
            if url is None:
                raise SystemExit(f"the server did not start: {line}")
            while request(url[1], "GET", "/ready")[0] != 200:
                time.sleep(0.1)
            yield url[1]
        finally:
            process.terminate()


def request(url: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Send one request on a connection of its own."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=300)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def resident(url: str) -> float:
    """Read the memory of the server in bytes."""
    text = request(url, "GET", "/metrics")[1].decode()
    found = re.search(r"^fastseg_resident_bytes (\S+)$", text, flags=re.MULTILINE)
    return float(found[1]) if found else 0.0


def click(client: Client, path: str, size: tuple[int, int], draw: random.Random) -> float:
    """Ask for the masks of a point, and return the milliseconds until they are there."""
    point = [draw.uniform(1, size[1] - 1), draw.uniform(1, size[0] - 1)]
    start = time.perf_counter()
    client._connection.json("POST", f"{path}/masks", {"prompts": [{"points": [point]}]})
    return (time.perf_counter() - start) * 1e3


def open_images(client: Client, contents: list[bytes]) -> list[tuple[str, tuple[int, int]]]:
    opened = [client.open(content) for content in contents]
    return [(f"/v1/images/{one.about['id']}", one.size) for one in opened]


def close_images(client: Client, opened: list[tuple[str, tuple[int, int]]]) -> None:
    for path, _ in opened:
        client._connection.json("DELETE", path)


def clicking(
    url: str, table: Table, *, clients: int, images: int, seconds: float, pause: float
) -> None:
    """Let many clients click on a few images, beside the time of a single one."""
    contents = [encoded(scene) for scene in scenes()[:images]]
    with Client(url) as client:
        draw = random.Random(0)
        # Once before, so that what stays for good is there when memory is first read.
        close_images(client, open_images(client, contents))
        time.sleep(REST_S)
        start = resident(url)
        opened = open_images(client, contents)

        def alone() -> list[float]:
            single = [click(client, *draw.choice(opened), draw) for _ in range(SINGLE_POINTS)]
            return sorted(single[5:])

        before = alone()
        times: list[float] = []
        errors: Counter[int] = Counter()

        def person(seed: int) -> None:
            draw = random.Random(seed)
            end = time.monotonic() + seconds
            with Client(url) as own:
                time.sleep(draw.uniform(0, 2 * pause))
                while time.monotonic() < end:
                    try:
                        times.append(click(own, *draw.choice(opened), draw))
                    except ServerError as error:
                        errors[error.status] += 1
                    time.sleep(draw.uniform(0, 2 * pause))

        people = [threading.Thread(target=person, args=(seed,)) for seed in range(clients)]
        for one in people:
            one.start()
        for one in people:
            one.join()
        # The lower of the two, so that other work on the machine does not flatter the ratio.
        after = alone()
        median = min(map(statistics.median, (before, after)))
        table.add("one client: median of a click", f"{median:.1f} ms")
        slowest = max(before[-1], after[-1])
        table.add(
            "one client: slowest click", f"{slowest:.1f} ms, {slowest / median:.1f} x the median"
        )
        times.sort()
        tail = times[int(0.99 * (len(times) - 1))]
        what = f"{clients} clients on {images} images, {seconds:g} s, a pause of {pause:g} s"
        table.add(f"{what}: clicks", f"{len(times)} ({len(times) / seconds:.1f}/s)")
        table.add(f"{what}: errors", str(dict(errors) or 0), not errors)
        table.add(f"{what}: median", f"{statistics.median(times):.1f} ms")
        ratio = tail / median
        table.add(
            f"{what}: p99", f"{tail:.1f} ms, {ratio:.1f} x the single median", ratio < MOST_RATIO
        )
        close_images(client, opened)
    time.sleep(REST_S)
    growth = resident(url) / start - 1
    table.add("memory after closing all, to its start", f"{growth:+.1%}", growth <= MOST_GROWTH)


def malformed(url: str, table: Table, *, count: int = 1000) -> None:
    """Send requests with changed bytes, and count what is answered."""
    draw = random.Random(1)
    with Client(url) as client, client.open(encoded(scenes()[0])) as image:
        good = json.dumps({"prompts": [{"points": [[40, 30]], "box": [1, 2, 30, 40]}]}).encode()
        codes: Counter[int] = Counter()
        for _ in range(count):
            broken = bytearray(good)
            for _ in range(draw.randint(1, 8)):
                broken[draw.randrange(len(broken))] = draw.randrange(256)
            path = f"/v1/images/{image.about['id']}/masks"
            codes[request(url, "POST", path, bytes(broken))[0]] += 1
    counts = ", ".join(f"{number} x {code}" for code, number in sorted(codes.items()))
    table.add(f"{count} malformed requests", counts, all(code < 500 for code in codes))


def large(url: str, table: Table) -> None:
    """Upload an image of 100 megapixels."""
    content = encoded(np.zeros((10_000, 10_000), np.uint8))
    with Client(url, timeout=300) as client:
        start = time.perf_counter()
        client.open(content).close()
        table.add("100 megapixels: opened in", f"{time.perf_counter() - start:.1f} s", True)


def oversized(url: str, table: Table) -> None:
    """Upload 400 MB, more than the server takes."""
    start = time.perf_counter()
    status = 201
    with Client(url, timeout=300) as client:
        try:
            client.open(bytes(400_000_000))
        except ServerError as error:
            status = error.status
    seconds = time.perf_counter() - start
    table.add("400 MB: answered by", f"{status} after {seconds:.1f} s", status == 413)


def in_a_browser(url: str, table: Table) -> None:
    """Open 12 megapixels in the page, and click."""
    try:
        from playwright.sync_api import expect, sync_playwright

        from tests.helpers.browser import browser_program

        program = browser_program()
    except ModuleNotFoundError:
        program = None
    if program is None:
        table.add("page", "not measured: needs chromium and playwright")
        return
    with TemporaryDirectory() as folder, sync_playwright() as driver:
        file = Path(folder, "large.jpg")
        scene = Image.fromarray(scenes()[0]).resize((4000, 3000))
        scene.save(file, quality=90)
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        box = page.locator("#stage").bounding_box() or {}
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        beyond = []
        start = time.perf_counter()
        page.set_input_files("#file", str(file))
        expect(page.locator("#status")).to_contain_text("pixels", timeout=60_000)
        for number in range(6):
            with page.expect_response(re.compile("/masks$")) as waiting:
                page.mouse.click(middle[0] + 20 * number, middle[1])
            expect(page.locator("#keep")).to_be_enabled(timeout=60_000)
            if number == 0:
                seconds = time.perf_counter() - start
            page.wait_for_timeout(300)
            timing = waiting.value.headers["server-timing"]
            decode = float(re.search(r"decode;dur=([\d.]+)", timing)[1])  # type: ignore[index]
            beyond.append(painted(page) - decode)
            page.keyboard.press("Escape")
        browser.close()
    table.add(
        "page: 12 megapixels, from the file to the first mask",
        f"{seconds:.2f} s",
        seconds <= MOST_FIRST_MASK_S,
    )
    median = statistics.median(beyond)
    table.add(
        "page: from a click to its painted masks, beyond the decoder",
        f"{median:.0f} ms",
        median <= MOST_BEYOND_DECODE_MS,
    )


def painted(page: object) -> float:
    """Milliseconds from the last request of the page to the first paint after its answer."""
    script = """() => {
      const last = (name) => performance.getEntriesByName(name).at(-1).startTime;
      const answered = last("fastseg-answered");
      const paints = performance.getEntriesByName("fastseg-painted").map((one) => one.startTime);
      return paints.find((time) => time > answered) - last("fastseg-asked");
    }"""
    return float(page.evaluate(script))  # type: ignore[attr-defined]


def encoded(pixels: np.ndarray) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="sam-nano")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=1.0)
    parser.add_argument(
        "--only", choices=["clicking", "malformed", "large", "page"], action="append"
    )
    given = parser.parse_args(arguments)
    parts = given.only or ["clicking", "malformed", "large", "page"]
    print(environment.line())
    print(f"\n| {given.model} | measured | within its bound |\n|---|---:|---|")
    table = Table()
    with server(given.model) as url:
        if "clicking" in parts:
            clicking(
                url,
                table,
                clients=given.clients,
                images=given.images,
                seconds=given.seconds,
                pause=given.pause,
            )
        if "malformed" in parts:
            malformed(url, table)
        if "large" in parts:
            large(url, table)
            oversized(url, table)
        if "page" in parts:
            in_a_browser(url, table)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
