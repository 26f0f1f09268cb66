"""Prompts of objects on slices of a volume, and the settings that carry them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import PromptError
from fastseg.inputs.numbers import one_of, real_number, shown, whole_number
from fastseg.sam.volume_masks import Rule
from fastseg.sam.volume_slices import VolumeSlices

PROMPTS = ("points", "labels", "boxes", "mask_logits")


@dataclass(frozen=True, slots=True)
class PropagationSettings:
    """The rule for the next prompt, and the rules that end an object. See ``Sam.propagate``."""

    rule: Rule = "best"
    margin: float = 3 / 256
    min_score: float = 0.25
    max_change: float = 4.0
    max_shift: float = 2.0
    multimask: bool = True

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            PromptError: A setting is out of range.
        """
        one_of(self.rule, get_args(Rule), "rule", PromptError)
        for name in ("margin", "min_score", "max_change", "max_shift"):
            object.__setattr__(self, name, real_number(getattr(self, name), name, PromptError))
        if not 0 <= self.margin <= 1:
            raise PromptError(f"margin must be in 0..1, a share of a slice, not {self.margin:g}.")
        if self.max_change <= 1:
            raise PromptError(f"max_change must be above 1, not {self.max_change:g}.")
        if self.max_shift <= 0:
            raise PromptError(f"max_shift must be above 0, not {self.max_shift:g}.")


@dataclass(frozen=True, slots=True)
class Anchor:
    """A slice that the user prompts, with the objects of its prompts in their order."""

    place: int
    objects: tuple[int, ...]
    prompts: Mapping[str, Any]


def anchors_of(
    start: object,
    prompts: Mapping[str, Any],
    corrections: Mapping[int, Mapping[str, Any]] | None,
    slices: VolumeSlices,
) -> list[Anchor]:
    """Put the prompts of the start slice and of other slices in the order of their slices.

    Raises:
        PromptError: There is no such slice, or prompts and objects do not belong together.
    """
    place = (
        len(slices) // 2 if start is None else whole_number(start, "start", PromptError, least=0)
    )
    given = {name: value for name, value in prompts.items() if value is not None}
    if not given:
        raise PromptError("propagate needs points or boxes on the start slice.")
    first = range(_count(given))
    found = {place: Anchor(place, tuple(first), given)}
    for key, more in (corrections or {}).items():
        other = whole_number(key, "a slice of corrections", PromptError, least=0)
        if other in found:
            raise PromptError(f"slice {other} has prompts already. Give them all in one place.")
        found[other] = _correction(other, more, tuple(first))
    for other in found:
        if other >= len(slices):
            raise PromptError(f"there are {len(slices)} slices, from 0, and no slice {other}.")
    objects = {number for one in found.values() for number in one.objects}
    if objects != set(range(len(objects))):
        raise PromptError(f"objects are numbered from 0 without gaps, not {sorted(objects)}.")
    return [found[place] for place in sorted(found)]


def _correction(place: int, more: object, all_objects: tuple[int, ...]) -> Anchor:
    if not isinstance(more, Mapping) or set(more) - {"objects", *PROMPTS}:
        raise PromptError(
            f"corrections[{place}] must be a dictionary with some of {', '.join(PROMPTS)} and "
            f"objects, not {shown(more)}."
        )
    given = {name: more[name] for name in PROMPTS if more.get(name) is not None}
    if not given:
        raise PromptError(f"corrections[{place}] has no prompt.")
    numbers = more.get("objects")
    objects = (
        all_objects
        if numbers is None
        else tuple(whole_number(one, "an object", PromptError, least=0) for one in numbers)
    )
    if len(objects) != _count(given) or len(set(objects)) != len(objects):
        raise PromptError(
            f"corrections[{place}] has {_count(given)} prompts for the objects {list(objects)}. "
            "Give each object one prompt; objects= says which."
        )
    return Anchor(place, objects, given)


def _count(prompts: Mapping[str, Any]) -> int:
    """Count the prompts as ``segment`` will, which also checks them."""
    if "boxes" in prompts:
        return len(np.atleast_2d(np.asarray(prompts["boxes"])))
    if "mask_logits" in prompts:
        shape = np.shape(prompts["mask_logits"])
        return shape[0] if len(shape) == 3 else 1
    points = prompts.get("points")
    try:
        shape = np.shape(points)  # type: ignore[arg-type]
    except ValueError:  # prompts of different lengths
        return len(points)  # type: ignore[arg-type]
    return shape[0] if len(shape) == 3 else 1


def fingerprint(
    slices: VolumeSlices, anchors: Sequence[Anchor], settings: PropagationSettings, model: str
) -> str:
    """Return a hash of all that the masks depend on."""
    digest = sha256(f"{slices.fingerprint()} {model} {settings}".encode())
    for anchor in anchors:
        digest.update(repr((anchor.place, anchor.objects)).encode())
        for name in sorted(anchor.prompts):
            digest.update(name.encode())
            for part in _parts(anchor.prompts[name]):
                digest.update(repr(part.shape).encode() + np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _parts(values: Any) -> list[NDArray[np.float64]]:
    """Split prompts that may have different lengths."""
    try:
        return [np.asarray(values, np.float64)]
    except ValueError:
        return [np.asarray(one, np.float64) for one in values]
