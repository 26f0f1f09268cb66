"""Actions for forked children, where the threads of the parent are missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

Owner = TypeVar("Owner", bound=object)

_ACTIONS: WeakKeyDictionary[object, Callable[[object], None]] = WeakKeyDictionary()


def in_child(owner: Owner, action: Callable[[Owner], None]) -> None:
    """Call ``action(owner)`` in every child that is forked while ``owner`` is alive.

    An inherited runtime runs in a child, in the thread that calls it; freeing it would wait for
    threads that were not inherited. A lock that another thread held stays locked there forever.
    """
    _ACTIONS[owner] = action  # type: ignore[assignment]  # called with its owner alone


def _after_fork() -> None:
    for owner, action in list(_ACTIONS.items()):
        action(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
