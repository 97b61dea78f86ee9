"""street_shapes, for detection along a stream: shapes that pass a fixed camera, in scenes that change and return."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidkd.data.synthetic.shapes import KINDS, LARGEST_EXTENT, Array, Shape, as_pixels, paint, whole_boxes
from vidkd.data.synthetic.street_looks import Look, draw_look, draw_shape
from vidkd.data.synthetic.write import GeneratedConfig, Written, random_numbers, write_data_set, write_rows


@dataclass(frozen=True, kw_only=True)
class StreetShapesConfig(GeneratedConfig):
    """Size and difficulty; every field is also a flag of `vidkd make_data --variant street`.

    Args:
        kinds: the classes, out of disc, square, diamond, triangle, cross.
        size: side of the square frame in pixels, an even number.
        fps: frames a second.
        videos_plain: training videos of plain scenes: most have a smooth background, even light, and brighter shapes of a middle size.
        videos_wide: training videos of scenes of every appearance.
        videos_val: validation videos of either kind.
        video_scenes: scenes of a training or validation video, each with an appearance of its own.
        scene_frames: frames of such a scene.
        scene_step: frames of a stream from one frame of such a scene to the next, so that shapes have moved on.
        streams_train: streams to train selectors on.
        streams_val: streams to validate selectors and settings on.
        streams_test: streams to judge on.
        stream_s: seconds of a stream.
        pattern: scenes of a stream in turn, a letter each; a letter that comes again is the same scene, with other shapes passing.
        shortest_visit_s: a scene stays at least that long; what is left of stream_s is shared out at random.
        arrivals_per_s: shapes that enter a second, on average over quiet and busy times.
        most_shapes: shapes that are on their way at once, at most.
        slowest: speed of the slowest shape in pixels a frame.
        fastest: speed of the fastest shape in pixels a frame.
        stops: share of the shapes that stop on their way.
        longest_stop_s: a stop lasts between a quarter of this and all of it.
        wideness: how far the appearance of wide scenes and of streams reaches, in [0, 1].
        plain_wideness: how far that of plain scenes reaches; 0 is smooth, even and bright throughout.
        seed: every video is drawn from this number and its own place in the list.
    """

    data_set: ClassVar[str] = "street_shapes"

    kinds: tuple[str, ...] = ("disc", "square", "triangle", "cross")
    size: int = 112
    fps: float = 15.0
    videos_plain: int = 8
    videos_wide: int = 16
    videos_val: int = 2
    video_scenes: int = 40
    scene_frames: int = 3
    scene_step: int = 10
    streams_train: int = 2
    streams_val: int = 2
    streams_test: int = 3
    stream_s: float = 44.0
    pattern: str = "ABACB"
    shortest_visit_s: float = 5.0
    arrivals_per_s: float = 0.6
    most_shapes: int = 6
    slowest: float = 0.7
    fastest: float = 2.4
    stops: float = 0.35
    longest_stop_s: float = 3.0
    wideness: float = 1.0
    plain_wideness: float = 0.2
    seed: int = 0

    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        "size": (48, 4096),
        "fps": (1, 240),
        "videos_plain": (0, 999),
        "videos_wide": (0, 999),
        "videos_val": (0, 999),
        "video_scenes": (1, 9999),
        "scene_frames": (1, 9999),
        "scene_step": (1, 9999),
        "streams_train": (0, 999),
        "streams_val": (0, 999),
        "streams_test": (0, 999),
        "stream_s": (1, math.inf),
        "shortest_visit_s": (0, math.inf),
        "arrivals_per_s": (0, math.inf),
        "most_shapes": (1, 100),
        "slowest": (0.01, math.inf),
        "fastest": (0.01, math.inf),
        "stops": (0, 1),
        "longest_stop_s": (0, math.inf),
        "wideness": (0, 1),
        "plain_wideness": (0, 1),
        "seed": (0, math.inf),
    }

    def __post_init__(self) -> None:
        self.check("kinds", "shape", KINDS, 1)
        if self.slowest > self.fastest:
            raise self.error("slowest must not be above fastest")
        if not self.pattern.isalpha():
            raise self.error(f"pattern must be letters, one a scene, not '{self.pattern}'")
        if len(self.pattern) * self.shortest_visit_s > self.stream_s:
            raise self.error(
                f"{len(self.pattern)} visits of at least {self.shortest_visit_s:g} s do not fit into {self.stream_s:g} s",
                hint="a longer stream_s, a shorter shortest_visit_s or pattern",
            )


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


Role = Literal["plain", "wide", "val_plain", "val_wide", "stream_train", "stream_val", "stream_test"]
ROLES: tuple[Role, ...] = ("plain", "wide", "val_plain", "val_wide", "stream_train", "stream_val", "stream_test")


class VideoPlace(NamedTuple):
    """Which video of the data set: what it is for, and its number among those, from 1."""

    role: Role
    number: int

    @property
    def path(self) -> str:
        """videos/<role>_<nn>.mp4 or streams/<subset>_<nn>.mp4, relative to the data set's folder."""
        folder, name = ("streams", self.subset) if self.is_stream else ("videos", self.role)
        return f"{folder}/{name}_{self.number:02d}.mp4"

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream, not a row of short scenes."""
        return self.role.startswith("stream_")

    @property
    def subset(self) -> str:
        """train, val or test."""
        return self.role.removeprefix("stream_") if self.is_stream else "val" if self.role.startswith("val_") else "train"

    def random_numbers(self, config: StreetShapesConfig, purpose: str, *place: int) -> np.random.Generator:
        """The generator of this video for one purpose."""
        return random_numbers(config.seed, purpose, ROLES.index(self.role), self.number, *place)


def video_places(config: StreetShapesConfig) -> Iterator[VideoPlace]:
    """Every video of the data set."""
    videos = (config.videos_plain, config.videos_wide, config.videos_val, config.videos_val)
    streams = (config.streams_train, config.streams_val, config.streams_test)
    for role, count in zip(ROLES, videos + streams, strict=True):
        yield from (VideoPlace(role, number) for number in range(1, count + 1))


_CHUNK = 60  # frames that are painted at once


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A scene while it is shown: frames first_frame to before first_frame + frames. A scene that returns has the same name and look."""

    scene: str
    look: Look
    first_frame: int
    frames: int
    passages: tuple[Passage, ...]


