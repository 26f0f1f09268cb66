"""Objects and slices of a volume described for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastseg import results
from fastseg.imaging import MedicalImage
from fastseg.sam.volume_masks import VolumeMasks


def describe_object(found: VolumeMasks, number: int) -> dict[str, Any]:
    """Describe an object: its slices, size, scores and the reasons where it ends."""
    places = np.flatnonzero(found.areas[number])
    millilitres, names = found.millilitres, found[0].names
    return {
        "object": number,
        **({} if names is None else {"name": names[number]}),
        "slices": [int(places[0]), int(places[-1])] if len(places) else None,
        "voxels": int(found.voxels[number]),
        "ml": None if millilitres is None else round(float(millilitres[number]), 6),
        "scores": [round(float(found.scores[number, place]), 6) for place in places],
        "stops": [stop.as_dict() for stop in found.stops if stop.object == number],
    }


def describe_slices(found: VolumeMasks, volume: MedicalImage) -> Iterator[dict[str, Any]]:
    """Describe the masks of every slice that has some, as COCO annotations."""
    pixel = volume.pixel_mm2 if found.axis == 0 else None
    for place, masks in enumerate(found):
        if masks.areas.any():
            rows = list(results.describe(masks, pixel_mm2=pixel))
            yield {"slice": place, "annotations": rows}
