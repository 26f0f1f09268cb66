"""DICOM series: the slices of a folder as one volume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from fastseg.errors import FastsegError, ImageError
from fastseg.imaging.dicom.content import damaged, read_header
from fastseg.imaging.dicom.geometry import affine_of, in_order, plane
from fastseg.imaging.dicom.header import PixelFormat, check_limits, pixel_format, text, whole
from fastseg.imaging.dicom.image import read_open_image
from fastseg.imaging.dicom.quiet import QUIET
from fastseg.imaging.image import MedicalImage

Opened: TypeAlias = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens one file of a folder or an archive."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """Header of one file, without its pixels."""

    name: str
    open: Opened
    header: Any
    form: PixelFormat


def read_series(
    files: Sequence[tuple[str, Opened]],
    what: str,
    *,
    series: str | None,
    max_pixels: int | None,
) -> MedicalImage:
    """Read the files of one series, sorted by their place in the patient.

    Args:
        files: Name of each file, and what opens it.
        what: Name of the folder.
        series: End of the identifier of the series; None if there is only one.
        max_pixels: Largest height x width; all slices together may have four times as many.

    Raises:
        ImageError: There are several series, or slices are missing, doubled or of several sizes.
    """
    with QUIET:
        slices = _one_series(_headers(files, max_pixels), what, series)
        _check_alike(slices, what)
        first = slices[0]
        if len(slices) == 1:
            image = _read(first, max_pixels)
            return replace(image, files=_files([first] * len(image), range(len(image))))
        check_limits(replace(first.form, frames=len(slices)), what, max_pixels)
        planes = [plane(one.header) for one in slices]
        if any(one.position is not None for one in planes):
            order = in_order(planes, what)
        else:
            order = _by_number(slices, what)
        slices, planes = [slices[i] for i in order], [planes[i] for i in order]
        return _stacked(slices, planes, what, max_pixels)


def _headers(files: Sequence[tuple[str, Opened]], max_pixels: int | None) -> list[_Slice]:
    """Read the headers of the files that hold pixels."""
    found = [_header(name, opened, max_pixels) for name, opened in files]
    return [one for one in found if one is not None]


def _header(name: str, opened: Opened, max_pixels: int | None) -> _Slice | None:
    with _damaged(name), opened() as file:
        header = read_header(file, name, max_pixels=max_pixels, pixels=False)
    return _Slice(name, opened, header, pixel_format(header, name)) if "Rows" in header else None


@contextmanager
def _damaged(name: str) -> Iterator[None]:
    """Turn what pydicom raises about a damaged file into an ``ImageError``."""
    try:
        yield
    except FastsegError:
        raise
    except Exception as error:
        raise damaged(name) from error


def _one_series(slices: list[_Slice], what: str, series: str | None) -> list[_Slice]:
    groups: dict[str, list[_Slice]] = {}
    for one in slices:
        groups.setdefault(text(one.header, "SeriesInstanceUID"), []).append(one)
    if series is not None:
        groups = {key: group for key, group in groups.items() if key.endswith(series)}
    if len(groups) == 1:
        return next(iter(groups.values()))
    if not groups:
        raise ImageError(f"{what} has no DICOM images{' of that series' if series else ''}.")
    listed = "; ".join(
        f"{len(group)} images {text(group[0].header, 'Modality')} "
        f"{group[0].form.columns} x {group[0].form.rows}: {key}"
        for key, group in groups.items()
    )
    raise ImageError(
        f"{what} has {len(groups)} series. Choose one by series=, the end of its identifier: "
        f"{listed}."
    )


def _check_alike(slices: list[_Slice], what: str) -> None:
    first = slices[0]
    for one in slices[1:]:
        if one.form.frames > 1 or first.form.frames > 1:
            raise ImageError(
                f"{what} has files of many frames. Give one file: {first.name} for example."
            )
        if (one.form.rows, one.form.columns, one.form.photometric) != (
            first.form.rows,
            first.form.columns,
            first.form.photometric,
        ):
            raise ImageError(
                f"{what} has slices of {first.form.columns} x {first.form.rows} and "
                f"{one.form.columns} x {one.form.rows} pixels, or of several colours. Give the "
                "files of one kind in a folder of their own."
            )


def _by_number(slices: list[_Slice], what: str) -> list[int]:
    """Sort files that do not say where they are by their numbers."""
    numbers = [whole(one.header, "InstanceNumber", one.name) for one in slices]
    if None in numbers or len(set(numbers)) < len(numbers):
        raise ImageError(
            f"{what}: its images state neither places nor numbers of their own, so that their "
            "order is not known. Give them one by one."
        )
    return sorted(range(len(slices)), key=lambda index: numbers[index] or 0)


def _read(one: _Slice, max_pixels: int | None) -> MedicalImage:
    with _damaged(one.name), one.open() as file:
        return read_open_image(file, one.name, max_pixels=max_pixels)


def _stacked(
    slices: list[_Slice], planes: list[Any], what: str, max_pixels: int | None
) -> MedicalImage:
    """Decode the slices one by one into one array."""
    first = _read(slices[0], max_pixels)
    stored = np.empty((len(slices), *first.stored.shape[1:]), first.stored.dtype)
    slope, intercept = np.ones(len(slices)), np.zeros(len(slices))
    for index, one in enumerate(slices):
        image = first if index == 0 else _read(one, max_pixels)
        if image.stored.dtype != stored.dtype:
            raise ImageError(
                f"{what} has slices of {stored.dtype} and of {image.stored.dtype}. Give the files "
                "of one kind in a folder of their own."
            )
        stored[index] = image.stored[0]
        slope[index], intercept[index] = image.slope[0], image.intercept[0]
    affine, distance = affine_of(planes)
    return replace(
        first,
        stored=stored,
        slope=slope,
        intercept=intercept,
        affine=affine,
        slice_spacing=distance,
        name=what,
        files=_files(slices, [0] * len(slices)),
    )


def _files(slices: Sequence[_Slice], places: Sequence[int]) -> tuple[tuple[str, int], ...]:
    """Return file and place of each frame; none of an archive, whose files have no path."""
    found = tuple((one.name, place) for one, place in zip(slices, places, strict=True))
    return found if all(Path(name).is_file() for name, _ in found) else ()
