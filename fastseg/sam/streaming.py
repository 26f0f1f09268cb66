"""Segmentation of many images in order: the next ones are read and encoded in the meantime."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, cycle, repeat
from typing import Any, Generic, TypeVar

from fastseg.environment.threads import Task, Team
from fastseg.errors import FastsegError, ImageError, PromptError
from fastseg.inputs.numbers import one_of, shown, whole_number
from fastseg.masks import Masks
from fastseg.sam.prompts import PromptRequest, Prompts

Read = TypeVar("Read")
"""An image that was read and is ready to be encoded."""

Encoded = TypeVar("Encoded")
"""An image that is ready for prompts: an ``Embedding``, of SAM."""


@dataclass(frozen=True, slots=True)
class Stages(Generic[Read, Encoded]):
    """The three steps of ``segment``, each of which may run in a thread of its own."""

    read: Callable[[Any], Read]
    encode: Callable[[Read, PromptRequest], tuple[Encoded, Prompts]]
    decode: Callable[[Encoded, Prompts], Masks]


def stream_masks(
    requests: Iterable[tuple[Any, PromptRequest]],
    stages: Stages[Read, Encoded],
    *,
    batch_size: int,
    on_error: str = "raise",
) -> Iterator[Masks | FastsegError]:
    """Segment one image after the other.

    Args:
        requests: Images, or what a model has made of them, with prompts; taken one by one.
        stages: The steps of one image.
        batch_size: Images that are held at once, at least 1: while the masks of one are decoded,
            the next is encoded and the others are read.
        on_error: ``"raise"``, or ``"yield"`` for the error of an image in the place of its masks.

    Yields:
        One ``Masks`` for each image, or its error.

    Raises:
        ImageError: An image cannot be used.
        PromptError: A prompt, ``batch_size`` or ``on_error`` cannot be used.
    """
    one_of(on_error, ("raise", "yield"), "on_error", PromptError)
    batch_size = whole_number(batch_size, "batch_size", PromptError, least=1)
    with Team(1) as reader, Team(1) as encoder:
        reading: deque[tuple[Task[Read], PromptRequest]] = deque()
        encoding: deque[Task[tuple[Encoded, Prompts]]] = deque()

        def encode_when_read(
            being_read: Task[Read], request: PromptRequest
        ) -> tuple[Encoded, Prompts]:
            return stages.encode(being_read.result(), request)

        def encode_next() -> None:
            if reading and len(encoding) < 2:
                encoding.append(encoder.submit(encode_when_read, *reading.popleft()))

        def decode_first() -> Masks | FastsegError:
            task = encoding.popleft()
            try:
                return stages.decode(*task.result())
            except FastsegError as error:
                if on_error == "raise":
                    raise
                return error

        for image, request in requests:
            reading.append((reader.submit(stages.read, image), request))
            encode_next()
            if len(reading) + len(encoding) >= batch_size:
                yield decode_first()
        while encoding:
            encode_next()
            yield decode_first()


ENDLESS = (repeat, cycle)
"""Iterators of ``itertools`` that give the same prompts for any number of images; what is left of
them is no mistake. A repetition with an end is not told from one without, and is taken as well."""


def _column(prompts: Iterable[Any], missing: object) -> Iterator[Any]:
    """Yield the prompts of one argument, then ``missing`` for ever."""
    entries = None if isinstance(prompts, str | bytes) else _entries(prompts)
    if entries is None:
        raise PromptError(
            f"the prompts of many images are an iterable with one entry for each, not "
            f"{shown(prompts)}."
        )
    return chain(entries, repeat(missing))


def _entries(values: Iterable[Any]) -> Iterator[Any] | None:
    """Return an iterator, or None: an array without axes says that it is iterable."""
    try:
        return iter(values)
    except TypeError:
        return None


def pair_requests(
    images: Iterable[Any], columns: tuple[Iterable[Any] | None, ...]
) -> Iterator[tuple[Any, PromptRequest]]:
    """Pair each image with its prompts.

    Args:
        images: Images, or what a model has made of them.
        columns: For each field of ``PromptRequest`` one entry an image, or None.

    Raises:
        ImageError: ``images`` is no iterable.
        PromptError: There are more images than prompts, or more prompts than images.
    """
    each = None if isinstance(images, str | bytes) else _entries(images)
    if each is None:
        raise ImageError(f"images must be an iterable of images, not {shown(images)}.")
    missing = object()
    given = [repeat(None) if column is None else _column(column, missing) for column in columns]
    for index, (image, *parts) in enumerate(zip(each, *given, strict=False)):
        if any(part is missing for part in parts):
            raise PromptError(
                f"There are prompts for {index} images, but there are more images. Give each "
                "image its own entry."
            )
        yield image, PromptRequest(*parts)
    # zip asks the images first, so when they end no prompt has been taken in vain. A repetition
    # without an end is the same prompt for every image.
    left = [
        next(prompts)
        for prompts, column in zip(given, columns, strict=True)
        if not isinstance(column, ENDLESS)
    ]
    if any(part is not None and part is not missing for part in left):
        raise PromptError(
            "There are prompts for more images than there are images. Give each image its own "
            "entry."
        )
