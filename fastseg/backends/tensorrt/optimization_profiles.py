"""The optimisation profiles of an engine: the sizes that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from fastseg.contract import Array, GraphSpec, TensorSpec
from fastseg.errors import BackendError, EngineError

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SizeRange:
    """The sizes of one dimension."""

    least: int
    usual: int
    """The size that the engine is tuned for."""

    most: int

    def __contains__(self, size: int) -> bool:
        return self.least <= size <= self.most


Profile: TypeAlias = Mapping[str, SizeRange]
"""The range of every dimension that a call may choose."""

_BATCHES: Mapping[str, SizeRange] = {
    "images": SizeRange(1, 1, 8),
    "batch": SizeRange(1, 8, 32),
    "survivors": SizeRange(1, 64, 1024),
}
"""Dimensions that are a batch and nothing else."""

_OWN_SIZE: Profile = {
    "batch": SizeRange(1, 2, 2),
    "height": SizeRange(16, 400, 1536),
    "width": SizeRange(16, 400, 1536),
}
"""Images at their own size: RITM's, each with its mirror image, or a part of 400 pixels."""

_FEW_PROMPTS: Profile = {"prompts": SizeRange(1, 4, 32), "points": SizeRange(1, 2, 64)}
_GRID_OF_PROMPTS: Profile = {"prompts": SizeRange(1, 256, 1024), "points": SizeRange(2, 2, 2)}
"""Everything mode: a point and its padding, as many points as a box has."""

_MASKS = SizeRange(1, 3, 4)


def profiles_of(graph: GraphSpec) -> tuple[Profile, ...]:
    """List the profiles of an engine of ``graph``; empty if all its sizes are fixed.

    Raises:
        EngineError: The graph has an open dimension that fastseg has no range for.
    """
    open_sizes = {size for tensor in graph.inputs for size in tensor.shape if isinstance(size, str)}
    if not open_sizes:
        return ()
    known: dict[str, SizeRange] = {**_BATCHES, "masks": _MASKS}
    if "height" in open_sizes:
        known |= _OWN_SIZE
    whole = [{**known, **_FEW_PROMPTS}]
    # Grids have no mask prompts: everything mode prompts with points alone.
    if "prompts" in open_sizes and not any(one.name == "mask_input" for one in graph.inputs):
        whole.append({**known, **_GRID_OF_PROMPTS})
    if unknown := sorted(open_sizes - whole[0].keys()):
        raise EngineError(
            f"{graph.name} leaves the sizes {', '.join(unknown)} open, and no engine can be built "
            "for them. Export the model again with this version of fastseg."
        )
    return tuple({name: one[name] for name in sorted(open_sizes)} for one in whole)


def shapes(tensor: TensorSpec, profile: Profile) -> tuple[Shape, Shape, Shape]:
    """Return the smallest, usual and largest shape of an input in a profile."""

    def of(end: str) -> Shape:
        return tuple(
            getattr(profile[size], end) if isinstance(size, str) else size for size in tensor.shape
        )

    return of("least"), of("usual"), of("most")


def sizes_of(graph: GraphSpec, inputs: Mapping[str, Array]) -> dict[str, int]:
    """Return the size of every open dimension in a call; ``inputs`` fit the graph."""
    return {
        wanted: size
        for tensor in graph.inputs
        for wanted, size in zip(tensor.shape, inputs[tensor.name].shape, strict=True)
        if isinstance(wanted, str)
    }


def batch_dimension(graph: GraphSpec) -> str | None:
    """Find the dimension along which a call may be split: the first of every output.

    None if there is no such dimension, so that every call runs whole.
    """
    first = {tensor.shape[0] if tensor.shape else 0 for tensor in graph.outputs}
    name = first.pop() if len(first) == 1 else 0
    if not isinstance(name, str):
        return None
    dynamic = [one for one in graph.inputs if name in one.shape]
    whole = all(one.shape.index(name) == 0 and one.shape.count(name) == 1 for one in dynamic)
    return name if whole and dynamic else None


def choose_profile(
    graph: GraphSpec, profiles: tuple[Profile, ...], sizes: Mapping[str, int]
) -> tuple[int, int]:
    """Choose the profile for a call, and the length of the pieces that it is split into.

    Returns:
        The number of the profile, and its largest size along ``batch_dimension``. Of the profiles
        that fit the other sizes it is the first that takes the call whole, else the one that takes
        most at a time.

    Raises:
        BackendError: A size is outside of every profile.
    """
    if not profiles:
        return 0, max(sizes.values(), default=1)
    batch = batch_dimension(graph)
    others = {name: size for name, size in sizes.items() if name != batch}
    fitting = [
        number
        for number, profile in enumerate(profiles)
        if all(size in profile[name] for name, size in others.items())
    ]
    if not fitting:
        taken = " or ".join(_ranges(profile, others) for profile in profiles)
        raise BackendError(
            f"{graph.name} was called with {_words(others)}, and its engine takes {taken}. "
            'Give fewer at a time, or use backend="onnxruntime".'
        )
    if batch is None:
        return fitting[0], 1
    for number in fitting:
        if sizes[batch] <= profiles[number][batch].most:
            return number, profiles[number][batch].most
    largest = max(fitting, key=lambda number: profiles[number][batch].most)
    return largest, profiles[largest][batch].most


def _words(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{size} {name}" for name, size in sizes.items())


def _ranges(profile: Profile, names: Mapping[str, int]) -> str:
    return ", ".join(f"{profile[name].least} to {profile[name].most} {name}" for name in names)
