"""Routes of the HTTP API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal, cast

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from fastseg.errors import FastsegError, ImageError
from fastseg.imaging import MedicalImage
from fastseg.results import to_json
from fastseg.server import bodies, exporting, opening, prompting
from fastseg.server.image_store import OpenImage
from fastseg.server.jobs import Event
from fastseg.server.metrics import MEDIA_TYPE
from fastseg.server.refusals import RefusalError, error_body, json_answer, unforeseen
from fastseg.server.service import Service
from fastseg.timings import STAGES, Timings

LINES = "application/x-ndjson"

router = APIRouter()

_BINARY = {"schema": {"type": "string", "format": "binary"}}

_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": _BINARY["schema"], "window": {"type": "string"}},
                }
            },
            "application/json": {"schema": bodies.PathBody.model_json_schema()},
        },
    }
}


@router.get("/health", tags=["server"])
async def health() -> dict[str, str]:
    """Tell that the server answers."""
    return {"status": "alive"}


@router.get("/ready", tags=["server"])
async def ready(request: Request) -> Response:
    """Tell if the model is loaded: 200, or 503."""
    is_ready = _service(request).is_ready
    return json_answer({"ready": is_ready}, 200 if is_ready else 503)


@router.get("/metrics", tags=["server"])
async def metrics(request: Request) -> Response:
    """Return the metrics in the text format of Prometheus."""
    return Response(_service(request).metrics.text(), media_type=MEDIA_TYPE)


@router.get("/v1/server", tags=["server"])
async def server(request: Request) -> Response:
    """Return the model, what it runs on, and the limits."""
    return json_answer(_service(request).about())


@router.get("/v1/folder", tags=["images"])
async def folder(request: Request) -> Response:
    """List the paths of the images inside of the root, in order."""
    root = _service(request).settings.root
    if root is None:
        raise RefusalError(404, "the server was started without a folder. Start it with --root.")
    return json_answer({"paths": await anyio.to_thread.run_sync(opening.listing, root)})


@router.post(
    "/v1/images",
    tags=["images"],
    status_code=201,
    response_model=bodies.ImageAnswer,
    openapi_extra=_UPLOAD,
)
async def open_image(
    request: Request,
    name: Annotated[str, Query(max_length=1000)] = "image",
    window: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """Open an image: its bytes, a form with a file, or ``{"path": ...}`` inside of the root.

    Its first frame is embedded. DICOM, NIfTI, NRRD and 16-bit images may need a ``window``.
    """
    service, owner = _service(request), request.state.owner
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    most = service.limits.max_pixels
    if kind == "application/json":
        named = await _path_body(request)
        root = service.settings.root
        if root is None:
            raise RefusalError(403, "paths are for servers with --root. Upload the image.")
        opened, timings = await service.open(
            lambda: opening.open_path(root, named.path, named.window, owner, most)
        )
    else:
        place = await anyio.to_thread.run_sync(opening.upload_folder)
        try:
            if kind == "multipart/form-data":
                name, window = await _write_form(request, place, window)
            else:
                await opening.write_upload(request.stream(), opening.upload_file(place, name))
            file = opening.upload_file(place, name)
            opened, timings = await service.open(
                lambda: opening.open_upload(file, name, window, owner, most)
            )
        except ClientDisconnect:
            opening.discard(place)
            raise RefusalError(400, "the connection ended before the upload did.") from None
        except BaseException:
            opening.discard(place)
            raise
    return json_answer(_describe(service, opened, timings), 201, _timing_header(timings))


@router.get("/v1/images", tags=["images"])
async def list_images(request: Request) -> Response:
    """List the images that the client has open, the least used first."""
    service = _service(request)
    found = service.images.owned(request.state.owner)
    return json_answer({"images": [_describe(service, one) for one in found]})


@router.get("/v1/images/{image}", tags=["images"], response_model=bodies.ImageAnswer)
async def get_image(request: Request, image: str) -> Response:
    """Describe an open image; this counts as a use of it."""
    return json_answer(_describe(_service(request), _opened(request, image)))


@router.delete("/v1/images/{image}", tags=["images"], status_code=204)
async def close_image(request: Request, image: str) -> Response:
    """Close an image, and remove its upload and its embeddings."""
    _service(request).images.close(image, request.state.owner)
    return Response(status_code=204)


@router.get("/v1/images/{image}/view", tags=["images"])
async def view(
    request: Request,
    image: str,
    frame: int = 0,
    max_side: Annotated[int | None, Query(ge=1, le=20_000)] = None,
    form: Annotated[Literal["png", "jpeg"], Query(alias="format")] = "png",
) -> Response:
    """Draw a frame in its window, as models see it."""
    opened = _opened(request, image)
    drawn = await _service(request).opening.run(
        lambda: exporting.view(opened, frame, max_side, form)
    )
    return Response(drawn[0], media_type=drawn[1])


@router.post("/v1/images/{image}/masks", tags=["masks"], response_model=bodies.MasksAnswer)
async def masks(request: Request, image: str, body: bodies.PromptsBody) -> Response:
    """Return the masks of prompts for one frame, as COCO run lengths."""
    found = await _service(request).segment(_opened(request, image), body)
    return json_answer(prompting.answer(found), headers=_timing_header(found.timings))


@router.post("/v1/masks", tags=["masks"])
async def batch(request: Request, body: bodies.BatchBody) -> Response:
    """Return the masks of several images or frames, one JSON line each, in order.

    A line is ``{"item", "image", "frame", "masks", "timings"}``, or has ``error`` in place of the
    last two; one that fails ends no other.
    """
    service = _service(request)

    async def lines() -> AsyncIterator[str]:
        for number, item in enumerate(body.items):
            row: dict[str, Any] = {"item": number, "image": item.image, "frame": item.frame}
            try:
                found = await service.segment(_opened(request, item.image), item)
                row |= prompting.answer(found)
            except FastsegError as error:
                row |= error_body(error)
            except Exception as error:  # the answer has begun, so this line tells
                row |= error_body(unforeseen(error))
            yield to_json(row) + "\n"

    return StreamingResponse(lines(), media_type=LINES)


@router.post("/v1/images/{image}/everything", tags=["masks"])
async def everything(request: Request, image: str, body: bodies.EverythingBody) -> Response:
    """Find every object of a frame, as JSON lines that arrive as the job goes on.

    Events are ``accepted`` with the ``job``, ``progress`` with ``done`` and ``total`` points, and
    at the end ``result`` with masks, ``cancelled`` or ``error``. The job ends with the connection.
    """
    service = _service(request)
    return _stream(service.everything(_opened(request, image), body, request.state.owner))


@router.post("/v1/images/{image}/propagate", tags=["masks"])
async def propagate(request: Request, image: str, body: bodies.PropagateBody) -> Response:
    """Follow objects from one frame through all, as JSON lines that arrive as the job goes on.

    Events are those of everything mode. The result has ``frames``, each with ``frame`` and
    ``masks`` whose ``prompt`` is the object, and ``stops``, where and why each object ends.
    """
    service = _service(request)
    return _stream(service.propagate(_opened(request, image), body, request.state.owner))


@router.delete("/v1/jobs/{job}", tags=["masks"], status_code=202)
async def cancel_job(request: Request, job: str) -> Response:
    """Cancel a job of everything mode or propagation."""
    _service(request).jobs.cancel(job, request.state.owner)
    return Response(status_code=202)


@router.post("/v1/images/{image}/export", tags=["masks"])
async def export(request: Request, image: str, body: bodies.ExportBody) -> Response:
    """Return masks as a file: COCO, PNG labels, an overlay, NIfTI, NRRD or DICOM SEG."""
    opened = _opened(request, image)
    content, media, name = await _service(request).opening.run(
        lambda: exporting.export(opened, body)
    )
    plain = name.encode("ascii", "replace").decode("ascii").replace('"', "_").replace("\\", "_")
    return Response(
        content,
        media_type=media,
        headers={"Content-Disposition": f'attachment; filename="{plain}"'},
    )


def _stream(events: AsyncIterator[Event]) -> Response:
    async def lines() -> AsyncIterator[str]:
        async for event in events:
            yield to_json(event) + "\n"

    return StreamingResponse(lines(), media_type=LINES)


async def _path_body(request: Request) -> bodies.PathBody:
    try:
        return bodies.PathBody.model_validate_json(await request.body())
    except HTTPException:
        raise
    except (ValueError, RecursionError):
        raise RefusalError(422, 'the body is not {"path": ...} with an optional window.') from None


async def _write_form(request: Request, place: Any, window: str | None) -> tuple[str, str | None]:
    """Write the file of a form, and return its name and the window."""
    async with request.form(max_files=1, max_fields=2, max_part_size=1000) as form:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise RefusalError(422, "the form has no part named file. Send the image as that.")
        name = upload.filename or "image"
        await opening.write_upload(_parts(upload), opening.upload_file(place, name))
        given = form.get("window")
        return name, given if isinstance(given, str) else window


async def _parts(upload: UploadFile) -> AsyncIterator[bytes]:
    while part := await upload.read(2**20):
        yield part


def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


def _opened(request: Request, image: str) -> OpenImage:
    return _service(request).images.get(image, request.state.owner)


def _describe(service: Service, one: OpenImage, timings: Timings | None = None) -> dict[str, Any]:
    height, width = one.image.size
    spacing = _spacing(one.image)
    return {
        "id": one.id,
        "name": one.name,
        "width": width,
        "height": height,
        "frames": len(one.image),
        "spacing_mm": None if spacing is None else list(spacing),
        "slice_mm": one.image.slice_spacing,
        "modality": one.image.modality,
        "colour": one.image.is_colour,
        "bytes": one.bytes,
        "expires_s": service.limits.image_s,
        "timings": None if timings is None else timings.as_dict(),
    }


def _spacing(image: MedicalImage) -> tuple[float, float] | None:
    """Return height and width of a pixel in mm; of ultrasound, those of its tissue."""
    if image.spacing is not None:
        return image.spacing
    try:
        region = image.tissue
    except ImageError:  # several, which may differ
        return None
    if region is None or region.pixel_cm is None:
        return None
    width, height = region.pixel_cm
    return 10 * height, 10 * width


def _timing_header(timings: Timings) -> dict[str, str]:
    parts = (f"{stage};dur={getattr(timings, stage):.2f}" for stage in STAGES)
    return {"Server-Timing": ", ".join(parts)}
