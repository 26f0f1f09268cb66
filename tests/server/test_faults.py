"""Bad requests, strangers and overload are refused with a reason, and nothing is left behind."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from fastseg.client import Client
from fastseg.errors import ServerError
from fastseg.server import Limits, Settings
from fastseg.server.image_store import ImageStore, OpenImage
from fastseg.server.opening import inside
from fastseg.server.refusals import RefusalError
from fastseg.server.settings import SettingError
from tests.server.conftest import Raw

TOKEN, OTHER = "first-token-of-the-tests", "second-token-of-the-tests"

JSON = {"Content-Type": "application/json"}

POINT = {"prompts": [{"points": [[40, 30]]}]}


def message(body: bytes) -> str:
    return json.loads(body)["error"]["message"]


def wait_for(condition) -> None:
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


@pytest.fixture
def uploads(monkeypatch, tmp_path) -> Path:
    """The folder that uploads are written into."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"prompts": []}, "no prompt"),
        ({"prompts": [{}]}, "segment needs points"),
        ({"prompts": [{"points": [[400, 30]]}]}, "outside the image"),
        ({"prompts": [{"points": [[1, 2]], "labels": [1, 1]}]}, "1 points and 2 labels"),
        ({"prompts": [{"labels": [1]}]}, "0 points and 1 labels"),
        ({"prompts": [{"points": [[1, 2]], "labels": [7]}]}, "label 7"),
        ({"prompts": [{"points": [[1, 2]], "labels": [10**400]}]}, ""),
        ({"prompts": [{"points": []}]}, ""),
        ({"prompts": [{"points": [[1, 2, 3]]}]}, "malformed"),
        ({"prompts": [{"box": [1, 2, 3, float("nan")]}]}, "malformed"),
        ({"prompts": [{"box": [1, 2, 3, 1e400]}]}, "malformed"),
        ({"prompts": [{"point": [1, 2]}]}, "malformed"),
        ({"prompts": [{"mask": {"size": [3, 3], "counts": "9"}}]}, ""),
        ({"prompts": [{"mask": {"size": [3, 3], "counts": [9]}}]}, "image's size"),
        ({"prompts": [{"mask": {"size": [64, 96], "counts": [-1, 6145]}}]}, "run lengths"),
        ({"prompts": [{"mask": {"size": [2**40, 2**40], "counts": [1]}}]}, "pixels"),
        ({"prompts": [{"mask": {"size": [64, 96], "counts": "é\ud800"}}]}, ""),
        ({"prompts": [{"points": [[1, 2]]}] * 65}, "more than 64"),
        ({"prompts": [{"points": [[1, 2]] * 1025}]}, "more than 1024"),
        ({"prompts": [{"points": [[1, 2]]}], "frame": 1}, "has 1 frames"),
        ({"prompts": [{"points": [[1, 2]]}], "frame": -1}, "has 1 frames"),
        ({"prompts": [{"points": [[1, 2]]}], "frame": 10**30}, ""),
        ([], "malformed"),
    ],
)
def test_malformed_prompts_are_refused_with_the_reason(raw, client, png, body, reason):
    with client.open(png) as image:
        status, _, answer = raw("POST", f"/v1/images/{image.about['id']}/masks", body)
        assert 400 <= status < 500
        assert reason in message(answer)
        assert image.segment(points=[[[40, 30]]])


def test_a_thousand_malformed_requests_end_without_an_error_of_the_server(raw, client, png):
    draw = random.Random(7)
    with client.open(png) as image:
        path = f"/v1/images/{image.about['id']}/masks"
        good = json.dumps(POINT).encode()
        codes = []
        for number in range(1000):
            broken = bytearray(good)
            for _ in range(draw.randint(1, 6)):
                broken[draw.randrange(len(broken))] = draw.randrange(256)
            if number % 10 == 0:
                broken = bytearray(b"[" * draw.randint(1, 100_000))
            codes.append(raw("POST", path, bytes(broken), JSON)[0])
    # A changed digit can still be a prompt.
    assert set(codes) <= {200, 400, 422}
    assert codes.count(200) < 300


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_an_upload_that_is_no_image_leaves_nothing(raw, uploads, content):
    status, _, body = raw("POST", "/v1/images?name=../../x.png", content)
    assert status == 422
    assert str(uploads) not in message(body)
    assert not list(uploads.iterdir())


def test_a_decompression_bomb_is_refused_by_its_header(raw, uploads):
    stream = BytesIO()
    Image.new("1", (12_000, 12_000)).save(stream, "PNG")
    assert len(stream.getvalue()) < 100_000
    status, _, body = raw("POST", "/v1/images", stream.getvalue())
    assert status == 422
    assert "pixels" in message(body)
    assert not list(uploads.iterdir())


