"""Figures of several parts: people and animals with joints, vehicles, vessels, plants, goods."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.outlines import Outline


class Part(NamedTuple):
    """A part of a figure; later parts lie over earlier ones."""

    outline: Outline
    """Corners (n, 2) in units of the figure's height, about its middle, y downwards."""

    surface: int
    """Number of its surface; parts with one number look alike."""


Vector = NDArray[np.float64]


def _ellipse(centre: Vector, width: float, height: float, angle: float = 0.0) -> Outline:
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points = np.stack([width * np.cos(turns), height * np.sin(turns)], axis=1)
    return _turn(points, angle) + centre


def _turn(points: Outline, angle: float) -> Outline:
    cosine, sine = np.cos(angle), np.sin(angle)
    return points @ np.array([[cosine, sine], [-sine, cosine]])


def _limb(start: Vector, end: Vector, thick: float, thin: float) -> Outline:
    """Draw a tapered limb with round ends."""
    along = end - start
    angle = float(np.arctan2(along[1], along[0]))
    half = np.linspace(np.pi / 2, 3 * np.pi / 2, 9)
    first = thick * np.stack([np.cos(half), np.sin(half)], axis=1)
    last = thin * np.stack([np.cos(half + np.pi), np.sin(half + np.pi)], axis=1)
    return np.concatenate([_turn(first, angle) + start, _turn(last, angle) + end])


def _beside(point: Vector, right: float, down: float) -> Vector:
    """Return the point that lies so far to the right of another, and below it."""
    return point + np.array([right, down])


def _reach(start: Vector, angle: float, length: float) -> Vector:
    """Return the end of a limb; an angle of 0 hangs down."""
    return start + length * np.array([np.sin(angle), np.cos(angle)])


def person(random: np.random.Generator) -> list[Part]:
    """Draw a standing, walking or sitting person, with hair and shoes."""
    build = random.uniform(0.8, 1.3)
    lean = random.normal(0, 0.08)
    hip, neck = np.array([0.0, 0.05]), np.array([lean * 0.6, -0.28])
    shoulder, thick = 0.09 * build, 0.032 * build
    parts = []
    sits = random.random() < 0.2
    for side in (-1, 1):
        swing = random.normal(0, 0.25) + (1.3 if sits else 0)
        joint = _beside(hip, side * 0.045 * build, 0)
        knee = _reach(joint, swing, 0.22)
        foot = _reach(knee, min(swing, 0.2) * random.uniform(0, 1), 0.22)
        parts += [Part(_limb(joint, knee, thick * 1.5, thick * 1.1), 1)]
        parts += [Part(_limb(knee, foot, thick * 1.1, thick * 0.8), 1)]
        parts += [
            Part(_limb(foot, _beside(foot, random.choice([-1, 1]) * 0.06, 0.0), 0.025, 0.018), 4)
        ]
    right = [
        _beside(neck, 0.02, 0),
        _beside(neck, shoulder, 0.03),
        _beside(hip, 0.075 * build, 0.02),
    ]
    left = [
        _beside(hip, -0.075 * build, 0.02),
        _beside(neck, -shoulder, 0.03),
        _beside(neck, -0.02, 0),
    ]
    trunk = np.array([*right, *left])
    parts.append(Part(trunk, 0))
    sleeves = random.random() < 0.6
    for side in (-1, 1):
        joint = _beside(neck, side * shoulder * 0.9, 0.04)
        swing = side * abs(random.normal(0.2, 0.5))
        elbow = _reach(joint, swing, 0.16)
        hand = _reach(elbow, swing + side * random.uniform(-1.8, 0.3), 0.15)
        parts.append(Part(_limb(joint, elbow, thick, thick * 0.8), 0))
        parts.append(Part(_limb(elbow, hand, thick * 0.8, thick * 0.6), 0 if sleeves else 2))
        parts.append(Part(_ellipse(hand, 0.024, 0.028), 2))
    head = _beside(neck, lean * 0.2, -0.09)
    parts.append(Part(_limb(neck, head, 0.025, 0.025), 2))
    if random.random() < 0.7:
        parts.append(
            Part(_ellipse(_beside(head, 0, -0.012), 0.062, 0.075 * random.uniform(1, 1.3)), 3)
        )
    parts.append(Part(_ellipse(_beside(head, random.normal(0, 0.012), 0.01), 0.047, 0.062), 2))
    return parts


