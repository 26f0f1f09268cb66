"""Masks as COCO and GeoJSON, and their areas as a table."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.imaging.image import MedicalImage
from fastseg.imaging.mask_set import MaskSet, by_structure, structures
from fastseg.imaging.palette import colours

_COLUMNS = (
    "frame", "structure", "score", "pixels", "area_mm2", "volume_ml", "x0", "y0", "x1", "y1",
)  # fmt: skip


def coco(masks: Sequence[MaskSet], source: MedicalImage | None, _: bool) -> bytes:
    """Write COCO JSON: an image for each frame, a category for each structure."""
    names = structures(masks)
    named = any(one.names is not None for one in masks)
    name = "" if source is None else source.name
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for frame, one in enumerate(masks):
        height, width = one.size
        image = {"id": frame + 1, "file_name": name, "width": width, "height": height}
        images.append(image | ({"frame": frame} if len(masks) > 1 else {}))
        places = by_structure(one, names) if named else [0] * len(one)
        for index, record in enumerate(one.records("coco_rle")):
            about = {"id": len(rows) + 1, "image_id": frame + 1, "category_id": places[index] + 1}
            rows.append({**about, "iscrowd": 0, **record, **_in_mm2(one.areas[index], source)})
    called = names if named else ["segment"]
    categories = [{"id": number, "name": one} for number, one in enumerate(called, start=1)]
    return _json(
        {
            "info": {},
            "licenses": [],
            "images": images,
            "annotations": rows,
            "categories": categories,
        }
    )


def geojson(masks: Sequence[MaskSet], source: MedicalImage | None, _: bool) -> bytes:
    """Write GeoJSON in pixels, x before y: a feature for each mask that is not empty.

    ``classification`` and ``objectType`` are those that QuPath reads.
    """
    names = structures(masks)
    palette = colours(len(names)).tolist()
    features = []
    for frame, one in enumerate(masks):
        rings = one.polygons()
        for index, place in enumerate(by_structure(one, names)):
            if not rings[index]:
                continue
            properties = {
                "objectType": "annotation",
                "classification": {"name": names[place], "color": palette[place]},
                "frame": frame,
                "score": _number(one.scores[index]),
                "area": int(one.areas[index]),
                **_in_mm2(one.areas[index], source),
            }
            geometry = {"type": "MultiPolygon", "coordinates": _polygons(rings[index])}
            features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return _json({"type": "FeatureCollection", "features": features})


def csv_table(masks: Sequence[MaskSet], source: MedicalImage | None, _: bool) -> bytes:
    """Write a row for each mask, and of several frames one for each whole structure."""
    names = structures(masks)
    stream = StringIO()
    table = csv.DictWriter(stream, _COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(_rows(masks, names, source))
    if len(masks) > 1:
        totals = np.zeros(len(names), np.int64)
        for one in masks:
            np.add.at(totals, by_structure(one, names), one.areas)
        for name, total in zip(names, totals, strict=True):
            table.writerow({"frame": "all", "structure": name, **_sizes(total, source)})
    return stream.getvalue().encode("utf-8", "backslashreplace")


def _rows(
    masks: Sequence[MaskSet], names: Sequence[str], source: MedicalImage | None
) -> Iterator[dict[str, Any]]:
    for frame, one in enumerate(masks):
        for index, place in enumerate(by_structure(one, names)):
            if not one.areas[index]:
                continue
            box = zip(("x0", "y0", "x1", "y1"), one.boxes[index].tolist(), strict=True)
            sizes = _sizes(one.areas[index], source)
            score = _number(one.scores[index])
            about = {"frame": frame, "structure": names[place]}
            yield {**about, "score": score, **sizes, **dict(box)}


def _sizes(pixels: np.integer[Any], source: MedicalImage | None) -> dict[str, Any]:
    volume = None if source is None else source.voxel_ml
    sizes = {"pixels": int(pixels), **_in_mm2(pixels, source)}
    return sizes if volume is None else {**sizes, "volume_ml": round(int(pixels) * volume, 6)}


def _in_mm2(pixels: np.integer[Any], source: MedicalImage | None) -> dict[str, float]:
    """Return the area in mm2, if the source has a scale."""
    if source is None or source.pixel_mm2 is None:
        return {}
    return {"area_mm2": round(int(pixels) * source.pixel_mm2, 4)}


def _number(score: np.floating[Any]) -> float | None:
    """Return a score, rounded as float32 deserves; None where there is none."""
    return None if math.isnan(score) else round(float(score), 6)


def _polygons(rings: Sequence[NDArray[np.int32]]) -> list[list[list[list[int]]]]:
    """Give every outline the holes that lie in it, each ring closed.

    Outlines turn one way and holes the other, as GeoJSON (RFC 7946) wants them.
    """
    outlines = [ring for ring in rings if _signed_area(ring) > 0]
    polygons = [[ring] for ring in outlines]
    for hole in rings:
        if _signed_area(hole) > 0:
            continue
        around = [
            index for index, outline in enumerate(outlines) if _is_inside(_corner(hole), outline)
        ]
        smallest = min(around, key=lambda index: _signed_area(outlines[index]))
        polygons[smallest].append(hole)
    return [[[*ring.tolist(), ring[0].tolist()] for ring in polygon] for polygon in polygons]


def _signed_area(ring: NDArray[np.int32]) -> float:
    x, y = ring.T.astype(np.float64)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _corner(hole: NDArray[np.int32]) -> tuple[float, float]:
    """Return the middle of the pixel of a hole at its topmost, leftmost corner."""
    x, y = min(map(tuple, hole.tolist()), key=lambda corner: (corner[1], corner[0]))
    return x + 0.5, y + 0.5


def _is_inside(point: tuple[float, float], ring: NDArray[np.int32]) -> bool:
    """Tell if a ray from a point to the right crosses a ring of axis-parallel edges oddly often."""
    (x0, y0), (x1, y1) = ring.T.astype(np.float64), np.roll(ring, -1, axis=0).T.astype(np.float64)
    crosses = (x0 == x1) & (x0 > point[0]) & ((y0 > point[1]) != (y1 > point[1]))
    return bool(crosses.sum() % 2)


def _json(content: dict[str, Any]) -> bytes:
    # A byte of a file name that is not UTF-8 is a lone surrogate, which is escaped.
    text = json.dumps(content, ensure_ascii=False, default=float)
    return text.encode("utf-8", "backslashreplace")
