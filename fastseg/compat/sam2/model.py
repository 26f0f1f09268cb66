"""The model of the drop-in for SAM 2."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from typing import NoReturn

from fastseg.artifacts.rules import CORNERS_FIRST, DIRECT, FIRST, OutputRules
from fastseg.compat.deferred_model import DeferredModel
from fastseg.errors import CheckpointError
from fastseg.sam.model import Sam
from fastseg.sam.two_stage_decoder import TwoStageDecoder


class Sam2(DeferredModel):
    """A model folder of SAM 2 as a model of the reference; loaded when it is first used.

    Args:
        folder: The model folder.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or such a ``torch.device``.
        stable: Take the best alternative where the single mask is not stable.
    """

    def __init__(
        self, folder: str | os.PathLike[str], device: object = "cpu", *, stable: bool = True
    ) -> None:
        super().__init__(folder, device)
        self._stable = stable

    @property
    def image_size(self) -> int:
        """Side of the square that images are stretched to, in pixels."""
        return self.loaded.manifest.image_preprocessing.side

    @property
    def output_rules(self) -> OutputRules:
        """The way from logits to masks, and from slots to the single mask."""
        rules = self.loaded.rules.output
        return rules if self._stable else replace(rules, single=FIRST)

    @cached_property
    def decoder(self) -> TwoStageDecoder:
        """The decoder by ``output_rules``."""
        return TwoStageDecoder(self.loaded.decoder.graphs, self.output_rules)

    def to(self, device: object) -> Sam2:
        """Move to another device; see ``DeferredModel.to``."""
        self.__dict__.pop("decoder", None)
        return super().to(device)

    def require(self, model: Sam) -> None:
        """Refuse a model whose prompts or masks are not laid out as those of SAM 2.

        Raises:
            CheckpointError: They are not.
        """
        rules = model.rules
        if rules.prompts.layout != CORNERS_FIRST or rules.output.resize != DIRECT:
            raise CheckpointError(
                f"{self._folder} holds {model.manifest.name}, whose prompts and masks are not "
                "those of SAM 2. Use it by fastseg.load."
            )


def refuse_download(model_id: object) -> NoReturn:
    """Refuse to fetch weights by the name of a hub.

    Raises:
        CheckpointError: Always.
    """
    raise CheckpointError(
        f"fastseg downloads no {model_id!r}. Get its .pt file, by fastseg models pull for example, "
        "and give it to build_sam2 with its configuration."
    )
