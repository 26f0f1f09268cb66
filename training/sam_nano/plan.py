"""Training plan: window sizes, prompts a step and learning rates."""

from __future__ import annotations

from dataclasses import dataclass, replace

from training.sam_nano.losses import LossStyle


@dataclass(frozen=True, slots=True)
class Stage:
    """A number of steps of one kind."""

    steps: int
    side: int
    """Side of the windows in pixels of the 1024 square."""
    scenes: int
    prompts: int
    """Prompts for every scene: one half single points, the other boxes or several points."""
    rate: tuple[float, float]
    """Learning rate at the first and after the last step; linear between them."""
    boxes: float = 0.65
    """Share of the steps whose second half of prompts are boxes, not several points."""
    mask_prompts: float = 0.25
    """Share of those that come with a mask prompt as well."""
    frozen_statistics: bool = False
    """Keep the batch normalisations as they are: batches of one large window would spoil them."""
    discs: bool = False
    """Draw discs and ellipses on noise, to teach the decoder positions."""
    all_kinds: bool = False
    """Draw scenes of every kind, not layered shapes alone."""
    area_exponent: float = 0.4
    """Objects are prompted in proportion to their area to this power: 0 is all alike."""
    new_scenes: int = 0
    """New scenes a step for a pool that the step's ``scenes`` come from; 0: every scene is new."""
    stored: bool = False
    """Take the scenes from a pool on disk."""
    corrections: float = 0.0
    """Chance that one half of the prompts is corrected by a point in the error region, and the same
    chance for a second correction."""

    @property
    def style(self) -> LossStyle:
        """The form of the loss of each mask."""
        if self.discs:
            return "balanced"
        return "saturating" if self.all_kinds else "plain"


@dataclass(frozen=True, slots=True)
class StagePlan:
    """Stages one after another, and the seed of everything random."""

    stages: tuple[Stage, ...]
    seed: int = 20

    @property
    def steps(self) -> int:
        """The number of steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def locate(self, step: int) -> tuple[Stage, float]:
        """Return the stage of a step, and the step's share of it in [0, 1)."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step / stage.steps
            step -= stage.steps
        return self.stages[-1], 1.0

    def stage(self, step: int) -> Stage:
        """Return the stage that a step belongs to."""
        return self.locate(step)[0]

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        stage, done = self.locate(step)
        return stage.rate[0] + (stage.rate[1] - stage.rate[0]) * done


def _of_all_kinds(*stages: Stage, boxes: float, corrections: float) -> tuple[Stage, ...]:
    """Return stages with scenes of every kind, and with some mask prompts."""
    return tuple(
        replace(stage, all_kinds=True, mask_prompts=0.1, boxes=boxes, corrections=corrections)
        for stage in stages
    )


def _with_frozen_statistics(*stages: Stage, corrections: float) -> tuple[Stage, ...]:
    """Return stages of every kind of scene that keep the statistics of normalisations."""
    frozen = (replace(stage, frozen_statistics=True) for stage in stages)
    return _of_all_kinds(*frozen, boxes=0.9, corrections=corrections)


_LAST = _with_frozen_statistics(
    Stage(60, 768, 1, 16, (5e-6, 1e-4), area_exponent=0.6),
    Stage(240, 768, 1, 16, (1e-4, 2.5e-4), area_exponent=0.6),
    Stage(3000, 768, 1, 16, (2.5e-4, 1.5e-4), area_exponent=0.6),
    Stage(1500, 768, 1, 16, (1.5e-4, 1e-6), area_exponent=0.6),
    # Continued with the optimiser's state, to end on whole squares.
    Stage(60, 768, 1, 16, (1e-6, 1e-4), area_exponent=0.6),
    Stage(100, 768, 1, 16, (1e-4, 2.5e-4), area_exponent=0.6),
    Stage(1900, 768, 1, 16, (2.5e-4, 2e-4), area_exponent=0.6),
    Stage(1100, 1024, 1, 16, (2e-4, 1e-6), area_exponent=0.6),
    # Here ends the third edition; the fourth saw whole squares alone.
    Stage(60, 1024, 1, 16, (1e-6, 1e-4), area_exponent=0.6),
    Stage(100, 1024, 1, 16, (1e-4, 2.5e-4), area_exponent=0.6),
    Stage(1300, 1024, 1, 16, (2.5e-4, 2e-4), area_exponent=0.6),
    Stage(850, 1024, 1, 16, (2e-4, 1e-6), area_exponent=0.6),
    # Here ends the fourth edition; the fifth's first part.
    Stage(60, 1024, 1, 16, (1e-6, 1e-4), area_exponent=0.4),
    Stage(100, 1024, 1, 16, (1e-4, 2.5e-4), area_exponent=0.4),
    Stage(2540, 1024, 1, 16, (2.5e-4, 2.2e-4), area_exponent=0.4),
    Stage(300, 1024, 1, 16, (2.2e-4, 1e-6), area_exponent=0.4),
    corrections=0.1,
)
"""The third edition, the fourth and a part of the fifth, whose steps are cheap. The third was
trained from the finished weights of the second, without their optimiser's state, which is why its
rate starts low."""

