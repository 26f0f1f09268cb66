"""Promptable segmentation: an image once, then masks for points, boxes and mask prompts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastseg import ops
from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import Manifest
from fastseg.environment import thread_count
from fastseg.errors import ImageError, PromptError
from fastseg.geometry import Frame
from fastseg.images import MAX_PIXELS, Channels, ImageSource, is_stack, read_image
from fastseg.inference.sessions import Choice, Sessions
from fastseg.masks import Masks
from fastseg.sam.embedding import Embedding
from fastseg.sam.prompts import PromptRequest, Prompts
from fastseg.sam.two_stage_decoder import MULTIPLE, PROMPTS_PER_RUN, SINGLE, Decoder
from fastseg.timings import Stopwatch, Timings

Model = TypeVar("Model", bound="PromptModel")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture, or a crop of it, as the encoder wants it."""

    pixels: NDArray[np.float32]  # (1, 3, side, side)
    frame: Frame
    watch: Stopwatch


class PromptModel:
    """A SAM-shaped model on a runtime. Holds no state between calls; safe in several threads."""

    def __init__(
        self, folder: ModelFolder, choice: Choice, *, max_pixels: int | None = MAX_PIXELS
    ) -> None:
        self._graphs = Sessions(folder, choice)
        self.decoder = Decoder(self._graphs)
        """The two stages of the decoder, for pipelines that put them together otherwise."""
        self.threads = thread_count(choice.threads)
        """Processor threads of a call, at most every core that this process may use."""
        self.max_pixels = max_pixels
        """Largest picture that is accepted, or None for any."""
        files = folder.manifest.graphs.values()
        self._encoders = [file.content for file in files if file.graph.name == "encoder"]
        # Opening the first graph now makes a runtime that does not run it fail at load.
        self.device = self._graphs["encoder"].name.partition(":")[2]
        """Where the encoder runs, ``"cpu"`` or ``"cuda:0"``."""
        self.backend = self._graphs.backend
        """The runtime of the model, ``"onnxruntime"``, or of its encoder and its decoder where
        these are two, ``"openvino+onnxruntime"``."""

    @property
    def manifest(self) -> Manifest:
        """What the model folder says about itself."""
        return self._graphs.folder.manifest

    @property
    def precision(self) -> str:
        """What the encoder computes in, ``"fp32"``."""
        return self._graphs.precision

    @property
    def runs(self) -> Mapping[str, str]:
        """What runs each graph, in which precision: ``{"encoder": "openvino:cpu bf16", ...}``."""
        return self._graphs.runs

    @property
    def reason(self) -> str:
        """Why these were chosen, in a sentence."""
        return self._graphs.reason

    @property
    def encoder_sha256(self) -> str:
        """Hash of the encoder and its weights; embeddings carry it as ``Embedding.model``."""
        return self._graphs.plans["encoder"].stored.content

    @property
    def mask_side(self) -> int:
        """Height and width of low-resolution logits."""
        return self.manifest.image_preprocessing.side // 4

    def close(self) -> None:
        """Free the runtime's memory; embeddings and masks stay usable."""
        self._graphs.close()

    def __enter__(self: Model) -> Model:
        """Use the model in a ``with`` block that closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the model."""
        self.close()

    def embed(
        self,
        image: ImageSource,
        *,
        channels: Channels = "rgb",
        crop: tuple[int, int, int, int] | None = None,
    ) -> Embedding:
        """Run the image encoder, the slow part, once.

        Args:
            image: Path, bytes, PIL image, array (H, W), (H, W, 3) or (H, W, 4); see ``read_image``.
            channels: Order of an array's colours, ``"rgb"`` or ``"bgr"``.
            crop: ``x0, y0, x1, y1``, end-exclusive: look at this part only. Prompts and masks
                stay in the whole picture's pixels.

        Returns:
            A frozen embedding for ``segment``, which can be saved and loaded.

        Raises:
            ImageError: The picture cannot be used.
        """
        with self._graphs.call():
            return self._encode(self._prepare(image, channels, crop))

    @overload
    def segment(  # type: ignore[overload-overlap]  # a str is an Iterable, but one picture
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
        """Segment what the prompts point at.

        A prompt is some points, a box, a mask, or several of these together; the arguments given
        must be for equally many prompts. The mask of a prompt does not depend on the others.

        Args:
            image: A picture, or an embedding made by this model. Many of them, as a list, an
                iterator or a stack (n, H, W, 3), give a list of ``Masks``; each prompt argument is
                then a sequence with one entry for each picture.
            points: (2,) or (points, 2) for one prompt, (prompts, points, 2) for many, x before y in
                pixels, or a list of (points, 2) arrays of any lengths.
            labels: 1 foreground, 0 background, -1 padding, shaped like ``points`` without its last
                axis; None means all foreground. A padding point takes part as in SAM.
            boxes: (4,) or (prompts, 4) as x0, y0, x1, y1 in pixels, not clipped to the picture.
            mask_logits: (h, w) or (prompts, h, w) low-resolution logits as in ``Masks.logits``.
            multimask: Three alternatives for each prompt, unsorted, or the single mask.
            channels: Order of an array's colours, ``"rgb"`` or ``"bgr"``.

        Returns:
            prompts x 3 (or x 1) masks in the order of the prompts. No prompts, no masks. Each keeps
            its low-resolution logits, 256 KB at SAM's size.

        Raises:
            ImageError: The picture cannot be used.
            PromptError: The prompts cannot be used; the message names the first that cannot.
        """
        if is_stack(image):
            return list(
                self.stream(
                    image,
                    points=points,
                    labels=labels,
                    boxes=boxes,
                    mask_logits=mask_logits,
                    multimask=multimask,
                    channels=channels,
                )
            )
        request = PromptRequest(points, labels, boxes, mask_logits)
        with self._graphs.call():
            ready = self._make_ready(image, channels)
            return self._answer(*self._encode_ready(ready, request), multimask)

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
        """Segment many pictures in order, in bounded memory.

        Args:
            images: Pictures or embeddings; taken one by one, so a generator may be endless.
            points: For each picture the ``points`` of ``segment``; likewise the other prompts.
            labels: For each picture.
            boxes: For each picture.
            mask_logits: For each picture.
            multimask: As in ``segment``.
            channels: As in ``segment``.
            batch_size: Pictures that are held at once, at least 1: while the masks of one are
                drawn, the next is encoded and the others are read.

        Yields:
            One ``Masks`` for each picture.

        Raises:
            ImageError: A picture cannot be used.
            PromptError: A prompt cannot be used, or pictures and prompts are not equally many.
        """
        if batch_size < 1:
            raise PromptError(f"batch_size must be at least 1, not {batch_size}.")
        requests = _requests(images, (points, labels, boxes, mask_logits))
        with (
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="fastseg-read") as reader,
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="fastseg-encode") as encoder,
        ):
            reading: deque[tuple[Future[Prepared | Embedding], PromptRequest]] = deque()
            encoding: deque[Future[tuple[Embedding, Prompts]]] = deque()

            def encode_next() -> None:
                if reading and len(encoding) < 2:
                    encoding.append(encoder.submit(self._encode_read, *reading.popleft()))

            try:
                for image, request in requests:
                    reading.append((reader.submit(self._make_ready, image, channels), request))
                    encode_next()
                    if len(reading) + len(encoding) >= batch_size:
                        yield self._answer(*encoding.popleft().result(), multimask)
                while encoding:
                    encode_next()
                    yield self._answer(*encoding.popleft().result(), multimask)
            finally:
                for being_read, _ in reading:
                    being_read.cancel()
                for being_encoded in encoding:
                    being_encoded.cancel()

    def _encode_read(
        self, reading: Future[Prepared | Embedding], request: PromptRequest
    ) -> tuple[Embedding, Prompts]:
        """Encode a picture as soon as it is read."""
        return self._encode_ready(reading.result(), request)

    def _make_ready(
        self, image: ImageSource | Embedding, channels: Channels
    ) -> Prepared | Embedding:
        return image if isinstance(image, Embedding) else self._prepare(image, channels, None)

    def _encode_ready(
        self, ready: Prepared | Embedding, request: PromptRequest
    ) -> tuple[Embedding, Prompts]:
        """Encode a picture, unless its embedding was given or its prompts cannot be used."""
        if isinstance(ready, Embedding):
            ready.require(*self._encoders)
        # Bad prompts are cheap to find and the encoder is not: look before it runs.
        prompts = request.check(ready.frame, mask_side=self.mask_side)
        if isinstance(ready, Embedding):
            # It cost this call nothing.
            return replace(ready, timings=Timings()), prompts
        return self._encode(ready), prompts

    def _prepare(
        self, image: ImageSource, channels: Channels, crop: tuple[int, int, int, int] | None
    ) -> Prepared:
        watch = Stopwatch()
        preprocessing = self.manifest.image_preprocessing
        with watch("preprocess"):
            pixels = read_image(image, channels=channels, max_pixels=self.max_pixels)
            height, width = pixels.shape[:2]
            frame = Frame((height, width), preprocessing.side, _checked(crop, height, width))
            square = ops.preprocess(
                pixels,
                frame,
                preprocessing.mean,
                preprocessing.std,
                threads=self.threads,
            )
        return Prepared(square[None], frame, watch)

    def _encode(self, prepared: Prepared) -> Embedding:
        with prepared.watch("encode"):
            features = self._graphs.run("encoder", {"image": prepared.pixels})["embedding"][0]
            embedding = self.decoder.complete(
                Embedding(features=features, frame=prepared.frame, model=self.encoder_sha256)
            )
        return replace(embedding, timings=self.circumstances(prepared.watch, n_masks=0))

    def circumstances(self, watch: Stopwatch, *, n_masks: int) -> Timings:
        """What ``watch`` measured, with what the model runs on."""
        return watch.timings(
            n_masks=n_masks, backend=self.backend, device=self.device, precision=self.precision
        )

    def _answer(self, embedding: Embedding, prompts: Prompts, multimask: bool) -> Masks:
        """Decode every prompt and make run lengths of every mask."""
        slots = MULTIPLE if multimask else SINGLE
        per_prompt, side = slots.stop - slots.start, self.mask_side
        logits = np.empty((len(prompts), per_prompt, side, side), np.float32)
        scores = np.empty((len(prompts), per_prompt), np.float32)
        watch = Stopwatch()
        with watch("decode"):
            embedding = self.decoder.complete(embedding)
            for batch in prompts.batches(embedding.frame, limit=PROMPTS_PER_RUN):
                tokens = self.decoder.tokens(embedding, batch)
                logits[batch.indices] = self.decoder.logits(tokens, slots)
                scores[batch.indices] = tokens.iou_predictions[:, slots]
        flat = logits.reshape(-1, side, side)
        with watch("postprocess"):
            drawn = ops.binarise(flat, embedding.frame, threads=self.threads)
        return Masks(
            runs=drawn.runs,
            scores=scores.reshape(-1),
            stability=drawn.stability,
            boxes=drawn.boxes,
            areas=drawn.areas,
            prompt=np.repeat(np.arange(len(prompts)), per_prompt),
            timings=embedding.timings + self.circumstances(watch, n_masks=len(flat)),
            logits=flat,
        )


def _checked(
    crop: tuple[int, int, int, int] | None, height: int, width: int
) -> tuple[int, int, int, int] | None:
    if crop is None:
        return None
    x0, y0, x1, y1 = crop
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ImageError(
            f"crop {tuple(crop)} must be x0 y0 x1 y1 inside the picture, {width} x {height} pixels."
        )
    return int(x0), int(y0), int(x1), int(y1)


def _requests(
    images: Iterable[ImageSource | Embedding], columns: tuple[Iterable[Any] | None, ...]
) -> Iterator[tuple[ImageSource | Embedding, PromptRequest]]:
    """Pair each picture with its prompts; too few or too many prompts are an error."""
    missing = object()
    given = [
        repeat(None) if column is None else chain(column, repeat(missing)) for column in columns
    ]
    for index, (image, *parts) in enumerate(zip(images, *given, strict=False)):
        if any(part is missing for part in parts):
            raise PromptError(
                f"There are prompts for {index} pictures, but there are more pictures."
            )
        yield image, PromptRequest(*parts)
    # zip asks the pictures first, so when they end no prompt has been taken in vain.
    left = [next(column) for column in given]
    if any(part is not None and part is not missing for part in left):
        raise PromptError("There are prompts for more pictures than there are pictures.")
