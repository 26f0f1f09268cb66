"""Journal of a batch: images that are finished, until the result folder of all is written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastseg.cohort.journal import Journal
from fastseg.cohort.place import begin, file_version
from fastseg.cohort.storage import LocalStore
from fastseg.errors import MaskError
from fastseg.masks import Masks
from fastseg.sam.masks_file import pack_masks, unpack_masks
from fastseg.storage.paths import real_path, user_path


class BatchJournal:
    """The masks of finished images in a folder beside the result folder."""

    def __init__(self, store: LocalStore, journal: Journal, *, keep_logits: bool) -> None:
        self._store, self._journal, self._keep_logits = store, journal, keep_logits
        self.is_over = False
        """True for work that has ended without results, so that nothing is to be gone on with."""

    @property
    def finished(self) -> int:
        """Images that are finished."""
        return len(self._journal.entries)

    def get(self, file: Path) -> Masks | None:
        """Return the masks of an image that was finished, and has not been replaced since."""
        entry = self._journal.entries.get(str(file), {})
        if entry.get("input") != file_version(file) or not isinstance(entry.get("sha256"), str):
            return None
        content = self._store.read(_name(file))
        if content is None or sha256(content).hexdigest() != entry["sha256"]:
            return None
        with suppress(MaskError):
            return unpack_masks(content)
        return None

    def add(self, file: Path, masks: Masks) -> None:
        """Keep the masks of an image.

        Raises:
            OutputError: They cannot be written.
        """
        content = pack_masks(masks if self._keep_logits else replace(masks, logits=None))
        self._store.write(_name(file), content)
        digest = sha256(content).hexdigest()
        self._journal.add({"item": str(file), "input": file_version(file), "sha256": digest})


@contextmanager
def open_batch_journal(
    out: Path, about: Mapping[str, Any], *, resume: bool, keep_logits: bool
) -> Iterator[BatchJournal]:
    """Open the journal of a result folder; it is removed when the block ends well.

    Args:
        out: The result folder, which is written at the end.
        about: What the masks depend on.
        resume: Go on with the images that are finished.
        keep_logits: Keep logits with the masks, because a format of the results needs them.

    Raises:
        CohortError: The finished images are of another call.
        OutputError: Images are finished and ``resume`` is false, the place cannot be written, or
            another process is working on it.
    """
    target = real_path(user_path(out))
    folder = target.parent / f".{target.name}.unfinished"
    store = LocalStore(folder)
    begin(store, about, resume=resume)
    is_needed = True
    try:
        with store.journal("") as lines:
            store.remove_unfinished()
            journal = BatchJournal(store, lines, keep_logits=keep_logits)
            try:
                yield journal
                is_needed = False
            except BaseException:
                is_needed = journal.finished > 0 and not journal.is_over
                raise
    finally:
        if not is_needed:
            shutil.rmtree(folder, ignore_errors=True)


def _name(file: Path) -> str:
    return f"items/{sha256(str(file).encode(errors='surrogateescape')).hexdigest()[:32]}.npz"
