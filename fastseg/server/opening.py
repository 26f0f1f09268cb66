"""Opening of images: uploads in a folder of their own, and files inside of the server's root."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from fastseg import imaging
from fastseg.errors import ImageError
from fastseg.images import is_image
from fastseg.imaging import MedicalImage, is_medical
from fastseg.inputs.text import printable
from fastseg.server.image_store import OpenImage
from fastseg.server.refusals import RefusalError

_LONGEST_NAME = 200
_MOST_LISTED = 10_000

_SUFFIX = re.compile(r"(\.nii\.gz|\.[A-Za-z0-9]{1,8})$")


def upload_folder() -> Path:
    """Make a folder for one upload, which only this user may enter."""
    return Path(tempfile.mkdtemp(prefix="fastseg-upload-"))


def upload_file(folder: Path, name: str) -> Path:
    """Return the file that an upload is written to: of its name, only the suffix is kept."""
    suffix = _SUFFIX.search(name)
    return folder / f"upload{suffix[0].lower() if suffix else ''}"


async def write_upload(parts: AsyncIterator[bytes], file: Path) -> None:
    """Write the parts of an upload as they arrive.

    Raises:
        RefusalError: Nothing arrived.
    """
    with file.open("wb") as out:
        async for part in parts:
            out.write(part)
        if not out.tell():
            raise RefusalError(422, "the upload is empty. Send the bytes of an image file.")


def shown_name(name: str) -> str:
    """Return the last part of a name as one printable line."""
    last = re.split(r"[/\\]", name)[-1].encode("utf-8", "replace").decode("utf-8")
    return printable(last)[:_LONGEST_NAME] or "image"


def open_upload(
    file: Path, name: str, window: str | None, owner: str, max_pixels: int
) -> OpenImage:
    """Read an uploaded file; its folder lives as long as the image, for DICOM alone.

    Raises:
        ImageError: The file cannot be read. The message calls it by its name.
    """
    shown = shown_name(name)
    image = _read(file, shown, window, max_pixels)
    folder: Path | None = file.parent
    if not image.files:
        shutil.rmtree(file.parent, ignore_errors=True)
        folder = None
    return OpenImage(image, shown, owner, folder)


def open_path(root: Path, path: str, window: str | None, owner: str, max_pixels: int) -> OpenImage:
    """Read a file inside of the root.

    Raises:
        RefusalError: There is no such file inside of the root.
        ImageError: The file cannot be read.
    """
    file = inside(root, path)
    relative = file.relative_to(root).as_posix()
    return OpenImage(_read(file, printable(relative), window, max_pixels), relative, owner)


def inside(root: Path, path: str) -> Path:
    """Return the file of a path inside of the root, without links.

    Raises:
        RefusalError: The path leads out of the root, or to nothing. Both look alike, so that
            nobody learns what lies outside.
    """
    missing = RefusalError(404, f"there is no image {printable(path)[:_LONGEST_NAME]} in the root.")
    try:
        real = Path(os.path.realpath(root / path))
        if not real.is_relative_to(root) or not real.exists():
            raise missing
    except (OSError, ValueError):
        raise missing from None
    return real


def listing(root: Path) -> list[str]:
    """List the images inside of the root by their paths, in order, without hidden ones."""
    found: list[str] = []
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            file = Path(folder, name)
            if name.startswith(".") or not Path(os.path.realpath(file)).is_relative_to(root):
                continue
            if is_image(file) or is_medical(file):
                found.append(file.relative_to(root).as_posix())
            if len(found) == _MOST_LISTED:
                return found
    return found


def _read(file: Path, shown: str, window: str | None, max_pixels: int) -> MedicalImage:
    try:
        image = imaging.read(file, window=window or None, max_pixels=max_pixels)
        _ = image[0].view  # needs a window, where values are deeper than a screen
    except ImageError as error:
        raise ImageError(str(error).replace(str(file), shown)) from error
    return replace(image, name=shown)


def discard(folder: Path) -> None:
    """Remove the folder of an upload that came to nothing."""
    shutil.rmtree(folder, ignore_errors=True)
