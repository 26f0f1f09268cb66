"""A model whose masks a test writes down, in place of a network."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from fastseg import ops
from fastseg.masks import Masks

Answer = Callable[[dict], tuple[np.ndarray, list[float]]]


class ScriptedModel:
    """Answers each prompt by a function: a dictionary in, three masks and their scores out."""

    def __init__(
        self, answer: Answer, *, found: np.ndarray | None = None, side: int = 1024
    ) -> None:
        self.answer = answer
        self.found = found
        self.embedded: list[np.ndarray] = []
        self.calls: list[int] = []
        self.asked: list[dict] = []
        self.manifest = SimpleNamespace(name="scripted", square=side)

    def provenance(self) -> dict[str, str]:
        return {"model": "scripted", "backend": "none", "device": "cpu", "precision": "fp32"}

    def embed(self, image: np.ndarray) -> np.ndarray:
        self.embedded.append(image)
        return image

    def segment(self, embedding, *, points=None, labels=None, boxes=None) -> Masks:
        prompts = (
            [{"box": box.tolist()} for box in boxes]
            if boxes is not None
            else [
                {"points": own.tolist(), "labels": marks.tolist()}
                for own, marks in zip(points, labels, strict=True)
            ]
        )
        self.calls.append(len(prompts))
        self.asked += prompts
        answers = [self.answer(prompt) for prompt in prompts]
        masks = np.concatenate([masks for masks, _ in answers])
        return _masks(masks, [score for _, scores in answers for score in scores])

    def everything(self, image, **settings) -> Masks:
        return _masks(self.found, [0.9] * len(self.found))


def _masks(masks: np.ndarray, scores: list[float]) -> Masks:
    values = np.array(scores, np.float32)
    runs = ops.rle_from_array(masks)
    return Masks.from_rle(runs, scores=values, stability=np.ones(len(masks), np.float32))
