"""The whole picture by a grid of clicks, filtered: SAM's automatic mask generation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg import ops
from fastseg.errors import ImageError, PromptError
from fastseg.geometry import Frame
from fastseg.images import Channels, ImageSource, check_size, read_image
from fastseg.inference.thread_map import shared_out
from fastseg.masks import Masks, concatenate
from fastseg.sam.crops import crop_frames
from fastseg.sam.embedding import Embedding
from fastseg.sam.model import PromptModel
from fastseg.sam.prompts import PromptBatch, single_points
from fastseg.sam.two_stage_decoder import FoundMasks
from fastseg.timings import Stopwatch, Timings

if TYPE_CHECKING:
    from fastseg.cuda.arrays import DeviceArray
    from fastseg.sam.gpu.crop import Found, Limits
    from fastseg.sam.gpu.mask_generator import DeviceSearch


@dataclass(frozen=True, slots=True)
class GridSettings:
    """Settings of ``Sam.everything``, with SAM's names and defaults; see there."""

    points_per_side: int | None = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[ArrayLike] | None = None
    min_mask_region_area: int = 0
    max_device_memory: int | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without a picture.

        Raises:
            PromptError: A setting is out of range, or both or neither kind of grid is given.
        """
        if (self.points_per_side is None) == (self.point_grids is None):
            raise PromptError("Give either points_per_side or point_grids, and not both.")
        at_least = {
            "points_per_batch": 1,
            "crop_n_layers": 0,
            "crop_n_points_downscale_factor": 1,
            "min_mask_region_area": 0,
        }
        for name in ("points_per_side", "max_device_memory"):
            if getattr(self, name) is not None:
                at_least[name] = 1
        for name, least in at_least.items():
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < least:
                raise PromptError(f"{name} must be an integer of at least {least}, not {value!r}.")
        if not 0 <= self.crop_overlap_ratio < 1:
            raise PromptError(
                f"crop_overlap_ratio must be in [0, 1), not {self.crop_overlap_ratio!r}."
            )
        for name in ("pred_iou_thresh", "stability_score_thresh", "stability_score_offset"):
            if not np.isfinite(getattr(self, name)):
                raise PromptError(f"{name} must be a finite number, not {getattr(self, name)!r}.")

    def limits(self) -> Limits:
        """What a device has to know of these."""
        from fastseg.sam.gpu.crop import Limits

        return Limits(
            pred_iou_thresh=self.pred_iou_thresh,
            stability_score_thresh=self.stability_score_thresh,
            stability_score_offset=self.stability_score_offset,
            box_nms_thresh=self.box_nms_thresh,
            max_device_memory=self.max_device_memory,
        )

    def grid(self, layer: int) -> NDArray[np.float64]:
        """Clicks of crop layer ``layer``: (n, 2) in 0..1, x before y.

        Raises:
            PromptError: ``point_grids`` has no grid for this layer, or it is malformed.
        """
        if self.point_grids is None:
            shrink = self.crop_n_points_downscale_factor**layer
            per_side = int((self.points_per_side or 0) / shrink)
            return ops.point_grid(per_side) if per_side else np.zeros((0, 2))
        if layer >= len(self.point_grids):
            raise PromptError(
                f"point_grids has {len(self.point_grids)} grids, but crop_n_layers="
                f"{self.crop_n_layers} needs {self.crop_n_layers + 1}."
            )
        grid = np.asarray(self.point_grids[layer], np.float64)
        if grid.ndim != 2 or grid.shape[1] != 2 or not ((grid >= 0) & (grid <= 1)).all():
            raise PromptError(f"point_grids[{layer}] must be (n, 2) with values in 0..1.")
        return grid


def grid_points(grid: NDArray[np.float64], frame: Frame) -> NDArray[np.float64]:
    """Clicks (n, 2) in 0..1 of the looked-at part, in the whole picture's pixels."""
    x0, y0, _, _ = frame.crop_box
    height, width = frame.size
    points: NDArray[np.float64] = grid * [width, height] + [x0, y0]
    return points


