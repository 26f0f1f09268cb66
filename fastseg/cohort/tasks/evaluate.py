"""The task of datasets with truth: scores of each image, and the tables of all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from fastseg import results
from fastseg.cohort.manifest import Item, Sources
from fastseg.cohort.storage import Store
from fastseg.cohort.tasks.base import RESULT, Finished, Product, PromptedTask
from fastseg.errors import BackendUnavailableError
from fastseg.evaluation import report as reports
from fastseg.evaluation.dataset import Case, Dataset, Example, ViewSettings
from fastseg.evaluation.protocols import Protocol, Row, Scored
from fastseg.evaluation.runner import Outcome, score_example
from fastseg.evaluation.summary import report_head, summarise

_FILES = (reports.SCORES_FILE, reports.TIMES_FILE, reports.PAGE_FILE, reports.SUMMARY_FILE)


@dataclass(frozen=True, kw_only=True)
class EvaluateTask(PromptedTask):
    """Scores of a model by a protocol; an item is an example of the dataset."""

    name: ClassVar[str] = "evaluate"
    protocol: Protocol
    dataset: Dataset
    view: ViewSettings
    seed: int

    def items(self, sources: Sources) -> list[Item]:  # noqa: ARG002 - they were read
        """List the examples of the dataset, which ``sources`` named."""
        return [Item(example.name) for example in self.dataset.examples]

    @cached_property
    def _examples(self) -> Mapping[str, Example | Case]:
        return {example.name: example for example in self.dataset.examples}

    def files(self, item: Item) -> Sequence[Path]:
        """Name the image of an example."""
        return (self._examples[item.image].path,)

    def make(self, item: Item) -> Product:
        """Prompt and score the objects of an example.

        Raises:
            FastsegError: The image or its truth cannot be read.
        """
        return self._make(item, self._examples[item.image].path)

    def _make(self, item: Item, path: Path) -> Product:  # noqa: ARG002 - the example knows its files
        example = self._examples[item.image]
        scored = score_example(self.protocol, example, self.model, seed=self.seed, view=self.view)
        document = {
            "image": item.image,
            "rows": [row.as_dict() for row in scored.rows],
            "image_scores": scored.image_scores,
            "left_out": list(scored.left_out),
        }
        content = (results.to_json(document) + "\n").encode()
        notes = {"milliseconds": scored.milliseconds}
        return Product({RESULT: content}, len(scored.rows), notes)

    def join(self, finished: Iterable[Finished], store: Store) -> None:
        """Write the tables that ``fastseg evaluate`` writes, and its page where it can be drawn."""
        ends = list(finished)
        done = [(one.item.image, _scored(one.document, one.entry)) for one in ends if one.document]
        outcome = Outcome(
            model=self.model.provenance(),
            rows=tuple(row for _, scored in done for row in scored.rows),
            images={name: scored.image_scores for name, scored in done},
            milliseconds={name: scored.milliseconds for name, scored in done},
            faults=tuple(str(one.entry["error"]["message"]) for one in ends if not one.document),
            left_out=tuple(f"{name}: {one}" for name, scored in done for one in scored.left_out),
        )
        if not outcome.rows:
            return
        head = {**report_head(), "seed": self.seed, "prompts": "simulated from the truth"}
        data = self.dataset
        summary = summarise(self.protocol, data.name, [outcome], data.faults, head)
        with TemporaryDirectory() as place:
            folder = Path(place, "tables")
            try:
                reports.write_results(folder, summary, data, self.view)
            except BackendUnavailableError:  # the scores do not wait for a package of the page
                reports.write_results(folder, summary, data, self.view, page=False)
            for name in _FILES:
                if (folder / name).exists():
                    store.write(name, (folder / name).read_bytes())


def _scored(document: Mapping[str, Any], entry: Mapping[str, Any]) -> Scored:
    """Undo what JSON did to the scores of an example."""
    rows = [Row(**{**row, "scores": _numbers(row["scores"])}) for row in document["rows"]]
    milliseconds = dict(entry.get("notes", {}).get("milliseconds", {}))
    left_out = tuple(document["left_out"])
    return Scored(rows, _numbers(document["image_scores"]), left_out, milliseconds)


def _numbers(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in scores.items()}