_POOLED = _with_frozen_statistics(
    Stage(150, 1024, 8, 32, (1e-6, 3.6e-4), new_scenes=4),
    Stage(1785, 1024, 8, 32, (3.6e-4, 1e-6), new_scenes=4),
    Stage(80, 1024, 8, 32, (1e-6, 2.1e-4), new_scenes=5),
    Stage(607, 1024, 8, 32, (2.1e-4, 1e-6), new_scenes=5),
    corrections=0.2,
)
"""The rest of the fifth edition, for a GPU: two falls of the rate, whose ends are averaged. It too
began without the optimiser's state, both times. Those runs were paced by a clock: their steps and
rates are known to about ten steps."""

FULL = StagePlan(
    (
        Stage(30, 256, 2, 12, (2e-5, 5e-4), discs=True),
        Stage(170, 256, 2, 12, (5e-4, 5e-4), discs=True),
        Stage(1000, 256, 4, 12, (5e-4, 5e-4)),
        Stage(600, 256, 4, 12, (5e-4, 5e-4), boxes=0.85, mask_prompts=0.12),
        Stage(450, 512, 2, 8, (5e-4, 1.5e-4), boxes=0.8, mask_prompts=0.12),
        Stage(
            250, 1024, 1, 6, (1.5e-4, 1e-5), boxes=0.8, mask_prompts=0.12, frozen_statistics=True
        ),
        # Here ends the first edition.
        *_of_all_kinds(
            Stage(40, 384, 4, 6, (1e-5, 3e-4)),
            Stage(300, 384, 4, 6, (3e-4, 2.5e-4)),
            Stage(200, 768, 1, 12, (2.5e-4, 1.5e-4), frozen_statistics=True),
            Stage(163, 1024, 1, 10, (1.5e-4, 1e-4), frozen_statistics=True),
            Stage(20, 768, 1, 12, (1e-4, 3e-4), area_exponent=0.8, frozen_statistics=True),
            Stage(330, 768, 1, 12, (3e-4, 1e-4), area_exponent=0.8, frozen_statistics=True),
            Stage(73, 1024, 1, 10, (1e-4, 5e-5), area_exponent=0.6, frozen_statistics=True),
            Stage(10, 768, 1, 12, (5e-5, 2.5e-4), area_exponent=0.8, frozen_statistics=True),
            Stage(160, 768, 1, 12, (2.5e-4, 1e-4), area_exponent=0.8, frozen_statistics=True),
            Stage(150, 1024, 1, 10, (1e-4, 5e-6), area_exponent=0.5, frozen_statistics=True),
            Stage(10, 768, 1, 12, (5e-6, 1.5e-4), area_exponent=0.8, frozen_statistics=True),
            Stage(110, 768, 1, 12, (1.5e-4, 5e-6), area_exponent=0.8, frozen_statistics=True),
            boxes=0.85,
            corrections=0.3,
        ),
        # Here ends the second edition.
        *_LAST,
        *_POOLED,
    )
)

CONTINUED = StagePlan(_POOLED, seed=78)
"""The plan that continues from published weights."""

SIXTH = StagePlan(
    tuple(
        replace(stage, stored=True)
        for stage in (
            *_with_frozen_statistics(
                Stage(60, 768, 1, 16, (5e-6, 1e-4)),
                Stage(240, 768, 1, 16, (1e-4, 2.5e-4)),
                Stage(1600, 768, 1, 16, (2.5e-4, 2e-4)),
                Stage(600, 1024, 1, 16, (2e-4, 1e-6)),
                corrections=0.1,
            ),
        )
    ),
    seed=606,
)
"""The plan of the sixth edition, from the published weights of the fifth and a pool on disk. Its
last two stages were shortened while it ran, so that rates are known to 2e-5."""

SMOKE = StagePlan(
    (
        Stage(2, 128, 2, 4, (2e-4, 6e-4), discs=True),
        Stage(3, 128, 2, 4, (6e-4, 5e-4)),
        Stage(1, 128, 1, 4, (5e-4, 1e-4), frozen_statistics=True),
        Stage(2, 256, 1, 4, (1e-4, 1e-4), all_kinds=True, corrections=1.0),
        Stage(2, 128, 2, 4, (1e-4, 1e-4), all_kinds=True, mask_prompts=1.0, new_scenes=1),
    )
)

SMOKE_STORED = StagePlan(
    _with_frozen_statistics(
        Stage(3, 128, 1, 4, (1e-5, 1e-5), stored=True),
        Stage(1, 256, 1, 4, (1e-5, 1e-6), stored=True),
        corrections=1.0,
    )
)
"""A few steps from a pool on disk."""