def test_an_upload_that_is_too_large_is_refused_before_it_is_sent(serve, uploads):
    url = serve(limits=Limits(max_bytes=1000))
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        head = (
            f"POST /v1/images HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 400000000\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(100)
    with Client(url) as client, pytest.raises(ServerError, match="1,000 bytes"):
        client.open(bytes(3_000_000))
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        head = f"POST /v1/images HTTP/1.1\r\nHost: {parts.netloc}\r\nTransfer-Encoding: chunked"
        connection.sendall(f"{head}\r\n\r\n800\r\n".encode() + bytes(0x800) + b"\r\n")
        assert b" 413 " in connection.recv(100)
    assert not list(uploads.iterdir())


def test_a_connection_that_is_lost_in_an_upload_leaves_nothing(url, raw, uploads):
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        head = f"POST /v1/images HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode() + bytes(500))
        wait_for(lambda: list(uploads.iterdir()))
    wait_for(lambda: not list(uploads.iterdir()))
    assert raw("GET", "/health")[0] == 200


def test_an_upload_that_stands_still_is_ended(serve, uploads):
    url = serve(limits=Limits(upload_s=0.2))
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        head = f"POST /v1/images HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode() + bytes(500))
        assert b" 408 " in connection.recv(100)
    assert not list(uploads.iterdir())


def test_a_reader_that_never_reads_loses_its_connection(serve, tiny_model, png):
    url = serve(limits=Limits(send_s=0.3))
    parts, raw = urlsplit(url), Raw(url)
    with Client(url) as client:
        number = client.open(png).about["id"]
    item = {"image": number, "prompts": POINT["prompts"] * 64}
    body = json.dumps({"items": [item] * 200}).encode()
    head = f"POST /v1/masks HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((parts.hostname, parts.port))
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        wait_for(lambda: b'route="/v1/masks",method="POST"' in raw("GET", "/metrics")[2])
    assert raw("GET", "/health")[0] == 200


def test_where_too_many_wait_the_answer_is_a_time_to_come_back(serve, tiny_model, png, monkeypatch):
    url = serve(limits=Limits(workers=1, max_waiting=1))
    with Client(url) as client:
        image = client.open(png)
        release, inside_model = threading.Event(), threading.Event()
        segment = tiny_model.segment

        def slow(*args, **given):
            inside_model.set()
            release.wait(30)
            return segment(*args, **given)

        monkeypatch.setattr(tiny_model, "segment", slow, raising=False)
        raw, path = Raw(url), f"/v1/images/{image.about['id']}/masks"
        codes: list[int] = []
        callers = [
            threading.Thread(target=lambda: codes.append(raw("POST", path, POINT)[0]))
            for _ in range(2)
        ]
        callers[0].start()
        inside_model.wait(30)
        callers[1].start()
        wait_for(lambda: b"fastseg_waiting_prompts 1" in raw("GET", "/metrics")[2])
        status, headers, _ = raw("POST", path, POINT)
        release.set()
        for caller in callers:
            caller.join()
    assert status == 503
    assert int(headers["retry-after"]) >= 1
    assert codes == [200, 200]


def test_a_result_that_takes_too_long_is_given_up(serve, tiny_model, png, monkeypatch):
    url = serve(limits=Limits(request_s=0.5))
    release = threading.Event()
    with Client(url) as client:
        image = client.open(png)
        monkeypatch.setattr(tiny_model, "segment", lambda *_, **__: release.wait(30), raising=False)
        with pytest.raises(ServerError, match="longer than") as refused:
            image.segment(points=[[[1, 1]]])
        release.set()
    assert refused.value.status == 504


def test_an_unforeseen_error_is_told_without_its_details(
    serve, tiny_model, png, monkeypatch, capfd
):
    url = serve()
    with Client(url) as client:
        image = client.open(png)
        monkeypatch.setattr(tiny_model, "segment", lambda *_, **__: 1 / 0, raising=False)
        with pytest.raises(ServerError, match="error of its own") as refused:
            image.segment(points=[[[1, 1]]])
    assert refused.value.status == 500
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_an_unforeseen_error_in_a_stream_is_its_last_line(serve, tiny_model, png, monkeypatch):
    with Client(serve()) as client:
        image = client.open(png)
        monkeypatch.setattr(tiny_model, "everything", lambda *_, **__: 1 / 0, raising=False)
        *_, last = image.everything()
        assert (last["event"], "error of its own" in last["error"]["message"]) == ("error", True)
        monkeypatch.setattr(tiny_model, "segment", lambda *_, **__: [0] * 10**14, raising=False)
        with pytest.raises(ServerError, match="too little memory") as refused:
            image.segment(points=[[[1, 1]]])
    assert (refused.value.status, refused.value.retry_after) == (503, 10)


MASK = {"size": [64, 96], "counts": [10, 20, 6114]}
ODD = [
    *(None, True, -1, 0, 2, 1e308, float("nan"), float("inf"), 2**63, 10**30, "", "\ud800", "\0"),
    *(
        [],
        {},
        [[]],
        [1, 2],
        [[1, 2]],
        [1, 2, 30, 40],
        [64, 96],
        MASK,
        {"size": [0, 0], "counts": []},
    ),
    *({"size": [2**31, 2**31], "counts": ""}, {"size": [64, 96], "counts": "PPYo1"}),
]
"""Values that stand where others belong."""


def odd(draw: random.Random, good: object) -> object:
    """Replace parts of a body by values that do not belong there."""
    if draw.random() < 0.2:
        return draw.choice(ODD)
    if isinstance(good, dict):
        return {key: odd(draw, value) for key, value in good.items() if draw.random() < 0.9}
    return [odd(draw, value) for value in good] if isinstance(good, list) else good


def test_bodies_with_odd_values_end_without_an_error_of_the_server(raw, client, png):
    draw = random.Random(11)
    prompts = [{"points": [[40, 30]], "labels": [1], "box": [1, 2, 30, 40], "mask": MASK}]
    named = {"segmentation": MASK, "name": "a", "score": 0.5}
    with client.open(png) as image:
        bodies = {
            "masks": {"prompts": prompts, "frame": 0, "multimask": True, "best": True},
            "everything": {"points_per_side": 2, "pred_iou_thresh": 0.1, "crop_n_layers": 0},
            "propagate": {"prompts": prompts, "frame": 0, "rule": "box", "min_score": 0.1},
            "export": {"format": "nii", "frames": [{"frame": 0, "masks": [named]}]},
        }
        for number in range(240):
            verb = list(bodies)[number % len(bodies)]
            body = odd(draw, bodies[verb])
            path = f"/v1/images/{image.about['id']}/{verb}"
            status, _, answer = raw("POST", path, json.dumps(body).encode(), JSON)
            assert status < 500, body
            assert b"error of its own" not in answer, body


def test_only_a_token_opens_the_server_and_images_belong_to_it(serve, png):
    url = serve(tokens=(TOKEN, OTHER))
    raw = Raw(url)
    assert [raw("GET", path)[0] for path in ("/health", "/ready", "/")] == [200] * 3
    for given in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}):
        status, headers, _ = raw("GET", "/v1/server", headers=given)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert raw("GET", "/metrics")[0] == raw("POST", "/v1/images", png)[0] == 401
    with Client(url, token=TOKEN) as owner, Client(url, token=OTHER) as other:
        image = owner.open(png)
        number = image.about["id"]
        assert len(owner._connection.json("GET", "/v1/images")["images"]) == 1
        assert other._connection.json("GET", "/v1/images")["images"] == []
        with pytest.raises(ServerError, match="no image is open"):
            other._connection.json("GET", f"/v1/images/{number}")


