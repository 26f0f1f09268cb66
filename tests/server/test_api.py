"""The HTTP API gives the masks of the model, for every kind of image and prompt."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from fastseg.client import Client, to_mask
from fastseg.errors import ServerError
from tests.helpers import page
from tests.helpers.dicom_files import slices
from tests.server.conftest import Raw


def array(mask) -> np.ndarray:
    return np.frombuffer(mask.pixels(), np.uint8).reshape(mask.size).astype(bool)


def test_points_and_boxes_give_the_masks_of_the_model(client, tiny_model, png):
    asked = {"points": [[[40, 30]], [[60, 20]]], "labels": [[1], [1]]}
    expected = tiny_model.segment(png, **asked)
    with client.open(png) as image:
        assert image.size == (64, 96)
        masks = image.segment(**asked)
        boxes = image.segment(boxes=[[20, 10, 60, 50]], best=True)
    assert np.array_equal(np.stack([array(mask) for mask in masks]), expected.array())
    assert [mask.score for mask in masks] == pytest.approx(expected.scores.tolist())
    assert [mask.area for mask in masks] == expected.areas.tolist()
    assert [mask.prompt for mask in masks] == [0, 0, 0, 1, 1, 1]
    best = tiny_model.segment(png, boxes=[[20, 10, 60, 50]]).best()
    assert np.array_equal(array(boxes[0]), best.array()[0])


def test_prompts_of_several_kinds_keep_their_order(raw, client, tiny_model, png):
    box = [20, 10, 60, 50]
    prompts = [{"box": box}, {"points": [[40, 30]]}, {"points": [[60, 20], [5, 5]], "box": box}]
    with client.open(png) as image:
        path = f"/v1/images/{image.about['id']}/masks"
        status, headers, body = raw("POST", path, {"prompts": prompts})
    assert status == 200
    rows = json.loads(body)["masks"]
    assert [row["prompt"] for row in rows] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    alone = tiny_model.segment(png, points=[40, 30])
    assert [row["area"] for row in rows[3:6]] == alone.areas.tolist()
    assert "decode;dur=" in headers["server-timing"]
    assert "total;dur=" in headers["server-timing"]


def test_a_mask_prompt_starts_from_a_mask(client, png):
    with client.open(png) as image:
        (found,) = image.segment(points=[[[40, 30]]], multimask=False)
        (again,) = image.segment(masks=[found], multimask=False)
    first, second = array(found), array(again)
    assert (first & second).sum() / (first | second).sum() > 0.5


def test_everything_reports_progress_and_gives_the_masks_of_the_model(client, tiny_model, png):
    settings = {"points_per_side": 12, "pred_iou_thresh": 0.1, "stability_score_thresh": 0.1}
    expected = tiny_model.everything(png, **settings)
    with client.open(png) as image:
        events = list(image.everything(**settings))
    assert [event["event"] for event in events[:1] + events[-1:]] == ["accepted", "result"]
    progress = [event for event in events if event["event"] == "progress"]
    assert progress
    assert all(event["total"] == 144 for event in progress)
    masks = [to_mask(row) for row in events[-1]["masks"]]
    assert len(masks) > 1
    assert np.array_equal(np.stack([array(mask) for mask in masks]), expected.array())


def test_a_job_can_be_cancelled_by_its_identifier(client, png, tiny_model, monkeypatch):
    def everything(image, *, progress, **settings):
        while True:  # until it is cancelled
            progress(1, 4)

    monkeypatch.setattr(tiny_model, "everything", everything, raising=False)
    with client.open(png) as image:
        events = image.everything()
        job = next(events)["job"]
        next(events)
        with Client(client._connection._parts.geturl()) as other:
            other._connection.json("DELETE", f"/v1/jobs/{job}")
        assert [event["event"] for event in events][-1] == "cancelled"
        with pytest.raises(ServerError, match="has ended"):
            image.cancel(job)


def test_a_batch_answers_every_item_in_order(raw, client, png):
    prompt = {"points": [[40, 30]]}
    with client.open(png) as image:
        number = image.about["id"]
        items = [{"image": number, "prompts": [prompt]}, {"image": "gone", "prompts": [prompt]}]
        items.append({"image": number, "prompts": [{"box": [9, 9, 2, 2]}]})
        items.append({"image": number, "prompts": [prompt], "best": True})
        status, _, body = raw("POST", "/v1/masks", {"items": items})
    rows = [json.loads(line) for line in body.splitlines()]
    assert status == 200
    assert [row["item"] for row in rows] == [0, 1, 2, 3]
    assert [len(row.get("masks", ())) for row in rows] == [3, 0, 0, 1]
    assert "reversed or empty" in rows[2]["error"]["message"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A series of CT, one of its slices, and an ultrasound clip."""
    pytest.importorskip("pydicom", reason="DICOM needs the extra dicom")
    folder = tmp_path_factory.mktemp("files")
    page.write_dicom_files(folder)
    return folder


