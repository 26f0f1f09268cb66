"""Masks as bytes, and back: every field of ``Masks``, equal to the last bit."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict
from typing import Any

import numpy as np

from fastseg import ops
from fastseg.errors import MaskError
from fastseg.masks import Masks
from fastseg.ops import Rle
from fastseg.timings import Timings

FORMAT = 1

_ARRAYS = ("scores", "stability", "boxes", "areas", "prompt")
_OPTIONAL = ("logits", "points", "crop_boxes", "name_scores")
_WORDS = ("names", "search", "points_decoded")


def pack_masks(masks: Masks) -> bytes:
    """Write masks as an archive of arrays."""
    about: dict[str, Any] = {name: getattr(masks, name) for name in _WORDS}
    about |= {"format": FORMAT, "size": masks.size, "timings": asdict(masks.timings)}
    arrays = {name: getattr(masks, name) for name in (*_ARRAYS, *_OPTIONAL)}
    given = {name: array for name, array in arrays.items() if array is not None}
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, about=text, counts=masks.runs.counts, offsets=masks.runs.offsets, **given)
    return file.getvalue()


def unpack_masks(content: bytes) -> Masks:
    """Read what ``pack_masks`` wrote.

    Raises:
        MaskError: It is something else, or damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # What is not packed takes no more memory than the content has bytes.
            if any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist()):
                raise ValueError("it is compressed")
        with np.load(io.BytesIO(content), allow_pickle=False) as entries:
            arrays = {name: entries[name] for name in entries.files}
        about = json.loads(arrays.pop("about").tobytes())
        if about["format"] != FORMAT:
            raise ValueError("its format is of another version")
        height, width = about["size"]
        runs = Rle(arrays.pop("counts"), arrays.pop("offsets"), (height, width))
        ops.rle_check(runs)
        if any(len(array) != len(runs) for array in arrays.values()):
            raise ValueError("its arrays are of several lengths")
        names = None if about["names"] is None else tuple(about["names"])
        more = {"search": about["search"], "points_decoded": about["points_decoded"]}
        return Masks(runs=runs, names=names, timings=Timings(**about["timings"]), **more, **arrays)
    except Exception as error:  # readers fail on damage in many ways
        raise MaskError(f"these are no masks that were kept: {error}. Make them again.") from error
