"""Conformance of the reading of medical files with values of independent readers.

``python -m benchmarks.conformance FOLDER`` reads every file that ``FOLDER/index.csv`` names and
prints a line for each: what came, what is right, and whether they agree. The table states for each
file the SHA-256 of its right pixels, or why it has to be refused, and what its header says of
regions, spacing and time. The exit code is 1 if any file does not conform. With ``--times`` a
line of each DICOM file that is read states the time of reading beside that of its decoder.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.decoding import decoding_times
from fastseg.errors import FastsegError
from fastseg.imaging import MedicalImage, read

IMAGE_KINDS = ("picture", "mask")
FLOAT_DIFFERENCE = 0.001
"""Largest difference of scaled numbers between readers of single and of double precision."""

MEAN_DIFFERENCE = 2.0
BLOCKS = 4


@dataclass(frozen=True)
class Outcome:
    """The result of reading one file, beside what is right."""

    file: str
    kind: str
    expected: str
    got: str
    faults: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """True if it is what is right."""
        return not self.faults


def rows(folder: Path) -> list[dict[str, str]]:
    """Read the table of a folder."""
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def check(folder: Path, row: dict[str, str]) -> Outcome:
    """Read one file and compare it with its row."""
    expected = row["expect"].partition(":")[0]
    try:
        image = read(folder / row["file"])
        array = right_array(image, row["kind"])
    except FastsegError as error:
        faults = () if expected in ("refuse", "either") else (f"refused: {error}",)
        return Outcome(row["file"], row["kind"], expected, "refused", faults)
    got = f"{array.dtype} {array.shape}"
    if expected == "refuse":
        return Outcome(row["file"], row["kind"], expected, got, ("read, and had to be refused",))
    faults = (*pixel_faults(array, image, row), *header_faults(image, row))
    return Outcome(row["file"], row["kind"], expected, got, faults)


def right_array(image: MedicalImage, kind: str) -> np.ndarray:
    """Bring an image to the form that the table hashes."""
    if kind in IMAGE_KINDS:
        return np.ascontiguousarray(image.stored[0], dtype=np.uint8)
    values = image.values
    if kind == "SEG":
        values = image.stored
    if image.volumes > 1:
        values = values.reshape(image.volumes, -1, *values.shape[1:])
    if image.is_colour:
        return np.ascontiguousarray(values)
    if kind == "NIfTI" and values.dtype.kind == "f":
        return values.astype("<f8")
    return np.rint(values).astype("<i4")


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def pixel_faults(array: np.ndarray, image: MedicalImage, row: dict[str, str]) -> Iterator[str]:
    """Yield what is wrong with the pixels."""
    lossy = float(row["max_difference"] or 0) > 0
    others = [one.split(":") for one in row["other_sha256"].split(" ") if one]
    allowed = {row["pixels_sha256"], *(one[1] for one in others if len(one) > 1)}
    if digest(array) in allowed:
        if row["region"]:
            x0, y0, x1, y1 = map(int, row["region"].split())
            region = image.tissue
            cut = None if region is None else image.cut(region)
            if cut is None or cut.size != (y1 + 1 - y0, x1 + 1 - x0):
                yield "the region has another size"
            elif digest(right_array(cut, row["kind"])) not in {
                row["region_sha256"],
                *(one[2] for one in others if len(one) > 2),
            }:
                yield "the pixels of the region differ"
        return
    if not lossy:
        yield "the pixels differ"
    elif mean_difference(array, row) > MEAN_DIFFERENCE:
        yield "the means of blocks differ"


def mean_difference(array: np.ndarray, row: dict[str, str]) -> float:
    """Compare the means of 4 x 4 blocks over all frames with those of the table."""
    colour = array.ndim > 2 and array.shape[-1] == 3 and array.dtype == np.uint8
    flat = array.reshape(-1, *array.shape[-3 if colour else -2 :]).astype(np.float64).mean(axis=0)
    blocks = [
        part.mean(axis=(0, 1))
        for band in np.array_split(flat, BLOCKS, axis=0)
        for part in np.array_split(band, BLOCKS, axis=1)
    ]
    stated = np.array([float(one) for one in row["means"].split()])
    return float(np.abs(np.ravel(blocks) - stated).max())


def header_faults(image: MedicalImage, row: dict[str, str]) -> Iterator[str]:
    """Yield what is wrong with spacing, region and time."""
    region = image.tissue if image.regions else None
    found = {
        "region_cm": None if region is None else region.pixel_cm,
        "frame_ms": image.timing.frame_ms,
        "heart_rate": image.timing.heart_rate,
        "spacing_mm": image.spacing,
    }
    for name, value in found.items():
        stated = row[name].partition("(")[0].split()
        if row["kind"] in IMAGE_KINDS or (name == "spacing_mm" and not stated):
            continue
        numbers = [] if value is None else list(np.atleast_1d(value))
        wanted = [float(one) for one in stated[:2]]
        if name == "spacing_mm" and row["kind"] in ("NIfTI", "NRRD"):
            numbers.reverse()
        if len(numbers) < len(wanted) or not np.allclose(numbers[: len(wanted)], wanted, 1e-3):
            yield f"{name} is {value} and not {row[name]}"


def print_times(folder: Path, outcomes: list[Outcome]) -> None:
    """Print the medians in milliseconds, and the ratio of reading to parsing and decoding."""
    print(f"{'':5}  {'milliseconds':50} {'read':>8} {'parse':>8} {'decode':>8} {'ratio':>6}")
    for one in outcomes:
        is_dicom = one.file.endswith(".dcm") and one.got != "refused"
        times = decoding_times(folder / one.file) if is_dicom else None
        if times is not None:
            print(
                f"{'times':5}  {one.file:50} {times.read:8.2f} {times.parse:8.2f} "
                f"{times.decode:8.2f} {times.ratio:6.2f}"
            )


def main(words: list[str]) -> int:
    folder = Path(words[0])
    outcomes = [check(folder, row) for row in rows(folder)]
    if "--times" in words[1:]:
        print_times(folder, outcomes)
    for one in outcomes:
        print(
            f"{'holds' if one.holds else 'FAILS':5}  {one.file:50} {one.expected:7} {one.got:28} "
            + "; ".join(one.faults)
        )
    counts = Counter((one.kind, one.holds) for one in outcomes)
    for kind in dict.fromkeys(one.kind for one in outcomes):
        held, failed = counts[kind, True], counts[kind, False]
        print(f"{kind}: {held} of {held + failed} hold")
    return 0 if all(one.holds for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
