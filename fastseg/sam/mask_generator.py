"""Everything mode: a grid of points over the whole image, and filters. SAM's mask generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.artifacts.manifest import Manifest
from fastseg.errors import EmbeddingError, PromptError
from fastseg.geometry import Frame
from fastseg.images import Channels, ImageSource, read_image
from fastseg.inference.concurrency import ordered_map
from fastseg.inputs.numbers import function_of_two_numbers, shown
from fastseg.masks import Masks, concatenate
from fastseg.ops import Binarised, Rle
from fastseg.sam.classifier import Classifier, name_masks, require_classifier, takes_embeddings
from fastseg.sam.coarse_search import Coverage, grid_levels
from fastseg.sam.crops import crop_frames
from fastseg.sam.drawing import draw
from fastseg.sam.embedding import Embedding
from fastseg.sam.grid_settings import GridSettings, grid_points
from fastseg.sam.preprocessing import Crop
from fastseg.sam.prompts import PromptBatch, single_points
from fastseg.sam.two_stage_decoder import FoundMasks, TwoStageDecoder
from fastseg.timings import Stopwatch, Timings

Progress: TypeAlias = Callable[[int, int], None]
"""Is called with the points that are decoded and with all points, of every crop."""

if TYPE_CHECKING:
    from fastseg.sam.gpu.crop import Found
    from fastseg.sam.gpu.mask_generator import GpuMaskGenerator


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The parts of a model that everything mode uses."""

    embed: Callable[..., Embedding]
    """``Sam.embed``."""

    decoder: TwoStageDecoder

    gpu: GpuMaskGenerator | None
    """Runs the whole mode where the model's arrays are on a GPU."""

    manifest: Manifest
    """Of the model: the side of its square, and its rules for masks."""

    threads: int

    max_pixels: int | None


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Masks of one batch that score well enough, as logits."""

    found: FoundMasks
    prompts: NDArray[np.intp]  # (n,) of each mask, among the points of the crop


class MaskGenerator:
    """One call of ``everything``: its settings and its clock."""

    def __init__(
        self, pipeline: Pipeline, settings: GridSettings, progress: Progress | None = None
    ) -> None:
        self._pipeline = pipeline
        self._settings = settings
        function_of_two_numbers(progress, "progress", PromptError)
        self._progress = progress
        self._counting = Lock()
        self._done = self._total = 0
        self.watch = Stopwatch()
        """Times of the call, without those of the embeddings."""
        self.embedded = Timings()
        """Times of the embeddings."""
        self._keeps_embedding = False
        self._embedding: Embedding | None = None  # of the whole image, kept for a classifier
        self._points_decoded = 0  # of all grids
        self._points_before = 0

    def generate(
        self, image: ImageSource, channels: Channels, classify: Classifier | None = None
    ) -> Masks:
        """Find the masks of the image and of its crops, filter them, and name them if asked to."""
        if classify is not None:
            return self._named(classify, image, channels)
        settings, gpu = self._settings, self._pipeline.gpu
        preprocessing = self._pipeline.manifest.image_preprocessing
        if gpu is not None and settings.search != "full":
            raise PromptError(
                f'search="{settings.search}" runs on the CPU: load the model with device="cpu", or '
                'use search="full".'
            )
        with self.watch("preprocess"):
            pixels: Any = self._read(image, channels)
        height, width = pixels.shape[:2]
        crops = crop_frames(
            (height, width),
            preprocessing.square,
            layers=settings.crop_n_layers,
            overlap_ratio=settings.crop_overlap_ratio,
            stretched=preprocessing.stretched,
        )
        # Malformed grids are found before the encoder runs.
        grids = [settings.grid(layer) for layer in range(settings.crop_n_layers + 1)]
        self._total = sum(len(grids[layer]) for layer, _ in crops)
        self._advance(0)
        if gpu is not None:
            placed = [(frame, grids[layer]) for layer, frame in crops]
            found = gpu.generate(pixels, placed, settings, self.watch)
            parts = list(map(self._from_device, placed, found))
            self._advance(self._total)
        else:
            *others, (layer, frame) = crops
            parts = [self._crop(self._embed(pixels, one), grids[i], i) for i, one in others]
            embedding = self._embed(pixels, frame)
            del pixels  # of a large image, a quarter of the memory that the filters take
            parts.append(self._crop(embedding, grids[layer], layer))
        with self.watch("postprocess"):
            masks = self._join([frame for _, frame in crops], parts)
            if settings.min_mask_region_area:
                masks = without_small_regions(masks, settings)
        return replace(masks, search=settings.search, points_decoded=self._points_decoded)

    def _named(self, classify: Classifier, image: ImageSource, channels: Channels) -> Masks:
        """Find masks and name them; a classifier's time is in no timings."""
        require_classifier(classify)
        with self.watch("preprocess"):
            pixels = read_image(image, channels=channels, max_pixels=self._pipeline.max_pixels)
        self._keeps_embedding = takes_embeddings(classify)
        masks = self.generate(pixels, "rgb")
        return name_masks(classify, pixels, self._embedding, masks)

    def _read(self, image: ImageSource, channels: Channels) -> Any:
        """Read the image; on a GPU it may be there already."""
        limit = self._pipeline.max_pixels
        if self._pipeline.gpu is not None:
            return self._pipeline.gpu.read(image, channels=channels, max_pixels=limit)
        return read_image(image, channels=channels, max_pixels=limit)

    def _embed(self, pixels: NDArray[np.uint8], frame: Frame) -> Embedding:
        embedding = self._pipeline.embed(pixels, crop=frame.crop)
        self.embedded += embedding.timings
        if self._keeps_embedding and frame.crop is None:
            self._embedding = embedding
        return embedding

    def _from_device(self, placed: tuple[Frame, NDArray[np.float64]], found: Found) -> Masks:
        """Make masks of the records and run lengths of one crop."""
        (frame, grid), records = placed, found.records
        drawn = Binarised(
            found.runs,
            records["area"].astype(np.int64),
            records["box"].astype(np.int64),
            records["stability"].copy(),
        )
        masks = self._masks(
            drawn,
            grid_points(grid, frame),
            frame,
            scores=records["score"].copy(),
            prompts=records["prompt"].astype(np.int64),
        )
        self._points_before += len(grid)
        self._points_decoded += len(grid)
        return masks

    def _crop(self, embedding: Embedding, grid: NDArray[np.float64], layer: int) -> Masks:
        """Find the masks of one crop that pass every filter and survive its NMS."""
        points = grid_points(grid, embedding.frame)
        if self._settings.search == "full":
            found = self._batches(embedding, points, np.arange(len(points)))
        else:
            found = self._coarse_to_fine(embedding, points, self._settings.per_side(layer))
        if not found:
            masks = self._none(points, embedding.frame)
        else:
            with self.watch("postprocess"):
                scores = [part.scores for part in found]
                masks = _distinct(found, scores, self._settings.box_nms_thresh)
        self._points_before += len(points)
        return masks

    def _coarse_to_fine(
        self, embedding: Embedding, points: NDArray[np.float64], per_side: int
    ) -> list[Masks]:
        """Decode the levels of a grid, of each the points that no mask covers."""
        sure = self._settings.sure_iou
        coverage = Coverage(points, embedding.frame, per_side, sure=sure)
        found: list[Masks] = []
        before = self._points_decoded
        for level in grid_levels(per_side):
            parts = self._batches(embedding, points, level[~coverage.covered[level]])
            with self.watch("postprocess"):
                for part in parts:
                    coverage.add(part)
            found += parts
        self._advance(len(points) - (self._points_decoded - before))  # those that masks cover
        return found

    def _batches(
        self, embedding: Embedding, points: NDArray[np.float64], chosen: NDArray[np.intp]
    ) -> list[Masks]:
        """Decode some points of one crop in batches; keep the masks that pass the filters.

        While one batch is decoded, masks of another are cut out of their logits.
        """
        if len(chosen) == 0:
            return []
        self._points_decoded += len(chosen)
        decoder, threads = self._pipeline.decoder, self._pipeline.threads
        limit = min(self._settings.points_per_batch, decoder.most_prompts(threads))
        batches = single_points(points[chosen], self._pipeline.manifest.sam_rules.prompts).batches(
            embedding.frame, limit=limit
        )
        turn = nullcontext() if decoder.is_fused else Lock()

        def find(batch: PromptBatch) -> Masks | None:
            with turn:
                decoded = self._decode(embedding, batch, chosen)
            kept = None if decoded is None else self._cut(embedding.frame, decoded, points)
            self._advance(len(batch.indices))
            return kept

        with self.watch("decode"):
            workers = min(2, threads)
            parts = map(find, batches) if workers == 1 else ordered_map(find, batches, workers=2)
            return [part for part in parts if part is not None]

    def _advance(self, points: int) -> None:
        """Report the points of a batch; batches of several threads are reported one by one."""
        with self._counting:
            self._done += points
            if self._progress is not None:
                self._progress(self._done, self._total)

    def _decode(
        self, embedding: Embedding, batch: PromptBatch, chosen: NDArray[np.intp]
    ) -> _Decoded | None:
        """Decode a batch; masks below the threshold are not drawn."""
        # Compared in float32, as SAM does.
        above = np.float32(self._settings.least_iou)
        found = self._pipeline.decoder.decode_above(embedding, batch, above)
        return None if found is None else _Decoded(found, chosen[batch.indices[found.prompts]])

    def _cut(self, frame: Frame, decoded: _Decoded, points: NDArray[np.float64]) -> Masks:
        """Cut the masks of a batch that are stable and do not end at an edge of the crop."""
        settings, found = self._settings, decoded.found
        drawn = draw(
            found.logits,
            frame,
            self._pipeline.manifest.sam_rules.output,
            chosen=found.planes,
            stability_offset=settings.stability_score_offset,
            threads=self._pipeline.threads,
        )
        masks = self._masks(drawn, points, frame, scores=found.scores, prompts=decoded.prompts)
        # SAM places an empty mask at the corner of its crop.
        boxes = np.where(masks.areas[:, None] == 0, frame.crop_box[:2] * 2, masks.boxes)
        kept = ~ops.near_crop_edge(boxes, frame)
        # Like SAM's, a threshold of 0 filters nothing. Above it, an empty mask has no stability,
        # NaN, and no comparison lets it pass.
        if settings.stability_score_thresh > 0:
            kept &= masks.stability >= np.float32(settings.stability_score_thresh)
        return masks[kept]

    def _masks(
        self,
        drawn: Binarised,
        points: NDArray[np.float64],
        frame: Frame,
        *,
        scores: NDArray[np.float32],
        prompts: NDArray[np.int64],
    ) -> Masks:
        """Make masks of one crop, each with its point and numbered through all crops."""
        crop = np.array([frame.crop_box], np.int64)
        return Masks.from_rle(
            drawn.runs,
            scores=scores,
            stability=drawn.stability,
            boxes=drawn.boxes,
            areas=drawn.areas,
            prompt=prompts + self._points_before,
            points=points[prompts],
            crop_boxes=np.repeat(crop, len(prompts), axis=0),
        )

    def _none(self, points: NDArray[np.float64], frame: Frame) -> Masks:
        """Make no masks, as for a crop that has no points."""
        floats, runs = np.zeros(0, np.float32), Rle.from_lists([], frame.image)
        drawn = Binarised(runs, np.zeros(0, np.int64), ops.rle_boxes(runs), floats)
        return self._masks(drawn, points, frame, scores=floats, prompts=np.zeros(0, np.int64))

    def _join(self, frames: list[Frame], parts: list[Masks]) -> Masks:
        """Join the masks of all crops; where they overlap, the mask of the smaller crop wins."""
        if len(parts) == 1:
            return parts[0]
        sharpness = [
            np.full(len(part), 1 / np.prod(frame.size), np.float32)
            for frame, part in zip(frames, parts, strict=True)
        ]
        return _distinct(parts, sharpness, self._settings.crop_nms_thresh)


