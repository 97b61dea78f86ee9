"""Where the shapes are: paths whose position at any one time follows the same law, whatever the class and whoever the actor.

A shape's position is a centre plus one term for every pattern of the data set (a line in each direction, a ring), each at a phase of its
own. The actor lets the phase of its own class run and keeps the others; a shape that stands still keeps all; one that jitters lets all
wander. At any single time every phase is uniform and independent of the others in all of these cases, so one frame cannot tell them apart.
"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Role = Literal["actor", "still", "drift", "jitter"]
Array: TypeAlias = NDArray[np.float64]

# class -> (its pattern, the way the phase runs); y points down, so a growing phase goes round clockwise on the screen
MOTIONS: dict[str, tuple[str, int]] = {
    "LeftRight": ("horizontal", 1),
    "UpDown": ("vertical", 1),
    "Rising": ("rising", 1),
    "Falling": ("falling", 1),
    "Clockwise": ("ring", 1),
    "CounterClockwise": ("ring", -1),
}
CLASSES = tuple(MOTIONS)

# pattern -> (x, y) amplitudes of the cosine and of the sine of the phase
_HALF = math.sqrt(0.5)
_PATTERNS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "horizontal": ((1, 0), (0, 0)),
    "vertical": ((0, 1), (0, 0)),
    "rising": ((_HALF, -_HALF), (0, 0)),
    "falling": ((_HALF, _HALF), (0, 0)),
    "ring": ((1, 0), (0, 1)),
}


def patterns_of(classes: Sequence[str]) -> list[str]:
    """The patterns that these classes need, each once, in a fixed order."""
    needed = {MOTIONS[name][0] for name in classes}
    return [name for name in _PATTERNS if name in needed]


def half_extents(classes: Sequence[str]) -> tuple[float, float]:
    """How far the patterns together can lead from the centre in x and in y, at amplitude 1."""
    weights = np.abs(np.array([_PATTERNS[name] for name in patterns_of(classes)])).max(1).sum(0)
    return float(weights[0]), float(weights[1])


def running_phase(frames: int, period: float, onset_frame: int, actor_class: str) -> Array:
    """Phase of the actor's own pattern relative to its start: 0 up to the onset, then a turn every `period` frames. Shape (T,)."""
    return MOTIONS[actor_class][1] * 2 * np.pi * np.maximum(np.arange(frames) - onset_frame, 0) / period


def shape_path(
    rng: np.random.Generator,
    role: Role,
    *,
    classes: Sequence[str],
    actor_class: str,
    own_phase: Array,
    amplitude: float,
    free: tuple[float, float],
    drift: float,
    jitter: float,
) -> Array:
    """Positions (T, 2) in pixels relative to the middle of the frame.

    own_phase: (T,), from `running_phase`; used for the role "actor" only. free: half width and height of where centres lie, in pixels.
    drift: pixels a frame; jitter: radians a frame. The number of draws depends on the role, but the first ones are the same for all.
    """
    frames, names = len(own_phase), patterns_of(classes)
    phases = np.broadcast_to(rng.uniform(0, 2 * np.pi, len(names)), (frames, len(names))).copy()
    start = rng.uniform(-1, 1, 2)
    steps, velocity = np.zeros((frames, len(names))), np.zeros(2)
    if role == "actor":
        steps[:, names.index(MOTIONS[actor_class][0])] = own_phase
    elif role == "jitter":
        steps[1:] = np.cumsum(rng.normal(0, jitter, (frames - 1, len(names))), axis=0)
    elif role == "drift":
        heading = rng.uniform(0, 2 * np.pi)
        velocity = drift * np.array([np.cos(heading), np.sin(heading)])
    centre = between_walls(start, velocity, np.array(free), frames)
    return centre + amplitude * terms(phases + steps, names)


def terms(phases: Array, names: Sequence[str], weights: Array | float = 1.0) -> Array:
    """Sum of the patterns at their phases (T, patterns), times their weights (the same shape, or one for all) -> (T, 2)."""
    cosines, sines = (np.array([_PATTERNS[name][part] for name in names], dtype=np.float64) for part in (0, 1))
    total: Array = (weights * np.cos(phases)) @ cosines + (weights * np.sin(phases)) @ sines
    return total


def between_walls(start: Array, velocity: Array, half: Array, frames: int) -> Array:
    """Straight motion mirrored at the walls +-half, from half * start: uniform between them at every time if `start` is. Shape (T, 2)."""
    travelled = half * start + np.arange(frames)[:, None] * velocity
    width = np.maximum(2 * half, 1e-9)
    folded = np.abs((travelled + half) % (2 * width) - width)
    path: Array = np.where(half > 0, half - folded, 0.0)
    return path
