"""The engine of Ray: actors of Ray Data on this machine or on a cluster."""

from __future__ import annotations

import logging
import math
import os
import pickle
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastseg import environment
from fastseg.cohort.manifest import Item
from fastseg.cohort.tasks import Task
from fastseg.cohort.work import DEATHS, Made, crashed, import_path, make_isolated, packed, unpacked
from fastseg.errors import CohortError, FastsegError

_IN_FLIGHT = 2
"""Items that an actor has at once. With more, Ray Data hands the results over in bursts."""

_PATIENCE_S = 5.0
"""Seconds that a cluster gets to answer."""

_ATTEMPT_S = 30.0
"""Seconds that Ray gives its own start."""

_USAGE_SWITCH = "RAY_USAGE_STATS_ENABLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """The cluster, and what an actor takes of it."""

    address: str | None = None
    """Address of a running cluster that this machine is a node of, ``"auto"`` or
    ``"10.0.0.1:6379"``; None starts Ray here."""

    cpus: float = 1.0
    """Processors of an actor; its models use so many threads."""

    gpus: float = 0.0
    """GPUs of an actor; 0.25 lets four actors share one."""

    start_s: float = 60.0
    """Seconds that Ray may take to start here, in attempts of 30. Actors may take any time."""


@dataclass(frozen=True)
class RayWorkers:
    """Actors, each with models of its own."""

    task: Task
    count: int | None
    settings: RaySettings

    def __post_init__(self) -> None:
        """Require Ray.

        Raises:
            BackendUnavailableError: It is not installed.
            CohortError: A number cannot be used.
        """
        numbers = {"cpus": "cpus of an actor", "gpus": "gpus of an actor", "start_s": "start_s"}
        for name, what in numbers.items():
            value = getattr(self.settings, name)
            if not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise CohortError(f"{what} must be a number from 0, not {value!r}.")
        with environment.needs_extra("cohort", "running a cohort on Ray"):
            import ray.data  # noqa: F401 - to find out that it is there

    def map(self, items: Iterable[Item]) -> Iterator[Made]:
        """Do items, and yield them as they are finished."""
        asked = list(items)
        with ray_cluster(self.settings) as ray:
            count = self._actors(ray)
            yield from self._rows(ray, asked, count)

    def _actors(self, ray: Any) -> int:
        """Choose how many actors there are.

        Raises:
            CohortError: The cluster has no room for one, or not for so many.
        """
        there = ray.cluster_resources()
        own = {"CPU": self.settings.cpus, "GPU": self.settings.gpus}
        room = min(int(there.get(kind, 0) / each) for kind, each in own.items() if each)
        if room < (self.count or 1):
            found = ", ".join(f"{there.get(kind, 0):g} {kind}" for kind in own)
            raise CohortError(
                f"the Ray cluster has {found}, which is enough for {room} actors of "
                f"{self.settings.cpus:g} CPU and {self.settings.gpus:g} GPU, not for "
                f"{self.count or 1}. Lower the number of workers or what each takes."
            )
        return self.count or room

    def _rows(self, ray: Any, asked: list[Item], count: int) -> Iterator[Made]:
        import ray.data as data

        threads = max(1, int(self.settings.cpus))
        attempts = ray.remote(num_cpus=0)(_Attempts).remote()
        rows = [{"number": n, "item": pickle.dumps(item)} for n, item in enumerate(asked)]
        with _quiet(data.DataContext.get_current()):
            made = data.from_items(rows, override_num_blocks=len(rows)).map(
                _Actor,
                fn_constructor_args=(packed(self.task, threads), self.task.runs(), attempts),
                compute=data.ActorPoolStrategy(
                    size=count, max_tasks_in_flight_per_actor=_IN_FLIGHT
                ),
                num_cpus=self.settings.cpus,
                num_gpus=self.settings.gpus or None,
            )
            try:
                for row in made.iter_rows():
                    answer = pickle.loads(row["made"])  # noqa: S301 - from our own actors
                    if isinstance(answer, CohortError):
                        raise answer
                    yield answer
            except ray.exceptions.RayError as error:
                raise CohortError(
                    f"Ray ended the run: {error} What is done stays; --resume goes on with the "
                    "rest, with fewer workers if memory is short."
                ) from error


class _Attempts:
    """Counts how often each item was begun, in an actor of its own that outlives the workers."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}

    def begin(self, number: int) -> int:
        """Count one more, and return how many there were before."""
        before = self._begun.get(number, 0)
        self._begun[number] = before + 1
        return before


class _Actor:
    """A worker: loads the models once, and does items."""

    def __init__(self, content: bytes, runs: Mapping[str, Any], attempts: Any) -> None:
        self._attempts = attempts
        self._refusal: CohortError | None = None
        try:
            self._task = unpacked(content, runs)
        except FastsegError as error:  # Ray would start the actor again and again
            self._refusal = CohortError(f"a worker could not begin: {error}")

    def __call__(self, row: dict[str, Any]) -> dict[str, bytes]:
        """Do an item, unless it has ended workers before."""
        import ray

        if self._refusal is not None:
            return {"made": pickle.dumps(self._refusal)}
        item = pickle.loads(row["item"])  # noqa: S301 - from our own process
        deaths = ray.get(self._attempts.begin.remote(row["number"]))
        if deaths >= DEATHS:
            made = crashed(item, "without a word")
        else:
            made = make_isolated(self._task, item)
        return {"made": pickle.dumps(made)}


@contextmanager
def _quiet(context: Any) -> Iterator[None]:
    """Keep the messages of Ray Data off stderr inside the block."""
    log = logging.getLogger("ray.data")
    before = context.enable_progress_bars, log.level
    context.enable_progress_bars = False
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, level = before
        log.setLevel(level)


@contextmanager
def ray_cluster(settings: RaySettings) -> Iterator[Any]:
    """Connect to a cluster, or start Ray here; a connection that is there already stays.

    Raises:
        CohortError: Ray cannot be reached or started.
    """
    import ray

    if ray.is_initialized():
        yield ray
        return
    if settings.address is None:
        # Ray reports its use to its makers; a cluster that runs already has its own rule.
        os.environ.setdefault(_USAGE_SWITCH, "0")
    else:
        _require_answer(settings.address)
    try:
        _start(ray, settings, math.ceil(settings.start_s / _ATTEMPT_S))
    except Exception as error:  # Ray has errors of its own for every cause
        where = settings.address or "on this machine"
        raise CohortError(
            f"Ray cannot be used {where}: {error} Check the address, free memory, give it more "
            "time by --ray-start, or run without --engine ray."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, settings: RaySettings, attempts: int) -> None:
    """Connect, and try again where Ray's own start was too slow, as it is on a busy machine."""
    try:
        _connect(ray, settings)
    except Exception as error:
        if attempts <= 1 or settings.address is not None or "timed out" not in str(error):
            raise
        ray.shutdown()
        _start(ray, settings, attempts - 1)


def _connect(ray: Any, settings: RaySettings) -> None:
    own: dict[str, Any] = {"include_dashboard": False} if settings.address is None else {}
    ray.init(
        address=settings.address or "local",
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": import_path()}},
        **own,
    )


def _require_answer(address: str) -> None:
    """Require that something answers at a host and port; Ray itself would try for minutes.

    Raises:
        CohortError: Nothing does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), _PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        raise CohortError(
            f"no Ray cluster answers at {address}: {error}. Check the address, or start one by "
            "ray start --head."
        ) from error
