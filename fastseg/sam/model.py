"""Promptable segmentation: an image is encoded once, then prompts are decoded to masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike

from fastseg import ops
from fastseg.artifacts import ModelFolder
from fastseg.backends.base import DeviceBacked
from fastseg.contract import MULTIPLE, SINGLE
from fastseg.errors import PromptError
from fastseg.images import MAX_PIXELS, Channels, ImageSource, is_stack
from fastseg.inference.loaded_model import LoadedModel
from fastseg.inference.sessions import Choice
from fastseg.inputs.numbers import yes_or_no
from fastseg.masks import Masks
from fastseg.sam.embedding import Embedding
from fastseg.sam.grid_settings import SETTINGS, GridSettings, Search
from fastseg.sam.mask_generator import MaskGenerator, Pipeline
from fastseg.sam.preprocessing import Crop, PreparedImage, prepare
from fastseg.sam.prompts import PromptRequest, Prompts
from fastseg.sam.streaming import Stages, pair_requests, stream_masks
from fastseg.sam.two_stage_decoder import PROMPTS_PER_RUN, TwoStageDecoder
from fastseg.timings import Stopwatch

if TYPE_CHECKING:
    from fastseg.sam.gpu.mask_generator import GpuMaskGenerator


class Sam(LoadedModel):
    """A SAM-shaped model: masks for prompts, or for the whole image without any.

    Holds no state between calls; safe in several threads.
    """

    def __init__(
        self, folder: ModelFolder, choice: Choice, *, max_pixels: int | None = MAX_PIXELS
    ) -> None:
        super().__init__(folder, choice, image_graph="encoder", max_pixels=max_pixels)
        self.decoder = TwoStageDecoder(self._graphs)
        """The two stages of the decoder, for pipelines of one's own."""
        self.encoder_sha256 = self._graphs.plans["encoder"].stored.content
        """Hash of the encoder and its weights; embeddings carry it as ``Embedding.model``."""
        self.mask_side = self.manifest.image_preprocessing.side // 4
        """Height and width of low-resolution logits."""
        files = self.manifest.graphs.values()
        self._encoders = [file.content for file in files if file.graph.name == "encoder"]

    @cached_property
    def gpu_mask_generator(self) -> GpuMaskGenerator | None:
        """Everything mode on the device that holds the model's arrays; None on the CPU."""
        encoder = self._graphs["encoder"]
        if encoder.memory == "host" and not isinstance(encoder, DeviceBacked):
            return None
        # Imported here, so that a model on the CPU loads nothing that is for GPUs.
        from fastseg.sam.gpu.mask_generator import open_gpu_mask_generator

        return open_gpu_mask_generator(self._graphs)

    def close(self) -> None:
        """Free the runtime's memory; embeddings and masks stay usable."""
        if (generator := self.__dict__.get("gpu_mask_generator")) is not None:
            generator.close()
        super().close()

    def embed(
        self,
        image: ImageSource,
        *,
        channels: Channels = "rgb",
        crop: tuple[int, int, int, int] | None = None,
    ) -> Embedding:
        """Run the image encoder, the slow part, once.

        Args:
            image: Path, open file, bytes, PIL image, array (H, W), (H, W, 3) or (H, W, 4), see
                ``read_image``; or one frame of ``fastseg.imaging.read``.
            channels: Order of an array's colours, ``"rgb"`` or ``"bgr"``.
            crop: ``x0, y0, x1, y1``, end-exclusive: encode this part only. Prompts and masks
                stay in the whole image's pixels.

        Returns:
            A frozen embedding for ``segment``, which can be saved and loaded.

        Raises:
            ImageError: The image cannot be used.
        """
        with self._graphs.call():
            return self._encode(self._prepare(image, channels, crop))

    @overload
    def segment(  # type: ignore[overload-overlap]  # a str is an Iterable, but one image
        self,
        image: ImageSource | Embedding,
        *,
        points: ArrayLike | Sequence[Any] | None = None,
        labels: ArrayLike | Sequence[Any] | None = None,
        boxes: ArrayLike | None = None,
        mask_logits: ArrayLike | None = None,
        multimask: bool = True,
        channels: Channels = "rgb",
    ) -> Masks: ...

    @overload
    def segment(
        self,
        image: Iterable[ImageSource | Embedding],
        *,
        points: Iterable[Any] | None = None,
        labels: Iterable[Any] | None = None,
        boxes: Iterable[Any] | None = None,
        mask_logits: Iterable[Any] | None = None,
        multimask: bool = True,
        channels: Channels = "rgb",
    ) -> list[Masks]: ...

    def segment(
        self,
        image: Any,
        *,
        points: Any = None,
        labels: Any = None,
        boxes: Any = None,
        mask_logits: Any = None,
        multimask: bool = True,
        channels: Channels = "rgb",
    ) -> Masks | list[Masks]:
        """Decode the masks of the prompts.

        A prompt is some points, a box, a mask, or several of these together; the arguments given
        must be for equally many prompts. The mask of a prompt does not depend on the others.

        Args:
            image: An image, or an embedding made by this model. Many of them, as a list, an
                iterator or a stack (n, H, W, 3), give a list of ``Masks``; each prompt argument is
                then a sequence with one entry for each image.
            points: (2,) or (points, 2) for one prompt, (prompts, points, 2) for many, x before y in
                pixels, or a list of (points, 2) arrays of any lengths.
            labels: 1 foreground, 0 background, -1 padding, shaped like ``points`` without its last
                axis; None means all foreground. A padding point takes part as in SAM.
            boxes: (4,) or (prompts, 4) as x0, y0, x1, y1 in pixels, not clipped to the image.
            mask_logits: (h, w) or (prompts, h, w) low-resolution logits as in ``Masks.logits``.
            multimask: Three alternatives for each prompt, unsorted, or the single mask.
            channels: Order of an array's colours, ``"rgb"`` or ``"bgr"``.

        Returns:
            prompts x 3 (or x 1) masks in the order of the prompts. No prompts, no masks. Each keeps
            its low-resolution logits, 256 KB at SAM's size.

        Raises:
            ImageError: The image cannot be used.
            PromptError: The prompts cannot be used; the message names the first that cannot.
        """
        if is_stack(image):
            asked = {"points": points, "labels": labels, "boxes": boxes, "mask_logits": mask_logits}
            return list(self.stream(image, **asked, multimask=multimask, channels=channels))
        several = yes_or_no(multimask, "multimask", PromptError)
        request = PromptRequest(points, labels, boxes, mask_logits)
        with self._graphs.call():
            ready = self._read(image, channels)
            return self._decode(*self._encode_checked(ready, request), several)

    def stream(
        self,
        images: Iterable[ImageSource | Embedding],
        *,
        points: Iterable[Any] | None = None,
        labels: Iterable[Any] | None = None,
        boxes: Iterable[Any] | None = None,
        mask_logits: Iterable[Any] | None = None,
        multimask: bool = True,
        channels: Channels = "rgb",
        batch_size: int = 8,
    ) -> Iterator[Masks]:
        """Segment many images in order, in bounded memory.

        Args:
            images: Images or embeddings; taken one by one, so a generator may be endless.
            points: For each image the ``points`` of ``segment``; likewise the other prompts.
            labels: For each image.
            boxes: For each image.
            mask_logits: For each image.
            multimask: As in ``segment``.
            channels: As in ``segment``.
            batch_size: Images that are held at once, at least 1: while one is decoded, the next is
                encoded and the others are read.

        Yields:
            One ``Masks`` for each image.

        Raises:
            ImageError: An image cannot be used.
            PromptError: A prompt cannot be used, or images and prompts are not equally many.
        """
        several = yes_or_no(multimask, "multimask", PromptError)
        requests = pair_requests(images, (points, labels, boxes, mask_logits))
        stages = Stages(
            read=lambda image: self._read(image, channels),
            encode=self._encode_checked,
            decode=lambda embedding, prompts: self._decode(embedding, prompts, several),
        )
        return stream_masks(requests, stages, batch_size=batch_size)

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
        search: Search = "full",
        channels: Channels = "rgb",
        max_device_memory: int | None = None,
    ) -> Masks:
        """Find every object: decode a grid of points, keep the sure, stable and distinct masks.

        The same masks in the same order as SAM's automatic mask generator (Kirillov et al. 2023,
        appendix B). ``Masks.records(output_mode)`` gives its dictionaries.

        Args:
            image: An image, as for ``embed``. Where the model runs on a CUDA device, also an array
                (H, W, 3) uint8 in the memory of that device, of torch or CuPy for example.
            points_per_side: Points along each side of the grid; None with ``point_grids``.
            points_per_batch: Most prompts in one run of the decoder; no result depends on it. On a
                device ``max_device_memory`` decides instead.
            pred_iou_thresh: Keep masks whose predicted IoU is above, 0..1; 0 keeps all.
            stability_score_thresh: Keep masks at least this stable, 0..1; 0 keeps all.
            stability_score_offset: Shift of the logit threshold that stability is measured with.
            box_nms_thresh: Of boxes with a higher IoU than this, the best-scoring stays.
            crop_n_layers: Also encode 2**i x 2**i overlapping crops for i up to this.
            crop_nms_thresh: As ``box_nms_thresh``, between crops; the smaller crop wins.
            crop_overlap_ratio: Overlap of crops, as a share of the image's shorter side.
            crop_n_points_downscale_factor: Layer i has points_per_side / factor**i points a side.
            point_grids: For each crop layer its points, (n, 2) in 0..1, instead of a regular grid.
            min_mask_region_area: Fill holes and drop islands smaller than this many pixels.
            search: ``"full"`` decodes every point. ``"coarse-to-fine"`` decodes ever finer parts of
                the grid, and leaves out the points that a mask covers already: it is quicker, may
                miss masks, and runs on the CPU with a regular grid.
            channels: Order of an array's colours, ``"rgb"`` or ``"bgr"``.
            max_device_memory: Bytes that prompts may take at once on a device; None is 2 GiB. With
                enough, all go through the decoder in one pass.

        Returns:
            The masks by falling score; with crops, those of smaller crops first; with
            ``min_mask_region_area``, edited masks last. ``logits`` are not kept; ``search`` and
            ``points_decoded`` tell how they were found.

        Raises:
            ImageError: The image cannot be used.
            PromptError: A setting cannot be used.
            DeviceMemoryError: The device has too little memory, even for half as much at a time.
        """
        given = locals()
        settings = GridSettings(**{name: given[name] for name in SETTINGS})
        pipeline = Pipeline(
            embed=self.embed,
            decoder=self.decoder,
            gpu=self.gpu_mask_generator,
            side=self.manifest.image_preprocessing.side,
            threads=self.threads,
            max_pixels=self.max_pixels,
        )
        generator = MaskGenerator(pipeline, settings)
        masks = generator.generate(image, channels)
        timings = self._timings(generator.watch, n_masks=len(masks))
        return replace(
            masks,
            timings=generator.embedded + timings,
            search=settings.search,
            points_decoded=generator.points_decoded,
        )

    def _read(
        self, image: ImageSource | Embedding, channels: Channels
    ) -> PreparedImage | Embedding:
        return image if isinstance(image, Embedding) else self._prepare(image, channels, None)

    def _prepare(self, image: ImageSource, channels: Channels, crop: Crop | None) -> PreparedImage:
        return prepare(
            image,
            self.manifest.image_preprocessing,
            channels=channels,
            crop=crop,
            max_pixels=self.max_pixels,
            threads=self.threads,
        )

    def _encode_checked(
        self, ready: PreparedImage | Embedding, request: PromptRequest
    ) -> tuple[Embedding, Prompts]:
        """Check the prompts, then encode the image; a given embedding is completed."""
        if isinstance(ready, Embedding):
            ready.require(*self._encoders)
        # Bad prompts are cheap to find and the encoder is not: they are checked before it runs.
        prompts = request.check(ready.frame, mask_side=self.mask_side)
        if not isinstance(ready, Embedding):
            return self._encode(ready), prompts
        watch = Stopwatch()
        with watch("decode"):
            embedding = self.decoder.complete(ready)
        # Its timings are those of an earlier call.
        return replace(embedding, timings=watch.timings()), prompts

    def _encode(self, prepared: PreparedImage) -> Embedding:
        with prepared.watch("encode"):
            features = self._graphs.run("encoder", {"image": prepared.pixels})["embedding"][0]
            embedding = self.decoder.complete(
                Embedding(features=features, frame=prepared.frame, model=self.encoder_sha256)
            )
        return replace(embedding, timings=self._timings(prepared.watch, n_masks=0))

    def _decode(self, embedding: Embedding, prompts: Prompts, multimask: bool) -> Masks:
        """Decode every prompt of a completed embedding to run lengths."""
        slots = MULTIPLE if multimask else SINGLE
        count, per_prompt, side = len(prompts), slots.stop - slots.start, self.mask_side
        logits = np.empty((count, per_prompt, side, side), np.float32)
        scores = np.empty((count, per_prompt), np.float32)
        watch = Stopwatch()
        with watch("decode"):
            for batch in prompts.batches(embedding.frame, limit=PROMPTS_PER_RUN):
                chosen, drawn = self.decoder.decode(embedding, batch, slots)
                logits[batch.indices], scores[batch.indices] = drawn, chosen
        flat = logits.reshape(-1, side, side)
        with watch("postprocess"):
            drawn = ops.binarise(flat, embedding.frame, threads=self.threads)
        return Masks.from_rle(
            drawn.runs,
            scores=scores.reshape(-1),
            stability=drawn.stability,
            boxes=drawn.boxes,
            areas=drawn.areas,
            prompt=np.repeat(np.arange(count), per_prompt),
            timings=embedding.timings + self._timings(watch, n_masks=len(flat)),
            logits=flat,
        )
