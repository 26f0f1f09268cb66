"""Journal of a long run: finished images, from which an interrupted run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastseg.errors import OutputError
from fastseg.evaluation.protocols import Row, Scored

SUFFIX = ".journal.jsonl"


class Journal:
    """A file beside the result folder with a line for each finished image.

    Args:
        path: The file. It is made with the first line, and removed by ``remove``.
        run: What the run depends on; lines of another run are refused.
        resume: Take the lines of an earlier run.

    Raises:
        OutputError: There is a journal of another run, or one that is not to be resumed, or the
            file cannot be read.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path
        self._run = json.loads(json.dumps(run))
        self._done: dict[tuple[str, str], dict[str, Any]] = {}
        try:
            lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        except (OSError, ValueError) as error:
            raise OutputError(f"{path} cannot be read: {error}. Remove it.") from error
        # The last line has no end if the run was killed while it was written.
        whole = lines[:-1]
        if whole and not resume:
            raise OutputError(
                f"{path} holds {len(whole) - 1} finished images of a run that was interrupted. Go "
                "on with it by --resume, or remove that file."
            )
        if whole:
            self._take(whole)
        self._begun = bool(whole)
        if lines and lines[-1]:
            self._cut(whole)

    def get(self, model: str, image: str) -> tuple[Scored | None, str]:
        """Return what an image gave: its rows, or a fault; neither if it is not finished."""
        line = self._done.get((model, image))
        if line is None:
            return None, ""
        if line["fault"]:
            return None, str(line["fault"])
        rows = [Row(**row) for row in line["rows"]]
        left_out = tuple(line["left_out"])
        return Scored(rows, line["image_scores"], left_out, line["milliseconds"]), ""

    def add(self, model: str, image: str, scored: Scored | None, fault: str) -> None:
        """Write the line of an image that is finished.

        Raises:
            OutputError: The file cannot be written.
        """
        line = {
            "model": model,
            "image": image,
            "fault": fault,
            "rows": [row.as_dict() for row in scored.rows] if scored else [],
            "image_scores": scored.image_scores if scored else {},
            "left_out": scored.left_out if scored else (),
            "milliseconds": scored.milliseconds if scored else {},
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                if not self._begun:
                    file.write(json.dumps(self._run) + "\n")
                    self._begun = True
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}.") from error

    def remove(self) -> None:
        """Remove the file, because the results are written."""
        self.path.unlink(missing_ok=True)

    def _take(self, lines: list[str]) -> None:
        try:
            head, *rest = (json.loads(line) for line in lines)
            self._done = {(line["model"], line["image"]): line for line in rest}
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{self.path} is damaged: {error}. Remove it.") from error
        if head != self._run:
            changed = [key for key in self._run if head.get(key) != self._run[key]]
            raise OutputError(
                f"{self.path} is of a run with another {', '.join(changed)}. Remove it, or call as "
                "before."
            )

    def _cut(self, whole: list[str]) -> None:
        self.path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
