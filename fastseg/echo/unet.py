"""Segmentation without prompts: frames in, every chamber out, each under its name."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import Manifest
from fastseg.contract import UNET_GRAPH
from fastseg.echo.frames import FrameChannels, View, each_frame, is_clip, look, read_frame
from fastseg.environment import thread_count
from fastseg.errors import FastsegError, ModelFolderError, PromptError
from fastseg.images import MAX_PIXELS, ImageSource
from fastseg.inference.sessions import Choice, Sessions
from fastseg.masks import Masks
from fastseg.timings import Stopwatch, Timings

UNION = "union"
"""The class that is no chamber but all of them; chambers beside it exclude each other."""

RING, DISC, CAVITY = "ring", "disc", "cavity"
"""The wall of a ventricle in the short axis, and the two outlines that it lies between. Cleaning
fills holes, and the wall's own is the cavity, so the wall is drawn as what the others leave."""

BATCH = 8
"""Frames that go through the network together; more of them are no faster on a processor."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the frames of one call are to be understood."""

    channels: FrameChannels = "rgb"
    cm_per_pixel: float | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames ready for the network."""

    pixels: NDArray[np.float32]  # (frames, channels, side, side)
    views: list[View]
    watch: Stopwatch
    error: FastsegError | None = None
    """Why the frame after these could not be read; raised when these were answered."""


class Unet:
    """A network for ultrasound frames on a runtime. Holds no state; safe in several threads."""

    def __init__(
        self, folder: ModelFolder, choice: Choice, *, max_pixels: int | None = MAX_PIXELS
    ) -> None:
        manifest = folder.manifest
        self._frame = manifest.frame_preprocessing
        self.view = manifest.view
        """What the network was made to look at: ``"a2c"``, ``"a4c"`` or ``"sax"``."""
        self.classes = manifest.classes
        """What its output channels show, in order."""
        self.max_pixels = max_pixels
        """Largest frame that is accepted, or None for any."""
        self.threads = thread_count(choice.threads)
        """Processor threads of a call, at most every core that this process may use."""
        self._graphs = Sessions(folder, choice)
        self.backend, _, self.device = self._graphs[UNET_GRAPH].name.partition(":")
        """The runtime and the device that run the network, ``"onnxruntime"`` and ``"cpu"``."""
        promised = self._graphs[UNET_GRAPH].graph.outputs[0].shape[1]
        if promised != len(self.classes):
            raise ModelFolderError(
                f"{folder.path} names {len(self.classes)} classes and its network draws {promised}."
            )

    @property
    def manifest(self) -> Manifest:
        """What the model folder says about itself."""
        return self._graphs.folder.manifest

    @property
    def precision(self) -> str:
        """What the network computes in, ``"fp32"``."""
        return self._graphs.precision

    @property
    def runs(self) -> Mapping[str, str]:
        """What runs its graph, in which precision: ``{"network": "openvino:cpu bf16"}``."""
        return self._graphs.runs

    @property
    def reason(self) -> str:
        """Why this was chosen, in a sentence."""
        return self._graphs.reason

    @property
    def chambers(self) -> tuple[str, ...]:
        """Names of the masks that a frame gives, in order: the classes without the union."""
        return tuple(name for name in self.classes if name != UNION)

    def close(self) -> None:
        """Free the runtime's memory; masks stay usable."""
        self._graphs.close()

    def __enter__(self) -> Unet:
        """Use the model in a ``with`` block that closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the model."""
        self.close()

    @overload
    def segment(  # type: ignore[overload-overlap]  # a str is an Iterable, but one picture
        self,
        frames: ImageSource,
        *,
        channels: FrameChannels = "rgb",
        cm_per_pixel: float | None = None,
    ) -> Masks: ...

    @overload
    def segment(
        self,
        frames: Iterable[ImageSource],
        *,
        channels: FrameChannels = "rgb",
        cm_per_pixel: float | None = None,
    ) -> list[Masks]: ...

    def segment(
        self,
        frames: Any,
        *,
        channels: FrameChannels = "rgb",
        cm_per_pixel: float | None = None,
    ) -> Masks | list[Masks]:
        """Draw every chamber of one frame, or of many.

        The network's probabilities are cleaned as published (Ferreira et al. 2025): above 0.5,
        largest piece, closed by a disk of radius 2, holes filled; what two chambers of an apical
        view claim belongs to neither. The wall in the short axis is the disc without the cavity,
        which the cleaning would fill. A mask that is not of a heart looks like one all the same:
        ``Masks.scores`` tells how sure the network is.

        Args:
            frames: Path, bytes, PIL image or array (H, W), (H, W, 3) of one frame, uint8 or float
                0..1; a list, an iterator or a stack (n, H, W) or (n, H, W, 3) of many.
            channels: Order of an array's channels; files know theirs.
            cm_per_pixel: Size of a pixel in cm, so that the network sees the field of view that
                it was made for. None takes the longer side of a frame for it (20 cm).

        Returns:
            One mask for each of ``chambers``, in the frame's own pixels, empty where nothing was
            found; a list of such ``Masks`` for many frames. ``scores`` is the IoU that the
            network itself expects, 0..1, ``stability`` the area at a probability above 0.73 over
            that above 0.27.

        Raises:
            ImageError: A frame cannot be used.
        """
        if is_clip(frames):
            return list(self.stream(frames, channels=channels, cm_per_pixel=cm_per_pixel))
        with self._graphs.call():
            return self._answer(self._prepare([frames], Reading(channels, cm_per_pixel)))[0]

    def stream(
        self,
        frames: Iterable[ImageSource],
        *,
        channels: FrameChannels = "rgb",
        cm_per_pixel: float | None = None,
        batch_size: int = BATCH,
    ) -> Iterator[Masks]:
        """Segment many frames in order, in bounded memory.

        Args:
            frames: Taken one by one, so a generator may be endless; at most two batches are held.
            channels: As in ``segment``.
            cm_per_pixel: As in ``segment``.
            batch_size: Frames that go through the network together, at least 1.

        Yields:
            One ``Masks`` for each frame; its timings are the frame's share of its batch.

        Raises:
            ImageError: A frame cannot be used.
            PromptError: ``batch_size`` is less than 1.
        """
        if batch_size < 1:
            raise PromptError(f"batch_size must be at least 1, not {batch_size}.")
        for batch in self._ahead(each_frame(frames), Reading(channels, cm_per_pixel), batch_size):
            yield from self._answer(batch)
            if batch.error is not None:
                raise batch.error

    def probabilities(
        self,
        frames: ImageSource | Iterable[ImageSource],
        *,
        channels: FrameChannels = "rgb",
        cm_per_pixel: float | None = None,
    ) -> NDArray[np.float32]:
        """The network's raw output, in its own square.

        Args:
            frames: As in ``segment``.
            channels: As in ``segment``.
            cm_per_pixel: As in ``segment``.

        Returns:
            float32 (classes, side, side) in 0..1 for one frame, (n, classes, side, side) for many.

        Raises:
            ImageError: A frame cannot be used.
        """
        reading = Reading(channels, cm_per_pixel)
        if not is_clip(frames):
            with self._graphs.call():
                only: NDArray[np.float32] = self._run(self._prepare([frames], reading))[0]
            return only
        # is_clip has looked; mypy cannot know what that says about the type.
        clip = each_frame(frames)  # type: ignore[arg-type]
        side, parts = self._frame.side, []
        for batch in self._ahead(clip, reading, BATCH):
            parts.append(self._run(batch))
            if batch.error is not None:
                raise batch.error
        return np.concatenate([np.empty((0, len(self.classes), side, side), np.float32), *parts])

    def _ahead(self, frames: Iterator[Any], reading: Reading, size: int) -> Iterator[Batch]:
        """Batches of frames, the next one being read while one is computed."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fastseg-read") as reader:
            waiting: deque[Future[Batch]] = deque()
            try:
                while chunk := list(islice(frames, size)):
                    waiting.append(reader.submit(self._prepare, chunk, reading))
                    if len(waiting) == 2:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _prepare(self, frames: list[Any], reading: Reading) -> Batch:
        watch, frame = Stopwatch(), self._frame
        pixels = np.empty((len(frames), frame.channels, frame.side, frame.side), np.float32)
        views: list[View] = []
        with watch("preprocess"):
            try:
                for view in self._drawn(pixels, frames, reading):
                    views.append(view)  # noqa: PERF402 - those before an error are kept
            except FastsegError as error:
                if not views:
                    raise
                return Batch(pixels[: len(views)], views, watch, error)
        return Batch(pixels, views, watch)

    def _drawn(
        self, pixels: NDArray[np.float32], frames: list[Any], reading: Reading
    ) -> Iterator[View]:
        """Draw each frame into its square, several at once, and tell in order what is seen."""
        crew = min(len(frames), self.threads)
        if crew < 2:
            draw = partial(self._draw_in, reading=reading, threads=self.threads)
            yield from map(draw, pixels, frames)
            return
        draw = partial(self._draw_in, reading=reading, threads=1)
        with ThreadPoolExecutor(crew, thread_name_prefix="fastseg-frame") as team:
            yield from team.map(draw, pixels, frames)

    def _draw_in(
        self, square: NDArray[np.float32], source: Any, *, reading: Reading, threads: int
    ) -> View:
        """Fill the network's square with what it sees of a frame."""
        frame = self._frame
        array = read_frame(
            source, wanted=frame.channels, channels=reading.channels, max_pixels=self.max_pixels
        )
        view = look(
            (array.shape[0], array.shape[1]),
            cm_per_pixel=reading.cm_per_pixel,
            field_of_view_cm=frame.field_of_view_cm,
        )
        square[:] = ops.frame_input(array, view.window, frame.side, threads=threads)
        return view

    def _run(self, batch: Batch) -> NDArray[np.float32]:
        with batch.watch("encode"):
            outputs = self._graphs.run(UNET_GRAPH, {"frames": batch.pixels})
        probabilities: NDArray[np.float32] = outputs["probabilities"]
        return probabilities

    def _answer(self, batch: Batch) -> list[Masks]:
        """Clean what the network drew, and bring it back to each frame's pixels."""
        probabilities = self._run(batch)
        first = len(self.classes) - len(self.chambers)
        drawn = []
        with batch.watch("postprocess"):
            cleaned = ops.clean_chambers(probabilities, exclusive=bool(first), threads=self.threads)
            if RING in self.classes:
                ring, disc, cavity = map(self.classes.index, (RING, DISC, CAVITY))
                cleaned[:, ring] = cleaned[:, disc] & ~cleaned[:, cavity]
            scores, stability = ops.chamber_scores(probabilities, cleaned, threads=self.threads)
            for index, view in enumerate(batch.views):
                runs = ops.masks_to_frame(
                    cleaned[index, first:], view.window, view.size, threads=self.threads
                )
                drawn.append(
                    Masks(
                        runs=runs,
                        scores=scores[index, first:],
                        stability=stability[index, first:],
                        boxes=ops.rle_boxes(runs),
                        areas=ops.rle_areas(runs),
                        prompt=np.arange(len(runs)),
                        timings=Timings(),
                        names=self.chambers,
                    )
                )
        timings = self._share(batch.watch, len(drawn))
        return [masks.with_timings(timings) for masks in drawn]

    def _share(self, watch: Stopwatch, frames: int) -> Timings:
        """What one frame of a batch took."""
        whole = watch.timings(
            n_masks=len(self.chambers),
            backend=self.backend,
            device=self.device,
            precision=self.precision,
        )
        return replace(
            whole,
            preprocess=whole.preprocess / frames,
            encode=whole.encode / frames,
            postprocess=whole.postprocess / frames,
        )
