"""Comparison of two configurations of one model: its outputs for the same images and prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import RITM, SAM, SPECIALIST, UNET, Manifest
from fastseg.backends.base import Backend
from fastseg.errors import BackendError, ParityError
from fastseg.inference.sessions import Choice, PreopenedSessions, Sessions
from fastseg.validation import synthetic
from fastseg.validation.parity import Difference, Table, compare_arrays, compare_masks, worst
from fastseg.validation.probes import (
    SAMPLES,
    DrawnMasks,
    ModelOutputs,
    Probe,
    build_probe,
    run_probe,
    run_probes,
)

REFERENCE = Choice(device="cpu", backend="onnxruntime", precision="fp32")
"""The configuration that a gate measures against."""

MEAN_IOU = {SAM: 0.99, UNET: 0.995, RITM: 0.99, SPECIALIST: 0.99}
"""Mean IoU with the float32 masks that a reduced precision must reach, by family."""

COUNT_CHANGE = 0.05
"""Largest change, as a fraction, of the number of masks that a pipeline would keep."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A backend (or ``"torch"``) and a precision to run a model in."""

    backend: str
    precision: str

    @classmethod
    def parse(cls, text: str) -> Configuration:
        """Read ``"onnxruntime:fp32"``; without a precision it is ``"auto"``.

        Raises:
            BackendError: There is more than one colon, or nothing before it.
        """
        backend, _, precision = text.partition(":")
        if not backend or ":" in precision:
            raise BackendError(
                f"{text!r} is no configuration. Write BACKEND:PRECISION, as in onnxruntime:fp32."
            )
        return cls(backend, precision or "auto")

    def __str__(self) -> str:
        """Write it as it is parsed."""
        return f"{self.backend}:{self.precision}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest differences between two configurations; None sets no limit."""

    max_relative: float | None = None
    """Largest relative difference of any tensor."""

    min_iou: float | None = None
    """IoU of the worst mask with its counterpart."""

    mean_iou: float | None = None
    """Mean IoU over all masks."""

    count_change: float | None = None
    """Largest change, as a fraction, of the number of masks that a pipeline would keep."""

    kept_min_iou: float | None = None
    """IoU of the worst of those masks with its counterpart."""

    kept_mean_iou: float | None = None
    """Mean IoU over those masks."""

    min_kept: int | None = None
    """Fewest of those masks that are enough evidence."""

    @classmethod
    def between(cls, family: str, precisions: Iterable[str]) -> Limits:
        """Return the limits of two precisions: on every tensor in float32, else on masks alone."""
        if set(precisions) == {"fp32"}:
            return cls(max_relative=1e-4, min_iou=0.99)
        return cls.of_masks(family)

    @classmethod
    def of_masks(cls, family: str) -> Limits:
        """Return the limits on what may replace float32: the same masks, and as many."""
        return cls(mean_iou=MEAN_IOU[family], count_change=COUNT_CHANGE)

    def as_dict(self) -> dict[str, float]:
        """Return the limits that are set, ready for JSON."""
        return {name: limit for name, limit in asdict(self).items() if limit is not None}