def test_dicom_keeps_its_spacing_and_becomes_a_segmentation(client, tmp_path):
    pydicom = pytest.importorskip("pydicom", reason="DICOM needs the extra dicom")
    pytest.importorskip("highdicom", reason="DICOM SEG needs the extra dicom")
    body = np.stack([page.heart(3)]).astype(np.int16)
    (file,) = slices(
        tmp_path / "series",
        body,
        StudyInstanceUID="1.2.3",
        FrameOfReferenceUID="1.2.3.9",
        StudyID="S",
        PatientBirthDate="",
        PatientSex="",
        StudyDate="",
        StudyTime="",
        AccessionNumber="",
        SliceThickness=2.5,
        NumberOfFrames=None,
    )
    with pytest.raises(ServerError, match="needs a window"):
        client.open(file, name="body.dcm")
    with client.open(file, window="soft-tissue") as image:
        assert image.about["modality"] == "CT"
        assert len(image.about["spacing_mm"]) == 2
        (mask,) = image.segment(points=[[[120, 100]]], best=True)
        content = image.export("dcm", {0: [(mask, "body")]})
    written = tmp_path / "seg.dcm"
    written.write_bytes(content)
    assert pydicom.dcmread(written).SegmentSequence[0].SegmentLabel == "body"


def test_every_frame_of_a_clip_takes_prompts_and_a_nifti_holds_all(client, files):
    nibabel = pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")
    with client.open(files / "clip_A4C.dcm") as image:
        assert image.about["frames"] == 2
        (mask,) = image.segment(points=[[[120, 100]]], frame=1, best=True)
        content = image.export("nii", {1: [(mask, "")]})
        with pytest.raises(ServerError, match="2 frames") as refused:
            image.segment(points=[[[1, 1]]], frame=2)
    assert refused.value.status == 404
    labels = np.asarray(nibabel.Nifti1Image.from_bytes(content).dataobj)
    assert labels.shape == (*image.size[::-1], 2)
    assert not labels[..., 0].any()
    assert labels[..., 1].sum() == mask.area


def test_objects_are_followed_through_the_frames(raw, client, tiny_model, png, tmp_path):
    volume = np.stack([np.roll(bright_disc(), shift, axis=1) for shift in range(4)])
    folder = tmp_path / "frames.tif"
    frames = [Image.fromarray(one) for one in volume]
    frames[0].save(folder, save_all=True, append_images=frames[1:])
    expected = tiny_model.propagate(volume, start=1, boxes=[[25, 15, 56, 46]])
    with client.open(folder) as image:
        events = list(image.propagate([[25, 15, 56, 46]], frame=1))
        path = f"/v1/images/{image.about['id']}/propagate"
        mixed = {"prompts": [{"box": [1, 2, 30, 40]}, {"points": [[1, 2]]}]}
        status, _, body = raw("POST", path, mixed)
    assert status == 422
    assert "all be points" in json.loads(body)["error"]["message"]
    result = events[-1]
    assert result["event"] == "result"
    assert {event["total"] for event in events if event["event"] == "progress"} <= {4}
    found = {one["frame"]: to_mask(one["masks"][0]) for one in result["frames"]}
    assert set(found) == {n for n, masks in enumerate(expected) if masks.areas[0]}
    for number, mask in found.items():
        assert np.array_equal(array(mask), expected[number].array()[0])
    assert len(result["stops"]) == len(expected.stops)


