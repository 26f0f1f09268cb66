"""Damaged DICOM files: bytes, and elements that lack or hold something else."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from fastseg.echo import files as echo_files
from tools.attack.campaign import Campaign, Case, Counts, typed
from tools.attack.images import BOUND, MAX_PIXELS
from tools.attack.mutations import damaged

_LARGEST = 240_000
"""Bytes of the largest example of pydicom that is taken."""

_VALUES: tuple[Any, ...] = (
    *(None, 0, -1, 1, 2, 7, 16, 2**16 - 1, 2**31, 0.0, 1e-300, 1e300, float("nan")),
    *("", "x", "1\\2", "RGB", "PALETTE COLOR", "MONOCHROME1", "YBR_ICT", "\udcff", "a" * 5000),
    *(b"", b"\0", b"\xff" * 7, [], [1, 2, 3], ["1", "x"]),
)


class _Dicom(Campaign):
    memory_bound = BOUND
    budget, short_budget = 40.0, 6.0

    def missing(self) -> str:
        """Name pydicom."""
        return "" if find_spec("pydicom") else "needs pydicom"

    def prepare(self, folder: Path) -> None:
        """Write ultrasound files, and take pydicom's own examples."""
        import pydicom
        from pydicom import config

        from tests.helpers.ultrasound_files import coloured, region, tissue, write_dicom

        config.settings.writing_validation_mode = config.IGNORE
        grey = tissue()
        rgb = coloured(grey)
        own = folder / "own"
        own.mkdir()
        write_dicom(own / "grey.dcm", grey)
        write_dicom(own / "single.dcm", grey[:1])
        write_dicom(own / "rgb.dcm", rgb, "RGB")
        write_dicom(own / "jpeg.dcm", rgb, "YBR_FULL_422", jpeg={})
        write_dicom(own / "two.dcm", grey, regions=[region(), region(RegionDataType=2)])
        examples = Path(pydicom.__file__).parent / "data" / "test_files"
        found = [*sorted(own.iterdir()), *sorted(examples.glob("*.dcm"))]
        small = [path for path in found if path.stat().st_size <= _LARGEST]
        self.seeds = [(path.name, path.read_bytes()) for path in small]

    def read(self, path: Path, random: Random) -> Counts:
        """Read the frames, sometimes with a scale of the caller."""
        scale = random.choice((None, 0.05))
        return typed(
            lambda: echo_files.read(path, channels=None, max_pixels=MAX_PIXELS, cm_per_pixel=scale)
        )


class DicomBytes(_Dicom):
    """Altered bytes."""

    name = "DICOM, bytes"
    cases, short_cases = 10_000, 700

    def attack(self, case: Case) -> Counts:
        """Read a damaged file."""
        name, content = self.seeds[case.index % len(self.seeds)]
        path = case.folder / name
        path.write_bytes(damaged(content, case.random))
        return self.read(path, case.random)


class DicomElements(_Dicom):
    """Elements that are gone or hold something else, in a file that is otherwise whole."""

    name = "DICOM, elements"
    cases, short_cases = 6000, 400

    def attack(self, case: Case) -> Counts:
        """Write the file anew and read it."""
        name, content = self.seeds[case.index % len(self.seeds)]
        path = case.folder / name
        if not _write_altered(path, content, case.random):
            path.write_bytes(damaged(content, case.random))
        return self.read(path, case.random)


def _write_altered(path: Path, content: bytes, random: Random) -> bool:
    """Write the file with altered elements; False where pydicom cannot."""
    import pydicom

    try:
        file = pydicom.dcmread(io.BytesIO(content), force=True)
        for _ in range(random.randint(1, 3)):
            _alter(file, random)
        file.save_as(path)
    except Exception:  # pydicom refuses many values
        return False
    return True


def _alter(file: Any, random: Random) -> None:
    holder = file
    regions = file.get("SequenceOfUltrasoundRegions")
    if regions and random.random() < 0.5:
        holder = random.choice(list(regions))
    tag = random.choice(list(holder.keys()))
    if random.random() < 0.3:
        del holder[tag]
        return
    holder[tag].value = random.choice(_VALUES)
