"""One video: which scenes it shows and what passes in them (cheap to draw from its seed), and its frames."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.data.motion_shapes.shapes import paint
from vidkd.data.street_shapes.config import StreetShapesConfig
from vidkd.data.street_shapes.files import VideoPlace
from vidkd.data.street_shapes.look import Look, draw_look
from vidkd.data.street_shapes.traffic import Passage, draw_passages

# what a stream of random numbers is for; motion_shapes has 0 to 3 and cued_shapes 4 to 6
_LOOK, _TRAFFIC, _NOISE, _SCHEDULE = range(7, 11)
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
        rng = np.random.default_rng([config.seed, _TRAFFIC, *place.key, number])
        passages = draw_passages(config, looks[name], rng, first_frame=first, frames=frames, step=step)
        visits.append(Visit(scene=name, look=looks[name], first_frame=first, frames=frames, passages=passages))
        first += frames
    return StreetVideo(place=place, visits=tuple(visits))


def render_street(config: StreetShapesConfig, video: StreetVideo) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video one by one, uint8 RGB (size, size, 3)."""
    rng = np.random.default_rng([config.seed, _NOISE, *video.place.key])
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
    return np.clip(np.rint(255 * frames), 0, 255).astype(np.uint8)


def _look(config: StreetShapesConfig, place: VideoPlace, number: int) -> Look:
    rng = np.random.default_rng([config.seed, _LOOK, *place.key, number])
    return draw_look(rng, config.size, reach=config.plain_wideness if place.is_plain else config.wideness)


def _visit_lengths(config: StreetShapesConfig, place: VideoPlace) -> list[int]:
    """Frames of each visit: the shortest that is allowed, and a random share of the rest."""
    rng = np.random.default_rng([config.seed, _SCHEDULE, *place.key])
    shares = rng.exponential(size=len(config.pattern))
    rest = config.stream_frames - len(shares) * config.shortest_visit_frames
    ends = np.rint(np.cumsum(shares) / shares.sum() * rest).astype(int)
    return [config.shortest_visit_frames + int(more) for more in np.diff(ends, prepend=0)]
