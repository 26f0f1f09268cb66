"""Tasks of a cohort, by name."""

from fastseg.cohort.tasks.base import Finished, Product, Task
from fastseg.cohort.tasks.making import TASKS, make_task

__all__ = ["TASKS", "Finished", "Product", "Task", "make_task"]
