"""The native kernels that are open in this process: graphs of the same weights share one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from fastseg.backends.fork_safety import in_child
from fastseg.errors import ModelFolderError

Kernel = TypeVar("Kernel")
Weights = TypeVar("Weights")


class OpenedKernels(Generic[Kernel]):
    """Kernels by their weights and settings. Each is freed with the last graph that holds it."""

    def __init__(self) -> None:
        self._kernels: WeakValueDictionary[Hashable, Kernel] = WeakValueDictionary()
        self._unlock()
        in_child(self, OpenedKernels._unlock)

    def find(
        self,
        key: Hashable,
        path: Path,
        read: Callable[[Path], Weights],
        make: Callable[[Weights], Kernel],
    ) -> Kernel:
        """Return the kernel of a key, and open it if it is not open.

        Args:
            key: Hash of the weights, with the settings that a kernel depends on beside them.
            path: The file of the weights.
            read: Reads the file.
            make: Opens a kernel with the weights.

        Raises:
            ModelFolderError: The file is damaged or holds another network.
        """
        with self._lock:
            kernel = self._kernels.get(key)
            if kernel is None:
                weights = read(path)
                try:
                    kernel = make(weights)
                except ModelFolderError as error:
                    raise ModelFolderError(f"{path}: {error}") from error
                self._kernels[key] = kernel
        return kernel

    def _unlock(self) -> None:
        """Make the lock new in a forked child: a thread of the parent may have held it."""
        self._lock = threading.Lock()
