"""What is trained when: window sizes, prompts a step and learning rates."""

from __future__ import annotations

from dataclasses import dataclass, replace

from training.sam_nano.losses import Style


@dataclass(frozen=True, slots=True)
class Stage:
    """A number of steps of one kind."""

    steps: int
    side: int
    """Side of the windows in pixels of the 1024 square."""
    scenes: int
    prompts: int
    """Prompts for every scene: one half clicks, the other boxes or several points."""
    rate: tuple[float, float]
    """Learning rate at the first and after the last step; between them a straight line."""
    boxes: float = 0.65
    """Share of the steps whose second half of prompts are boxes, not several points."""
    rough: float = 0.25
    """Share of those that come with a rough mask as well."""
    frozen_statistics: bool = False
    """Keep the batch normalisations as they are: batches of one large window would spoil them."""
    discs: bool = False
    """Draw discs and ellipses on noise, to teach the decoder what places mean."""
    varied: bool = False
    """Draw scenes of every look, not layered shapes alone."""
    leaning: float = 0.4
    """Objects are asked for in proportion to their area to this power: 0 is all alike."""
    fresh: int = 0
    """New scenes a step for a pool that the step's ``scenes`` come from; 0: every scene is new."""
    corrections: float = 0.0
    """Chance that one half of the prompts is asked again with a click into the errors of the
    answer, and the same chance for a third time."""

    @property
    def style(self) -> Style:
        """How the losses of single masks are taken."""
        if self.discs:
            return "balanced"
        return "tamed" if self.varied else "plain"


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages one after another, and the seed of everything random."""

    stages: tuple[Stage, ...]
    seed: int = 20

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def place(self, step: int) -> tuple[Stage, float]:
        """The stage of a step, and how far through it the step is, in [0, 1)."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step / stage.steps
            step -= stage.steps
        return self.stages[-1], 1.0

    def stage(self, step: int) -> Stage:
        """The stage that a step belongs to."""
        return self.place(step)[0]

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        stage, done = self.place(step)
        return stage.rate[0] + (stage.rate[1] - stage.rate[0]) * done


def _varied(*stages: Stage, boxes: float, corrections: float) -> tuple[Stage, ...]:
    """Stages of scenes of every look, with a rough mask now and then."""
    return tuple(
        replace(stage, varied=True, rough=0.1, boxes=boxes, corrections=corrections)
        for stage in stages
    )


def _whole(*stages: Stage, corrections: float) -> tuple[Stage, ...]:
    """Varied stages of large windows, which leave the statistics of normalisations alone."""
    frozen = (replace(stage, frozen_statistics=True) for stage in stages)
    return _varied(*frozen, boxes=0.9, corrections=corrections)


_LAST = _whole(
    Stage(60, 768, 1, 16, (5e-6, 1e-4), leaning=0.6),
    Stage(240, 768, 1, 16, (1e-4, 2.5e-4), leaning=0.6),
    Stage(3000, 768, 1, 16, (2.5e-4, 1.5e-4), leaning=0.6),
    Stage(1500, 768, 1, 16, (1.5e-4, 1e-6), leaning=0.6),
    # Taken up once more with the optimiser's state, to end on whole squares.
    Stage(60, 768, 1, 16, (1e-6, 1e-4), leaning=0.6),
    Stage(100, 768, 1, 16, (1e-4, 2.5e-4), leaning=0.6),
    Stage(1900, 768, 1, 16, (2.5e-4, 2e-4), leaning=0.6),
    Stage(1100, 1024, 1, 16, (2e-4, 1e-6), leaning=0.6),
    # Here ends the third edition; the fourth saw whole squares alone.
    Stage(60, 1024, 1, 16, (1e-6, 1e-4), leaning=0.6),
    Stage(100, 1024, 1, 16, (1e-4, 2.5e-4), leaning=0.6),
    Stage(1300, 1024, 1, 16, (2.5e-4, 2e-4), leaning=0.6),
    Stage(850, 1024, 1, 16, (2e-4, 1e-6), leaning=0.6),
    # Here ends the fourth edition; the fifth's first part.
    Stage(60, 1024, 1, 16, (1e-6, 1e-4), leaning=0.4),
    Stage(100, 1024, 1, 16, (1e-4, 2.5e-4), leaning=0.4),
    Stage(2540, 1024, 1, 16, (2.5e-4, 2.2e-4), leaning=0.4),
    Stage(300, 1024, 1, 16, (2.2e-4, 1e-6), leaning=0.4),
    corrections=0.1,
)
"""The third edition, the fourth and a part of the fifth, whose steps are cheap. The third was
trained from the finished weights of the second, without their optimiser's state, which is why its
rate starts low."""

