"""Segmentation of ultrasound frames without prompts: a mask of every chamber, with its name."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from fastseg import ops
from fastseg.artifacts import ModelFolder
from fastseg.contract import UNET_GRAPH
from fastseg.echo.frames import (
    FrameChannels,
    View,
    arrange,
    choose_view,
    each_frame,
    is_clip,
    read_frame,
    resolve_channels,
)
from fastseg.echo.views import CAVITY, DISC, RING, UNION
from fastseg.environment.threads import Task, Team
from fastseg.errors import FastsegError, ModelFolderError, PromptError
from fastseg.images import MAX_PIXELS, ImageSource
from fastseg.inference.loaded_model import LoadedModel
from fastseg.inference.sessions import Choice
from fastseg.inputs.numbers import whole_number
from fastseg.masks import Masks
from fastseg.timings import Stopwatch, Timings

BATCH = 8
"""Frames that go through the network together; more of them are no faster on a processor."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Order of the channels and size of the pixels of the frames of one call."""

    channels: FrameChannels | None
    """None is RGB of frames that do not look like luma and chroma."""

    cm_per_pixel: float | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Video frames in the form that the network takes."""

    pixels: NDArray[np.float32]  # (frames, channels, side, side)
    views: list[View]
    watch: Stopwatch
    error: FastsegError | None = None
    """The error of the next frame; it is raised after the masks of these."""


class Unet(LoadedModel):
    """A network for ultrasound frames. Holds no state between calls; safe in several threads."""

    def __init__(
        self, folder: ModelFolder, choice: Choice, *, max_pixels: int | None = MAX_PIXELS
    ) -> None:
        super().__init__(folder, choice, image_graph=UNET_GRAPH, max_pixels=max_pixels)
        self._frame = self.manifest.frame_preprocessing
        self.view = self.manifest.view
        """The view that the network was trained for: ``"a2c"``, ``"a4c"`` or ``"sax"``."""
        self.classes = self.manifest.classes
        """Names of the network's output channels, in order."""
        promised = self._graphs[UNET_GRAPH].graph.outputs[0].shape[1]
        if promised != len(self.classes):
            raise ModelFolderError(
                f"{folder.path} names {len(self.classes)} classes and its network draws "
                f"{promised}. Export the model again."
            )

    @property
    def chambers(self) -> tuple[str, ...]:
        """Names of the masks that a frame gives, in order: the classes without the union."""
        return tuple(name for name in self.classes if name != UNION)

    @overload
    def segment(  # type: ignore[overload-overlap]  # a str is an Iterable, but one image
        self,
        frames: ImageSource,
        *,
        channels: FrameChannels | None = None,
        cm_per_pixel: float | None = None,
        axes: str | None = None,
    ) -> Masks: ...

    @overload
    def segment(
        self,
        frames: Iterable[ImageSource],
        *,
        channels: FrameChannels | None = None,
        cm_per_pixel: float | None = None,
        axes: str | None = None,
    ) -> list[Masks]: ...

    def segment(
        self,
        frames: Any,
        *,
        channels: FrameChannels | None = None,
        cm_per_pixel: float | None = None,
        axes: str | None = None,
    ) -> Masks | list[Masks]:
        """Segment every chamber of one video frame, or of many.

        The network's probabilities are cleaned as published (Ferreira et al. 2025): above 0.5,
        largest piece, closed by a disk of radius 2, holes filled; what two chambers of an apical
        view claim belongs to neither. The wall in the short axis is the disc without the cavity,
        which the cleaning would fill. A mask that is not of a heart looks like one all the same:
        ``Masks.scores`` is the network's own estimate of its quality.

        Args:
            frames: Path, bytes, PIL image or array (H, W), (H, W, 3) of one frame, uint8 or float
                0..1; a list, an iterator or a stack (n, H, W) or (n, H, W, 3) of many.
            channels: Order of an array's channels; files know theirs. None is RGB, but an array
                that looks like luma and chroma is refused.
            cm_per_pixel: Size of a pixel in cm, so that the network sees the field of view that
                it was made for. None takes the longer side of a frame for it (20 cm).
            axes: Order of an array's axes, ``"nhw"`` or ``"hwn"`` for example: height, width, ``n``
                for frames, ``c`` for channels. None is (H, W) or (H, W, channels) of one frame,
                (n, H, W) or (n, H, W, channels) of many; 1, 3 or 4 at the end are channels.

        Returns:
            One mask for each of ``chambers``, in the frame's own pixels, empty where nothing was
            found; a list of such ``Masks`` for many frames. ``scores`` is the IoU that the
            network itself expects, 0..1, ``stability`` the area at a probability above 0.73 over
            that above 0.27.

        Raises:
            ImageError: A frame cannot be used, or looks like luma and chroma.
        """
        frames = arrange(frames, axes)
        if is_clip(frames):
            return list(self.stream(frames, channels=channels, cm_per_pixel=cm_per_pixel))
        with self._graphs.call():
            reading = Reading(channels, cm_per_pixel)
            return self._masks(self._prepare([frames], reading))[0]

    def stream(
        self,
        frames: Iterable[ImageSource],
        *,
        channels: FrameChannels | None = None,
        cm_per_pixel: float | None = None,
        axes: str | None = None,
        batch_size: int = BATCH,
    ) -> Iterator[Masks]:
        """Segment many frames in order, in bounded memory.

        Args:
            frames: Taken one by one, so a generator may be endless; at most two batches are held.
            channels: As in ``segment``.
            cm_per_pixel: As in ``segment``.
            axes: As in ``segment``.
            batch_size: Frames that go through the network together, at least 1.

        Yields:
            One ``Masks`` for each frame; its timings are the frame's share of its batch.

        Raises:
            ImageError: A frame cannot be used.
            PromptError: ``batch_size`` is less than 1.
        """
        batch_size = whole_number(batch_size, "batch_size", PromptError, least=1)
        clip, reading = each_frame(arrange(frames, axes)), Reading(channels, cm_per_pixel)
        for batch in self._ahead(clip, reading, batch_size):
            yield from self._masks(batch)
            if batch.error is not None:
                raise batch.error

    def probabilities(
        self,
        frames: ImageSource | Iterable[ImageSource],
        *,
        channels: FrameChannels | None = None,
        cm_per_pixel: float | None = None,
        axes: str | None = None,
    ) -> NDArray[np.float32]:
        """Compute the network's raw output, in its own square.

        Args:
            frames: As in ``segment``.
            channels: As in ``segment``.
            cm_per_pixel: As in ``segment``.
            axes: As in ``segment``.

        Returns:
            float32 (classes, side, side) in 0..1 for one frame, (n, classes, side, side) for many.

        Raises:
            ImageError: A frame cannot be used.
        """
        frames = arrange(frames, axes)
        if not is_clip(frames):
            reading = Reading(channels, cm_per_pixel)
            with self._graphs.call():
                only: NDArray[np.float32] = self._run(self._prepare([frames], reading))[0]
            return only
        # is_clip has checked the type, which mypy cannot know.
        clip, reading = each_frame(frames), Reading(channels, cm_per_pixel)  # type: ignore[arg-type]
        side, parts = self._frame.side, []
        for batch in self._ahead(clip, reading, BATCH):
            parts.append(self._run(batch))
            if batch.error is not None:
                raise batch.error
        return np.concatenate([np.empty((0, len(self.classes), side, side), np.float32), *parts])

    def _ahead(self, frames: Iterator[Any], reading: Reading, size: int) -> Iterator[Batch]:
        """Yield batches of frames; the next one is read while one is computed."""
        with Team(1) as reader:
            waiting: deque[Task[Batch]] = deque()
            while chunk := list(islice(frames, min(size, sys.maxsize))):
                waiting.append(reader.submit(self._prepare, chunk, reading))
                if len(waiting) == 2:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

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
        """Draw each frame into its square, several at once, and yield their views in order."""
        crew = min(len(frames), self.threads)
        if crew < 2:
            draw = partial(self._draw_in, reading=reading, threads=self.threads)
            yield from map(draw, pixels, frames)
            return
        draw = partial(self._draw_in, reading=reading, threads=1)
        with Team(crew - 1) as team:  # this thread is one of the crew
            yield from team.map(lambda pair: draw(*pair), zip(pixels, frames, strict=True))

    def _draw_in(
        self, square: NDArray[np.float32], source: Any, *, reading: Reading, threads: int
    ) -> View:
        """Draw the view of a frame into the network's square."""
        frame = self._frame
        channels = resolve_channels(source, reading.channels)
        array = read_frame(
            source, wanted=frame.channels, channels=channels, max_pixels=self.max_pixels
        )
        view = choose_view(
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

    def _masks(self, batch: Batch) -> list[Masks]:
        """Clean the network's output, and bring it back to each frame's pixels."""
        probabilities = self._run(batch)
        first = len(self.classes) - len(self.chambers)
        drawn = []
        with batch.watch("postprocess"):
            cleaned = ops.clean_chambers(probabilities, exclusive=bool(first), threads=self.threads)
            # Cleaning fills holes, and the wall's own is the cavity: the wall is what the
            # other two outlines leave.
            if RING in self.classes:
                ring, disc, cavity = map(self.classes.index, (RING, DISC, CAVITY))
                cleaned[:, ring] = cleaned[:, disc] & ~cleaned[:, cavity]
            scores, stability = ops.chamber_scores(probabilities, cleaned, threads=self.threads)
            for index, view in enumerate(batch.views):
                runs = ops.masks_to_frame(
                    cleaned[index, first:], view.window, view.size, threads=self.threads
                )
                drawn.append(
                    Masks.from_rle(
                        runs,
                        scores=scores[index, first:],
                        stability=stability[index, first:],
                        names=self.chambers,
                    )
                )
        timings = self._share(batch.watch, len(drawn))
        return [masks.with_timings(timings) for masks in drawn]

    def _share(self, watch: Stopwatch, frames: int) -> Timings:
        """Divide the times of a batch by its frames."""
        whole = self._timings(watch, n_masks=len(self.chambers))
        return replace(
            whole,
            preprocess=whole.preprocess / frames,
            encode=whole.encode / frames,
            postprocess=whole.postprocess / frames,
        )