def animal(random: np.random.Generator) -> list[Part]:
    """Draw a four-legged animal from the side: limbs, trunk, neck, head, ears and tail."""
    long, deep = random.uniform(0.28, 0.42), random.uniform(0.1, 0.17)
    tall, thick = random.uniform(0.12, 0.36), random.uniform(0.02, 0.04)
    parts = []
    for place, dark in ((-0.85, 1), (0.8, 1), (-0.7, 0), (0.9, 0)):
        joint = np.array([place * long * 0.9, deep * 0.3])
        knee = _reach(joint, random.normal(0, 0.25), tall * 0.55)
        foot = _reach(knee, random.normal(0, 0.25), tall * 0.6)
        parts.append(Part(_limb(joint, knee, thick * 1.6, thick), dark))
        parts.append(Part(_limb(knee, foot, thick, thick * 0.7), dark))
    tail = np.array([-long, -deep * 0.3])
    parts.append(Part(_limb(tail, _reach(tail, random.uniform(-2.6, -0.3), 0.2), thick, 0.01), 0))
    parts.append(Part(_ellipse(np.zeros(2), long * 1.08, deep, random.normal(0, 0.05)), 0))
    shoulder = np.array([long * 0.85, -deep * 0.2])
    head = _beside(shoulder, random.uniform(0.03, 0.16), -random.uniform(0.02, 0.28))
    parts.append(Part(_limb(shoulder, head, deep * 0.7, deep * 0.45), 0))
    size = random.uniform(0.07, 0.11)
    for side in (-0.5, 0.3):
        ear = _beside(head, side * size, -size * 0.7)
        parts.append(Part(_ellipse(ear, size * 0.25, size * random.uniform(0.4, 0.9), side), 1))
    parts.append(Part(_ellipse(head, size, size * 0.8, 0.3), 0))
    parts.append(Part(_ellipse(_beside(head, size, size * 0.3), size * 0.55, size * 0.4, 0.3), 2))
    return parts


def vehicle(random: np.random.Generator) -> list[Part]:
    """Draw a car, a van or a lorry from the side: body, cabin, windows, wheels and hubs."""
    long, low, high = random.uniform(0.4, 0.6), 0.13, random.uniform(0.05, 0.25)
    front, back = random.uniform(0.05, 0.6), random.uniform(0.5, 1.0)
    body = np.array([[-long, low], [-long, -0.03], [long, -0.03 + 0.04], [long, low]])
    cabin = np.array(
        [[-long * back, 0.0], [-long * back * 0.9, -high], [long * front * 0.7, -high],
         [long * front + 0.08, 0.0]]
    )  # fmt: skip
    parts = [Part(cabin, 0), Part(body, 0)]
    middle = cabin.mean(axis=0)
    pane = (cabin - middle) * [0.86, 0.75] + middle
    cut = random.uniform(-0.3, 0.3) * long
    for low_x, high_x in ((-1.0, cut - 0.01), (cut + 0.01, 1.0)):
        parts.append(Part(np.clip(pane, [low_x, -1], [high_x, -0.015]), 2))
    radius = random.uniform(0.07, 0.1)
    for x in (-0.62 * long, 0.62 * long):
        parts.append(Part(_ellipse(np.array([x, low]), radius, radius), 1))
        parts.append(Part(_ellipse(np.array([x, low]), radius * 0.55, radius * 0.55), 3))
    return parts


def mug(random: np.random.Generator) -> list[Part]:
    """Draw a cup, a jug or a bowl: body, opening, and a handle with a hole."""
    wide, high, taper = random.uniform(0.16, 0.4), random.uniform(0.2, 0.45), random.uniform(0.6, 1)
    flat = random.uniform(0.08, 0.3) * wide
    body = np.concatenate(
        [np.array([[-wide, -high], [wide, -high]]),
         _ellipse(np.array([0, high]), wide * taper, flat * 0.8)[:20]]
    )  # fmt: skip
    parts = [Part(body, 0)]
    if random.random() < 0.7:
        centre = np.array([wide * (1 + taper) / 2, 0.0])
        outer = _ellipse(centre, 0.16, high * 0.6)
        inner = (outer - centre) * random.uniform(0.55, 0.75) + centre
        ring = np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])
        parts.insert(0, Part(ring, 0))
    rim = np.array([0, -high])
    parts += [Part(_ellipse(rim, wide, flat), 0), Part(_ellipse(rim, wide * 0.9, flat * 0.8), 1)]
    return parts