_POOLED = _whole(
    Stage(150, 1024, 8, 32, (1e-6, 3.6e-4), fresh=4),
    Stage(1785, 1024, 8, 32, (3.6e-4, 1e-6), fresh=4),
    Stage(80, 1024, 8, 32, (1e-6, 2.1e-4), fresh=5),
    Stage(607, 1024, 8, 32, (2.1e-4, 1e-6), fresh=5),
    corrections=0.2,
)
"""The rest of the fifth edition, for a GPU: two falls of the rate, whose ends are averaged. It too
began without the optimiser's state, both times. Those runs were paced by a clock: their steps and
rates are known to about ten steps."""

FULL = Plan(
    (
        Stage(30, 256, 2, 12, (2e-5, 5e-4), discs=True),
        Stage(170, 256, 2, 12, (5e-4, 5e-4), discs=True),
        Stage(1000, 256, 4, 12, (5e-4, 5e-4)),
        Stage(600, 256, 4, 12, (5e-4, 5e-4), boxes=0.85, rough=0.12),
        Stage(450, 512, 2, 8, (5e-4, 1.5e-4), boxes=0.8, rough=0.12),
        Stage(250, 1024, 1, 6, (1.5e-4, 1e-5), boxes=0.8, rough=0.12, frozen_statistics=True),
        # Here ends the first edition.
        *_varied(
            Stage(40, 384, 4, 6, (1e-5, 3e-4)),
            Stage(300, 384, 4, 6, (3e-4, 2.5e-4)),
            Stage(200, 768, 1, 12, (2.5e-4, 1.5e-4), frozen_statistics=True),
            Stage(163, 1024, 1, 10, (1.5e-4, 1e-4), frozen_statistics=True),
            Stage(20, 768, 1, 12, (1e-4, 3e-4), leaning=0.8, frozen_statistics=True),
            Stage(330, 768, 1, 12, (3e-4, 1e-4), leaning=0.8, frozen_statistics=True),
            Stage(73, 1024, 1, 10, (1e-4, 5e-5), leaning=0.6, frozen_statistics=True),
            Stage(10, 768, 1, 12, (5e-5, 2.5e-4), leaning=0.8, frozen_statistics=True),
            Stage(160, 768, 1, 12, (2.5e-4, 1e-4), leaning=0.8, frozen_statistics=True),
            Stage(150, 1024, 1, 10, (1e-4, 5e-6), leaning=0.5, frozen_statistics=True),
            Stage(10, 768, 1, 12, (5e-6, 1.5e-4), leaning=0.8, frozen_statistics=True),
            Stage(110, 768, 1, 12, (1.5e-4, 5e-6), leaning=0.8, frozen_statistics=True),
            boxes=0.85,
            corrections=0.3,
        ),
        # Here ends the second edition.
        *_LAST,
        *_POOLED,
    )
)

FURTHER = Plan(_POOLED, seed=78)
"""Goes on from finished weights."""

SMOKE = Plan(
    (
        Stage(2, 128, 2, 4, (2e-4, 6e-4), discs=True),
        Stage(3, 128, 2, 4, (6e-4, 5e-4)),
        Stage(1, 128, 1, 4, (5e-4, 1e-4), frozen_statistics=True),
        Stage(2, 256, 1, 4, (1e-4, 1e-4), varied=True, corrections=1.0),
        Stage(2, 128, 2, 4, (1e-4, 1e-4), varied=True, rough=1.0, fresh=1),
    )
)
