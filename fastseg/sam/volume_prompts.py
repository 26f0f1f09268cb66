"""Prompts of objects on slices of a volume, and the settings that carry them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import PromptError
from fastseg.geometry import Frame
from fastseg.inputs.numbers import one_of, real_number, shown, whole_number, yes_or_no
from fastseg.inputs.text import texts
from fastseg.sam.prompts import PromptRequest
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
        multimask = yes_or_no(self.multimask, "multimask", PromptError)
        object.__setattr__(self, "multimask", multimask)
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
    mask_side: int,
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
    first = range(_count(given, slices, mask_side))
    if not first:
        raise PromptError("propagate needs a prompt for at least one object, and got none.")
    found = {place: Anchor(place, tuple(first), given)}
    for key, more in _by_slice(corrections).items():
        other = whole_number(key, "a slice of corrections", PromptError, least=0)
        if other in found:
            raise PromptError(f"slice {other} has prompts already. Give them all in one place.")
        objects, asked = _correction(other, more, tuple(first))
        count = _count(asked, slices, mask_side)
        if len(objects) != count or len(set(objects)) != count:
            raise PromptError(
                f"corrections[{other}] has {count} prompts for the objects {list(objects)}. Give "
                "each object one prompt; objects= says which."
            )
        found[other] = Anchor(other, objects, asked)
    for other in found:
        if other >= len(slices):
            raise PromptError(f"there are {len(slices)} slices, from 0, and no slice {other}.")
    numbers = {number for one in found.values() for number in one.objects}
    if numbers != set(range(len(numbers))):
        raise PromptError(f"objects are numbered from 0 without gaps, not {sorted(numbers)}.")
    return [found[place] for place in sorted(found)]


def _by_slice(corrections: object) -> Mapping[Any, Any]:
    """Return corrections if they are a dictionary, and an empty one for None."""
    if corrections is None:
        return {}
    if not isinstance(corrections, Mapping):
        raise PromptError(
            "corrections must be a dictionary {slice: {prompts}}, not " + shown(corrections) + "."
        )
    return corrections


def _correction(
    place: int, more: object, all_objects: tuple[int, ...]
) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Return the objects and the prompts of a slice."""
    if not isinstance(more, Mapping) or set(more) - {"objects", *PROMPTS}:
        raise PromptError(
            f"corrections[{place}] must be a dictionary with some of {', '.join(PROMPTS)} and "
            f"objects, not {shown(more)}."
        )
    given = {name: more[name] for name in PROMPTS if more.get(name) is not None}
    if not given:
        raise PromptError(f"corrections[{place}] has no prompt.")
    numbers = more.get("objects")
    if numbers is None:
        return all_objects, given
    if not isinstance(numbers, Sequence) or isinstance(numbers, str | bytes):
        raise PromptError(
            f"objects of corrections[{place}] must be a list of numbers, not {shown(numbers)}."
        )
    chosen = tuple(whole_number(one, "an object", PromptError, least=0) for one in numbers)
    return chosen, given


def _count(prompts: Mapping[str, Any], slices: VolumeSlices, mask_side: int) -> int:
    """Count prompts, and check them before any slice is encoded."""
    return len(PromptRequest(**prompts).check(Frame(slices.size), mask_side=mask_side))


def object_names(names: object, anchors: Sequence[Anchor]) -> tuple[str, ...]:
    """Return a name for each object.

    Raises:
        PromptError: They are no texts, or not as many as there are objects.
    """
    found = texts(names, "names", PromptError)
    objects = {number for one in anchors for number in one.objects}
    if len(found) != len(objects):
        raise PromptError(f"{len(objects)} objects need as many names, not {len(found)}.")
    return found


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
