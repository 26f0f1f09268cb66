"""The engine of one process: a few threads that share the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastseg.cohort.manifest import Item
from fastseg.cohort.tasks import Task
from fastseg.cohort.work import Made, make
from fastseg.environment.threads import Task as Call
from fastseg.environment.threads import Team

THREADS = 2
"""Items in work at once: while one is decoded, another is read and encoded."""


@dataclass(frozen=True)
class ThreadWorkers:
    """Threads of this process."""

    task: Task

    def map(self, items: Iterable[Item]) -> Iterator[Made]:
        """Do items in their order, ``THREADS`` at once and as many again ahead of their turn."""
        waiting: deque[Call[Made]] = deque()
        with Team(THREADS) as team:
            for item in items:
                waiting.append(team.submit(make, self.task, item))
                if len(waiting) >= 2 * THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