@pytest.mark.parametrize(
    "given",
    [
        {"host": "0.0.0.0"},
        {"host": "example.org"},
        {"tokens": ("short",)},
        {"origins": ("example.org",)},
        {"port": 70_000},
    ],
)
def test_settings_that_would_open_the_server_to_anyone_are_refused(given):
    with pytest.raises(SettingError):
        Settings(**given)


def test_an_open_address_needs_tokens_or_a_word():
    assert Settings(host="0.0.0.0", tokens=(TOKEN,)).tokens
    assert Settings(host="0.0.0.0", allow_anyone=True).allow_anyone
    assert Settings(host="::1").is_local


def test_pages_of_other_sites_are_refused_unless_named(serve, raw):
    away = {"Origin": "https://example.org"}
    assert raw("POST", "/v1/images", b"x", away)[0] == 403
    assert raw("GET", "/v1/server", headers={"Host": "example.org"})[0] == 403
    assert "access-control-allow-origin" not in raw("GET", "/health", headers=away)[1]
    named = Raw(serve(origins=("https://example.org",)))
    status, headers, _ = named("GET", "/health", headers=away)
    assert (status, headers["access-control-allow-origin"]) == (200, "https://example.org")


def test_paths_stay_inside_of_the_root(serve, png, tmp_path, raw):
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "inner" / "a.png").write_bytes(png)
    (root / ".hidden.png").write_bytes(png)
    (tmp_path / "secret.png").write_bytes(png)
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    served = Raw(serve(root=root))
    assert json.loads(served("GET", "/v1/folder")[2])["paths"] == ["inner/a.png"]
    assert served("POST", "/v1/images", {"path": "inner/a.png"})[0] == 201
    outside = ["../secret.png", str(tmp_path / "secret.png"), "link.png", "inner/../../secret.png"]
    for path in [*outside, "none.png", "a\0.png", "\ud800", "x" * 5000]:
        status, _, body = served("POST", "/v1/images", {"path": path})
        assert 400 <= status < 500, path
        assert str(tmp_path) not in message(body).replace(path, "")
    for body in (b"", b"[]", b'{"path": 3}', b"[" * 50_000):
        assert served("POST", "/v1/images", body, JSON)[0] == 422
    assert raw("POST", "/v1/images", {"path": "inner/a.png"})[0] == 403
    for path in ("/page/../routes.py", "/page/%2e%2e/routes.py", "/page/%2e%2e%2froutes.py"):
        assert raw("GET", path)[0] == 404


