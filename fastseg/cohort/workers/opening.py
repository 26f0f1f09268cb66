"""The engine of a run, by its name."""

from __future__ import annotations

from fastseg.cohort.tasks import Task
from fastseg.cohort.work import Workers
from fastseg.cohort.workers.processes import ProcessWorkers
from fastseg.cohort.workers.ray import RaySettings, RayWorkers
from fastseg.cohort.workers.threads import ThreadWorkers
from fastseg.errors import CohortError
from fastseg.inputs.numbers import one_of

ENGINES = ("local", "ray")


def open_workers(task: Task, engine: str, workers: int | None, ray: RaySettings | None) -> Workers:
    """Choose what does the work.

    Args:
        task: The task.
        engine: ``"local"`` or ``"ray"``.
        workers: Processes, or actors; None for threads of this process, or as many actors as there
            are processors.
        ray: Settings of Ray; None for its own.

    Raises:
        CohortError: There is no such engine, or settings of Ray are given to another one.
        BackendUnavailableError: Ray is asked for and not installed.
    """
    one_of(engine, ENGINES, "engine", CohortError)
    if engine == "ray":
        return RayWorkers(task, workers, ray or RaySettings())
    if ray is not None:
        raise CohortError('settings of Ray are for the engine "ray". Leave them out.')
    return ThreadWorkers(task) if workers is None else ProcessWorkers(task, workers)
