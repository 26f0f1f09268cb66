"""Everything mode for one crop on a device: from its pixels there to the run lengths of its masks.

Work is queued on one stream and nothing waits for it, with two exceptions. The number of prompts of
a pass that go on to the second stage is known only on the device, and the host must know it to draw
no more than these: four bytes come back, and the host reads them after it has queued the next pass,
so the device has work meanwhile. At the end the host waits for the masks.

A fixed number of masks of every pass, with those that do not exist masked out, would save the four
bytes and cost the mask head for every prompt: half of the whole decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts.preprocessing import Preprocessing
from fastseg.backends.base import Backend
from fastseg.contract import ALTERNATIVES, MULTIPLE
from fastseg.cuda.arrays import DeviceArray
from fastseg.cuda.kernels import (
    FILL,
    LABEL,
    RECORD,
    Candidates,
    Gather,
    MaskFilter,
)
from fastseg.geometry import Frame
from fastseg.ops.rle import Rle
from fastseg.sam.gpu.memory_budget import MemoryPlan
from fastseg.sam.gpu.workspace import GpuWorkspace
from fastseg.sam.grid_settings import GridSettings
from fastseg.timings import Stopwatch


class Found(NamedTuple):
    """The masks of one crop that passed every filter, by falling score."""

    records: NDArray[np.void]
    """(n,) of the dtype ``cuda.kernels.RECORD``."""

    runs: Rle


def nothing_found(frame: Frame) -> Found:
    """Make no masks, as for a crop that has no points."""
    runs = Rle(np.zeros(0, np.uint32), np.zeros(1, np.int64), frame.image)
    return Found(np.zeros(0, RECORD), runs)


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass of prompts, after the first stage."""

    first: int
    prompt_inputs: tuple[DeviceArray, DeviceArray]  # (n, 2, 2), (n, 2)
    scores: DeviceArray  # (n, 4)
    tokens: DeviceArray  # (n, ...)
    vectors: DeviceArray  # (n, 4, 32)
    prompts: DeviceArray  # (n,) those that go on
    count: DeviceArray  # (1,) how many


