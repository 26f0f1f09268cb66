"""A folder of results: masks as COCO JSON, images and a report, there whole or not at all."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg import environment, overlay, provenance
from fastseg.errors import OutputError
from fastseg.imaging import MedicalImage
from fastseg.imaging.dicom.segmentation import SegmentationKind
from fastseg.imaging.saving import encode
from fastseg.inputs.text import file_stem
from fastseg.masks import Masks, OutputMode
from fastseg.storage.atomic import atomic_folder
from fastseg.storage.paths import is_file, is_folder, real_path, user_path
from fastseg.storage.staging import is_taken, replaceable, take_back

MASKS_FILE = "masks.json"
REPORT_FILE = "results.json"
TABLE_FILE = "masks.csv"

_COLUMNS = (
    "image", "mask", "prompt", "name", "name_score", "x0", "y0", "x1", "y1", "area", "score",
    "stability",
)  # fmt: skip
"""Columns of ``masks.csv``; the box is inclusive, as ``Masks.boxes``."""

UNNAMED = "segment"
"""The category of masks that have no name."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a result folder beside the masks of every image."""

    mode: OutputMode = "coco_rle"
    """Form of a mask in ``masks.json``; ``"binary_mask"`` adds a PNG a mask to COCO's RLE."""

    overlays: bool = True
    """True if each image is drawn with its masks."""

    table: bool = False
    """True for ``masks.csv``, a row a mask."""
    suffixes: tuple[str, ...] = ()
    """Formats of ``fastseg.imaging.save`` that the masks of each image are also written in."""

    segmentation: SegmentationKind = "binary"
    """Type of DICOM SEG files."""


