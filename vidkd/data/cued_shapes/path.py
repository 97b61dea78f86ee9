"""The actor's path through the episodes of a video.

Its position is a centre plus one term for every pattern, as in motion_shapes, at the small amplitude of a cue. In a cue the phase of the
class's own term runs; on the journey the centre moves; in the action the phase runs again, and the own term grows to the full amplitude
and back. So what the motion goes round, the centre and the other terms, is shifted by exactly `shift` pixels in between. And at any one
time outside an action the position follows the same law for every class: all phases are uniform, and the centre is drawn without the class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidkd.data.cued_shapes.config import CuedShapesConfig
from vidkd.data.motion_shapes.motion import MOTIONS, Array, between_walls, patterns_of, running_phase, terms

_RAMP = 0.2  # share of an action in which the amplitude grows, and again in which it shrinks
_DIRECTIONS = 3600  # to choose the shift from; those along the axes are among them, and one of these is always possible


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Of each episode the first frames of cue, journey and action, and the one after the action; and the number of frames of the video."""

    episodes: tuple[tuple[int, int, int, int], ...]
    frames: int


@dataclass(frozen=True, kw_only=True)
class Episode:
    """Frames from `cue_start` are the cue, from `cue_end` the journey, from `action_start` to before `action_end` the action.

    place, acting_place: (x, y) in pixels of the frame, what the motion of cue and action goes round; the second is the first plus shift.
    amplitude: of the action, in pixels; period: frames of one turn, in cue and action.
    """

    label: int
    cue_start: int
    cue_end: int
    action_start: int
    action_end: int
    place: tuple[float, float]
    acting_place: tuple[float, float]
    shift: tuple[float, float]
    amplitude: float
    period: float


def draw_timeline(config: CuedShapesConfig, rng: np.random.Generator) -> Timeline:
    """Idle time, cue, journey, action, again and again, and idle time at the end."""
    fewest, most = config.idle_frames
    idle = rng.integers(fewest, most + 1, config.episodes + 1)
    lengths = [0, config.cue_frames, config.travel_frames, config.action_frames]
    starts = np.cumsum(idle[:-1]) + np.arange(config.episodes) * sum(lengths)
    moments = (starts[:, None] + np.cumsum(lengths)).tolist()
    return Timeline(episodes=tuple(map(tuple, moments)), frames=int(moments[-1][-1] + idle[-1]))


def actor_path(
    config: CuedShapesConfig, labels: Sequence[int], timeline: Timeline, rng: np.random.Generator
) -> tuple[tuple[Episode, ...], Array]:
    """The episodes, one for each label, and the actor's positions (T, 2) in pixels of the frame.

    As many random numbers are drawn whatever the shift and the labels, and none of them depends on either.
    """
    names, frames = patterns_of(config.classes), timeline.frames
    phases = np.broadcast_to(rng.uniform(0, 2 * np.pi, len(names)), (frames, len(names))).copy()
    weights = np.full_like(phases, config.cue_amplitude)
    base = _wandering(config, timeline, rng)
    centre, episodes = base.copy(), []
    for number, label in enumerate(labels):
        moments, name = timeline.episodes[number], config.classes[label]
        own = names.index(MOTIONS[name][0])
        amplitude, period = _spread(config.amplitude, config.amplitude_spread, rng), _spread(config.period, config.period_spread, rng)
        place = base[moments[0]] + terms(phases[moments[0]], names, np.where(np.arange(len(names)) == own, 0, config.cue_amplitude))
        shift = _draw_shift(config, base[moments[0]], rng.random())
        phases[:, own] += _turns(frames, period, name, moments[:2]) + _turns(frames, period, name, moments[2:])
        weights[:, own] += (amplitude - config.cue_amplitude) * _ramps(frames, moments[2:])
        centre += _away(timeline, number)[:, None] * (base[moments[0]] + shift - base)
        episodes.append(_episode(label, moments, config.size / 2 + place, shift, amplitude, period))
    return tuple(episodes), config.size / 2 + centre + terms(phases, names, weights)


def _episode(label: int, moments: tuple[int, int, int, int], place: Array, shift: Array, amplitude: float, period: float) -> Episode:
    cue_start, cue_end, action_start, action_end = moments
    return Episode(
        label=label,
        cue_start=cue_start,
        cue_end=cue_end,
        action_start=action_start,
        action_end=action_end,
        place=_pair(place),
        acting_place=_pair(place + shift),
        shift=_pair(shift),
        amplitude=amplitude,
        period=period,
    )


def _pair(point: Array) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _spread(middle: float, spread: float, rng: np.random.Generator) -> float:
    return middle * (1 + spread * rng.uniform(-1, 1))


def _wandering(config: CuedShapesConfig, timeline: Timeline, rng: np.random.Generator) -> Array:
    """Where the centre would be without any shift (T, 2): it wanders in idle time and stands from a cue's start to its action's end."""
    start, heading = rng.uniform(-1, 1, 2), rng.uniform(0, 2 * np.pi)
    busy = np.zeros(timeline.frames, dtype=int)
    for cue_start, _, _, action_end in timeline.episodes:
        busy[cue_start:action_end] = 1
    steps = np.concatenate([[0], np.cumsum(1 - busy)[:-1]])
    velocity = config.wander * np.array([np.cos(heading), np.sin(heading)])
    path: Array = between_walls(start, velocity, np.array(config.free_half_extents), timeline.frames)[steps]
    return path


def _draw_shift(config: CuedShapesConfig, centre: Array, chance: float) -> Array:
    """A vector of length `shift` in one of the directions that keep the centre where it may be, each as likely; chance: in [0, 1)."""
    angles = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    vectors = config.shift * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    possible = np.flatnonzero((np.abs(centre + vectors) <= np.array(config.free_half_extents) + 1e-9).all(axis=1))
    shift: Array = vectors[possible[int(chance * len(possible))]]
    return shift


def _turns(frames: int, period: float, name: str, interval: Sequence[int]) -> Array:
    """The phase (T,) that a motion adds which runs from the first frame of the interval to the one after it."""
    return running_phase(frames, period, interval[0], name) - running_phase(frames, period, interval[1], name)


def _ramps(frames: int, interval: Sequence[int]) -> Array:
    """0 outside the interval, 1 in the middle of it, straight lines between (T,)."""
    ramp = _RAMP * (interval[1] - interval[0])
    time = np.arange(frames)
    return np.clip(np.minimum(time - interval[0], interval[1] - time) / ramp, 0, 1)


def _away(timeline: Timeline, number: int) -> Array:
    """Which share of the shift of an episode is in force (T,): all of it in the action, and again none when the next cue begins."""
    _, cue_end, action_start, action_end = timeline.episodes[number]
    later = timeline.episodes[number + 1 :]
    back = later[0][0] if later else timeline.frames
    return np.interp(np.arange(timeline.frames), [cue_end, action_start, action_end, back], [0.0, 1.0, 1.0, 0.0])