def without_small_regions(masks: Masks, settings: GridSettings) -> Masks:
    """Fill small holes, drop small islands, and prefer untouched masks in one more NMS."""
    area = settings.min_mask_region_area
    filled, had_holes = ops.rle_remove_small_regions(masks.runs, area, "holes")
    runs, had_islands = ops.rle_remove_small_regions(filled, area, "islands")
    boxes = ops.rle_boxes(runs)
    untouched = (~(had_holes | had_islands)).astype(np.float32)
    threshold = max(settings.box_nms_thresh, settings.crop_nms_thresh)
    edited = replace(masks, runs=runs, boxes=boxes, areas=ops.rle_areas(runs))
    return edited[ops.box_nms(boxes, untouched, threshold)]


def reuse(
    whole: Embedding,
    encoders: Sequence[str],
    decoder: TwoStageDecoder,
    embed: Callable[..., Embedding],
) -> Callable[..., Embedding]:
    """Return ``Sam.embed`` for one image whose embedding is known; its crops are encoded.

    Args:
        whole: The embedding; its time is that of an earlier call.
        encoders: Hashes of the model's encoders.
        decoder: Of the model; it completes the embedding.
        embed: ``Sam.embed``.

    Raises:
        EmbeddingError: It is no embedding of this model. Also raised by what is returned: the image
            is another one, or a crop was embedded.
    """
    if not isinstance(whole, Embedding):
        raise EmbeddingError(f"embedding must be an Embedding, not {shown(whole)}.")
    whole.require(*encoders)
    known = replace(decoder.complete(whole), timings=Timings())

    def embed_rest(pixels: NDArray[np.uint8], *, crop: Crop | None = None) -> Embedding:
        if pixels.shape[:2] != known.frame.image or known.frame.crop is not None:
            raise EmbeddingError(
                f"{known!r} is not one of the whole image of {pixels.shape[0]} x "
                f"{pixels.shape[1]} pixels. Embed the image that is segmented."
            )
        return known if crop is None else embed(pixels, crop=crop)

    return embed_rest


def _distinct(parts: list[Masks], scores: list[NDArray[np.float32]], nms_thresh: float) -> Masks:
    """Join the masks that NMS keeps; run lengths of the others are never joined."""
    boxes = np.concatenate([part.boxes for part in parts])
    kept = ops.box_nms(boxes, np.concatenate(scores), nms_thresh)
    ascending = np.sort(kept)
    ends = np.cumsum([len(part) for part in parts])
    left = [
        part[ascending[(ascending >= end - len(part)) & (ascending < end)] - (end - len(part))]
        for part, end in zip(parts, ends, strict=True)
    ]
    return concatenate(left, Timings())[np.searchsorted(ascending, kept)]
