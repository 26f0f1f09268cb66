"""A server and its open images, as Python objects."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

from fastseg.client.connection import Connection, Json
from fastseg.client.mask import Mask, to_json, to_mask
from fastseg.errors import ServerError


class Client:
    """Connection to a server; safe in several threads.

    Args:
        url: Address of the server, ``"http://127.0.0.1:8765"``.
        token: Bearer token, where the server asks for one.
        timeout: Seconds that the server may be silent.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 120.0) -> None:
        self._connection = Connection(url, token, timeout)

    def about(self) -> Json:
        """Return the server's model and limits."""
        return self._connection.json("GET", "/v1/server")

    def paths(self) -> list[str]:
        """List the images in the server's root, which ``open_path`` takes."""
        return list(self._connection.json("GET", "/v1/folder")["paths"])

    def open(
        self,
        image: str | os.PathLike[str] | bytes,
        *,
        name: str | None = None,
        window: str | None = None,
    ) -> RemoteImage:
        """Upload an image, and embed its first frame.

        Args:
            image: Path or bytes of a file that ``fastseg.imaging.read`` takes.
            name: Name of the image; its suffix tells kinds of NRRD and NIfTI apart.
            window: Values that are seen of a medical image, as ``fastseg segment --window``.

        Raises:
            ServerError: The server refuses it, or cannot be reached.
        """
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
        named = name or ("image" if isinstance(image, bytes) else Path(image).name)
        query = urlencode({"name": named, **({"window": window} if window else {})})
        body = self._connection.request(
            "POST", f"/v1/images?{query}", content, {"Content-Type": "application/octet-stream"}
        )
        return RemoteImage(self._connection, json.loads(body))

    def open_path(self, path: str, *, window: str | None = None) -> RemoteImage:
        """Open an image by its path inside the server's root.

        Raises:
            ServerError: The server refuses it, or cannot be reached.
        """
        return RemoteImage(
            self._connection,
            self._connection.json("POST", "/v1/images", {"path": path, "window": window}),
        )

    def close(self) -> None:
        """Close the connection of this thread."""
        self._connection.close()

    def __enter__(self) -> Client:
        """Use the client in a ``with`` block that closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection of this thread."""
        self.close()


@dataclass(frozen=True)
class RemoteImage:
    """An image that is open at a server; a ``with`` block closes it there."""

    connection: Connection = field(repr=False)
    about: Json
    """Description by the server: ``id``, ``width``, ``height``, ``frames``, ``spacing_mm``."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.about["height"], self.about["width"]

    def segment(
        self,
        *,
        points: Sequence[Sequence[Sequence[float]]] | None = None,
        labels: Sequence[Sequence[int]] | None = None,
        boxes: Sequence[Sequence[float]] | None = None,
        masks: Sequence[Mask] | None = None,
        frame: int = 0,
        multimask: bool = True,
        best: bool = False,
    ) -> list[Mask]:
        """Ask for the masks of prompts; what is given must be for equally many prompts.

        Args:
            points: For each prompt its points, x before y in pixels.
            labels: 1 foreground, 0 background, shaped like ``points``; None is all foreground.
            boxes: For each prompt x0, y0, x1, y1 in pixels.
            masks: For each prompt a mask to start from, beside points or boxes.
            frame: Frame of an image that has several.
            multimask: Three alternatives for each prompt, or one mask.
            best: Only the best-scoring mask of each prompt.

        Raises:
            ServerError: The server refuses it, or cannot be reached.
        """
        given: dict[str, Any] = {"points": points, "labels": labels, "box": boxes}
        if masks is not None:
            given["mask"] = [{"size": one.size, "counts": one.counts} for one in masks]
        columns = {name: values for name, values in given.items() if values is not None}
        if len({len(values) for values in columns.values()}) > 1:
            raise ServerError(
                0, "points, labels, boxes and masks are not for equally many prompts."
            )
        prompts = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
        body = {"prompts": prompts, "frame": frame, "multimask": multimask, "best": best}
        answer = self.connection.json("POST", f"{self._path}/masks", body)
        return [to_mask(row) for row in answer["masks"]]

    def everything(self, **settings: Any) -> Iterator[Json]:
        """Find every object, and yield what happens; ending early cancels the job.

        Args:
            settings: ``frame``, ``points_per_side``, ``pred_iou_thresh``,
                ``stability_score_thresh``, ``box_nms_thresh``, ``crop_n_layers``,
                ``min_mask_region_area`` and ``search``, as of ``Sam.everything``.

        Yields:
            Events: ``accepted``, ``progress`` with ``done`` and ``total``, then ``result`` with
            ``masks``, ``cancelled`` or ``error``. ``to_mask`` reads the masks.
        """
        yield from self.connection.lines(f"{self._path}/everything", settings)

    def propagate(
        self, boxes: Sequence[Sequence[float]], *, frame: int = 0, rule: str = "best"
    ) -> Iterator[Json]:
        """Follow objects through all frames, and yield what happens; ending early cancels.

        Args:
            boxes: For each object x0, y0, x1, y1 on ``frame``.
            frame: The frame that the boxes are on.
            rule: As of ``Sam.propagate``.

        Yields:
            Events as of ``everything``; ``result`` has ``frames``, each with ``frame`` and
            ``masks``, and ``stops``.
        """
        body = {"prompts": [{"box": list(box)} for box in boxes], "frame": frame, "rule": rule}
        yield from self.connection.lines(f"{self._path}/propagate", body)

    def cancel(self, job: str) -> None:
        """Cancel a job of ``everything``, by the identifier of its first event."""
        self.connection.json("DELETE", f"/v1/jobs/{quote(job, safe='')}")

    def export(self, form: str, masks: Mapping[int, Sequence[tuple[Mask, str]]]) -> bytes:
        """Return a file of masks with their names.

        Args:
            form: ``"coco"``, ``"png"``, ``"overlay"``, ``"nii"``, ``"nii.gz"``, ``"nrrd"`` or
                ``"dcm"``.
            masks: For each frame its masks and their names.

        Raises:
            ServerError: The server refuses it, or cannot be reached.
        """
        frames = [
            {"frame": frame, "masks": [to_json(mask, name) for mask, name in named]}
            for frame, named in masks.items()
        ]
        body = json.dumps({"format": form, "frames": frames}).encode()
        headers = {"Content-Type": "application/json"}
        return self.connection.request("POST", f"{self._path}/export", body, headers)

    def close(self) -> None:
        """Close the image at the server; one that it has closed already is no error."""
        try:
            self.connection.json("DELETE", self._path)
        except ServerError as error:
            if error.status != 404:
                raise

    def __enter__(self) -> RemoteImage:
        """Use the image in a ``with`` block that closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the image at the server."""
        self.close()

    @property
    def _path(self) -> str:
        return f"/v1/images/{quote(self.about['id'], safe='')}"
