"""cued_shapes, for anticipation: untrimmed generated videos in which a cue decides the action that follows elsewhere.

The actor's position is a centre plus one term for every pattern, as in motion_shapes, at the small amplitude of a cue. In a cue the phase
of the class's own term runs; on the journey the centre moves; in the action the phase runs again, and the own term grows to the full
amplitude and back. So what the motion goes round, the centre and the other terms, is shifted by exactly `shift` pixels in between. And at
any one time outside an action the position follows the same law for every class: all phases are uniform, and the centre is drawn without
the class.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidkd.data.manifest import Clip
from vidkd.data.synthetic.scene import (
    BORDER,
    CLASSES,
    MOTIONS,
    SPLIT,
    Role,
    SceneConfig,
    Stage,
    actor_boxes,
    between_walls,
    draw_background_motion,
    draw_roles,
    draw_shapes,
    half_extents,
    patterns_of,
    render_stage,
    running_phase,
    shape_path,
    shape_rows,
    stage_of,
    terms,
    write_manifest,
)
from vidkd.data.synthetic.shapes import Array
from vidkd.data.synthetic.write import Written, random_numbers, write_data_set, write_rows


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


def subset_of_file(config: CuedShapesConfig, number: int) -> Literal["train", "test"]:
    """The side of the split of a file, by its number from 1: training files come first."""
    return "train" if number <= config.files_train else "test"


def is_labelled(config: CuedShapesConfig, number: int) -> bool:
    """Whether the manifest has the classes of a file: the last `unlabelled_share` of the training files are unlabelled."""
    labelled = config.files_train - round(config.unlabelled_share * config.files_train)
    return number <= labelled or subset_of_file(config, number) == "test"


def group_of(number: int) -> str:
    """The group of a file, which is a file alone."""
    return f"g{number:03d}"


def cued_video_path(number: int) -> str:
    """videos/v_g<ggg>.mp4, relative to the data set's folder."""
    return f"videos/v_{group_of(number)}.mp4"


def labels_of(config: CuedShapesConfig, number: int) -> list[int]:
    """The class of every episode of a file: uniform, and independent of the other episodes of the file.

    As many files of one side as there are classes share a draw: among their first episodes is each class once, among their second ones too.
    """
    subset, count = subset_of_file(config, number), len(config.classes)
    first = 1 if subset == "train" else config.files_train + 1
    block, column = divmod(number - first, count)
    rng = random_numbers(config.seed, "cued labels", int(subset == "test"), block)
    return [int(rng.permutation(count)[column]) for _ in range(config.episodes)]


@dataclass(frozen=True, kw_only=True)
class CuedScene(Stage):
    """All that is true of a video. number: which file of the data set, from 1, training files first."""

    number: int
    episodes: tuple[Episode, ...]


def draw_cued_scene(config: CuedShapesConfig, number: int) -> CuedScene:
    """What happens in a file: depends on the config and the file's number, on no other file.

    Data sets that differ in their shift alone have the same timeline, classes, looks, places of cues and distractors.
    """
    rng = random_numbers(config.seed, "cued scene", number)
    timeline = draw_timeline(config, rng)
    roles = draw_roles(config, rng)
    shapes = draw_shapes(config, number, len(roles), rng)
    background = draw_background_motion(config, rng)
    episodes, path = actor_path(config, labels_of(config, number), timeline, rng)
    centres = np.stack([path if role == "actor" else _distractor_path(config, role, timeline.frames, rng) for role in roles])
    return CuedScene(number=number, episodes=episodes, **stage_of(config, roles, shapes, centres, background))


def render_cued(config: CuedShapesConfig, scene: CuedScene) -> NDArray[np.uint8]:
    """The frames of a video, uint8 RGB (T, size, size, 3)."""
    return render_stage(config, scene, group=scene.number, noise_rng=random_numbers(config.seed, "cued noise", scene.number))