class GpuCrop:
    """One crop of one image."""

    def __init__(
        self,
        graphs: Mapping[str, Backend],
        preprocessing: Preprocessing,
        work: GpuWorkspace,
        frame: Frame,
        settings: GridSettings,
    ) -> None:
        self._graphs, self._preprocessing, self._work = graphs, preprocessing, work
        self._frame, self._settings = frame, settings
        self._filter = MaskFilter(
            stability_offset=settings.stability_score_offset,
            least_stability=settings.stability_score_thresh,
        )
        self._state: dict[str, DeviceArray] = {}
        self._count = work.pinned.take(4)
        self._room: _PieceRoom | None = None

    def encode(self, image: DeviceArray) -> None:
        """Preprocess and encode the crop, and compute the arrays that all prompts share."""
        work, kernels = self._work, self._work.kernels
        encoder = self._graphs["encoder"]
        preprocessing = self._preprocessing
        side = preprocessing.side
        square = work.empty((1, 3, side, side), encoder.graph.inputs[0].dtype)
        scratch = work.empty((kernels.preprocess_workspace(self._frame),), np.uint8)
        kernels.preprocess(
            image,
            self._frame,
            preprocessing.mean,
            preprocessing.std,
            out=replace(square, shape=(3, side, side)),
            workspace=scratch,
        )
        embedding = work.run(encoder, {"image": square})
        self._state = work.run(self._graphs["image_state"], embedding)

    def release(self) -> None:
        """Release the decoder's memory."""
        self._room = None

    def masks(
        self, grid: NDArray[np.float64], plan: MemoryPlan, runs: int, watch: Stopwatch
    ) -> tuple[Found | None, int]:
        """Decode all points.

        Args:
            grid: (n, 2) points in 0..1 of the crop.
            plan: Prompts of each pass.
            runs: Room for so many run lengths.
            watch: Adds up the times.

        Returns:
            The masks, or None if ``runs`` was too little room; and the room that is needed.
        """
        work, masks = self._work, len(grid) * ALTERNATIVES
        head = 2 * FILL.itemsize
        # One array for everything whose size is known in advance: both fills, then the records.
        answer = work.empty((head + masks * RECORD.itemsize,), np.uint8)
        zeros = work.upload(np.zeros(head, np.uint8))
        work.stream.copy(answer.address, zeros.address, head)
        fills = [answer.part(i * FILL.itemsize, (i + 1) * FILL.itemsize) for i in range(2)]
        rows = (masks, RECORD.itemsize)
        candidates = Candidates(
            work.empty(rows, np.uint8), work.empty((runs,), np.uint32), fills[0]
        )
        chosen = Candidates(
            replace(answer.part(head, answer.shape[0]), shape=rows),
            work.empty((runs,), np.uint32),
            fills[1],
        )
        with watch("decode"):
            self._decode(work.upload(np.ascontiguousarray(grid)), plan, candidates)
        with watch("postprocess"):
            return self._choose(candidates, chosen, answer)

    def _decode(self, points: DeviceArray, plan: MemoryPlan, candidates: Candidates) -> None:
        """Run both stages for all points; masks that pass the filters become candidates."""
        room = self._room = _PieceRoom(self._work, self._graphs, plan, self._frame)
        waiting: _Pass | None = None
        for first, end in plan.passes(points.shape[0]):
            begun = self._first_stage(points.part(first, end), first)
            if waiting is not None:
                self._second_stage(waiting, plan, room, candidates)
            self._ask_count(begun)
            waiting = begun
        if waiting is not None:
            self._second_stage(waiting, plan, room, candidates)

    def _first_stage(self, points: DeviceArray, first: int) -> _Pass:
        work, kernels, count = self._work, self._work.kernels, points.shape[0]
        decoder = self._graphs["decoder"]
        coords = work.empty((count, 2, 2), np.float32)
        labels = work.empty((count, 2), np.int32)
        kernels.point_prompts(points, self._frame, coords=coords, labels=labels)
        wanted = {tensor.name for tensor in decoder.graph.inputs}
        inputs = {name: array for name, array in self._state.items() if name in wanted}
        outputs = work.run(decoder, inputs | {"point_coords": coords, "point_labels": labels})
        begun = _Pass(
            first=first,
            prompt_inputs=(coords, labels),
            scores=outputs["iou_predictions"],
            tokens=outputs["image_tokens"],
            vectors=outputs["mask_vectors"],
            prompts=work.empty((count,), np.int32),
            count=work.empty((1,), np.int32),
        )
        kernels.select_prompts(
            begun.scores,
            self._settings.least_iou,
            prompts=begun.prompts,
            count=begun.count,
        )
        return begun

    def _ask_count(self, begun: _Pass) -> None:
        """Copy the number of prompts that go on to the host, in a stream of its own."""
        work = self._work
        work.device.order(work.stream.handle, work.readback.handle)
        work.readback.download(self._count, begun.count.address)

    def _second_stage(
        self, begun: _Pass, plan: MemoryPlan, room: _PieceRoom, candidates: Candidates
    ) -> None:
        """Draw the masks of a pass piece by piece, and keep those that pass the filters."""
        self._work.readback.synchronise()
        for first, size in plan.pieces(int(self._count.view(np.int32)[0])):
            self._draw(begun, Gather(begun.prompts, begun.count, first, size), room, candidates)

    def _draw(self, begun: _Pass, gather: Gather, room: _PieceRoom, candidates: Candidates) -> None:
        work, kernels, size = self._work, self._work.kernels, gather.size
        tokens, vectors = room.tokens.part(0, size), room.vectors.part(0, size)
        kernels.gather_rows(begun.tokens, gather, out=tokens)
        kernels.gather_rows(begun.vectors, gather, out=vectors, slots=MULTIPLE)
        inputs = {"image_tokens": tokens, "mask_vectors": vectors}
        logits = work.run(self._graphs["mask_head"], inputs)["low_res_logits"]
        labels = room.labels.part(0, size * ALTERNATIVES)
        kernels.label_planes(
            begun.scores,
            gather,
            self._settings.least_iou,
            first_prompt=begun.first,
            labels=labels,
        )
        kernels.binarise(
            replace(logits, shape=(size * ALTERNATIVES, *logits.shape[2:])),
            labels,
            self._frame,
            self._filter,
            candidates=candidates,
            workspace=room.scratch,
        )

    def _choose(
        self, candidates: Candidates, chosen: Candidates, answer: DeviceArray
    ) -> tuple[Found | None, int]:
        """Suppress masks that overlap, and copy the others to the host."""
        work, masks = self._work, candidates.records.shape[0]
        kept, count = work.empty((masks,), np.int32), work.empty((1,), np.int32)
        need = work.kernels.box_nms_workspace(masks)
        work.kernels.box_nms(
            candidates,
            self._settings.box_nms_thresh,
            kept=kept,
            count=count,
            workspace=work.empty((need,), np.uint8),
        )
        work.kernels.join_runs(candidates, kept, count, out=chosen)
        known = work.download(answer)
        head = 2 * FILL.itemsize
        fills = known[:head].view(FILL)
        needed = int(fills[0]["runs"])
        if needed > candidates.positions.shape[0]:
            return None, needed
        total = int(fills[1]["runs"])
        records = known[head:].view(RECORD)[: int(fills[1]["masks"])].copy()
        counts = work.download(chosen.positions.part(0, total)).view(np.uint32).copy()
        offsets = np.append(records["begin"], total)
        return Found(records, Rle(counts, offsets, self._frame.image)), needed


class _PieceRoom:
    """Memory that every piece of the second stage uses again."""

    def __init__(
        self, work: GpuWorkspace, graphs: Mapping[str, Backend], plan: MemoryPlan, frame: Frame
    ) -> None:
        inputs = {tensor.name: tensor for tensor in graphs["mask_head"].graph.inputs}
        low = graphs["mask_head"].graph.outputs[0].shape[2:]
        height, width = (size for size in low if isinstance(size, int))
        most = max(size for _, size in plan.pieces(plan.prompts_per_piece))
        planes = most * ALTERNATIVES
        tokens = inputs["image_tokens"]
        shape = tuple(size for size in tokens.shape[1:] if isinstance(size, int))
        self.tokens = work.empty((most, *shape), tokens.dtype)
        self.vectors = work.empty((most, ALTERNATIVES, 32), inputs["mask_vectors"].dtype)
        self.labels = work.empty((planes, LABEL.itemsize), np.uint8)
        need = work.kernels.binarise_workspace(planes, (height, width), frame)
        self.scratch = work.empty((need,), np.uint8)
