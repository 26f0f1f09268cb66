"""The service behind the routes: a model, open images, queues, jobs and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio.to_thread

from fastseg.geometry import Frame
from fastseg.masks import Masks
from fastseg.sam.embedding import Embedding
from fastseg.sam.mask_generator import Progress
from fastseg.sam.model import Sam
from fastseg.server import bodies, prompting
from fastseg.server.image_store import ImageStore, OpenImage
from fastseg.server.jobs import Event, Job, Jobs
from fastseg.server.memory import give_back, resident_bytes
from fastseg.server.metrics import Metrics
from fastseg.server.refusals import RefusalError
from fastseg.server.settings import Settings
from fastseg.server.work_queue import WorkQueue
from fastseg.timings import STAGES, Timings

_EXPIRY_S = 5.0


class Service:
    """One model and what its clients have open.

    Args:
        model: The model; it stays open when the service ends.
        settings: The settings of the server.
    """

    def __init__(self, model: Sam, settings: Settings) -> None:
        self.model = model
        self.settings = settings
        limits = self.limits = settings.limits
        self.images = ImageStore(limits)
        workers, waiting = limits.worker_count, limits.max_waiting
        # Images are read and encoded beside the queue of prompts, which are short.
        self.opening = WorkQueue(workers, waiting, limits.request_s)
        self.prompting = WorkQueue(workers, waiting, limits.request_s)
        self.jobs = Jobs(limits.max_jobs, 1)
        self.metrics = Metrics()
        self.is_ready = False
        self._add_gauges()

    async def expire(self) -> None:
        """Close images whose time is over, for as long as the server runs."""
        known = 0
        while True:
            self.images.expire()
            if self.images.closed != known:
                known = self.images.closed
                await anyio.to_thread.run_sync(give_back)
            await asyncio.sleep(min(_EXPIRY_S, self.limits.image_s / 2))

    def warm_up(self) -> None:
        """Run the model once, so that the first request is as fast as any other."""
        import numpy as np

        embedding = self.model.embed(np.zeros((64, 64, 3), np.uint8))
        taken = self.model.rules.prompts
        if taken.points:
            self.model.segment(embedding, points=[32, 32])
        elif taken.boxes:
            self.model.segment(embedding, boxes=[16, 16, 48, 48])
        else:
            self.model.segment(embedding)
        self.is_ready = True

    def close(self) -> None:
        """Cancel every job and close every image."""
        self.is_ready = False
        self.jobs.cancel_all()
        self.images.clear()

    async def open(self, read: Callable[[], OpenImage]) -> tuple[OpenImage, Timings]:
        """Open an image, and embed its first frame."""

        def opened() -> tuple[OpenImage, Timings]:
            image = read()
            self.images.add(image)
            return image, self._embed(image, 0).timings

        found = await self.opening.run(opened)
        self.measure(found[1])
        return found

    async def segment(self, image: OpenImage, body: bodies.PromptsBody) -> Masks:
        """Decode the prompts of a request; a frame that is not embedded yet is embedded first."""
        image.frame(body.frame)
        if not image.has_embedding(body.frame):
            await self.opening.run(partial(self._embed, image, body.frame))

        def segmented() -> Masks:
            embedding = self._embed(image, body.frame)
            return prompting.segment(self.model, embedding, body, self.limits)

        masks = await self.prompting.run(segmented)
        self.measure(masks.timings)
        return masks

    def everything(
        self, image: OpenImage, body: bodies.EverythingBody, owner: str
    ) -> AsyncIterator[Event]:
        """Begin a job of everything mode, and return its events.

        Raises:
            RefusalError: The grid has too many points, or there are too many jobs.
        """
        frame = image.frame(body.frame)
        most = self.limits.max_points_per_side
        if not 1 <= body.points_per_side <= most:
            raise RefusalError(422, f"points_per_side must be from 1 to {most}.")
        settings = body.model_dump(exclude={"frame"})

        def call(progress: Progress) -> Event:
            embedding = self._embed(image, body.frame)
            masks = self.model.everything(frame, **settings, embedding=embedding, progress=progress)
            self.measure(masks.timings)
            return prompting.answer(masks)

        return self._begin(call, owner)

    def propagate(
        self, image: OpenImage, body: bodies.PropagateBody, owner: str
    ) -> AsyncIterator[Event]:
        """Begin a job that follows objects through the frames, and return its events.

        Raises:
            RefusalError: There is no such frame, or there are too many jobs.
            PromptError: The prompts are too many, or of several kinds.
        """
        image.frame(body.frame)
        prompting.check_number(body.prompts, self.limits)
        square = Frame(image.image.size, self.model.manifest.image_preprocessing.side)
        prompts = prompting.arguments(self.model, square, body.prompts)
        settings = body.model_dump(include={"rule", "min_score", "max_change"})

        def call(progress: Progress) -> Event:
            found = self.model.propagate(
                image.image, start=body.frame, **prompts, **settings, progress=progress
            )
            self.measure(found.timings)
            return prompting.volume_answer(found)

        return self._begin(call, owner)

    def _begin(self, call: Callable[[Progress], Event], owner: str) -> AsyncIterator[Event]:
        job = Job(call, owner, self.limits.job_s)
        self.jobs.add(job)
        return self.jobs.events(job)

    def measure(self, timings: Timings) -> None:
        """Add the stages of a call to the metrics."""
        for stage in STAGES:
            if milliseconds := getattr(timings, stage):
                about = "Time of each stage of the model."
                self.metrics.observe(
                    "fastseg_stage_seconds", about, milliseconds / 1e3, stage=stage
                )

    def about(self) -> dict[str, Any]:
        """Return the model and the limits, ready for JSON."""
        limits = {name: getattr(self.limits, name) for name in self.limits.__dataclass_fields__}
        return {
            **self.model.provenance(),
            "takes": self.model.rules.prompts.taken,
            "limits": limits,
            "root": self.settings.root is not None,
        }

    def _embed(self, image: OpenImage, frame: int) -> Embedding:
        known = image.has_embedding(frame)
        embedding = image.embedding(frame, self.model.embed)
        if not known:
            self.images.trim()
        return embedding

    def _add_gauges(self) -> None:
        for name, about, read in (
            ("images", "Open images.", lambda: len(self.images)),
            ("image_bytes", "Memory of open images.", lambda: self.images.bytes),
            ("jobs", "Jobs that run or wait.", lambda: len(self.jobs)),
            ("waiting_prompts", "Prompts that wait.", lambda: self.prompting.waiting),
            ("waiting_images", "Images that wait.", lambda: self.opening.waiting),
            ("ready", "1 if the model is loaded.", lambda: self.is_ready),
            ("resident_bytes", "Memory of the process.", resident_bytes),
        ):
            self.metrics.gauge(f"fastseg_{name}", about, read)


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task, and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