def _distractor_path(config: CuedShapesConfig, role: Role, frames: int, rng: np.random.Generator) -> Array:
    """As in motion_shapes, with the amplitude of a cue: at any one time a distractor's position follows the law of an actor's in a cue."""
    return config.size / 2 + shape_path(
        rng,
        role,
        classes=config.classes,
        actor_class=config.classes[0],
        own_phase=np.zeros(frames),
        amplitude=config.cue_amplitude,
        free=config.free_half_extents,
        drift=config.drift,
        jitter=config.jitter,
    )


def write_truth(out: Path, config: CuedShapesConfig) -> None:
    """Write truth.jsonl and manifest.jsonl under `out`, each file whole or not at all."""
    scenes = [draw_cued_scene(config, number) for number in _numbers(config)]
    write_rows(out / "truth.jsonl", (cued_truth_row(config, scene) for scene in scenes))
    write_manifest(out, config, (clip for scene in scenes for clip in _manifest_clips(config, scene)))


def _numbers(config: CuedShapesConfig) -> range:
    return range(1, config.files_train + config.files_test + 1)


def cued_truth_row(config: CuedShapesConfig, scene: CuedScene) -> dict[str, Any]:
    """One line of truth.jsonl, a video.

    path, group, subset, labelled; episodes: each with label (index), class, cue_s, travel_s and action_s ([start, end] in seconds),
    place and acting_place ([x, y] in pixels, what the motion of cue and action goes round), shift ([dx, dy], their difference),
    amplitude and cue_amplitude in pixels, period_s; actor, shapes and background_velocity as in motion_shapes.
    """
    return {
        "path": cued_video_path(scene.number),
        "group": group_of(scene.number),
        "subset": subset_of_file(config, scene.number),
        "labelled": is_labelled(config, scene.number),
        "episodes": [_episode_row(config, episode) for episode in scene.episodes],
        "actor": scene.actor,
        "shapes": shape_rows(scene),
        "background_velocity": [round(part, 4) for part in scene.background_velocity],
    }


def _episode_row(config: CuedShapesConfig, episode: Episode) -> dict[str, Any]:
    moments = [episode.cue_start, episode.cue_end, episode.action_start, episode.action_end]
    times_s = [round(frame / config.fps, 6) for frame in moments]
    return {
        "label": episode.label,
        "class": config.classes[episode.label],
        "cue_s": times_s[:2],
        "travel_s": times_s[1:3],
        "action_s": times_s[2:],
        **{key: [round(part, 6) for part in getattr(episode, key)] for key in ("place", "acting_place", "shift")},
        "amplitude": round(episode.amplitude, 6),
        "cue_amplitude": config.cue_amplitude,
        "period_s": round(episode.period / config.fps, 6),
    }


def _manifest_clips(config: CuedShapesConfig, scene: CuedScene) -> Iterator[Clip]:
    """One row an action; its boxes are those of the actor from the start of the cue to the end of the action."""
    number = scene.number
    for order, episode in enumerate(scene.episodes, start=1):
        yield Clip(
            path=cued_video_path(number),
            label=episode.label if is_labelled(config, number) else None,
            group=group_of(number),
            subsets={SPLIT: subset_of_file(config, number)},
            start_s=round(episode.action_start / config.fps, 6),
            end_s=round(episode.action_end / config.fps, 6),
            boxes=actor_boxes(scene, config.fps, episode.cue_start, episode.action_end),
            name=f"{group_of(number)}_e{order}",
        )


def write_cued_shapes(out: Path | str, config: CuedShapesConfig | None = None, *, workers: int | None = None) -> Written:
    """Write videos, manifest.jsonl, truth.jsonl and config.json under `out`; see `write_data_set`."""
    config = config or CuedShapesConfig()
    counts = {"train": config.files_train * config.episodes, "test": config.files_test * config.episodes}
    places = {cued_video_path(number): number for number in _numbers(config)}
    return write_data_set(Path(out), config, places, _frames, write_truth, workers, counts)


def _frames(config: CuedShapesConfig, number: int) -> NDArray[np.uint8]:
    return render_cued(config, draw_cued_scene(config, number))
