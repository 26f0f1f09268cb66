"""Native kernels on a device, queued on a stream without waiting for them.

Each operation is that of its name in ``fastseg.ops``, with the same bits. Sizes that only the
device knows stay there: lists have a capacity and a number of entries in device memory. The kernels
are in two modules: ``fastseg._cuda`` for CUDA and, for tests, ``fastseg._core.emulated``, which
runs the bodies of the CUDA kernels in plain loops over host memory.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastseg import _core
from fastseg.contract import ALTERNATIVES, MASK_SLOTS
from fastseg.cuda.arrays import HOST, DeviceArray, device_array
from fastseg.errors import BackendUnavailableError, DeviceArrayError
from fastseg.geometry import Frame
from fastseg.ops import checks

RECORD = np.dtype(
    [
        ("score", np.float32),
        ("stability", np.float32),
        ("area", np.uint32),
        ("box", np.int32, (4,)),
        ("prompt", np.int32),
        ("begin", np.int64),
        ("length", np.int64),
    ]
)
"""One mask: predicted IoU, stability, pixels, x0 y0 x1 y1 inclusive, index of its point, and the
place of its run lengths."""

LABEL = np.dtype([("score", np.float32), ("prompt", np.int32)])
"""The prompt that a plane of logits belongs to; planes of negative prompts are skipped."""

FILL = np.dtype([("masks", np.int64), ("runs", np.int64)])
"""Length of a list, or the length that it would have had with enough room."""


class Candidates(NamedTuple):
    """Masks that passed the filters so far, in device memory."""

    records: DeviceArray
    """(masks,) ``RECORD`` as 48 bytes each, uint8 (masks, 48)."""

    positions: DeviceArray
    """(runs,) uint32 where masks begin and end, in column-major order."""

    fill: DeviceArray
    """(16,) uint8, one ``FILL``; zero it before the first mask."""

    @property
    def capacities(self) -> tuple[int, int]:
        """Masks and runs that there is room for."""
        return self.records.shape[0], self.positions.shape[0]


class Gather(NamedTuple):
    """Rows of an array: ``rows[first]`` and the ``size - 1`` after it."""

    rows: DeviceArray
    """(n,) int32."""

    row_count: DeviceArray
    """(1,) int32: the number of valid ``rows``."""

    first: int
    size: int


@dataclass(frozen=True, slots=True)
class MaskFilter:
    """Conditions that a mask must meet to become a candidate."""

    threshold: float = 0.0
    stability_offset: float = 1.0
    least_stability: float = -math.inf
    """No bound from 0 down. An empty mask has no stability, and passes no bound."""

    edge_tolerance: float = 20.0
    """Pixels within which a box ends at an edge of the crop; negative passes every box."""


@dataclass(frozen=True, slots=True)
class DeviceKernels:
    """The operations on one device and one stream; every array must lie on that device.

    Raises:
        DeviceArrayError: From every operation: an array is on another device, or has another dtype
            or shape than the operation needs.
    """

    module: Any
    device: str
    """``"cuda:0"``, or ``HOST`` for the emulated device."""

    stream: int = 0
    """Handle of the stream; on the emulated device, 1 makes threads take turns backwards."""

    def preprocess_workspace(self, frame: Frame) -> int:
        """Return the bytes of scratch memory that ``preprocess`` needs."""
        return int(self.module.preprocess_workspace(checks.native_frame(frame)))

    def preprocess(
        self, image: Any, frame: Frame, mean: Any, std: Any, *, out: Any, workspace: Any
    ) -> None:
        """Make a model's input; see ``ops.preprocess``.

        Args:
            image: (height, width, 3) uint8, the whole image.
            frame: The part of the image to use, and its size in the square.
            mean: Of the three channels, 0 to 255.
            std: Of the three channels.
            out: (3, side, side) float32 or float16.
            workspace: ``preprocess_workspace`` bytes.
        """
        side = frame.side
        pixels = self._array(image, "image", np.uint8, (*frame.image, 3))
        target, fp16 = self._floats(out, "out", (3, side, side))
        scratch = self._scratch(workspace, self.preprocess_workspace(frame))
        means, deviations = (tuple(map(float, three)) for three in (mean, std))
        self.module.preprocess(
            pixels.address, checks.native_frame(frame), means, deviations,
            target.address, fp16, scratch, self.stream,
        )  # fmt: skip

    def point_grid(self, points_per_side: int, *, out: Any) -> None:
        """Write the grid of ``ops.point_grid`` to ``out``, (n * n, 2) float64."""
        target = self._array(out, "out", np.float64, (points_per_side**2, 2))
        self.module.point_grid(points_per_side, target.address, self.stream)

    def point_prompts(self, points: Any, frame: Frame, *, coords: Any, labels: Any) -> None:
        """Make a prompt of each point of the unit square, as ``prompts.single_points`` does.

        Args:
            points: (n, 2) float64, x before y, in 0..1 of the frame's crop.
            frame: The crop, and its place in the model's square.
            coords: (n, 2, 2) float32 is written: the point and a point of padding.
            labels: (n, 2) int32 is written.
        """
        given = self._array(points, "points", np.float64, (None, 2))
        count = given.shape[0]
        places = self._array(coords, "coords", np.float32, (count, 2, 2))
        marks = self._array(labels, "labels", np.int32, (count, 2))
        self.module.point_prompts(
            given.address, count, checks.native_frame(frame),
            places.address, marks.address, self.stream,
        )  # fmt: skip

    def select_prompts(self, scores: Any, threshold: float, *, prompts: Any, count: Any) -> None:
        """List the prompts with an alternative whose predicted IoU is above ``threshold``.

        Args:
            scores: (n, 4) float32.
            threshold: Rounded to float32, as SAM compares.
            prompts: (n,) int32 is written as far as ``count`` says.
            count: (1,) int32 is written.
        """
        given = self._array(scores, "scores", np.float32, (None, MASK_SLOTS))
        listed = self._array(prompts, "prompts", np.int32, (given.shape[0],))
        number = self._array(count, "count", np.int32, (1,))
        self.module.select_prompts(
            given.address, given.shape[0], float(threshold),
            listed.address, number.address, self.stream,
        )  # fmt: skip

    def gather_rows(
        self, source: Any, gather: Gather, *, out: Any, slots: slice | None = None
    ) -> None:
        """Copy rows of an array to lie one behind the other.

        Args:
            source: (n, ...) of anything whose rows are a multiple of 4 bytes long.
            gather: The rows; rows beyond its count are left as they are.
            out: (size, ...).
            slots: The part of the second axis to copy; None for all.
        """
        given, target = self._array(source, "source"), self._array(out, "out")
        shape, skipped = given.shape[1:], 0
        if slots is not None:
            begin, end, _ = slots.indices(shape[0])
            skipped = begin * math.prod(shape[1:]) * given.dtype.itemsize
            shape = (end - begin, *shape[1:])
        target = self._array(out, "out", given.dtype, (gather.size, *shape))
        row_bytes = math.prod(shape) * given.dtype.itemsize
        stride = math.prod(given.shape[1:]) * given.dtype.itemsize
        rows = self._gather(
            gather, source=given.address + skipped, source_stride=stride, row_bytes=row_bytes
        )
        self.module.gather_rows(rows, target.address, self.stream)

    def label_planes(
        self, scores: Any, gather: Gather, threshold: float, *, first_prompt: int, labels: Any
    ) -> None:
        """Label the planes that the mask head draws of gathered rows with score and prompt.

        Args:
            scores: (n, 4) float32.
            gather: The rows that were drawn, three planes each.
            threshold: Of the predicted IoU.
            first_prompt: Index of the first of these prompts in the grid.
            labels: (size * 3, 8) uint8, ``LABEL``, is written.
        """
        given = self._array(scores, "scores", np.float32, (None, MASK_SLOTS))
        size = (gather.size * ALTERNATIVES, LABEL.itemsize)
        target = self._array(labels, "labels", np.uint8, size)
        self.module.label_planes(
            given.address, self._gather(gather), float(threshold), first_prompt,
            target.address, self.stream,
        )  # fmt: skip

    def binarise_workspace(self, planes: int, low: tuple[int, int], frame: Frame) -> int:
        """Return the bytes of scratch memory that ``binarise`` needs."""
        return int(self.module.binarise_workspace(planes, low, checks.native_frame(frame)))

    def binarise(
        self,
        logits: Any,
        labels: Any,
        frame: Frame,
        mask_filter: MaskFilter,
        *,
        candidates: Candidates,
        workspace: Any,
    ) -> None:
        """Compute masks as ``ops.binarise`` does, and add those that pass to ``candidates``.

        Args:
            logits: (n, h, w) float32 or float16.
            labels: (n, 8) uint8, ``LABEL``.
            frame: The image that the masks belong to.
            mask_filter: Thresholds, and the conditions that masks must meet.
            candidates: Receives the masks; those beyond its capacity are only counted.
            workspace: ``binarise_workspace`` bytes.
        """
        planes, fp16 = self._floats(logits, "logits", (None, None, None))
        count, height, width = planes.shape
        marks = self._array(labels, "labels", np.uint8, (count, LABEL.itemsize))
        checks.thresholds(mask_filter.threshold, mask_filter.stability_offset)
        scratch = self._scratch(workspace, self.binarise_workspace(count, (height, width), frame))
        middle, offset = mask_filter.threshold, mask_filter.stability_offset
        self.module.binarise(
            _core.LogitPlanes(
                data=planes.address, fp16=fp16, count=count, size=(height, width)
            ),
            marks.address, checks.native_frame(frame), (middle - offset, middle, middle + offset),
            mask_filter.least_stability, mask_filter.edge_tolerance,
            self._candidates(candidates), scratch, self.stream,
        )  # fmt: skip

    def box_nms_workspace(self, masks: int) -> int:
        """Return the bytes of scratch memory that ``box_nms`` needs for at most ``masks`` masks."""
        return int(self.module.box_nms_workspace(masks))

    def box_nms(
        self, candidates: Candidates, iou_threshold: float, *, kept: Any, count: Any, workspace: Any
    ) -> None:
        """List the candidates that ``ops.box_nms`` keeps.

        Args:
            candidates: All of them.
            iou_threshold: Boxes that overlap a better one by more than this are dropped.
            kept: (masks,) int32 is written as far as ``count`` says, best score first.
            count: (1,) int32 is written.
            workspace: ``box_nms_workspace`` bytes.
        """
        given = self._candidates(candidates)
        listed = self._array(kept, "kept", np.int32, (candidates.records.shape[0],))
        number = self._array(count, "count", np.int32, (1,))
        scratch = self._scratch(workspace, self.box_nms_workspace(candidates.records.shape[0]))
        self.module.box_nms(
            given, float(iou_threshold), listed.address, number.address, scratch, self.stream
        )

    def join_runs(self, candidates: Candidates, kept: Any, count: Any, *, out: Candidates) -> None:
        """Write the kept candidates in order, with COCO run lengths in place of positions.

        Args:
            candidates: All of them.
            kept: (masks,) int32.
            count: (1,) int32.
            out: Of the same capacities.
        """
        given, target = self._candidates(candidates), self._candidates(out)
        if candidates.capacities != out.capacities:
            raise DeviceArrayError(
                f"out must have the capacities of the candidates, {candidates.capacities}, "
                f"not {out.capacities}."
            )
        listed = self._array(kept, "kept", np.int32, (candidates.records.shape[0],))
        number = self._array(count, "count", np.int32, (1,))
        self.module.join_runs(given, listed.address, number.address, target, self.stream)

    def _array(
        self, array: Any, name: str, dtype: Any = None, shape: tuple[int | None, ...] | None = None
    ) -> DeviceArray:
        return device_array(array, name, device=self.device, dtype=dtype, shape=shape)

    def _floats(
        self, array: Any, name: str, shape: tuple[int | None, ...]
    ) -> tuple[DeviceArray, bool]:
        found = self._array(array, name, shape=shape)
        if found.dtype not in (np.float32, np.float16):
            raise DeviceArrayError(f"{name} must be float32 or float16, not {found.dtype}.")
        return found, found.dtype == np.float16

    def _scratch(self, workspace: Any, length: int) -> int:
        found = self._array(workspace, "workspace", np.uint8, (None,))
        if found.nbytes < length or found.address % 16:
            raise DeviceArrayError(
                f"the workspace must have {length} bytes at a multiple of 16, not {found.nbytes}."
            )
        return found.address

    def _gather(self, gather: Gather, **source: int) -> _core.RowGather:
        rows = self._array(gather.rows, "rows", np.int32, (None,))
        count = self._array(gather.row_count, "count", np.int32, (1,))
        return _core.RowGather(
            rows=rows.address,
            row_count=count.address,
            first=gather.first,
            size=gather.size,
            **source,
        )

    def _candidates(self, candidates: Candidates) -> _core.Candidates:
        records = self._array(candidates.records, "records", np.uint8, (None, RECORD.itemsize))
        positions = self._array(candidates.positions, "positions", np.uint32, (None,))
        fill = self._array(candidates.fill, "fill", np.uint8, (FILL.itemsize,))
        return _core.Candidates(
            records=records.address,
            positions=positions.address,
            fill=fill.address,
            mask_capacity=records.shape[0],
            run_capacity=positions.shape[0],
        )


def emulated_kernels(*, backwards: bool = False) -> DeviceKernels:
    """Return the CUDA kernels' bodies over host memory.

    Args:
        backwards: Run blocks and threads from the last to the first; a correct kernel gives the
            same result in both orders.
    """
    return DeviceKernels(_core.emulated, HOST, int(backwards))


def cuda_module() -> Any:
    """Import the extension module with the CUDA kernels, which needs no driver or device.

    Raises:
        BackendUnavailableError: It was not built, or does not load.
    """
    try:
        return importlib.import_module("fastseg._cuda")
    except ImportError as error:
        raise BackendUnavailableError(
            "the CUDA kernels",
            reason=f"this installation was built without them ({error})",
            remedy="Install fastseg again where nvcc (CUDA 12 or newer) is on the PATH.",
        ) from error


def is_built() -> bool:
    """Check that this installation has the CUDA kernels."""
    try:
        cuda_module()
    except BackendUnavailableError:
        return False
    return True


def cuda_kernels(device: str, stream: int) -> DeviceKernels:
    """Return the CUDA kernels on a device and a stream of its primary context.

    Args:
        device: ``"cuda:0"``.
        stream: Handle of the stream.

    Raises:
        BackendUnavailableError: They were not built.
    """
    return DeviceKernels(cuda_module(), device, stream)
