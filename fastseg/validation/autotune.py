"""Autotuning: the fastest configuration of a model on this machine that gives the masks of FP32.

``fastseg.calibrate`` and ``fastseg calibrate`` mean this search over runtimes and precisions.
Calibration in the sense of quantisation, which chooses the ranges of FP16 and INT8 graphs, belongs
to ``fastseg.export.fp16`` and ``fastseg.export.int8``.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import replace

import numpy as np

from fastseg import artifacts, environment
from fastseg.artifacts import ModelFolder, registry
from fastseg.artifacts.manifest import SAM
from fastseg.backends import table
from fastseg.backends.base import Plan
from fastseg.backends.selection import PRECISIONS, exactly, plan
from fastseg.contract import MULTIPLE, graph_role
from fastseg.demo_data import PICTURE
from fastseg.errors import BackendError, ModelFolderError
from fastseg.images import read_image
from fastseg.inference import tuned_plans
from fastseg.inference.sessions import Choice, Sessions, exact_plans
from fastseg.inference.tuned_plans import Candidate, TunedPlan
from fastseg.loading import Model
from fastseg.sam.two_stage_decoder import PROMPTS_PER_RUN, TwoStageDecoder
from fastseg.validation import comparison, synthetic
from fastseg.validation.probes import (
    DrawnMasks,
    PromptProbe,
    build_prompt_probe,
    draw_masks,
    encode,
)

LEAST_GAIN = 1.1
"""Least speed, relative to the best configuration so far, that is worth a change."""

ROUNDS = 3
"""Rounds in which two configurations are timed in turn; the median of each counts."""

_PARTS = (("encoder",), ("image_state", "decoder", "decoder_mask", "mask_head"), ("mask_head",))
"""Sessions that change their configuration together, in the order in which they are tried."""


def calibrate(model: Model, *, threads: int = 0) -> TunedPlan:
    """Find the fastest way to run a model on this processor that gives the masks of FP32; keep it.

    From then on ``load`` follows it wherever backend and precision are left to fastseg, for the
    same model, processor, versions and threads. ``autotune`` says how it is measured.

    Args:
        model: The name of an embedded model or a model folder.
        threads: Processor threads that the model is loaded with later, 0 for every usable core.

    Returns:
        The plan, with all that was measured. If it cannot be kept there is a warning, and ``load``
        stays with FP32.

    Raises:
        ModelNotFoundError: There is no such name and no such folder.
        ModelFolderError: The folder is damaged, or the model takes no prompts.
        BackendError: No runtime is available, or FP32 does not run.
    """
    folder = artifacts.read(registry.find(model))
    found = autotune(folder, threads=threads)
    if problem := tuned_plans.keep(folder, found, threads=threads):
        warnings.warn(
            f"The result of the calibration is not kept, so FP32 stays what is loaded: {problem}",
            RuntimeWarning,
            stacklevel=2,
        )
    return found


def autotune(
    folder: ModelFolder, *, threads: int = 0, progress: Callable[[str], None] = lambda _: None
) -> TunedPlan:
    """Time every configuration on this processor, and compare its masks with those of FP32.

    The encoder comes first, then the graphs that decode prompts, then the mask head alone. For
    each part, candidates that are at least ``LEAST_GAIN`` times as fast as the best configuration
    so far draw the masks of a photograph and of generated scenes, 80 prompts each, the fastest
    candidate first. The first one passes that is within ``comparison.AUTOTUNE`` of FP32.

    Args:
        folder: A model folder that was read.
        threads: Processor threads, 0 for every core that this process may use.
        progress: Called with the name of each step as it begins.

    Returns:
        The fastest configuration that passed, with all that was measured. ``tuned_plans.keep``
        keeps it, and from then on ``load`` follows it wherever it is left the choice.

    Raises:
        ModelFolderError: The model takes no prompts.
        BackendError: No runtime is available, or FP32 does not run.
    """
    if folder.manifest.family != SAM:
        raise ModelFolderError(
            f"{folder.manifest.name} is of family {folder.manifest.family!r}, and only models of "
            "SAM's are calibrated. "
            'Name the precision to load it in, as in precision="bf16".'
        )
    tuner = _Autotuner(folder, threads, progress)
    best = exact_plans(folder, Choice("cpu", "auto", "fp32"))
    precisions = dict.fromkeys(best, "fp32")
    candidates: list[Candidate] = []
    for part in _PARTS:
        found = tuner.improve(best, [name for name in part if name in best], candidates)
        if found is not None:
            best, precision = found
            precisions |= dict.fromkeys(part, precision)
    return TunedPlan(
        backends={name: each.backend for name, each in best.items()},
        precisions={name: precisions[name] for name in best},
        candidates=tuple(candidates),
        measured=environment.line(),
    )


class _Autotuner:
    """One autotuning run: its probes, and the masks of FP32 for them."""

    def __init__(self, folder: ModelFolder, threads: int, progress: Callable[[str], None]) -> None:
        self._folder = folder
        self._choice = Choice("cpu", threads=threads)
        self._progress = progress
        images = (read_image(PICTURE), *synthetic.scenes())
        self._probes = [build_prompt_probe(each, folder.manifest) for each in images]
        self._expected: list[DrawnMasks] = []

    def improve(
        self, best: Mapping[str, Plan], part: Sequence[str], candidates: list[Candidate]
    ) -> tuple[dict[str, Plan], str] | None:
        """Return the plans and precision of the fastest candidate for a part that passes."""
        others = list(self._configurations(best, part))
        if not others:
            return None
        with closing(Sessions(self._folder, self._choice, best)) as graphs:
            if not self._expected:
                self._progress(f"{_describe(best, part)}: masks of FP32")
                self._expected = self._draw_all(graphs)
            timed = [
                (self._speed(graphs, plans, part), plans, precision) for plans, precision in others
            ]
        timed.sort(key=lambda each: -each[0])
        for speed, plans, precision in timed:
            candidate = self._evaluate(plans, part, speed)
            candidates.append(candidate)
            if not candidate.refused:
                return plans, precision
        return None

    def _configurations(
        self, best: Mapping[str, Plan], part: Sequence[str]
    ) -> Iterator[tuple[dict[str, Plan], str]]:
        """Give every other configuration of a part that is available, and its precision."""
        seen = [{name: best[name] for name in part}]
        for backend in table.RUNTIMES:
            for precision in PRECISIONS:
                try:
                    found = self._planned(best, part, backend, precision)
                except BackendError:
                    continue  # not installed, or not for this graph, or not in this precision
                if found not in seen:
                    seen.append(found)
                    yield {**best, **found}, precision

    def _planned(
        self, best: Mapping[str, Plan], part: Sequence[str], backend: str, precision: str
    ) -> dict[str, Plan]:
        if part == ["mask_head"] and table.runtime(best["decoder"].backend).own_layout:
            raise BackendError("only the decoder's own runtime reads the layout of its outputs.")
        found: dict[str, Plan] = {}
        for name in (name for name in part if name in best):
            # The rarely used graph may stay where it is; the others make sense only together.
            may_stay = {name: best[name]} if name == "decoder_mask" else {}
            with suppress(BackendError) if may_stay else nullcontext():
                may_stay[name] = plan(
                    self._folder,
                    name,
                    device="cpu",
                    backend=exactly(backend),
                    precision=precision,
                )
            found |= may_stay
        return found

    def _speed(self, graphs: Sessions, plans: Mapping[str, Plan], part: Sequence[str]) -> float:
        """Return how many times as fast ``plans`` are as the opened graphs, 0 if they fail."""
        self._progress(f"{_describe(plans, part)}: speed")
        try:
            with closing(Sessions(self._folder, self._choice, plans)) as others:
                return relative_speed(graphs, others, part, self._probes[0])
        except BackendError:
            return 0.0  # a runtime that is installed and fails on the graph is no candidate

    def _evaluate(self, plans: Mapping[str, Plan], part: Sequence[str], speed: float) -> Candidate:
        candidate = Candidate({name: str(plans[name]) for name in part}, round(speed, 3))
        if speed == 0.0:
            return replace(candidate, refused="it does not run here")
        if speed < LEAST_GAIN:
            return replace(candidate, refused=f"not {LEAST_GAIN} times as fast")
        self._progress(f"{_describe(plans, part)}: masks")
        with closing(Sessions(self._folder, self._choice, plans)) as graphs:
            return evaluate(candidate, self._expected, self._draw_all(graphs))

    def _draw_all(self, graphs: Sessions) -> list[DrawnMasks]:
        """Draw the masks of every probe, with a counterpart for each mask that FP32 keeps."""
        nothing = np.empty(0, np.intp)
        wanted = [each.kept_ids for each in self._expected] or [nothing] * len(self._probes)
        pairs = zip(self._probes, wanted, strict=True)
        return [draw_masks(graphs, probe, only=ids) for probe, ids in pairs]


def evaluate(
    candidate: Candidate, expected: Sequence[DrawnMasks], actual: Sequence[DrawnMasks]
) -> Candidate:
    """Add to a candidate how its masks agree with those of FP32, and why it is refused if it is."""
    found = comparison.compare_kept(expected, actual)
    masks, masks_kept = found.kept
    enough = masks >= (comparison.AUTOTUNE.min_kept or 0)
    least, mean = found.kept_iou if found.kept_iou and enough else (None, None)
    return replace(
        candidate,
        masks=masks,
        masks_kept=masks_kept,
        mask_iou_mean=mean,
        mask_iou_min=least,
        refused="; ".join(found.refusals(comparison.AUTOTUNE)),
    )


def relative_speed(
    graphs: Sessions, others: Sessions, part: Sequence[str], probe: PromptProbe
) -> float:
    """Return the median time of ``graphs`` over that of ``others``; the first round warms up."""
    took: tuple[list[float], list[float]] = ([], [])
    embedding = encode(graphs, probe)
    batch = next(probe.batches(PROMPTS_PER_RUN))
    for _ in range(1 + ROUNDS):
        for each, times in zip((graphs, others), took, strict=True):
            start = time.perf_counter()
            if graph_role(part[0]) == "image":
                encode(each, probe)
            else:
                decoder = TwoStageDecoder(each)
                decoder.logits(decoder.tokens(decoder.complete(embedding), batch), MULTIPLE)
            times.append(time.perf_counter() - start)
    return statistics.median(took[0][1:]) / statistics.median(took[1][1:])


def _describe(plans: Mapping[str, Plan], part: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(f"{plans[name]}" for name in part))