def test_the_root_is_looked_up_without_links(tmp_path):
    with pytest.raises(RefusalError, match="no image"):
        inside(Path(os.path.realpath(tmp_path)), "..")


def opened(side: int, name: str = "image") -> OpenImage:
    from fastseg.imaging.image_files import plain_image

    return OpenImage(plain_image(np.zeros((1, side, side), np.uint8), name), name)


def test_the_least_used_image_is_closed_where_memory_or_number_runs_out():
    store = ImageStore(Limits(max_memory=250, max_images=3))
    first, second, third = (opened(10) for _ in range(3))
    store.add(first)
    store.add(second)
    store.get(first.id)
    store.add(third)
    assert [one.id for one in store.owned()] == [first.id, third.id]
    for _ in range(4):
        store.add(opened(1))
    assert len(store) == 3
    with pytest.raises(RefusalError, match="more than all"):
        store.add(opened(16))


def test_an_image_is_closed_when_its_time_is_over(serve, png):
    with Client(serve(limits=Limits(image_s=0.2))) as client:
        image = client.open(png)
        wait_for(lambda: not client._connection.json("GET", "/v1/images")["images"])
        with pytest.raises(ServerError, match="Open it again"):
            image.segment(points=[[[1, 1]]])
        image.close()


def test_the_upload_of_a_closed_image_is_removed(client, uploads, tmp_path_factory):
    pytest.importorskip("pydicom", reason="DICOM needs the extra dicom")
    from tests.helpers import page

    folder = tmp_path_factory.mktemp("dicom")
    page.write_dicom_files(folder)
    with client.open(folder / "ct.dcm"):
        assert len(list(uploads.iterdir())) == 1
    assert not list(uploads.iterdir())


@pytest.mark.parametrize(
    "body",
    [
        {"points_per_side": 0},
        {"points_per_side": 65},
        {"crop_n_layers": 3},
        {"pred_iou_thresh": 1e300},
        {"points": 3},
    ],
)
def test_settings_of_everything_mode_are_bounded(raw, client, png, body):
    with client.open(png) as image:
        status, _, answer = raw("POST", f"/v1/images/{image.about['id']}/everything", body)
    events = [json.loads(line) for line in answer.splitlines()]
    assert status == 422 or events[-1]["event"] == "error"


def test_jobs_beyond_their_number_are_refused(serve, tiny_model, png, monkeypatch):
    def everything(image, *, progress, **settings):
        while True:
            progress(1, 4)
            time.sleep(0.01)

    monkeypatch.setattr(tiny_model, "everything", everything, raising=False)
    url = serve(limits=Limits(max_jobs=1, job_s=30))
    with Client(url) as client, Client(url) as other:
        image = client.open(png)
        events = image.everything()
        next(events)
        path, raw = f"/v1/images/{image.about['id']}/everything", Raw(url)
        status, headers, _ = raw("POST", path, {})
        assert (status, headers["retry-after"]) == (503, "10")
        events.close()  # the connection with it, and so the job
        wait_for(lambda: b"fastseg_jobs 0\n" in raw("GET", "/metrics")[2])
        assert other.about()["limits"]["max_jobs"] == 1


def test_no_part_of_an_answer_waits_for_another(tiny_model):
    """Asyncio turns Nagle's algorithm off for sockets whose protocol is stated, not for others."""
    from fastseg.server import Server

    server = Server(tiny_model, Settings(port=0))
    with server._socket as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_a_port_that_is_taken_is_an_error(url, tiny_model):
    from fastseg.server import Server

    with pytest.raises(ServerError, match="Choose another --port"):
        Server(tiny_model, Settings(port=urlsplit(url).port))