@dataclass(frozen=True, kw_only=True)
class StreetVideo:
    """All that is true of a video."""

    place: VideoPlace
    visits: tuple[Visit, ...]

    @property
    def frames(self) -> int:
        """Frames of the video."""
        return self.visits[-1].first_frame + self.visits[-1].frames


def draw_street(config: StreetShapesConfig, place: VideoPlace) -> StreetVideo:
    """What a video shows: depends on the config and the video's place, on no other video."""
    if place.is_stream:
        names, lengths, step = list(config.pattern), _visit_lengths(config, place), 1
    else:
        names = [str(number) for number in range(1, config.video_scenes + 1)]
        lengths, step = [config.scene_frames] * len(names), config.scene_step
    looks = {name: _look(config, place, number) for number, name in enumerate(dict.fromkeys(names))}
    visits, first = [], 0
    for number, (name, frames) in enumerate(zip(names, lengths, strict=True)):
        rng = place.random_numbers(config, "street traffic", number)
        passages = draw_passages(config, looks[name], rng, first_frame=first, frames=frames, step=step)
        visits.append(Visit(scene=name, look=looks[name], first_frame=first, frames=frames, passages=passages))
        first += frames
    return StreetVideo(place=place, visits=tuple(visits))


def render_street(config: StreetShapesConfig, video: StreetVideo) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video one by one, uint8 RGB (size, size, 3)."""
    rng = video.place.random_numbers(config, "street noise")
    for visit in video.visits:
        end = visit.first_frame + visit.frames
        for first in range(visit.first_frame, end, _CHUNK):
            yield from _painted(visit, first, min(first + _CHUNK, end), rng)


def _painted(visit: Visit, first: int, end: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Frames `first` to before `end` of the video."""
    frames = np.repeat(visit.look.background[None], end - first, axis=0)
    for passage in visit.passages:
        begin, stop = max(first, passage.first_frame), min(end, passage.first_frame + len(passage.centres))
        if begin < stop:
            seen = passage.centres[begin - passage.first_frame : stop - passage.first_frame]
            paint(frames[begin - first : stop - first], passage.shape, seen)
    frames *= visit.look.light
    frames += np.float32(visit.look.noise) * rng.standard_normal(frames.shape, dtype=np.float32)
    return as_pixels(frames)


def _look(config: StreetShapesConfig, place: VideoPlace, number: int) -> Look:
    reach = config.plain_wideness if place.role.endswith("plain") else config.wideness
    return draw_look(place.random_numbers(config, "street look", number), config.size, reach=reach)


def _visit_lengths(config: StreetShapesConfig, place: VideoPlace) -> list[int]:
    """Frames of each visit: the shortest that is allowed, and a random share of the rest."""
    rng = place.random_numbers(config, "street schedule")
    shares = rng.exponential(size=len(config.pattern))
    shortest = math.floor(config.shortest_visit_s * config.fps)
    rest = round(config.stream_s * config.fps) - len(shares) * shortest
    ends = np.rint(np.cumsum(shares) / shares.sum() * rest).astype(int)
    return [shortest + int(more) for more in np.diff(ends, prepend=0)]


def write_truth(out: Path, config: StreetShapesConfig) -> None:
    """Write truth.jsonl under `out`, whole or not at all."""
    write_rows(out / "truth.jsonl", (street_truth_row(draw_street(config, place)) for place in video_places(config)))


def street_truth_row(video: StreetVideo) -> dict[str, Any]:
    """One line of truth.jsonl, a video.

    path, group, subset, frames; scenes: [{"scene", "first_frame"}] of every visit; shapes: [{"name", "first_frame", "boxes": [[x1, y1,
    x2, y2] of every frame from first_frame on]}] in painting order, boxes in pixels, of the whole shape, also where it reaches out of the
    picture.
    """
    return {
        "path": video.place.path,
        "group": Path(video.place.path).with_suffix("").as_posix(),
        "subset": video.place.subset,
        "frames": video.frames,
        "scenes": [{"scene": visit.scene, "first_frame": visit.first_frame} for visit in video.visits],
        "shapes": [
            {"name": passage.shape.kind, "first_frame": passage.first_frame, "boxes": passage.boxes.round(2).tolist()}
            for visit in video.visits
            for passage in visit.passages
        ],
    }


def write_street_shapes(out: Path | str, config: StreetShapesConfig | None = None, *, workers: int | None = None) -> Written:
    """Write videos/, streams/, truth.jsonl and config.json under `out`; see `write_data_set`."""
    config = config or StreetShapesConfig()
    places = sorted(video_places(config), key=lambda place: not place.is_stream)  # the longest first
    streams = sum(place.is_stream for place in places)
    counts = {"videos": len(places) - streams, "streams": streams}
    return write_data_set(Path(out), config, {place.path: place for place in places}, _frames, write_truth, workers, counts)


def _frames(config: StreetShapesConfig, place: VideoPlace) -> Iterator[NDArray[np.uint8]]:
    return render_street(config, draw_street(config, place))
