"""Hearts seen from the apex: two chambers, or four with the left heart at image right."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.echo.chambers import Chamber, Spine, Vector, rotate, waver
from training.echo.heart import Heart
from training.echo.sector import Points

LEAFLET_STATIONS = np.linspace(0, 1, 8)


@dataclass(frozen=True, slots=True)
class Pose:
    """Position of the left ventricle: its spine's root, direction and bend in pixels."""

    root: Vector
    up: Vector
    bend: float

    def spine(self, *, side: int, lift: float = 0.0, turn: float = 0.0) -> Spine:
        """Return a line up from the root for ``side`` 1 (image right) or -1, raised by ``lift``."""
        along = rotate(self.up, turn)
        right = np.array([-along[1], along[0]])
        return Spine(self.root + lift * self.up, along, side * right, side * self.bend)

    def downward(self, *, side: int, drop: float, turn: float) -> Spine:
        """Return a line down from the root, for an atrium."""
        along = rotate(-self.up, turn)
        right = np.array([along[1], -along[0]])
        return Spine(self.root - drop * self.up, along, side * right)


def _sides(random: np.random.Generator, size: float) -> tuple[Vector, Vector]:
    return waver(random, size), waver(random, size)


def _ventricle(random: np.random.Generator, gap: float) -> Chamber:
    length = float(np.clip(random.normal(97, 15), 60, 132))
    width = float(np.clip(length * random.uniform(0.4, 0.7), 34, 76))
    return Chamber(
        length=length,
        width=width,
        gap=gap,
        base=random.uniform(0.62, 0.98),
        widest=random.uniform(0.2, 0.55),
        blunt=random.uniform(1.5, 3.2),
        share=random.uniform(0.1, 0.6),
        slant=random.normal(4, 7),
        sides=_sides(random, random.uniform(0.005, 0.035) * width),
    )


def _right_ventricle(random: np.random.Generator, left: Chamber, gap: float) -> Chamber:
    width = float(np.clip(left.width * random.uniform(0.5, 1.05), 24, 66))
    return Chamber(
        length=left.length * random.uniform(0.62, 0.98),
        width=width,
        gap=gap,
        base=random.uniform(0.7, 1.0),
        widest=random.uniform(0.12, 0.45),
        blunt=random.uniform(1.0, 2.3),
        share=random.uniform(0.0, 0.4),
        slant=random.normal(2, 5),
        sides=_sides(random, random.uniform(0.005, 0.04) * width),
    )


def _atrium(random: np.random.Generator, gap: float, above: Chamber) -> Chamber:
    width = float(np.clip(random.normal(53, 10), 28, 84))
    return Chamber(
        length=float(np.clip(random.normal(56, 13), 26, 92)),
        width=width,
        gap=gap,
        base=random.uniform(0.55, 0.98),
        widest=random.uniform(0.3, 0.6),
        blunt=random.uniform(1.7, 3.2),
        share=random.uniform(0.15, 0.55),
        slant=-above.slant,
        sides=_sides(random, random.uniform(0.01, 0.045) * width),
    )


def _wall(random: np.random.Generator, heart: Heart, chamber: Chamber, spine: Spine) -> None:
    """Add muscle around a ventricle, and the bright pericardium outside it."""
    near, far, tip = random.uniform(7, 19), random.uniform(7, 17), random.uniform(4, 14)
    outer = chamber.within_wall(near, far, tip).outline(spine)
    heart.fill(outer, "muscle")
    if random.random() < 0.7:
        pericardium = outer[: len(outer) - 10]
        start, stop = sorted(random.integers(0, len(pericardium), 2))
        heart.line(pericardium[start : stop + 2], "fibrous", random.uniform(1.5, 5))


def _trabeculae(random: np.random.Generator, heart: Heart, chamber: Chamber, spine: Spine) -> None:
    """Add a seam of blood and trabeculae between a ventricle's cavity and its compact wall."""
    if random.random() < 0.65:
        near, far, tip = random.uniform(0, 6, 3)
        heart.fill(chamber.within_wall(near, far, tip).outline(spine), "trabeculae")


def _thin_wall(random: np.random.Generator, heart: Heart, chamber: Chamber, spine: Spine) -> None:
    """Add an atrium's or the right ventricle's wall; too faint to be seen in some images."""
    if random.random() < 0.3:
        return
    near, far, tip = random.uniform(2, 6), random.uniform(2, 8), random.uniform(2, 7)
    heart.fill(chamber.within_wall(near, far, tip).outline(spine), "wall")


