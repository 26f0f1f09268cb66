"""Weights are pulled whole and right or not at all, and go on after an interruption."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fastseg.artifacts import published_models
from fastseg.artifacts.model_card import ModelCard, PublishedCheckpoint
from fastseg.artifacts.pulling import OFFLINE, pull, pulled_file
from fastseg.cli.root import run
from fastseg.errors import CheckpointError, ModelNotFoundError, OutputError

CONTENT = bytes(range(256)) * 12_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = "weights.pth"


class Server(ThreadingHTTPServer):
    """A local server of one file, which may break off, ignore ranges, or hold another content."""

    daemon_threads = True
    content = CONTENT
    stop_after: int | None = None
    takes_ranges = True
    asked: list[tuple[str, str | None]]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers ``GET`` with the file or the range of it that was asked for."""

    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        if not self.path.startswith(f"/{FILE}"):
            self.send_error(404)
            return
        content, begin = self.server.content, 0
        if asked is not None and self.server.takes_ranges:
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        end = None if self.server.stop_after is None else begin + self.server.stop_after
        self.wfile.write(content[begin:end])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as found:
        found.asked = []
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def known(monkeypatch, tmp_path) -> None:
    """Two published models: of one the hash is known, of the other nothing."""
    file = PublishedCheckpoint(FILE, len(CONTENT), SHA256)
    facts = {"family": "sam", "description": "for tests", "licence": "none", "page": "https://a"}
    cards = (
        ModelCard("known", checkpoint=file, **facts),
        ModelCard("unknown", **facts),
    )
    monkeypatch.setattr(published_models, "KNOWN", cards)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(OFFLINE, raising=False)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_file_is_fetched_into_the_cache_and_not_again(server, tmp_path) -> None:
    seen: list[tuple[int, int | None]] = []
    card = published_models.KNOWN[0]
    assert pulled_file(card) is None
    found = pull(
        "known", f"{server.address}/{FILE}", progress=lambda *numbers: seen.append(numbers)
    )
    assert found.path == tmp_path / "cache" / "fastseg" / "checkpoints" / "known" / FILE
    assert found.path.read_bytes() == CONTENT
    assert (found.fresh, found.sha256) == (True, SHA256)
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert not pull("known", f"{server.address}/{FILE}").fresh
    assert len(server.asked) == 1
    assert pulled_file(card) == found.path


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path) -> None:
    address, out = f"{server.address}/", tmp_path / "out"
    server.stop_after = 1_000_000
    with pytest.raises(CheckpointError, match=r"ended after 1000000 of 3072000.*goes on"):
        pull("known", address, out=out)
    assert visible(out) == []
    server.stop_after = None
    assert pull("known", address, out=out).path.read_bytes() == CONTENT
    assert server.asked == [(f"/{FILE}", None), (f"/{FILE}", "bytes=1000000-")]
    assert visible(out) == [FILE]
    assert not list(out.glob(".*.part"))


def test_a_server_without_ranges_sends_all_of_it_again(server, tmp_path) -> None:
    server.takes_ranges = False
    server.stop_after = 5000
    with pytest.raises(CheckpointError, match="ended after"):
        pull("known", f"{server.address}/{FILE}", out=tmp_path / "out")
    server.stop_after = None
    found = pull("known", f"{server.address}/{FILE}", out=tmp_path / "out")
    assert found.path.read_bytes() == CONTENT


def test_a_hash_that_differs_keeps_nothing(server, tmp_path) -> None:
    server.content = CONTENT[:-1] + b"x"
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match=f"not {SHA256}.*not kept"):
        pull("known", f"{server.address}/{FILE}", out=out)
    assert visible(out) == []
    assert not list(out.glob(".*.part"))
    (out / FILE).write_bytes(b"an older file")
    with pytest.raises(CheckpointError, match="holds another file"):
        pull("known", f"{server.address}/{FILE}", out=out)
    assert (out / FILE).read_bytes() == b"an older file"


def test_a_file_of_another_length_is_refused_before_it_is_fetched(server, tmp_path) -> None:
    server.content = b"<!doctype html>please log in"
    with pytest.raises(CheckpointError, match="28 bytes long, and the file has 3072000"):
        pull("known", f"{server.address}/{FILE}", out=tmp_path / "out")
    assert visible(tmp_path / "out") == []


