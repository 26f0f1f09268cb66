"""Threads that help for the length of a block, and work that goes on where none can be started.

``concurrent.futures`` refuses work once the main thread has ended, although other threads may go on
serving, and waits for ever for a thread that could not begin. Here whoever needs a result computes
it, unless a thread has begun to.
"""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, TypeVar
from weakref import ReferenceType, ref

Item = TypeVar("Item")
Result = TypeVar("Result")


class Task(Generic[Result]):
    """One call, which is made once: by a thread of a team, or by the caller of ``result``."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call: Callable[[], Result] | None = call
        self._begun = _thread.allocate_lock()
        self._unfinished = _thread.allocate_lock()
        self._unfinished.acquire()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Make the call unless somebody has begun it."""
        if not self._begun.acquire(blocking=False):
            return
        call, self._call = self._call, None  # what it refers to is freed with it
        try:
            if call is not None:
                self._value = call()
        except BaseException as error:  # raised again by result
            self._error = error
        finally:
            self._unfinished.release()
            # The error's traceback refers to this frame, which would keep the task alive.
            del self, call

    @property
    def finished(self) -> bool:
        """True once the call has returned or raised."""
        return not self._unfinished.locked()

    def result(self) -> Result:
        """Return what the call returned; wait for it, or make it.

        Raises:
            BaseException: Raised by the call.
        """
        self.run()
        with self._unfinished:
            error = self._error
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del self, error  # as in run

    def end(self) -> None:
        """Wait for the call if it was begun; it is not made any more otherwise."""
        if not self._begun.acquire(blocking=False):
            with self._unfinished:
                pass


class Team:
    """A few threads that take tasks in their order, for the length of a ``with`` block.

    When the block ends, tasks that nobody has begun are dropped, and no task is running.

    Args:
        size: Threads at most, at least 1. Fewer are used where no more can be started.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._started = 0
        self._tasks: deque[Task[Any]] = deque()
        # Weak, as no thread may ever come to take them out.
        self._queue: SimpleQueue[ReferenceType[Task[Any]] | None] = SimpleQueue()

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Task[Result]:
        """Let a thread call ``function(*arguments)``."""
        task = Task(lambda: function(*arguments))
        while self._tasks and self._tasks[0].finished:
            self._tasks.popleft()
        self._tasks.append(task)
        self._queue.put(ref(task))
        if self._started < self._size:
            # None can be started while the interpreter ends, or above the limit of a user. The
            # threading module would wait for a thread that has no memory to begin.
            with suppress(RuntimeError, MemoryError):
                _thread.start_new_thread(self._work, ())
                self._started += 1
        return task

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Call a function for every item, and yield the results in order.

        The items are taken at once. The thread that asks for the results is one more worker.
        """
        tasks = [self.submit(function, item) for item in items]
        ahead = iter(tasks)
        for task in tasks:
            while not task.finished and (other := next(ahead, None)) is not None:
                other.run()
            yield task.result()

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # From the last one: a thread would begin the next while this one waits for the first.
        for task in reversed(self._tasks):
            task.end()
        for _ in range(self._started):
            self._queue.put(None)

    def _work(self) -> None:
        while (queued := self._queue.get()) is not None:
            task = queued()
            if task is not None:
                task.run()
            # A result belongs to its caller alone, also while this thread waits.
            del task
