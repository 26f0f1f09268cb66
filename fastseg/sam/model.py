"""Promptable segmentation: an image is encoded once, then prompts are decoded to masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg.artifacts import ModelFolder
from fastseg.backends.base import DeviceBacked
from fastseg.contract import MULTIPLE, SINGLE
from fastseg.errors import PromptError
from fastseg.images import MAX_PIXELS, Channels, ImageSource, is_stack
from fastseg.inference.loaded_model import LoadedModel
from fastseg.inference.sessions import Choice
from fastseg.inputs.numbers import yes_or_no
from fastseg.masks import Masks
from fastseg.sam.classifier import Classifier
from fastseg.sam.drawing import draw, kept_logits
from fastseg.sam.embedding import Embedding
from fastseg.sam.grid_settings import SETTINGS, Search, resolved_settings
from fastseg.sam.mask_generator import MaskGenerator, Pipeline, Progress, reuse
from fastseg.sam.preprocessing import Crop, PreparedImage, prepare, prepared_square
from fastseg.sam.prompts import PromptRequest, Prompts
from fastseg.sam.streaming import Stages, pair_requests, stream_masks
from fastseg.sam.two_stage_decoder import TwoStageDecoder
from fastseg.sam.volume_model import VolumeModel
from fastseg.timings import Stopwatch

if TYPE_CHECKING:
    from fastseg.sam.gpu.mask_generator import GpuMaskGenerator


class Sam(VolumeModel, LoadedModel):
    """A SAM-shaped model: masks for prompts, or for the whole image without any.

    Holds no state between calls; safe in several threads.
    """

    def __init__(
        self, folder: ModelFolder, choice: Choice, *, max_pixels: int | None = MAX_PIXELS
    ) -> None:
        super().__init__(folder, choice, image_graph="encoder", max_pixels=max_pixels)
        self.encoder_sha256 = self._graphs.plans["encoder"].stored.content
        """Hash of the encoder and its weights; embeddings carry it as ``Embedding.model``."""
        self.mask_side = self.manifest.image_preprocessing.mask_side
        """Height and width of low-resolution logits."""
        self.rules = self.manifest.sam_rules
        """The prompts that the model takes, and how its logits become masks."""
        self.decoder = TwoStageDecoder(self._graphs, self.rules.output)
        """The two stages of the decoder, for pipelines of one's own."""
        files = self.manifest.graphs.values()
        self.encoders = [file.content for file in files if file.graph.name == "encoder"]
        """Hashes of the encoder in each precision, whose embeddings this model takes."""

    @cached_property
    def gpu_mask_generator(self) -> GpuMaskGenerator | None:
        """Everything mode on the device that holds the model's arrays; None on the CPU."""
        encoder = self._graphs["encoder"]
        if encoder.memory == "host" and not isinstance(encoder, DeviceBacked):
            return None
        if self.manifest.rules is not None or not self.manifest.image_preprocessing.is_of_sam:
            return None  # the kernels of a device know SAM's rules alone
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

    def embed_square(self, square: NDArray[np.float32], image_size: tuple[int, int]) -> Embedding:
        """Run the image encoder on an image that was prepared elsewhere.

        Args:
            square: (3, side, side) resized, normalised and padded at the bottom and the right.
            image_size: Height and width of the image in pixels before it was resized.

        Raises:
            ImageError: The array has another shape.
        """
        about = self.manifest.image_preprocessing
        prepared = prepared_square(square, about.frame(image_size), about.side)
        with self._graphs.call():
            return self._encode(prepared)

    @overload
    def segment(  # type: ignore[overload-overlap]  # a str is an Iterable, but one image
        self,
        image: ImageSource | Embedding,
        *,
        points: ArrayLike | Sequence[Any] | None = None,
        labels: ArrayLike | Sequence[Any] | None = None,
        boxes: ArrayLike | None = None,
        mask_logits: ArrayLike | None = None,
        names: str | Sequence[str] | None = None,
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
        names: Iterable[Any] | None = None,
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
        names: Any = None,
        multimask: bool = True,
        channels: Channels = "rgb",
    ) -> Masks | list[Masks]:
        """Decode the masks of the prompts.

        A prompt is some points, a box, a mask, or several of these together; the arguments given
        must be for equally many prompts. The mask of a prompt does not depend on the others. A
        model whose ``rules.prompts.any`` is False draws its mask of the image without a prompt.

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
            names: A name for each prompt, as a detector has for its boxes; all masks of a prompt
                carry it. One text for one prompt.
            multimask: Three alternatives for each prompt, unsorted, or the single mask. A model
                that was trained for the single mask alone always draws that one; SAM-HQ and
                SAM-Med2D draw the best-scored alternative alone.
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
            options = {"names": names, "multimask": multimask, "channels": channels}
            return list(self.stream(image, **asked, **options))
        several = yes_or_no(multimask, "multimask", PromptError)
        request = PromptRequest(points, labels, boxes, mask_logits, names)
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
        names: Iterable[Any] | None = None,
        multimask: bool = True,
        channels: Channels = "rgb",
        batch_size: int = 8,
        on_error: Literal["raise", "yield"] = "raise",
    ) -> Iterator[Any]:
        """Segment many images in order, in bounded memory.

        Args:
            images: Images or embeddings; taken one by one, so a generator may be endless.
            points: For each image the ``points`` of ``segment``; likewise the other prompts.
            labels: For each image.
            boxes: For each image.
            mask_logits: For each image.
            names: For each image.
            multimask: As in ``segment``.
            channels: As in ``segment``.
            batch_size: Images that are held at once, at least 1: while one is decoded, the next is
                encoded and the others are read.
            on_error: ``"raise"`` ends at the first image that cannot be used. ``"yield"`` gives its
                error in the place of its masks and goes on.

        Yields:
            One ``Masks`` for each image, or its ``FastsegError``.

        Raises:
            ImageError: An image cannot be used.
            PromptError: A prompt cannot be used, or images and prompts are not equally many.
        """
        several = yes_or_no(multimask, "multimask", PromptError)
        requests = pair_requests(images, (points, labels, boxes, mask_logits, names))
        stages = Stages(
            read=lambda image: self._read(image, channels),
            encode=self._encode_checked,
            decode=lambda embedding, prompts: self._decode(embedding, prompts, several),
        )
        return stream_masks(requests, stages, batch_size=batch_size, on_error=on_error)

    def everything(
        self,
        image: ImageSource,
        *,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[ArrayLike] | None = None,
        min_mask_region_area: int = 0,
        search: Search = "full",
        embedding: Embedding | None = None,
        classify: Classifier | None = None,
        channels: Channels = "rgb",
        max_device_memory: int | None = None,
        progress: Progress | None = None,
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
            pred_iou_thresh: Keep masks whose predicted IoU is above, 0..1; 0 keeps all. None is
                the model's own, 0.88 for SAM.
            stability_score_thresh: Keep masks at least this stable, 0..1; 0 keeps all. None is the
                model's own, 0.95 for SAM.
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
            embedding: Embedding of the whole image by this model, which is then not encoded again;
                crops are. A model on a GPU encodes all of them anew.
            classify: Function of the image, uint8 (H, W, 3) RGB, and its masks, which returns a
                name for each, or ``(names, scores)``; ``Prototypes`` is one. It is not called where
                there is no mask. The image must be in the CPU's memory then.
            channels: Order of an array's colours, ``"rgb"`` or ``"bgr"``.
            max_device_memory: Bytes that prompts may take at once on a device; None is 2 GiB. With
                enough, all go through the decoder in one pass.
            progress: Called with the points decoded so far and all points, at the start and after
                each batch, in the thread that decoded it. An error that it raises ends the call.

        Returns:
            The masks by falling score; with crops, those of smaller crops first; with
            ``min_mask_region_area``, edited masks last. ``logits`` are not kept; ``search`` and
            ``points_decoded`` tell how they were found.

        Raises:
            EmbeddingError: The embedding is another model's or another image's.
            ImageError: The image cannot be used.
            PromptError: A setting cannot be used, the model takes no points, or ``classify`` does
                not return a name a mask.
            DeviceMemoryError: The device has too little memory, even for half as much at a time.
        """
        given = locals()
        settings = resolved_settings({name: given[name] for name in SETTINGS}, self.rules)
        embed: Callable[..., Embedding] = self.embed
        if embedding is not None:
            embed = reuse(embedding, self.encoders, self.decoder, self.embed)
        pipeline = Pipeline(
            embed=embed,
            decoder=self.decoder,
            gpu=self.gpu_mask_generator,
            manifest=self.manifest,
            threads=self.threads,
            max_pixels=self.max_pixels,
        )
        generator = MaskGenerator(pipeline, settings, progress)
        masks = generator.generate(image, channels, classify)
        timings = self._timings(generator.watch, n_masks=len(masks))
        return masks.with_timings(generator.embedded + timings)

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
            ready.require(*self.encoders)
        # Bad prompts are cheap to find and the encoder is not: they are checked before it runs.
        prompts = request.check(ready.frame, mask_side=self.mask_side, rules=self.rules.prompts)
        if not isinstance(ready, Embedding):
            return self._encode(ready), prompts
        watch = Stopwatch()
        with watch("decode"):
            embedding = self.decoder.complete(ready)
        # Its timings are those of an earlier call.
        return replace(embedding, timings=watch.timings()), prompts

    def _encode(self, prepared: PreparedImage) -> Embedding:
        with prepared.watch("encode"):
            maps = self._graphs.run("encoder", {"image": prepared.pixels})
            features = maps.pop("embedding")[0]
            embedding = self.decoder.complete(
                Embedding(features, prepared.frame, self.encoder_sha256, maps=maps)
            )
        return replace(embedding, timings=self._timings(prepared.watch, n_masks=0))

    def _decode(self, embedding: Embedding, prompts: Prompts, multimask: bool) -> Masks:
        """Decode every prompt of a completed embedding to run lengths."""
        several = multimask and self.rules.prompts.alternatives
        slots, output = MULTIPLE if several else SINGLE, self.rules.output
        watch = Stopwatch()
        with watch("decode"):
            scores, logits = self.decoder.decode_prompts(
                embedding, prompts, slots, side=self.mask_side
            )
        flat = logits.reshape(-1, *logits.shape[2:])
        with watch("postprocess"):
            drawn = draw(flat, embedding.frame, output, threads=self.threads)
        return Masks.from_rle(
            drawn.runs,
            scores=scores.reshape(-1),
            stability=drawn.stability,
            boxes=drawn.boxes,
            areas=drawn.areas,
            prompt=np.repeat(np.arange(len(prompts)), scores.shape[1]),
            timings=embedding.timings + self._timings(watch, n_masks=len(flat)),
            logits=kept_logits(flat, output),
            names=prompts.names_of_masks(scores.shape[1]),
        )