def bottle(random: np.random.Generator) -> list[Part]:
    """Draw a bottle or a jar with a cap and a label."""
    wide, neck = random.uniform(0.1, 0.2), random.uniform(0.03, 0.09)
    shoulder, top = random.uniform(-0.3, -0.1), -0.45
    right = np.array([[wide, 0.5], [wide, shoulder], [neck, shoulder - 0.12], [neck, top]])
    outline = np.concatenate([right, right[::-1] * [-1, 1]])
    cap = np.array([[-1, top - 0.05], [1, top - 0.05], [1, top + 0.04], [-1, top + 0.04]])
    parts = [Part(outline, 0), Part(cap * [neck * 1.15, 1], 1)]
    if random.random() < 0.75:
        low, high = random.uniform(0.2, 0.42), random.uniform(shoulder, 0.1)
        label = np.array([[-wide, high], [wide, high], [wide, low], [-wide, low]])
        parts.append(Part(label, 2))
    return parts


def packet(random: np.random.Generator) -> list[Part]:
    """Draw a box or a tin with a printed field or two."""
    wide = random.uniform(0.2, 0.5)
    corners = np.array([[-wide, -0.5], [wide, -0.5], [wide, 0.5], [-wide, 0.5]])
    parts = [Part(corners, 0)]
    if random.random() < 0.3:
        parts.append(Part(_ellipse(np.array([0, -0.5]), wide, 0.06), 1))
    for surface in range(1, int(random.integers(1, 4))):
        centre = random.uniform(-0.3, 0.3, 2) * [2 * wide, 1]
        if random.random() < 0.5:
            field = _ellipse(centre, wide * random.uniform(0.2, 0.5), random.uniform(0.08, 0.2))
        else:
            field = corners * random.uniform(0.15, 0.5, 2) + centre
        parts.append(Part(np.clip(field, [-wide, -0.5], [wide, 0.5]), surface))
    return parts


def plant(random: np.random.Generator) -> list[Part]:
    """Draw a flower or a twig: a stem, leaves, and perhaps petals about a middle."""
    foot, head = np.array([random.normal(0, 0.1), 0.5]), np.array([random.normal(0, 0.1), -0.2])
    parts = [Part(_limb(foot, head, 0.015, 0.01), 1)]
    for _ in range(int(random.integers(1, 6))):
        start = foot + random.uniform(0.1, 0.9) * (head - foot)
        parts.append(Part(_leaf(random, start, random.uniform(0.15, 0.35)), 1))
    if random.random() < 0.7:
        petals, reach = int(random.integers(4, 12)), random.uniform(0.12, 0.28)
        for turn in np.linspace(0, 2 * np.pi, petals, endpoint=False) + random.uniform(0, 1):
            middle = head + reach * 0.6 * np.array([np.cos(turn), np.sin(turn)])
            parts.append(Part(_ellipse(middle, reach * 0.5, reach * 1.6 / petals, turn), 0))
        parts.append(Part(_ellipse(head, reach * 0.35, reach * 0.35), 2))
    return parts


def _leaf(random: np.random.Generator, start: Vector, length: float) -> Outline:
    along = np.linspace(0, 1, 16)
    half = random.uniform(0.15, 0.35) * np.sin(np.pi * along) * (1 - 0.3 * along)
    points = np.concatenate(
        [np.stack([along, half], axis=1), np.stack([along, -half], axis=1)[::-1]]
    )
    return _turn(points * length, random.uniform(0, 2 * np.pi)) + start


FIGURES: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "person": person,
    "animal": animal,
    "vehicle": vehicle,
    "mug": mug,
    "bottle": bottle,
    "packet": packet,
    "plant": plant,
}


def draw(random: np.random.Generator, name: str | None = None) -> list[Part]:
    """Draw a figure of a given name, or of any; turned a little, and mirrored half of the time."""
    parts = FIGURES[name or str(random.choice(list(FIGURES)))](random)
    angle = random.normal(0, 0.12) if random.random() < 0.85 else random.uniform(0, 2 * np.pi)
    mirror = np.array([random.choice([-1.0, 1.0]), 1.0])
    return [part._replace(outline=_turn(part.outline * mirror, angle)) for part in parts]