def _valve(random: np.random.Generator, heart: Heart, ends: Points, up: Vector) -> None:
    """Add two leaflets between the ends of the base, shut or open, and their bright annulus."""
    one, other = ends
    opening = 0.0 if random.random() < 0.55 else random.uniform(0.3, 1.3)
    meet = random.uniform(0.35, 0.65)
    for end, toward, share in ((one, other, meet), (other, one, 1 - meet)):
        reach = (toward - end) * share * random.uniform(0.85, 1.1)
        size = float(np.linalg.norm(reach))
        tip = np.cos(opening) * reach + np.sin(opening) * size * up
        belly = np.sin(np.pi * LEAFLET_STATIONS) * random.normal(0, 0.12) * size
        points = end + np.outer(LEAFLET_STATIONS, tip) + np.outer(belly, up)
        if random.random() < 0.85:
            heart.line(points, "leaflet", random.uniform(1.2, 3.5))
    for end in ends:
        if random.random() < 0.7:
            half = random.uniform(1, 5) * rotate(up, random.uniform(-1.5, 1.5))
            heart.line(np.stack([end - half, end + half]), "fibrous", random.uniform(3, 9))


def _muscles_inside(random: np.random.Generator, heart: Heart, outline: Points, few: int) -> None:
    """Add papillary muscles: short thick strokes along the inner wall."""
    middle = outline.mean(axis=0)
    for _ in range(int(random.integers(0, few + 1))):
        at = outline[int(random.integers(8, 72))]
        inward = (middle - at) * random.uniform(0.02, 0.3)
        length = random.uniform(4, 18) * rotate(np.array([0.0, -1.0]), random.normal(0, 0.5))
        points = np.stack([at + inward - length / 2, at + inward + length / 2])
        heart.line(points, "muscle", random.uniform(1.5, 7))


def _base_ends(outline: Points) -> Points:
    """Return the near and the far end of a chamber's base."""
    return np.stack([outline[0], outline[79]])


def two_chambers(random: np.random.Generator) -> Heart:
    """Draw the left ventricle above the left atrium, on the inferior wall at image left."""
    up = rotate(np.array([0.0, -1.0]), random.normal(-0.12, 0.17))
    pose = Pose(np.array([-22.0, 0.0]), up, random.normal(0, 5))
    ventricle = _ventricle(random, 0.0)
    atrium = _atrium(random, 0.0, ventricle)
    spine = pose.spine(side=1)
    shift = ventricle.width * (ventricle.base - 1) * (1 - 2 * ventricle.share) / 2
    middle = ventricle.width / 2 + shift + random.normal(0, 5)
    top = atrium.width * (atrium.base + 2 * atrium.share * (1 - atrium.base)) / 2
    below = pose.downward(side=1, drop=random.uniform(1, 4), turn=random.normal(-0.05, 0.15))
    atrium = replace(atrium, gap=middle - top)
    heart = Heart()
    return _left_heart(random, heart, (ventricle, spine), (atrium, below))


Placed = tuple[Chamber, Spine]


def _left_heart(
    random: np.random.Generator, heart: Heart, ventricle: Placed, atrium: Placed
) -> Heart:
    up = ventricle[1].along
    chambers = {
        "LA": atrium[0].outline(atrium[1], sag=-random.uniform(0, 3)),
        "LV": ventricle[0].outline(ventricle[1], sag=random.normal(-1, 2.5)),
    }
    _wall(random, heart, *ventricle)
    _trabeculae(random, heart, *ventricle)
    _thin_wall(random, heart, *atrium)
    for outline in chambers.values():
        heart.fill(outline, "blood")
    _muscles_inside(random, heart, chambers["LV"], 7)
    _valve(random, heart, _base_ends(chambers["LV"]), up)
    heart.chambers.update(chambers)
    return heart


def four_chambers(random: np.random.Generator) -> Heart:
    """Draw both hearts beside a septum: the left one at image right, the right one at left."""
    up = rotate(np.array([0.0, -1.0]), random.normal(-0.1, 0.17))
    septum, thin = random.uniform(6, 18), random.uniform(2, 9)
    pose = Pose(np.zeros(2), up, random.normal(0, 5))
    ventricle = _ventricle(random, septum / 2)
    right = _right_ventricle(random, ventricle, septum / 2)
    turn = random.normal(0, 0.13)
    lift = random.uniform(0, 9)
    left_spine, right_spine = pose.spine(side=1), pose.spine(side=-1, lift=lift)
    drop = random.uniform(1, 4)
    left_below = pose.downward(side=1, drop=drop, turn=turn)
    right_below = pose.downward(side=-1, drop=drop - lift, turn=turn)
    atrium = _atrium(random, thin / 2, ventricle)
    right_atrium = _atrium(random, thin / 2, right)
    heart = Heart()
    outlines = {
        "RA": right_atrium.outline(right_below, sag=-random.uniform(0, 3)),
        "RV": right.outline(right_spine, sag=random.normal(-1, 2)),
    }
    _thin_wall(random, heart, right_atrium, right_below)
    _thin_wall(random, heart, right, right_spine)
    _left_heart(random, heart, (ventricle, left_spine), (atrium, left_below))
    for outline in outlines.values():
        heart.fill(outline, "blood")
    _muscles_inside(random, heart, outlines["RV"], 12)
    _valve(random, heart, _base_ends(outlines["RV"]), up)
    heart.chambers.update(outlines)
    return heart