class Sam(PromptModel):
    """A SAM-shaped model: masks for prompts, or for the whole picture without any."""

    @cached_property
    def device_search(self) -> DeviceSearch | None:
        """What ``everything`` uses where the model's arrays are on a device, else None."""
        from fastseg.sam.gpu.mask_generator import search_on_device

        return search_on_device(self._graphs)

    def close(self) -> None:
        """Free the runtime's memory; embeddings and masks stay usable."""
        if (search := self.__dict__.get("device_search")) is not None:
            search.close()
        super().close()

    def everything(
        self,
        image: ImageSource,
        *,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[ArrayLike] | None = None,
        min_mask_region_area: int = 0,
        channels: Channels = "rgb",
        max_device_memory: int | None = None,
    ) -> Masks:
        """Find every object: a grid of clicks, and of their masks the sure, stable and distinct.

        The same masks in the same order as SAM's automatic mask generator (Kirillov et al. 2023,
        appendix B). ``Masks.records(output_mode)`` gives its dictionaries.

        Args:
            image: A picture, as for ``embed``. Where the model runs on a CUDA device, also an array
                (H, W, 3) uint8 in the memory of that device, of torch or CuPy for example.
            points_per_side: Clicks along each side of the grid; None with ``point_grids``.
            points_per_batch: Most prompts in one run of the decoder; no result depends on it. On a
                device ``max_device_memory`` decides instead.
            pred_iou_thresh: Keep masks whose predicted IoU is above, 0..1.
            stability_score_thresh: Keep masks at least this stable, 0..1.
            stability_score_offset: Shift of the logit threshold that stability is measured with.
            box_nms_thresh: Of boxes with a higher IoU than this, the best-scoring stays.
            crop_n_layers: Also look at 2**i x 2**i overlapping crops for i up to this.
            crop_nms_thresh: As ``box_nms_thresh``, between crops; the smaller crop wins.
            crop_overlap_ratio: Overlap of crops, as a share of the picture's shorter side.
            crop_n_points_downscale_factor: Layer i has points_per_side / factor**i clicks a side.
            point_grids: For each crop layer its clicks, (n, 2) in 0..1, instead of a regular grid.
            min_mask_region_area: Fill holes and drop islands smaller than this many pixels.
            channels: Order of an array's colours, ``"rgb"`` or ``"bgr"``.
            max_device_memory: Bytes that prompts may take at once on a device; None is 2 GiB. With
                enough, all go through the decoder in one pass.

        Returns:
            The masks by falling score; with crops, those of smaller crops first; with
            ``min_mask_region_area``, edited masks last. ``logits`` are not kept.

        Raises:
            ImageError: The picture cannot be used.
            PromptError: A setting cannot be used.
            DeviceMemoryError: The device has too little memory, even for half as much at a time.
        """
        settings = GridSettings(
            points_per_side=points_per_side,
            points_per_batch=points_per_batch,
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            box_nms_thresh=box_nms_thresh,
            crop_n_layers=crop_n_layers,
            crop_nms_thresh=crop_nms_thresh,
            crop_overlap_ratio=crop_overlap_ratio,
            crop_n_points_downscale_factor=crop_n_points_downscale_factor,
            point_grids=point_grids,
            min_mask_region_area=min_mask_region_area,
            max_device_memory=max_device_memory,
        )
        return _Search(self, settings).run(image, channels)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Masks of one batch that score well enough, as logits."""

    found: FoundMasks
    prompts: NDArray[np.intp]  # (n,) of each mask, among the clicks of the crop


class _Search:
    """One call of ``everything``: its settings and its clock."""

    def __init__(self, model: Sam, settings: GridSettings) -> None:
        self._model = model
        self._settings = settings
        self._watch = Stopwatch()
        self._embedded = Timings()
        self._clicked = 0

    def run(self, image: ImageSource, channels: Channels) -> Masks:
        """Look at the picture, then at its crops, and filter what was found."""
        settings, model = self._settings, self._model
        # Malformed grids are found before the encoder runs.
        grids = [settings.grid(layer) for layer in range(settings.crop_n_layers + 1)]
        search = model.device_search
        with self._watch("preprocess"):
            pixels = self._read(image, channels, search)
        height, width = pixels.shape[:2]
        crops = crop_frames(
            (height, width),
            model.manifest.image_preprocessing.side,
            layers=settings.crop_n_layers,
            overlap_ratio=settings.crop_overlap_ratio,
        )
        if search is not None:
            placed = [(frame, grids[layer]) for layer, frame in crops]
            found = search.search(pixels, placed, settings.limits(), self._watch)
            parts = list(map(self._found, placed, found))
        else:
            *others, (layer, frame) = crops
            parts = [self._crop(self._embed(pixels, one), grids[i]) for i, one in others]
            embedding = self._embed(pixels, frame)
            del pixels  # of a large picture, a quarter of what the search takes
            parts.append(self._crop(embedding, grids[layer]))
        with self._watch("postprocess"):
            masks = self._join([frame for _, frame in crops], parts)
            if settings.min_mask_region_area:
                masks = self._without_small_regions(masks)
        timings = model.circumstances(self._watch, n_masks=len(masks))
        return masks.with_timings(self._embedded + timings)

    def _read(
        self, image: ImageSource, channels: Channels, search: DeviceSearch | None
    ) -> NDArray[np.uint8] | DeviceArray:
        """The picture in the host's memory, unless it is on the device that searches it."""
        from fastseg.cuda.arrays import device_array, is_on_device

        if search is None or not is_on_device(image):
            return read_image(image, channels=channels, max_pixels=self._model.max_pixels)
        if channels != "rgb":
            raise ImageError(
                f'a picture on {search.device.name} must have channels="rgb", not {channels!r}. '
                "Turn them there, or give a host array."
            )
        found = device_array(
            image, "image", device=search.device.name, dtype=np.uint8, shape=(None, None, 3)
        )
        check_size(found.shape[1], found.shape[0], "image", self._model.max_pixels)
        return found

    def _embed(self, pixels: NDArray[np.uint8] | DeviceArray, frame: Frame) -> Embedding:
        embedding = self._model.embed(pixels, crop=frame.crop)
        self._embedded += embedding.timings
        return embedding

    def _found(self, placed: tuple[Frame, NDArray[np.float64]], found: Found) -> Masks:
        """Records and run lengths of one crop as masks."""
        (frame, grid), records = placed, found.records
        points, crop = grid_points(grid, frame), np.array([frame.crop_box], np.int64)
        masks = Masks(
            runs=found.runs,
            scores=records["score"].copy(),
            stability=records["stability"].copy(),
            boxes=records["box"].astype(np.int64),
            areas=records["area"].astype(np.int64),
            prompt=records["prompt"].astype(np.int64) + self._clicked,
            timings=Timings(),
            points=points[records["prompt"]],
            crop_boxes=np.repeat(crop, len(records), axis=0),
        )
        self._clicked += len(grid)
        return masks

    def _crop(self, embedding: Embedding, grid: NDArray[np.float64]) -> Masks:
        """The masks of one crop that pass every filter and survive its NMS."""
        from fastseg.sam.gpu.crop import nothing_found

        if len(grid) == 0:
            return self._found((embedding.frame, grid), nothing_found(embedding.frame))
        points = grid_points(grid, embedding.frame)
        decoder, threads = self._model.decoder, self._model.threads
        limit = min(self._settings.points_per_batch, decoder.most_prompts(threads))
        batches = single_points(points).batches(embedding.frame, limit=limit)
        turn = nullcontext() if decoder.searches else Lock()

        def find(batch: PromptBatch) -> Masks | None:
            with turn:
                drawn = self._decode(embedding, batch)
            return None if drawn is None else self._cut(embedding.frame, drawn, points)

        # While one batch is decoded, masks of another are cut out of their logits.
        with self._watch("decode"):
            parts = shared_out(find, batches, workers=min(2, threads))
        found = [part for part in parts if part is not None]
        if not found:
            return self._found((embedding.frame, grid), nothing_found(embedding.frame))
        self._clicked += len(points)
        with self._watch("postprocess"):
            scores = [part.scores for part in found]
            return _distinct(found, scores, self._settings.box_nms_thresh)

    def _decode(self, embedding: Embedding, batch: PromptBatch) -> _Drawn | None:
        """Decode a batch; only prompts with a mask worth keeping are ever drawn."""
        # Compared in float32, as SAM does.
        above = np.float32(self._settings.pred_iou_thresh)
        found = self._model.decoder.search(embedding, batch, above)
        if found is None:
            return None
        return _Drawn(found, batch.indices[found.prompts])

    def _cut(self, frame: Frame, drawn: _Drawn, points: NDArray[np.float64]) -> Masks:
        """The masks of a batch that are stable and not cut off by the crop."""
        settings = self._settings
        cut = ops.binarise(
            drawn.found.logits,
            frame,
            chosen=drawn.found.planes,
            stability_offset=settings.stability_score_offset,
            threads=self._model.threads,
        )
        crop = np.array([frame.crop_box], np.int64)
        masks = Masks(
            runs=cut.runs,
            scores=drawn.found.scores,
            stability=cut.stability,
            boxes=cut.boxes,
            areas=cut.areas,
            prompt=drawn.prompts + self._clicked,
            timings=Timings(),
            points=points[drawn.prompts],
            crop_boxes=np.repeat(crop, len(drawn.prompts), axis=0),
        )
        # An empty mask has no stability, NaN, and no comparison lets it pass.
        stable = masks.stability >= np.float32(settings.stability_score_thresh)
        return masks[stable & ~ops.near_crop_edge(masks.boxes, frame)]

    def _join(self, frames: list[Frame], parts: list[Masks]) -> Masks:
        """The masks of all crops; where they overlap, the mask of the smaller crop wins."""
        if len(parts) == 1:
            return parts[0]
        sharpness = [
            np.full(len(part), 1 / np.prod(frame.size), np.float32)
            for frame, part in zip(frames, parts, strict=True)
        ]
        return _distinct(parts, sharpness, self._settings.crop_nms_thresh)

    def _without_small_regions(self, masks: Masks) -> Masks:
        """Fill small holes, drop small islands, and prefer untouched masks in one more NMS."""
        settings, area = self._settings, self._settings.min_mask_region_area
        filled, had_holes = ops.rle_remove_small_regions(masks.runs, area, "holes")
        runs, had_islands = ops.rle_remove_small_regions(filled, area, "islands")
        boxes = ops.rle_boxes(runs)
        untouched = (~(had_holes | had_islands)).astype(np.float32)
        threshold = max(settings.box_nms_thresh, settings.crop_nms_thresh)
        edited = replace(masks, runs=runs, boxes=boxes, areas=ops.rle_areas(runs))
        return edited[ops.box_nms(boxes, untouched, threshold)]


def _distinct(parts: list[Masks], scores: list[NDArray[np.float32]], nms_thresh: float) -> Masks:
    """What NMS leaves of the masks of all parts; run lengths of the others are never joined."""
    boxes = np.concatenate([part.boxes for part in parts])
    kept = ops.box_nms(boxes, np.concatenate(scores), nms_thresh)
    ascending = np.sort(kept)
    ends = np.cumsum([len(part) for part in parts])
    left = [
        part[ascending[(ascending >= end - len(part)) & (ascending < end)] - (end - len(part))]
        for part, end in zip(parts, ends, strict=True)
    ]
    return concatenate(left, Timings())[np.searchsorted(ascending, kept)]
