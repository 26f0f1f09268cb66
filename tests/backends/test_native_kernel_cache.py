"""Native kernels are opened once for all graphs of the same weights, and named when they fail."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastseg.backends.native.kernel_cache import OpenedKernels
from fastseg.errors import ModelFolderError

PATH = Path("weights.safetensors")


class Kernel:
    """A kernel that weak references can point to."""

    def __init__(self, weights: str) -> None:
        self.weights = weights


def test_several_threads_open_a_kernel_once_while_it_is_held():
    opened: OpenedKernels[Kernel] = OpenedKernels()
    read = []

    def reader(path):
        read.append(path)
        return path.name

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: opened.find("a", PATH, reader, Kernel), range(8)))
    assert {id(one) for one in found} == {id(found[0])}
    assert found[0].weights == PATH.name
    other = opened.find("b", PATH, reader, Kernel)
    assert other is not found[0]
    assert read == [PATH, PATH]
    del found
    gc.collect()
    opened.find("a", PATH, reader, Kernel)
    assert len(read) == 3


def test_refused_weights_name_the_file_and_are_not_cached():
    opened: OpenedKernels[Kernel] = OpenedKernels()

    def refuse(weights):
        raise ModelFolderError(f"there is no {weights}")

    with pytest.raises(ModelFolderError, match=r"^weights.safetensors: there is no weights"):
        opened.find("a", PATH, lambda path: path.name, refuse)
    assert opened.find("a", PATH, lambda path: path.name, Kernel).weights == PATH.name