@dataclass(slots=True)
class ResultFolder:
    """An open result folder; what is added to it appears when its ``with`` block ends well."""

    path: Path
    contents: Contents
    coco: TextIO
    table: TextIO | None = None
    _names: set[str] = field(default_factory=set)
    _images: list[dict[str, Any]] = field(default_factory=list)
    _categories: dict[str, int] = field(default_factory=dict)
    _annotations: int = 0

    def add(
        self,
        source: str,
        image: NDArray[np.uint8],
        masks: Masks,
        *,
        stem: str | None = None,
        medical: MedicalImage | None = None,
    ) -> str:
        """Write the masks of one image.

        Args:
            source: The image as the user named it: a path.
            image: uint8 (H, W, 3), what the masks lie on.
            masks: What was found; masks that have names get a category of each name.
            stem: Name of the files of this image, if not that of ``source``.
            medical: The image with its geometry, if it has one.

        Returns:
            Name of the files of this image, without folder and suffix.

        Raises:
            MaskError: The masks cannot be written in one of the formats; nothing of them is.
        """
        files = self._encoded([masks], medical)
        name = self._free_name(file_stem(stem or Path(source).stem))
        self.add_masks(source, masks, medical=medical)
        if self.contents.overlays:
            spacing = None if medical is None else medical.spacing
            panel = overlay.Panel(image, masks, spacing=spacing)
            drawing = overlay.compose([panel], _legend(source, masks))
            self.draw(name, drawing)
        if self.contents.mode == "binary_mask":
            for index in range(len(masks)):
                pixels = masks[index].array()[0].astype(np.uint8) * 255
                self._save(Image.fromarray(pixels), Path("masks", name, f"{index + 1:04d}.png"))
        self._write(name, files)
        return name

    def add_masks(
        self,
        source: str,
        masks: Masks,
        *,
        frame: int | None = None,
        medical: MedicalImage | None = None,
    ) -> None:
        """Write the masks of one image into ``masks.json``, and nothing else.

        Args:
            source: The image as the user named it: a path.
            masks: What was found; masks that have names get a category of each name.
            frame: Place of the image in ``source``, if that has several.
            medical: The image with its geometry, if it has one.
        """
        image_id = len(self._images) + 1
        height, width = masks.size
        about = {"id": image_id, "file_name": source, "width": width, "height": height}
        self._images.append(about if frame is None else {**about, "frame": frame})
        names = masks.names or (UNNAMED,) * len(masks)
        pixel = None if medical is None else medical.pixel_mm2
        described = describe(masks, self.contents.mode, pixel_mm2=pixel)
        for called, annotation in zip(names, described, strict=True):
            separator = "," if self._annotations else ""
            self._annotations += 1
            category = self._categories.setdefault(called, len(self._categories) + 1)
            own = {"id": self._annotations, "image_id": image_id}
            row = {**own, **annotation, "category_id": category}
            self.coco.write(f"{separator}\n{to_json(row)}")
        self._tabulate(source, masks)

    def add_frames(self, name: str, masks: Sequence[Masks], medical: MedicalImage) -> None:
        """Write the masks of all frames of a volume or clip as one file in each format.

        Raises:
            MaskError: They cannot be written in one of the formats.
        """
        self._write(name, self._encoded(masks, medical))

    def _encoded(self, frames: Sequence[Masks], medical: MedicalImage | None) -> dict[str, bytes]:
        """Make the content of the file of each format, before anything is written."""
        kind = self.contents.segmentation
        return {
            suffix: encode(suffix, frames, medical, kind=kind) for suffix in self.contents.suffixes
        }

    def _write(self, name: str, files: Mapping[str, bytes]) -> None:
        for suffix, content in files.items():
            (self.path / "masks").mkdir(exist_ok=True)
            (self.path / "masks" / f"{name}{suffix}").write_bytes(content)

    def _tabulate(self, source: str, masks: Masks) -> None:
        """Write a row a mask; its number is the id of its annotation."""
        if self.table is None:
            return
        first = self._annotations - len(masks) + 1
        rows = csv.writer(self.table, lineterminator="\n")
        for index in range(len(masks)):
            name = "" if masks.names is None else masks.names[index]
            sure = "" if masks.name_scores is None else float(masks.name_scores[index])
            whole = (*masks.boxes[index].tolist(), int(masks.areas[index]))
            shares = (float(masks.scores[index]), float(masks.stability[index]))
            prompt = int(masks.prompt[index])
            rows.writerow((source, first + index, prompt, name, sure, *whole, *shares))

    def draw(self, name: str, drawing: Image.Image) -> None:
        """Write the drawing of an image with its masks, under the name that ``add`` gave."""
        self._save(drawing, Path("overlays", f"{name}.png"))

    def report(self, document: Mapping[str, Any], *, name: str = REPORT_FILE) -> None:
        """Write the report, with inputs, timings and errors, as a JSON file."""
        text = to_json(document, indent=2) + "\n"
        (self.path / name).write_text(text, encoding="utf-8")

    def finish(self) -> None:
        """Write the end of ``masks.json``: the images that the annotations refer to."""
        called = self._categories or {UNNAMED: 1}
        categories = [{"id": number, "name": name} for name, number in called.items()]
        rest = f'"images": {to_json(self._images)}, "categories": {to_json(categories)}'
        self.coco.write(f"\n], {rest}}}\n")

    def _free_name(self, stem: str) -> str:
        """Return ``stem``, or ``stem-2`` and so on where another folder had an image of it."""
        name, number = stem, 1
        while name in self._names:
            number += 1
            name = f"{stem}-{number}"
        self._names.add(name)
        return name

    def _save(self, drawing: Image.Image, name: Path) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        # A tenth larger than with zlib's own level, and written in a third of the time.
        drawing.save(file, "PNG", compress_level=1)


