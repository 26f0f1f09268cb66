"""Propagation through volumes: Dice by slice distance, memory and time.

``python -m benchmarks.propagation FOLDER`` reads pairs ``NAME_image.nrrd`` and ``NAME_label.nrrd``,
puts a tight box on the middle slice of each label, and compares the rules of ``Sam.propagate`` with
the same box on every slice. ``python -m benchmarks.propagation --size 200`` propagates through a
made volume of 512 x 512 x 200 voxels and prints memory and time beside its embeddings and decodes.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, get_args

import numpy as np

import fastseg
from fastseg import environment
from fastseg.benchmarking.peak_memory import peak_memory
from fastseg.imaging import MedicalImage, read
from fastseg.sam.model import Sam
from fastseg.sam.volume_masks import Rule
from fastseg.sam.volume_model import VolumeModel

WINDOW = "percentile:0.5,99.5"
EVERY_SLICE = "the box on every slice"


def dice(found: np.ndarray, right: np.ndarray) -> float:
    total = int(found.sum()) + int(right.sum())
    return 2 * int((found & right).sum()) / total if total else 1.0


def tight_box(label: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(label)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def box_on_every_slice(model: Sam, volume: MedicalImage, box: list[int]) -> np.ndarray:
    masks = model.stream(volume, boxes=[box] * len(volume))
    return np.stack([one.best().array()[0] for one in masks])


def quality(model: Sam, folder: Path) -> None:
    ways = [EVERY_SLICE, *get_args(Rule)]
    by_distance: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for file in sorted(folder.glob("*_image.nrrd")):
        volume = read(file, window=WINDOW)
        label = read(str(file).replace("_image", "_label")).values != 0
        places = np.flatnonzero(label.any((1, 2)))
        middle = int(places[len(places) // 2])
        box = tight_box(label[middle])
        cache = fastseg.EmbeddingCache()
        print(f"\n{file.name}: label in slices {places[0]} to {places[-1]}, box on {middle}")
        for way in ways:
            if way == EVERY_SLICE:
                found = box_on_every_slice(model, volume, box)
            else:
                result = model.propagate(
                    volume,
                    start=middle,
                    boxes=box,
                    rule=way,
                    cache=cache,  # type: ignore[arg-type]
                )
                found = result.array()[0]
            used = np.flatnonzero(found.any((1, 2)))
            print(
                f"  {way:24} volume Dice {dice(found, label):.3f}, slices {used[0]} to {used[-1]}"
            )
            for place in places:
                by_distance[abs(place - middle)][way].append(dice(found[place], label[place]))
    print("\nmean Dice of slices with a label, by distance from the box")
    print(f"{'distance':>8} {'slices':>6} " + " ".join(f"{way:>24}" for way in ways))
    for distance, found in sorted(by_distance.items()):
        row = " ".join(f"{np.mean(found[way]):24.3f}" for way in ways)
        print(f"{distance:8} {len(found[EVERY_SLICE]):6} {row}")


class TimedModel(VolumeModel):
    """A model whose embeddings and decodes are timed."""

    def __init__(self, model: Sam) -> None:
        self._model = model
        self.encoder_sha256, self.runs = model.encoder_sha256, model.runs
        self.mask_side = model.mask_side
        self.seconds = 0.0

    def embed(self, *values: Any, **named: Any) -> Any:
        return self._timed(self._model.embed, *values, **named)

    def segment(self, *values: Any, **named: Any) -> Any:
        return self._timed(self._model.segment, *values, **named)

    def _timed(self, call: Any, *values: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = call(*values, **named)
        self.seconds += time.perf_counter() - start
        return result


def cost(model: Sam, slices: int) -> None:
    values = np.random.default_rng(0).integers(-50, 50, (slices, 512, 512), np.int16)
    rows, columns = np.ogrid[:512, :512]
    values[:, (rows - 250) ** 2 + (columns - 260) ** 2 < 60**2] += 150
    volume = read(values, window="soft-tissue", spacing=(1, 0.8, 0.8))
    del values
    box = [200, 190, 321, 311]
    model.segment(volume[0], boxes=box)
    timed = TimedModel(model)
    with peak_memory() as memory:
        start = time.perf_counter()
        found = timed.propagate(volume, boxes=box, min_score=0, max_change=1e9, max_shift=1e9)
        wall = time.perf_counter() - start
    print(
        f"512 x 512 x {slices}: {found.embedded} slices encoded, {wall:.1f} s, "
        f"{wall / timed.seconds:.3f} x its embeddings and decodes; "
        f"{(memory.above or 0) / 2**20:.0f} MB above the loaded model and the volume "
        f"of {volume.stored.nbytes / 2**20:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--size", type=int, help="slices of the made volume")
    parser.add_argument("--model", default="sam-nano")
    arguments = parser.parse_args()
    with fastseg.load(arguments.model) as model:
        assert isinstance(model, Sam)
        runs = ", ".join(f"{name} {where}" for name, where in model.runs.items())
        print(f"{model.manifest.name}: {runs}; {environment.machine()['cpu']}")
        if arguments.folder is not None:
            quality(model, arguments.folder)
        if arguments.size:
            cost(model, arguments.size)


if __name__ == "__main__":
    main()
