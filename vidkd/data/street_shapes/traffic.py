"""Shapes that enter a scene, move through it, stop, and leave."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vidkd.data.motion_shapes.shapes import LARGEST_EXTENT, Array, Shape, whole_boxes
from vidkd.data.street_shapes.config import StreetShapesConfig
from vidkd.data.street_shapes.look import Look, draw_shape

_WARM_UP_S = 12.0  # shapes that came in this time before a scene are on their way when it begins
_STRETCH_S = (3.0, 9.0)  # a quiet or busy time lasts between these
_ACTIVITY = (0.35, 1.65)  # arrivals in a quiet and in a busy time, relative to their mean


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A shape while any of it is in the picture.

    first_frame: counted from the start of the video. centres: (n, 2) and boxes: (n, 4) x1 y1 x2 y2 in pixels, of the frames from it on;
    they reach beyond the picture where the shape does.
    """

    shape: Shape
    first_frame: int
    centres: Array
    boxes: Array


def draw_passages(
    config: StreetShapesConfig, look: Look, rng: np.random.Generator, *, first_frame: int, frames: int, step: int = 1
) -> tuple[Passage, ...]:
    """What passes in `frames` frames of a scene, every `step`-th frame of its course; later ones are painted over earlier ones."""
    passages: list[Passage] = []
    on_their_way: list[int] = []
    for arrival in _arrivals(config, rng, frames * step):
        shape = draw_shape(rng, look, config.kinds)
        centres, end = _course(config, shape, arrival, frames * step, rng)
        on_their_way = [other for other in on_their_way if other > arrival]
        if len(on_their_way) >= config.most_shapes:
            continue
        on_their_way.append(end)
        passages += _seen(config.size, shape, first_frame, centres[::step])
    return tuple(passages)


def _arrivals(config: StreetShapesConfig, rng: np.random.Generator, frames: int) -> Iterator[int]:
    """Frames in which a shape starts, from before the scene on; quiet and busy times take turns."""
    begin, busy = -round(_WARM_UP_S * config.fps), int(rng.integers(2))
    while begin < frames:
        end = min(begin + round(rng.uniform(*_STRETCH_S) * config.fps), frames)
        count = rng.poisson(_ACTIVITY[busy] * config.arrivals_per_s * (end - begin) / config.fps)
        yield from sorted(rng.integers(begin, end, count).tolist())
        begin, busy = end, 1 - busy


def _course(config: StreetShapesConfig, shape: Shape, arrival: int, frames: int, rng: np.random.Generator) -> tuple[Array, int]:
    """Centres (frames, 2) on the way from one side to another, and the frame in which the shape is gone."""
    entry, leave = _ends(config.size, shape, rng)
    length = float(np.hypot(*(leave - entry)))
    speed, where = rng.uniform(config.slowest, config.fastest), rng.uniform(0.25, 0.75)
    pause = config.longest_stop_s * config.fps * rng.uniform(0.25, 1) * (rng.random() < config.stops)
    before = where * length / speed
    time = np.arange(frames) - arrival
    moving = np.clip(time, 0, before) + np.clip(time - before - pause, 0, None)
    centres = entry + (leave - entry) / length * (speed * moving)[:, None]
    return centres, arrival + math.ceil(length / speed + pause) + 1


def _ends(size: int, shape: Shape, rng: np.random.Generator) -> tuple[Array, Array]:
    """Two points just outside of two different sides."""
    outside = shape.radius * LARGEST_EXTENT + 1
    sides = rng.permutation(4)[:2]
    along = size * rng.uniform(0.12, 0.88, 2)
    ends = []
    for side, place in zip(sides.tolist(), along.tolist(), strict=True):
        across = -outside if side < 2 else size + outside
        ends.append(np.array([across, place] if side % 2 else [place, across]))
    return ends[0], ends[1]


def _seen(size: int, shape: Shape, first_frame: int, centres: Array) -> Iterator[Passage]:
    """The part of a course in which some of the shape is in the picture, if there is one."""
    boxes = whole_boxes(shape, centres)
    inside = np.flatnonzero(((boxes[:, :2] < size) & (boxes[:, 2:] > 0)).all(axis=1))
    if len(inside):
        part = slice(inside[0], inside[-1] + 1)
        yield Passage(shape=shape, first_frame=first_frame + int(inside[0]), centres=centres[part], boxes=boxes[part])