AUTOTUNE = Limits(kept_mean_iou=0.99, kept_min_iou=0.95, count_change=0.03, min_kept=20)
"""Limits on a faster configuration that replaces FP32 without being asked for. They hold for the
masks that everything mode keeps, and one bad mask among many good ones refuses it."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Differences between the outputs of two configurations for the same probes."""

    kept: tuple[int, int]
    """Masks that a pipeline would keep of either; see ``DrawnMasks.kept``."""

    images: int
    masks: int
    """Masks that were compared."""

    kept_iou: tuple[float, float] | None = None
    """Least and mean IoU, with their counterparts, of the masks that a pipeline would keep of the
    expected outputs; None if it would keep none."""

    table: Table = field(default_factory=lambda: Table(()))
    """A row for each tensor and, last, one for the masks: the worst of all images, and the mean
    IoU. Intermediates have rows where both configurations declare the same layout. Empty where
    only the masks that are kept were compared."""

    @property
    def of_masks(self) -> Difference:
        """The row of the masks."""
        return self.table.rows[-1]

    @property
    def count_change(self) -> float:
        """Change of the number of masks that would be kept, as a fraction of the expected."""
        expected, actual = self.kept
        return abs(actual - expected) / max(expected, 1)

    def within(self, limits: Limits) -> bool:
        """Return whether no limit is exceeded."""
        return not self.refusals(limits)

    def refusals(self, limits: Limits) -> list[str]:
        """Name every limit that is exceeded, with the number that exceeds it."""
        if limits.min_kept is not None and self.kept[0] < limits.min_kept:
            return [f"FP32 keeps {self.kept[0]} masks on the images, too few to judge by"]
        found = []
        if (most := limits.max_relative) is not None:
            found += [
                f"{row.name} differs by {row.relative:.2e}, more than {most:g}"
                for row in self.table.rows[:-1]
                if not row.within(most)
            ]
        least, mean = self.kept_iou or (None, None)
        rows = self.table.rows[-1:]
        ious = (
            ("mean", limits.mean_iou, rows[0].mask_iou_mean if rows else None),
            ("least", limits.min_iou, rows[0].mask_iou_min if rows else None),
            ("mean", limits.kept_mean_iou, mean),
            ("least", limits.kept_min_iou, least),
        )
        found += [
            f"{name} mask IoU {iou or 0.0:.4f} is below {limit:g}"
            for name, limit, iou in ious
            if limit is not None and (iou or 0.0) < limit
        ]
        if limits.count_change is not None and self.count_change > limits.count_change:
            found.append(f"{self.kept[1]} masks are kept instead of {self.kept[0]}")
        return found

    def summary(self, limits: Limits) -> str:
        """Write the table, the numbers of masks, and whether they are within the limits."""
        asked = ", ".join(f"{name} {limit:g}" for name, limit in limits.as_dict().items())
        ious = ""
        if self.kept_iou:
            least, mean = self.kept_iou
            ious = f" (mean IoU of the {self.kept[0]} {mean:.6f}, least {least:.6f})"
        return (
            f"{self.table}\n"
            f"masks that a pipeline would keep: {self.kept[0]} and {self.kept[1]}{ious}\n\n"
            f"{'within' if self.within(limits) else 'NOT within'} the limits: {asked}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers, ready for JSON."""
        return {
            "pictures": self.images,
            "masks": self.masks,
            "rows": self.table.as_rows(),
            "masks_kept": self.kept,
            "kept_iou": self.kept_iou,
        }


def compare(expected: Sequence[ModelOutputs], actual: Sequence[ModelOutputs]) -> Comparison:
    """Compare outputs for the same probes, probe by probe.

    Args:
        expected: The outputs to measure against; at least one.
        actual: The outputs that are measured, as many.

    Raises:
        ParityError: The outputs are not of the same probes.
    """
    tables = [_table(a, b) for a, b in zip(expected, actual, strict=True)]
    masks = compare_kept([one.drawn for one in expected], [one.drawn for one in actual])
    return replace(masks, table=worst(tables))


def compare_kept(expected: Sequence[DrawnMasks], actual: Sequence[DrawnMasks]) -> Comparison:
    """Compare the masks that are kept, and no tensors, probe by probe.

    Args:
        expected: The masks to measure against.
        actual: The masks that are measured, as many lists. Each holds a counterpart of every mask
            that is kept of the expected ones.
    """
    counts = [len(one.kept) for one in expected]
    rows = [
        compare_masks("kept", b.find(a.kept_ids), a.masks[a.kept])
        for a, b in zip(expected, actual, strict=True)
        if len(a.kept)
    ]
    iou = None
    if rows:
        means = [row.mask_iou_mean or 0.0 for row in rows]
        weighted = np.average(means, weights=[count for count in counts if count])
        iou = (min(row.mask_iou_min or 0.0 for row in rows), float(weighted))
    return Comparison(
        kept=(sum(counts), sum(len(one.kept) for one in actual)),
        images=len(counts),
        masks=sum(len(one.masks) for one in expected),
        kept_iou=iou,
    )


def _table(expected: ModelOutputs, actual: ModelOutputs) -> Table:
    """Compare the tensors and all masks of one probe."""
    if set(expected.tensors) != set(actual.tensors):
        raise ParityError(
            f"{sorted(actual.tensors)} cannot be compared with {sorted(expected.tensors)}"
        )
    rows = [
        compare_arrays(name, actual.tensors[name], array)
        for name, array in expected.tensors.items()
    ]
    rows += [
        compare_arrays(signature[0], actual.intermediates[signature], array)
        for signature, array in expected.intermediates.items()
        if signature in actual.intermediates
    ]
    rows.append(compare_masks("masks", actual.drawn.masks, expected.drawn.masks))
    return Table(tuple(rows))


def samples(manifest: Manifest) -> list[NDArray[np.uint8]]:
    """Generate images (H, W, 3) of the kind that a model is for, the same ones each time."""
    if manifest.family == UNET:
        return list(synthetic.sectors(SAMPLES))
    return list(synthetic.scenes()[:SAMPLES])


@dataclass(frozen=True, slots=True)
class Expected:
    """Probes of a model, and the outputs of its float32 graphs on the CPU for them."""

    folder: ModelFolder
    choice: Choice
    """Of the float32 graphs."""
    probes: tuple[Probe, ...]
    outputs: tuple[ModelOutputs, ...]

    def measure(self, candidate: Mapping[str, Backend], *, precision: str) -> Comparison:
        """Compare the outputs of other graphs with these.

        Args:
            candidate: The graphs that are measured: opened, by name, with host memory. The
                folder's float32 graphs take the place of absent ones, so that a single graph can
                be measured.
            precision: The precision of the candidate.

        Raises:
            BackendError: A graph failed.
        """
        with closing(Sessions(self.folder, self.choice)) as graphs:
            mixed = PreopenedSessions(candidate, precision, graphs)
            return compare(self.outputs, [run_probe(mixed, one, precision) for one in self.probes])


def expect(
    folder: ModelFolder, *, images: Sequence[NDArray[np.uint8]] = (), threads: int = 0
) -> Expected:
    """Run a folder's float32 graphs on the CPU, to compare others with them.

    Args:
        folder: A model folder with float32 graphs.
        images: uint8 (H, W, 3); ``samples`` if there are none.
        threads: Processor threads of the float32 graphs, 0 for all.

    Raises:
        BackendError: A graph failed.
    """
    manifest = folder.manifest
    probes = tuple(build_probe(manifest, one) for one in images or samples(manifest))
    choice = Choice(REFERENCE.device, REFERENCE.backend, REFERENCE.precision, threads)
    return Expected(folder, choice, probes, run_probes(folder, choice, probes))


def gate(
    folder: ModelFolder,
    candidate: Mapping[str, Backend],
    *,
    precision: str,
    images: Sequence[NDArray[np.uint8]] = (),
    limits: Limits | None = None,
    threads: int = 0,
) -> Comparison:
    """Require that graphs give the masks of the folder's float32 graphs on the CPU.

    Args:
        folder: As in ``expect``.
        candidate: As in ``Expected.measure``.
        precision: The precision of the candidate.
        images: As in ``expect``.
        limits: The limits of the family and precision if left out.
        threads: As in ``expect``.

    Returns:
        The comparison, to be kept beside the graphs that passed.

    Raises:
        ParityError: A limit is exceeded; the message holds the table.
        BackendError: A graph failed.
    """
    expected = expect(folder, images=images, threads=threads)
    found = expected.measure(candidate, precision=precision)
    made_by = ", ".join(dict.fromkeys(backend.name for backend in candidate.values()))
    asked = limits or Limits.between(folder.manifest.family, ("fp32", precision))
    require(found, asked, f"{folder.manifest.name} in {precision} ({made_by})")
    return found


def require(found: Comparison, limits: Limits, what: str) -> None:
    """Raise if a comparison with float32 exceeds the limits.

    Raises:
        ParityError: A limit is exceeded; the message holds the table.
    """
    if not found.within(limits):
        raise ParityError(
            f"{what} is too far from its float32 masks; it was not kept.\n{found.summary(limits)}"
        )