def bright_disc() -> np.ndarray:
    rows, columns = np.indices((64, 96))
    return np.where((rows - 30) ** 2 + (columns - 40) ** 2 < 15**2, 220, 30).astype(np.uint8)


def test_exports_hold_the_masks_and_their_names(client, png):
    from io import BytesIO

    from pycocotools import mask as coco

    with client.open(png, name="disc.png") as image:
        masks = image.segment(points=[[[40, 30]], [[80, 50]]], multimask=False)
        named = {0: [(masks[0], "disc"), (masks[1], "corner")]}
        document = json.loads(image.export("coco", named))
        labels = np.asarray(Image.open(BytesIO(image.export("png", named))))
        drawn = Image.open(BytesIO(image.export("overlay", named)))
        nested = {0: [(masks[0], "a"), (masks[0], "b")]}
        with pytest.raises(ServerError, match="shares"):
            image.export("png", nested)
    assert [one["name"] for one in document["categories"]] == ["disc", "corner"]
    assert document["images"][0]["file_name"] == "disc.png"
    first = document["annotations"][0]["segmentation"]
    assert np.array_equal(coco.decode(first).astype(bool), array(masks[0]))
    assert np.array_equal(labels == 1, array(masks[0]))
    assert drawn.mode == "RGB"


def test_a_view_is_what_the_model_sees(raw, client, png):
    from io import BytesIO

    with client.open(png) as image:
        path = f"/v1/images/{image.about['id']}/view"
        _, headers, body = raw("GET", path)
        _, _, small = raw("GET", f"{path}?max_side=48&format=jpeg")
    assert headers["content-type"] == "image/png"
    given = np.asarray(Image.open(BytesIO(png)).convert("RGB"))
    assert np.array_equal(np.asarray(Image.open(BytesIO(body))), given)
    assert Image.open(BytesIO(small)).size == (48, 32)


def test_a_form_is_an_upload_too(raw, png):
    boundary = "x" * 20
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a/b.png"\r\n\r\n'
    )
    body = head.encode() + png + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    status, _, answer = raw("POST", "/v1/images", body, kind)
    assert status == 201
    assert json.loads(answer)["name"] == "b.png"


def test_the_openapi_document_describes_every_route(raw):
    status, _, body = raw("GET", "/openapi.json")
    document = json.loads(body)
    assert status == 200
    assert {
        "/v1/images",
        "/v1/images/{image}/masks",
        "/v1/images/{image}/everything",
        "/v1/masks",
        "/health",
        "/ready",
        "/metrics",
    } <= set(document["paths"])
    upload = document["paths"]["/v1/images"]["post"]["requestBody"]["content"]
    assert {"application/octet-stream", "multipart/form-data", "application/json"} == set(upload)


def test_health_readiness_and_metrics(raw, client, png):
    assert raw("GET", "/health")[0] == raw("GET", "/ready")[0] == 200
    with client.open(png) as image:
        image.segment(points=[[[40, 30]]])
        text = raw("GET", "/metrics")[2].decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    route = 'route="/v1/images/{image}/masks",method="POST",status="200"'
    assert float(lines[f"fastseg_requests_total{{{route}}}"]) >= 1
    assert float(lines['fastseg_stage_seconds_count{stage="decode"}']) >= 1
    assert float(lines["fastseg_images"]) >= 1
    assert lines["fastseg_ready"] == "1"
    assert float(lines["fastseg_resident_bytes"]) > 1e6


def test_without_the_page_there_is_the_api_alone(serve):
    raw = Raw(serve(page=False))
    assert raw("GET", "/")[0] == raw("GET", "/page/main.js")[0] == 404
    assert raw("GET", "/v1/server")[0] == 200
