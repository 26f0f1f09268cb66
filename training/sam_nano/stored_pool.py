"""Pool of scenes on disk, drawn beforehand, so that a training step draws none.

``python -m training.sam_nano.stored_pool POOL --images IMAGES --scenes 2000`` fills one; the
same command continues one that was stopped.
"""

from __future__ import annotations

import argparse
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fastseg.storage.atomic import atomic_file
from training.sam_nano import prompts, scene_mixture
from training.sam_nano.batches import Batch
from training.sam_nano.cached_scenes import CachedScene, PromptGroup, cache_scene
from training.sam_nano.photographs.collection import Collection
from training.sam_nano.plan import Stage
from training.sam_nano.scene_pool import REQUESTS, collate_repeated

SEED = 66
"""First number of the seed of every scene; held-out scenes use another."""

PADDED_SHARE = 0.3
"""Share of scenes that are wider or higher than a square, which padding makes one."""


def pack(scene: CachedScene, file: Path) -> None:
    """Write a scene whole or not at all: the image as PNG, the rest deflated."""
    image = io.BytesIO()
    Image.fromarray(scene.image.numpy()).save(image, "PNG", compress_level=3)
    arrays = {
        "image": np.frombuffer(image.getvalue(), np.uint8),
        "coverage": np.frombuffer(zlib.compress(scene.coverage.numpy().tobytes(), 1), np.uint8),
        "owners": scene.owners.numpy(),
    }
    for number, group in enumerate(scene.prompt_groups):
        arrays[f"coords{number}"] = group.coords.numpy()
        arrays[f"labels{number}"] = group.labels.numpy()
        arrays[f"objects{number}"] = group.objects.numpy()
    with atomic_file(file) as partial, partial.open("wb") as stream:
        np.savez(stream, **arrays)


def unpack(file: Path) -> CachedScene:
    """Read a scene that ``pack`` wrote."""
    with np.load(file) as arrays:
        owners = arrays["owners"]
        coverage = np.frombuffer(zlib.decompress(arrays["coverage"].tobytes()), np.uint8)
        with Image.open(io.BytesIO(arrays["image"].tobytes())) as image:
            pixels = np.array(image)
        groups = tuple(
            PromptGroup(*(torch.from_numpy(arrays[f"{name}{k}"]) for name in GROUP_FIELDS))
            for k in range(len(REQUESTS))
        )
    masks = coverage.reshape(-1, *owners.shape).copy()
    return CachedScene(
        torch.from_numpy(pixels), torch.from_numpy(masks), torch.from_numpy(owners), groups
    )


GROUP_FIELDS = ("coords", "labels", "objects")
"""Arrays of a group of prompts, in the order of ``PromptGroup``."""


class StoredPool:
    """Scenes on disk, in a folder for each side of their squares.

    Args:
        folder: The folder that the command above filled.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self, side: int) -> list[Path]:
        """List the scenes of a side that are there now, while more may be on their way.

        Raises:
            FileNotFoundError: There is none.
        """
        found = sorted((self.folder / str(side)).glob("*.npz"))
        if not found:
            raise FileNotFoundError(
                f"{self.folder} holds no scenes of {side} px: fill it by "
                "python -m training.sam_nano.stored_pool"
            )
        return found

    def batch(self, stage: Stage, seed: tuple[int, ...]) -> Batch:
        """Collate the scenes of one step, at a random place of the 1024 square."""
        random = np.random.default_rng(seed)
        files = self.files(stage.side)
        picked = random.choice(len(files), stage.scenes, replace=len(files) < stage.scenes)
        return self._collate(random, stage, [files[index] for index in picked])

    def each(self, stage: Stage, seed: int) -> Iterator[Batch]:
        """Collate every scene once, each alone."""
        for number, file in enumerate(self.files(stage.side)):
            yield self._collate(np.random.default_rng((seed, number)), stage, [file])

    @staticmethod
    def _collate(random: np.random.Generator, stage: Stage, files: list[Path]) -> Batch:
        scenes = [unpack(file) for file in files]
        x, y = random.integers(0, 64 - stage.side // 16 + 1, 2).tolist()
        return collate_repeated(random, stage, scenes, (x, y))


def draw(index: int, side: int, images: Collection) -> CachedScene:
    """Draw the scene of a number; the same number gives the same scene."""
    random = np.random.default_rng((SEED, side, index))
    stage = Stage(1, side, 1, 32, (0.0, 0.0), all_kinds=True, area_exponent=0.4)
    while True:
        height = width = side
        if random.random() < PADDED_SHARE:
            kept = int(side * random.uniform(0.55, 0.95))
            height, width = (kept, side) if random.random() < 0.65 else (side, kept)
        scene = scene_mixture.generate(random, images, (height, width))
        if masks := prompts.targets(scene):
            return cache_scene(random, scene, masks, stage, REQUESTS)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and draw the scenes that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path, help="folder of the pool")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--side", type=int, default=768, help="side of the scenes in pixels")
    parser.add_argument("--scenes", type=int, default=2000, help="scenes of that side in the end")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    arguments = parser.parse_args(argv)
    folder, images = arguments.pool / str(arguments.side), Collection(arguments.images)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(arguments.first, arguments.scenes):
        file = folder / f"{index:06d}.npz"
        if not file.exists():
            pack(draw(index, arguments.side, images), file)
    print(f"{len(StoredPool(arguments.pool).files(arguments.side))} scenes in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
