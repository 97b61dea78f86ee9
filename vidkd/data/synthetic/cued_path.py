"""The actor's path through the episodes of a video of cued_shapes, and the settings of that data set.

Its position is a centre plus one term for every pattern, as in motion_shapes, at the small amplitude of a cue. In a cue the phase of the
class's own term runs; on the journey the centre moves; in the action the phase runs again, and the own term grows to the full amplitude
and back. So what the motion goes round, the centre and the other terms, is shifted by exactly `shift` pixels in between. And at any one
time outside an action the position follows the same law for every class: all phases are uniform, and the centre is drawn without the class.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from vidkd.data.synthetic.scene import BORDER, CLASSES, MOTIONS, SceneConfig, between_walls, half_extents, patterns_of, running_phase, terms
from vidkd.data.synthetic.shapes import Array


@dataclass(frozen=True, kw_only=True)
class CuedShapesConfig(SceneConfig):
    """Size and difficulty of the data set; every field, of SceneConfig too, is also a flag of `vidkd make_data --variant cued`.

    Args:
        files_train: training videos; each is a group of its own. Multiples of the number of classes make the classes equally frequent.
        files_test: test videos.
        episodes: episodes a video, each idle time, a cue, a journey and an action.
        shift: pixels from the place of a cue to the place of its action, in any direction. Nothing else depends on it.
        cue_amplitude: how far the actor moves to each side of its centre while it gives the cue, in pixels. Smaller is harder.
        cue_s: seconds of a cue; like travel_s and action_s a whole number of frames.
        travel_s: seconds from the end of a cue to the start of its action; the gap_s at which a student sees all of the cue and no more.
        action_s: seconds of an action.
        shortest_idle_s: idle time is drawn between these two, for each episode and for the end of the video.
        longest_idle_s: see shortest_idle_s.
        wander: speed of the idle actor in pixels a frame.
        unlabelled_share: share of the training videos whose rows have no label in the manifest.
    """

    data_set: ClassVar[str] = "cued_shapes"

    size: int = 84  # two pixels more to each side than in motion_shapes, so that a shift of 24 has room
    files_train: int = 120
    files_test: int = 42
    episodes: int = 3
    shift: float = 12.0
    cue_amplitude: float = 3.5
    cue_s: float = 1.0
    travel_s: float = 0.6
    action_s: float = 1.0
    shortest_idle_s: float = 0.3
    longest_idle_s: float = 0.7
    wander: float = 0.4
    unlabelled_share: float = 0.0

    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        **SceneConfig.ranges,
        "files_train": (1, 9999),
        "files_test": (1, 9999),
        "episodes": (1, 999),
        "shift": (0, math.inf),
        "cue_amplitude": (0, math.inf),
        "cue_s": (0, math.inf),
        "travel_s": (0, math.inf),
        "action_s": (0, math.inf),
        "shortest_idle_s": (0, math.inf),
        "longest_idle_s": (0, math.inf),
        "wander": (0, math.inf),
        "unlabelled_share": (0, 1),
    }

    def __post_init__(self) -> None:
        self.check("classes", "motion", CLASSES, 2)
        for key in ("cue_s", "travel_s", "action_s"):
            frames = getattr(self, key) * self.fps
            if round(frames) < 1 or abs(frames - round(frames)) > 1e-6:
                raise self.error(f"{key} must be a whole number of frames, found {frames:g} at {self.fps:g} frames a second")
        shortest, longest = self.idle_frames
        if not 1 <= shortest <= longest:
            raise self.error("a whole number of frames, at least one, must lie between shortest_idle_s and longest_idle_s")
        if self.cue_amplitude > self.amplitude * (1 - self.amplitude_spread):
            raise self.error("cue_amplitude must not be above amplitude * (1 - amplitude_spread)")
        self.check_room(self.free_half_extents, "amplitude or cue_amplitude")
        if self.shift > max(self.free_half_extents):
            raise self.error(
                f"a shift of {self.shift:g} pixels has not always room in the frame",
                hint=f"at most {max(self.free_half_extents):.1f} with these amplitudes, or a larger size",
            )

    @property
    def free_half_extents(self) -> tuple[float, float]:
        """Half width and half height of the rectangle in which centres lie, in pixels: cues and actions around them stay in the frame."""
        reach, own = half_extents(self.classes), [half_extents([name]) for name in self.classes]
        room, more = self.size / 2 - BORDER, self.largest_amplitude - self.cue_amplitude
        free_x, free_y = (room - self.cue_amplitude * reach[axis] - more * max(extents[axis] for extents in own) for axis in (0, 1))
        return free_x, free_y

    @property
    def idle_frames(self) -> tuple[int, int]:
        """Fewest and most frames of idle time."""
        return math.ceil(self.shortest_idle_s * self.fps - 1e-6), math.floor(self.longest_idle_s * self.fps + 1e-6)

    def frames_of(self, seconds: float) -> int:
        """Frames of a cue, a journey or an action."""
        return round(seconds * self.fps)


_RAMP = 0.2  # share of an action in which the amplitude grows, and again in which it shrinks
_DIRECTIONS = 3600  # to choose the shift from; those along the axes are among them, and one of these is always possible


class Timeline(NamedTuple):
    """Of each episode the first frames of cue, journey and action, and the one after the action; and the number of frames of the video."""

    episodes: tuple[tuple[int, int, int, int], ...]
    frames: int


@dataclass(frozen=True)
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
    lengths = [0, *map(config.frames_of, (config.cue_s, config.travel_s, config.action_s))]
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
        place = config.size / 2 + place
        episodes.append(Episode(label, *moments, _pair(place), _pair(place + shift), _pair(shift), amplitude, period))
    return tuple(episodes), config.size / 2 + centre + terms(phases, names, weights)


def _pair(point: Array) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _spread(middle: float, spread: float, rng: np.random.Generator) -> float:
    return middle * (1 + spread * rng.uniform(-1, 1))


def _wandering(config: CuedShapesConfig, timeline: Timeline, rng: np.random.Generator) -> Array:
    """Where the centre would be without any shift (T, 2): it wanders in idle time and rests from a cue's start to its action's end."""
    start, heading = rng.uniform(-1, 1, 2), rng.uniform(0, 2 * np.pi)
    busy = np.zeros(timeline.frames, dtype=int)
    for cue_start, _, _, action_end in timeline.episodes:
        busy[cue_start:action_end] = 1
    steps = np.concatenate([[0], np.cumsum(1 - busy)[:-1]])
    velocity = config.wander * np.array([np.cos(heading), np.sin(heading)])
    return np.asarray(between_walls(start, velocity, np.array(config.free_half_extents), timeline.frames)[steps])


def _draw_shift(config: CuedShapesConfig, centre: Array, chance: float) -> Array:
    """A vector of length `shift` in one of the directions that keep the centre where it may be, each as likely; chance: in [0, 1)."""
    angles = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    vectors = config.shift * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    possible = np.flatnonzero((np.abs(centre + vectors) <= np.array(config.free_half_extents) + 1e-9).all(axis=1))
    return np.asarray(vectors[possible[int(chance * len(possible))]])


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