def test_a_longer_rest_of_another_file_is_begun_anew(server, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    part = out / f".{FILE}.{SHA256[:16]}.part"
    part.write_bytes(CONTENT + b"more")
    assert pull("known", f"{server.address}/{FILE}", out=out).path.read_bytes() == CONTENT


def test_what_a_server_refuses_is_said(server, tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"answers 404"):
        pull("known", f"{server.address}/other.pth", out=tmp_path)
    server.shutdown()
    server.server_close()
    with pytest.raises(CheckpointError, match=r"was not fetched.*Try again"):
        pull("known", f"{server.address}/{FILE}", out=tmp_path)


@pytest.mark.parametrize("given", [{"offline": True}, {}])
def test_offline_no_address_is_asked_and_folders_go_on(
    server, tmp_path, monkeypatch, given
) -> None:
    if not given:
        monkeypatch.setenv(OFFLINE, "1")
    with pytest.raises(CheckpointError, match=r"is not fetched: .*(--offline|FASTSEG_OFFLINE)"):
        pull("known", f"{server.address}/{FILE}", **given)
    assert server.asked == []
    (tmp_path / FILE).write_bytes(CONTENT)
    assert pull("known", tmp_path, **given).fresh
    monkeypatch.setenv(OFFLINE, "0")


def test_a_folder_or_a_file_is_copied(tmp_path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    with pytest.raises(CheckpointError, match=r"does not hold weights\.pth.*none"):
        pull("known", source)
    with pytest.raises(CheckpointError, match="no folder, file or address"):
        pull("known", source / "absent")
    with pytest.raises(CheckpointError, match="no folder, file or address"):
        pull("known", f"ftp://127.0.0.1/{FILE}")
    (source / FILE).write_bytes(CONTENT)
    assert pull("known", source, out=out).path.read_bytes() == CONTENT
    assert pull("known", source / FILE).path.read_bytes() == CONTENT
    (source / FILE).write_bytes(CONTENT[:-5000])
    with pytest.raises(CheckpointError, match="of 3067000 bytes"):
        pull("known", source, out=tmp_path / "other")


def test_a_hash_that_is_not_known_must_be_given(server, tmp_path) -> None:
    (tmp_path / "mine.pth").write_bytes(CONTENT)
    with pytest.raises(CheckpointError, match=r"no hash.*https://a.*--sha256"):
        pull("unknown", tmp_path)
    with pytest.raises(CheckpointError, match="64 hexadecimal digits"):
        pull("unknown", tmp_path, sha256="abc")
    found = pull("unknown", tmp_path, sha256=SHA256.upper())
    assert found.path.name == "mine.pth"
    with pytest.raises(CheckpointError, match="no known name"):
        pull("unknown", f"{server.address}/", sha256=SHA256)
    (tmp_path / "second.pth").write_bytes(CONTENT)
    with pytest.raises(CheckpointError, match=r"mine\.pth, second\.pth"):
        pull("unknown", tmp_path, sha256=SHA256)


def test_a_name_that_is_not_known_and_a_folder_that_cannot_be_written_are_refused(tmp_path) -> None:
    with pytest.raises(ModelNotFoundError, match="known, unknown"):
        pull("sam-nano", tmp_path)
    (tmp_path / FILE).write_bytes(CONTENT)
    with pytest.raises(OutputError):
        pull("known", tmp_path, out=tmp_path / FILE)


def test_the_command_pulls_and_says_how_to_go_on(server, tmp_path, capsys) -> None:
    call = ["models", "pull", "known", "--from", f"{server.address}/{FILE}"]
    assert run([*call, "--out", str(tmp_path / "out"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == str(tmp_path / "out" / FILE)
    assert (document["sha256"], document["fresh"]) == (SHA256, True)
    assert run([*call, "--out", str(tmp_path / "out")]) == 0
    assert "already there" in capsys.readouterr().out
    assert run([*call, "--offline", "--out", str(tmp_path / "new")]) == 1
    assert "--offline" in capsys.readouterr().err
    assert run(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    assert rows["known"]["ran_here"] == "random weights of its shape"
    assert rows["known"]["pulled"] is None
    assert rows["sam-nano"]["ran_here"] == "these weights"
    assert run(call) == 0
    capsys.readouterr()
    assert run(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    assert rows["known"]["pulled"].endswith(FILE)
