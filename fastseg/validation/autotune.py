"""Which way to run a model is fastest on this machine and gives the masks of FP32."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastseg import artifacts, environment, ops
from fastseg.artifacts import ModelFolder, registry
from fastseg.artifacts.manifest import SAM
from fastseg.backends import table
from fastseg.backends.base import Plan
from fastseg.backends.selection import PRECISIONS, plan
from fastseg.contract import graph_role
from fastseg.demo_data import PICTURE
from fastseg.errors import BackendError, ModelFolderError
from fastseg.images import read_image
from fastseg.inference import tuned_plans
from fastseg.inference.sessions import Choice, Sessions, exact_plans
from fastseg.inference.tuned_plans import Trial, Verdict
from fastseg.loading import Model
from fastseg.ops import Binarised, Rle
from fastseg.sam.embedding import Embedding
from fastseg.sam.mask_generator import GridSettings
from fastseg.sam.prompts import PromptBatch
from fastseg.sam.two_stage_decoder import MULTIPLE, PROMPTS_PER_RUN, Decoder
from fastseg.validation import probes, synthetic
from fastseg.validation.parity import compare_masks
from fastseg.validation.probes import PromptQuestion

LEAST_MEAN_IOU, LEAST_IOU = 0.99, 0.95
"""Of the masks that FP32 keeps, with their counterparts: on average, and of each one."""

MOST_MASKS_ASTRAY = 0.03
"""Masks that are kept more or fewer, as a part of those that FP32 keeps."""

LEAST_EVIDENCE = 20
"""Masks that FP32 must keep on the pictures, so that the IoUs of the others say something."""

LEAST_GAIN = 1.1
"""Times as fast that a way must be to be worth leaving the one before."""

ROUNDS = 3
"""Turns in which two ways are timed; the median of each counts."""

ALTERNATIVES = MULTIPLE.stop - MULTIPLE.start

_PARTS = (("encoder",), ("image_state", "decoder", "decoder_mask", "mask_head"), ("mask_head",))
"""Graphs that move to another way together, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one way made of one picture: the masks that it drew."""

    names: NDArray[np.intp]
    """(n,) prompt * 3 + slot of each mask."""

    masks: Binarised
    kept: NDArray[np.intp]
    """Indices of those that everything mode would keep."""

    @property
    def kept_names(self) -> NDArray[np.intp]:
        """(kept,) ``names`` of those."""
        return self.names[self.kept]


def calibrate(model: Model, *, threads: int = 0) -> Verdict:
    """Find the fastest way to run a model on this processor that gives the masks of FP32; keep it.

    From then on ``load`` follows it wherever backend and precision are left to fastseg, for the
    same model, processor, versions and threads. ``search`` says what is measured.

    Args:
        model: The name of an embedded model or a model folder.
        threads: Processor threads that it is loaded with later, 0 for every core that may be used.

    Returns:
        The way, and all that was measured. Where it cannot be kept there is a warning, and
        ``load`` stays with FP32.

    Raises:
        ModelNotFoundError: There is no such name and no such folder.
        ModelFolderError: The folder is damaged, or the model takes no prompts.
        BackendError: No runtime is here, or FP32 does not run.
    """
    folder = artifacts.read(registry.find(model))
    found = search(folder, threads=threads)
    if problem := tuned_plans.keep(folder, found, threads=threads):
        warnings.warn(
            f"What was measured is not kept, so FP32 stays what is loaded: {problem}",
            RuntimeWarning,
            stacklevel=2,
        )
    return found


def search(
    folder: ModelFolder, *, threads: int = 0, progress: Callable[[str], None] = lambda _: None
) -> Verdict:
    """Time every way to run a model on this processor, and hold its masks against those of FP32.

    First the encoder, then what answers prompts, then the mask head alone: for each part, ways that
    are at least ``LEAST_GAIN`` times as fast as the best so far are asked, the fastest first, about
    a photograph and generated scenes, 80 prompts each. The first passes whose masks agree with
    those that FP32 keeps in everything mode at SAM's defaults: by IoU, and in number.

    Args:
        folder: A model folder that was read.
        threads: Processor threads, 0 for every core that this process may use.
        progress: Told what is being measured.

    Returns:
        The fastest way that passed, with all that was measured. It is not kept: ``verdicts.keep``
        does, and from then on ``load`` follows it wherever it is left the choice.

    Raises:
        ModelFolderError: The model takes no prompts.
        BackendError: No runtime is here, or FP32 does not run.
    """
    if folder.manifest.family != SAM:
        raise ModelFolderError(
            f"{folder.manifest.name} takes no prompts, and only models that do are calibrated. "
            'Name what it is to run in, as in precision="bf16".'
        )
    pictures = _Search(folder, threads, progress)
    best = exact_plans(folder, Choice("cpu", "auto", "fp32"))
    asked = dict.fromkeys(best, "fp32")
    trials: list[Trial] = []
    for part in _PARTS:
        found = pictures.improve(best, [name for name in part if name in best], trials)
        if found is not None:
            best, precision = found
            asked |= dict.fromkeys(part, precision)
    return Verdict(
        backends={name: settled.backend for name, settled in best.items()},
        precisions={name: asked[name] for name in best},
        trials=tuple(trials),
        measured=environment.line(),
    )


class _Search:
    """One calibration: its pictures, and what FP32 makes of them."""

    def __init__(self, folder: ModelFolder, threads: int, progress: Callable[[str], None]) -> None:
        self._folder = folder
        self._choice = Choice("cpu", threads=threads)
        self._progress = progress
        pictures = (read_image(PICTURE), *synthetic.scenes())
        self._questions = [
            probes.ask_prompts(each, folder.manifest.image_preprocessing) for each in pictures
        ]
        self._expected: list[Seen] = []

    def improve(
        self, best: Mapping[str, Plan], part: Sequence[str], trials: list[Trial]
    ) -> tuple[dict[str, Plan], str] | None:
        """The fastest way to run a part that is worth it and passes, and what was asked for it."""
        ways = list(self._ways(best, part))
        if not ways:
            return None
        with closing(Sessions(self._folder, self._choice, best)) as graphs:
            if not self._expected:
                self._progress(f"{_words(best, part)}: the exact way")
                self._expected = self._see_all(graphs)
            timed = [
                (self._race(graphs, plans, part), plans, precision) for plans, precision in ways
            ]
        timed.sort(key=lambda each: -each[0])
        for speed, plans, precision in timed:
            trial = self._try(plans, part, speed)
            trials.append(trial)
            if not trial.refused:
                return plans, precision
        return None

    def _ways(
        self, best: Mapping[str, Plan], part: Sequence[str]
    ) -> Iterator[tuple[dict[str, Plan], str]]:
        """Every other way to run a part that can be had here, and the precision to ask for."""
        seen = [{name: best[name] for name in part}]
        for backend in table.RUNTIMES:
            for precision in PRECISIONS:
                try:
                    found = self._moved(best, part, backend, precision)
                except BackendError:
                    continue  # not here, or not for this graph, or not in this precision
                if found not in seen:
                    seen.append(found)
                    yield {**best, **found}, precision

    def _moved(
        self, best: Mapping[str, Plan], part: Sequence[str], backend: str, precision: str
    ) -> dict[str, Plan]:
        if part == ["mask_head"] and table.runtime(best["decoder"].backend).own_layout:
            raise BackendError("what the decoder leaves is for its own runtime alone.")
        found: dict[str, Plan] = {}
        for name in part:
            # The rare graph may stay where it is; the others make sense together alone.
            may_stay = {name: best[name]} if name == "decoder_mask" else {}
            with suppress(BackendError) if may_stay else nullcontext():
                may_stay[name] = plan(
                    self._folder, name, device="cpu", backend=backend, precision=precision
                )
            found |= may_stay
        return found

    def _race(self, graphs: Sessions, plans: Mapping[str, Plan], part: Sequence[str]) -> float:
        """How many times as fast ``plans`` are as what is open, in turns."""
        self._progress(f"{_words(plans, part)}: speed")
        question = self._questions[0]
        try:
            with closing(Sessions(self._folder, self._choice, plans)) as others:
                return _ratio(graphs, others, part, question)
        except BackendError:
            return 0.0  # a runtime that is here and does not run the graph is no way to run it

    def _try(self, plans: Mapping[str, Plan], part: Sequence[str], speed: float) -> Trial:
        trial = Trial({name: str(plans[name]) for name in part}, round(speed, 3))
        if speed == 0.0:
            return replace(trial, refused="it does not run here")
        if speed < LEAST_GAIN:
            return replace(trial, refused=f"not {LEAST_GAIN} times as fast")
        self._progress(f"{_words(plans, part)}: masks")
        with closing(Sessions(self._folder, self._choice, plans)) as graphs:
            return judge(trial, self._expected, self._see_all(graphs))

    def _see_all(self, graphs: Sessions) -> list[Seen]:
        """What ``graphs`` make of every picture, with a counterpart for each mask that is kept."""
        nothing = np.empty(0, np.intp)
        wanted = [each.kept_names for each in self._expected] or [nothing] * len(self._questions)
        pairs = zip(self._questions, wanted, strict=True)
        return [see(graphs, question, also) for question, also in pairs]


def see(graphs: Sessions, question: PromptQuestion, also: NDArray[np.intp]) -> Seen:
    """Draw the masks of all prompts that can be kept, and those named in ``also``."""
    decoder, least = Decoder(graphs), np.float32(GridSettings().pred_iou_thresh)
    embedding = decoder.complete(look(graphs, question))
    prompts, scores, logits = [], [], []
    for start in range(0, len(question.coords), PROMPTS_PER_RUN):
        batch = _batch(question, start)
        tokens = decoder.tokens(embedding, batch)
        sure = (tokens.iou_predictions[:, MULTIPLE] > least).any(axis=1)
        drawn = np.flatnonzero(sure | np.isin(batch.indices, also // ALTERNATIVES))
        if len(drawn):
            prompts.append(batch.indices[drawn])
            scores.append(tokens.iou_predictions[drawn, MULTIPLE])
            logits.append(decoder.logits(tokens[drawn], MULTIPLE))
    side = 4 * embedding.features.shape[-1]
    empty = np.empty((0, ALTERNATIVES, side, side), np.float32)
    planes = np.concatenate([empty, *logits]).reshape(-1, side, side)
    masks = ops.binarise(planes, question.frame)
    names = np.concatenate([np.empty(0, np.intp), *prompts])[:, None] * ALTERNATIVES
    each_score = np.concatenate([np.empty((0, ALTERNATIVES), np.float32), *scores]).reshape(-1)
    everyone = np.arange(len(planes))
    kept = probes.kept(each_score, masks, question.frame, everyone)
    return Seen((names + np.arange(ALTERNATIVES)).reshape(-1), masks, kept)


def look(graphs: Sessions, question: PromptQuestion) -> Embedding:
    """Encode the picture of a question."""
    features = graphs.run("encoder", {"image": question.pixels})["embedding"][0]
    return Embedding(features=features, frame=question.frame, model="")


def judge(trial: Trial, expected: Sequence[Seen], actual: Sequence[Seen]) -> Trial:
    """The trial, with how its masks agree with those of FP32, and whether it is refused for it."""
    rows = [
        compare_masks("kept", _named(b, a.kept_names), a.masks.runs[a.kept])
        for a, b in zip(expected, actual, strict=True)
        if len(a.kept)
    ]
    counts = [len(each.kept) for each in expected if len(each.kept)]
    masks, masks_kept = sum(counts), sum(len(each.kept) for each in actual)
    if masks < LEAST_EVIDENCE:
        return replace(
            trial,
            masks=masks,
            masks_kept=masks_kept,
            refused=f"FP32 keeps {masks} masks on the pictures, too few to judge by",
        )
    mean = float(np.average([row.mask_iou_mean or 0.0 for row in rows], weights=counts))
    least = min(row.mask_iou_min or 0.0 for row in rows)
    refusals = (
        (mean < LEAST_MEAN_IOU, f"mean mask IoU {mean:.4f} is below {LEAST_MEAN_IOU}"),
        (least < LEAST_IOU, f"least mask IoU {least:.4f} is below {LEAST_IOU}"),
        (
            abs(masks_kept - masks) > MOST_MASKS_ASTRAY * masks,
            f"{masks_kept} masks are kept instead of {masks}",
        ),
    )
    return replace(
        trial,
        masks=masks,
        masks_kept=masks_kept,
        mask_iou_mean=mean,
        mask_iou_min=least,
        refused="; ".join(words for failed, words in refusals if failed),
    )


def _named(seen: Seen, names: NDArray[np.intp]) -> Rle:
    order = np.argsort(seen.names)
    return seen.masks.runs[order[np.searchsorted(seen.names, names, sorter=order)]]


def _ratio(
    graphs: Sessions, others: Sessions, part: Sequence[str], question: PromptQuestion
) -> float:
    """Median time of ``graphs`` over that of ``others``; the first turn warms up."""
    took: tuple[list[float], list[float]] = ([], [])
    embedding = look(graphs, question)
    batch = _batch(question, 0)
    for _ in range(1 + ROUNDS):
        for each, times in zip((graphs, others), took, strict=True):
            start = time.perf_counter()
            if graph_role(part[0]) == "image":
                look(each, question)
            else:
                decoder = Decoder(each)
                decoder.logits(decoder.tokens(decoder.complete(embedding), batch), MULTIPLE)
            times.append(time.perf_counter() - start)
    return statistics.median(took[0][1:]) / statistics.median(took[1][1:])


def _batch(question: PromptQuestion, start: int) -> PromptBatch:
    part = slice(start, start + PROMPTS_PER_RUN)
    coords, labels = question.coords[part], question.labels[part]
    return PromptBatch(np.arange(start, start + len(coords)), coords, labels, None)


def _words(plans: Mapping[str, Plan], part: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(f"{plans[name]}" for name in part))
