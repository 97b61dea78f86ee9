"""street_shapes, for detection along a stream: shapes that pass a fixed camera, in scenes that change and return."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidkd.data.synthetic.shapes import as_pixels, paint
from vidkd.data.synthetic.street_scene import Look, Passage, StreetShapesConfig, draw_look, draw_passages
from vidkd.data.synthetic.write import Written, random_numbers, write_data_set, write_rows

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