@contextmanager
def write(
    out: str | os.PathLike[str],
    info: Mapping[str, Any],
    *,
    contents: Contents | None = None,
    overwrite: bool = False,
) -> Iterator[ResultFolder]:
    """Write a result folder: its files appear when the block ends well, else nothing is left.

    Args:
        out: The folder to write.
        info: What made the results (model, backend, device, precision), for the head of
            ``masks.json``; versions and the research-only notice are added.
        contents: What to write beside the masks.
        overwrite: Whether the files of earlier results in that folder may be replaced. A folder
            that holds anything else is refused.

    Yields:
        The open folder.

    Raises:
        OutputError: The name is taken, the disk is full or the place cannot be written.
    """
    refuse_foreign(Path(out))
    head = {**info, "notice": provenance.NOTICE, "versions": environment.versions()}
    contents = contents or Contents()
    with ExitStack() as stack:
        path = stack.enter_context(atomic_folder(out, replace=overwrite, last=REPORT_FILE))
        coco = stack.enter_context((path / MASKS_FILE).open("w", encoding="utf-8"))
        coco.write(f'{{"info": {to_json(head)}, "licenses": [], "annotations": [')
        table = None
        if contents.table:
            # A byte of a file name that is not UTF-8 is escaped, as in JSON.
            file = (path / TABLE_FILE).open("w", encoding="utf-8", errors="backslashreplace")
            table = stack.enter_context(file)
            csv.writer(table, lineterminator="\n").writerow(_COLUMNS)
        folder = ResultFolder(path, contents, coco, table)
        yield folder
        folder.finish()


def refuse_foreign(folder: Path, inputs: Iterable[Path] = (), *, marker: str = MASKS_FILE) -> None:
    """Refuse a folder that has something in it that is not ours to replace.

    Args:
        folder: The folder for results; what a killed process left unfinished in it is removed.
        inputs: Files that the call reads.
        marker: A file that every folder of such results has.

    Raises:
        OutputError: It holds no results, a file that fastseg did not write or that changed since,
            or an input of the call.
    """
    folder = user_path(folder)
    if not is_folder(folder, OutputError):
        return
    take_back(folder)
    if not is_taken(folder):
        return
    if not is_file(folder / marker, OutputError):
        raise OutputError(f"{folder} is not empty and holds no results: choose another name")
    replaceable(folder)
    place = real_path(folder)
    for file in inputs:
        if place in real_path(file).parents:
            raise OutputError(
                f"{file} is an input of this call and lies in {folder}, which would be replaced. "
                "Choose another folder for the results."
            )


def describe(
    masks: Masks, mode: OutputMode = "coco_rle", *, pixel_mm2: float | None = None
) -> Iterator[dict[str, Any]]:
    """Describe masks as COCO annotations, without the ids.

    Yields:
        A dictionary a mask, with the keys of SAM's records (``segmentation`` as COCO RLE, its
        counts a string or, for ``"uncompressed_rle"``, a list; ``area``, ``bbox`` as x, y, w, h
        with w = xmax - xmin, ``predicted_iou``, ``stability_score``, ``point_coords``,
        ``crop_box``, and ``name`` where masks have names), ``prompt``, the index of the prompt that
        the mask answers, and ``area_mm2`` where the size of a pixel is known.
    """
    spelling: OutputMode = "uncompressed_rle" if mode == "uncompressed_rle" else "coco_rle"
    for index, record in enumerate(masks.records(spelling)):
        row = {"category_id": 1, "iscrowd": 0, "prompt": int(masks.prompt[index]), **record}
        if pixel_mm2 is not None:
            row["area_mm2"] = round(record["area"] * pixel_mm2, 4)
        yield row


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Write ``value`` as JSON text, with null for numbers that JSON lacks (NaN, infinities).

    A byte of a file name that is not UTF-8 is an escaped lone surrogate, as Python reads it back.
    """
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _legend(source: str, masks: Masks) -> str:
    timings = masks.timings
    facts = [Path(source).name, f"{len(masks)} masks", f"{timings.total:.0f} ms"]
    if len(masks):
        facts.append(f"{timings.per_mask_ms:.1f} ms for each of {timings.n_masks} masks")
    facts.append(f"{timings.backend} {timings.device} {timings.precision}")
    return " · ".join(facts)
