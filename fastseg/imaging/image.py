"""Medical images: values with their meaning and geometry, and the window that they are seen in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import ImageError
from fastseg.imaging.window import (
    WINDOWS,
    Percentiles,
    Window,
    WindowChoice,
    parse_window,
    percentile_window,
)
from fastseg.inputs.numbers import whole_number

RegionKind: TypeAlias = Literal[
    "tissue", "colour flow", "M-mode", "spectral", "waveform", "graphics", "other"
]

Table: TypeAlias = tuple[int, NDArray[np.uint8]]
"""A table of levels instead of a window, and the value that its first entry is for."""


@dataclass(frozen=True, slots=True)
class UltrasoundRegion:
    """A part of an ultrasound frame that shows one kind of data."""

    kind: RegionKind
    corners: tuple[int, int, int, int] | None
    """``x0, y0, x1, y1`` as the file states them; the corners belong to it. None if missing."""

    pixel_cm: tuple[float, float] | None
    """Width and height of a pixel in cm; None if the region does not state both."""

    is_flat: bool = True
    """True if it shows a plane of the body, and no curve or text."""

    def box(self, size: tuple[int, int], what: object) -> tuple[int, int, int, int]:
        """Return the part as ``x0, y0, x1, y1``, end-exclusive, of frames (height, width).

        Raises:
            ImageError: The corners are missing, or lie outside of the frames.
        """
        if self.corners is None:
            raise ImageError(
                f"{what} has an ultrasound region without corners: its header is damaged. Save the "
                "frames by numpy.save, and give that file with cm_per_pixel."
            )
        (height, width), (x0, y0, x1, y1) = size, self.corners
        # Some machines count the far corner as the first pixel beyond the region.
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ImageError(
                f"{what} has an ultrasound region {x0} {y0} {x1} {y1} outside its frames of "
                f"{width} x {height} pixels: its header is damaged, or the clip was resized. "
                "Save the frames by numpy.save, and give that file with cm_per_pixel."
            )
        return x0, y0, min(x1 + 1, width), min(y1 + 1, height)


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of the frames of a clip."""

    frame_ms: float | None = None
    """Time from one frame to the next in milliseconds, the mean where it varies."""

    heart_rate: float | None = None
    """Beats a minute."""

    r_wave_ms: tuple[float, ...] = ()
    """Times of the R waves from the first frame, in milliseconds."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MedicalImage:
    """Frames of one file or series, with what their values and their pixels mean.

    Every method of a model that takes an image takes it, in its window: one frame as an image,
    several as a stack. Indexing gives a frame, slicing some of them. It holds neither names nor
    dates nor identifiers of a person.
    """

    stored: NDArray[Any]
    """(n, H, W) numbers as the file holds them, or uint8 (n, H, W, 3), RGB."""

    slope: NDArray[np.float64]
    """(n,) factor of each frame, from stored numbers to ``values``."""

    intercept: NDArray[np.float64]
    """(n,) summand of each frame."""

    window: Window | None = None
    """The window of ``view``; None shows 8 bits as they are, and nothing else."""

    table: Table | None = None
    """A table of the file that takes the window's place."""

    inverted: bool = False
    """True if low values are bright (MONOCHROME1)."""

    spacing: tuple[float, float] | None = None
    """Height and width of a pixel in mm: from row to row, from column to column."""

    slice_spacing: float | None = None
    """Distance from one frame to the next in mm, where frames are slices."""

    affine: NDArray[np.float64] | None = None
    """(4, 4) from slice, row, column, 1 to millimetres to the patient's left, back and head (LPS).
    """

    volumes: int = 1
    """Volumes that follow each other in ``stored``, as in functional MR."""

    modality: str = ""
    """Two letters, as in DICOM: CT, MR, US; empty if the file does not say."""

    regions: tuple[UltrasoundRegion, ...] = ()
    timing: Timing = field(default_factory=Timing)
    name: str = "the image"
    """Path of the file, for messages."""

    files: tuple[tuple[str, int], ...] = ()
    """DICOM file of each frame and the frame's place in it; empty for other sources."""

    @property
    def is_colour(self) -> bool:
        """Tell if the frames are RGB."""
        return self.stored.ndim == 4

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""
        height, width = self.stored.shape[1:3]
        return height, width

    @property
    def values(self) -> NDArray[Any]:
        """Modality values (n, H, W), such as Hounsfield units, or RGB uint8 (n, H, W, 3).

        int32 of whole numbers up to 16 bits and signed 32, the file's own type of others without a
        rescale, float64 elsewhere. They are made at each call; ``frame_values`` makes those of one
        frame.
        """
        if self.is_colour:
            return self.stored
        return np.stack([self.frame_values(index) for index in range(len(self))])

    def frame_values(self, index: int) -> NDArray[Any]:
        """Return the modality values of one frame, (H, W), or RGB (H, W, 3)."""
        frame: NDArray[Any] = self.stored[index]
        if self.is_colour or self._is_plain:
            return frame.astype(np.int32) if self._is_narrow else frame
        if self._is_whole:
            scaled: NDArray[np.int32] = frame.astype(np.int32)
            scaled *= int(self.slope[index])
            scaled += int(self.intercept[index])
            return scaled
        values: NDArray[np.float64] = frame.astype(np.float64) * self.slope[index]
        values += self.intercept[index]
        return values

    @property
    def view(self) -> NDArray[np.uint8]:
        """Frames in the window: uint8 (n, H, W) or (n, H, W, 3), of one frame without the n.

        Raises:
            ImageError: The values need a window, and there is none.
        """
        frames = [self._frame_view(index) for index in range(len(self))]
        return frames[0] if len(frames) == 1 else np.stack(frames)

    @property
    def pixel_mm2(self) -> float | None:
        """Area of a pixel in square millimetres."""
        return None if self.spacing is None else self.spacing[0] * self.spacing[1]

    @property
    def voxel_ml(self) -> float | None:
        """Volume of a voxel in millilitres."""
        if self.spacing is None or self.slice_spacing is None:
            return None
        return self.spacing[0] * self.spacing[1] * self.slice_spacing / 1000

    @property
    def tissue(self) -> UltrasoundRegion | None:
        """The two-dimensional ultrasound region of tissue, else of colour flow; None without one.

        Raises:
            ImageError: There are several.
        """
        for kind in ("tissue", "colour flow"):
            found = [region for region in self.regions if region.kind == kind]
            if len(found) > 1:
                raise ImageError(
                    f"{self.name} shows {len(found)} two-dimensional regions. Cut out the one that "
                    "matters: image.cut(region)."
                )
            if found:
                return found[0]
        return None

    def with_window(self, window: WindowChoice) -> MedicalImage:
        """Return the same values in another window.

        Raises:
            ImageError: There is no such window, or the image has colours.
        """
        chosen = parse_window(window, self.modality)
        if chosen is None:
            if self.window is None and self.table is None:
                raise self._without_window("the file states none")
            return self
        if self.is_colour:
            raise ImageError(f"{self.name} has colours, which have no window. Leave window out.")
        if isinstance(chosen, Percentiles):
            chosen = percentile_window(self.stored, self.slope, self.intercept, chosen)
        return replace(self, window=chosen, table=None)

    def cut(self, region: UltrasoundRegion) -> MedicalImage:
        """Return the part of every frame that a region shows, with the size of its pixels.

        Raises:
            ImageError: The region lies outside of the frames.
        """
        x0, y0, x1, y1 = region.box(self.size, self.name)
        cm = region.pixel_cm
        spacing = None if cm is None else (10 * cm[1], 10 * cm[0])
        affine = None if self.affine is None else self.affine.copy()
        if affine is not None:
            affine[:, 3] = affine @ (0, y0, x0, 1)
        return replace(
            self,
            stored=self.stored[:, y0:y1, x0:x1],
            spacing=spacing or self.spacing,
            affine=affine,
            regions=(),
            files=(),
        )

    def volume(self, index: int) -> MedicalImage:
        """Return one of the volumes that follow each other.

        Raises:
            ImageError: There is no such volume.
        """
        number = whole_number(index, "volume", ImageError, least=0)
        if number >= self.volumes:
            raise ImageError(f"{self.name} has {self.volumes} volumes, from 0, and not {number}.")
        slices = len(self) // self.volumes
        return replace(self[number * slices : (number + 1) * slices], volumes=1)

    def __repr__(self) -> str:
        """Name count, size and kind of the frames; their values would fill the screen."""
        (height, width), kind = self.size, "RGB" if self.is_colour else self.stored.dtype
        return f"<MedicalImage: {len(self)} of {height} x {width} pixels, {kind} {self.modality}>"

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.stored)

    def __iter__(self) -> Iterator[MedicalImage]:
        """Yield each frame as an image of its own, in the same window."""
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int | slice) -> MedicalImage:
        """Take a frame, or a slice of them in a step of one.

        Raises:
            IndexError: There is no such frame.
            ImageError: No frame is left, or the slice leaves frames out.
        """
        if not isinstance(index, slice):
            places = range(len(self))
            chosen = places[index]
            index = slice(chosen, chosen + 1)
        start, stop, step = index.indices(len(self))
        if step != 1 or stop <= start:
            raise ImageError(f"{self.name}[{index}]: take one frame or more, in a step of 1.")
        affine = None if self.affine is None else self.affine.copy()
        if affine is not None:
            affine[:, 3] = affine @ (start, 0, 0, 1)
        taken = slice(start, stop)
        return replace(
            self,
            stored=self.stored[taken],
            slope=self.slope[taken],
            intercept=self.intercept[taken],
            affine=affine,
            files=self.files[taken],
            volumes=1,
        )

    # What models, NumPy and torch read images by.

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """Type of the levels of ``view``."""
        return np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame (H, W, channels), or of several (n, H, W, channels)."""
        whole = (*self.stored.shape[:3], 3 if self.is_colour else 1)
        return whole[1:] if len(self) == 1 else whole

    @property
    def ndim(self) -> int:
        """Axes of ``shape``: 3 for one frame, 4 for several."""
        return len(self.shape)

    def __dlpack__(self, **_: Any) -> Any:
        """Hand ``view`` over, in ``shape``, to other libraries."""
        return np.array(self.view).reshape(self.shape).__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        """Tell that ``view`` is made in the memory of the CPU."""
        return 1, 0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Give ``view`` to NumPy."""
        return np.array(self.view, dtype=dtype)

    @property
    def _is_plain(self) -> bool:
        return bool(np.all(self.slope == 1) and np.all(self.intercept == 0))

    @property
    def _is_narrow(self) -> bool:
        """Tell if every number that the stored type has fits int32."""
        return self.stored.dtype.kind in "iub" and np.can_cast(self.stored.dtype, np.int32)

    @property
    def _is_whole(self) -> bool:
        numbers = np.concatenate([self.slope, self.intercept])
        bits = 8 * self.stored.dtype.itemsize
        # So that no product leaves int32.
        small = bool(np.all(np.abs(numbers) < 2**14))
        return self.stored.dtype.kind in "iu" and bits <= 16 and small and _are_whole(numbers)

    def _frame_view(self, index: int) -> NDArray[np.uint8]:
        if self.is_colour:
            frame: NDArray[np.uint8] = self.stored[index]
            return frame
        values = self.frame_values(index)
        if self.table is not None:
            first, table = self.table
            levels: NDArray[np.uint8] = table[
                np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)
            ]
        elif self.window is not None:
            levels = self.window.apply(values)
        elif self.stored.dtype == np.uint8 and self._is_plain:
            levels = self.stored[index]
        else:
            raise self._without_window("its values are not levels of 0..255")
        return 255 - levels if self.inverted else levels

    def _without_window(self, reason: str) -> ImageError:
        return ImageError(
            f"{self.name} needs a window: {reason}. Give window= (--window): "
            f'{", ".join(WINDOWS)}, "percentile:0.5,99.5", or centre and width such as '
            '"40,400".'
        )


def _are_whole(numbers: NDArray[np.float64]) -> bool:
    return bool(np.all(numbers == np.rint(numbers)))
