"""The frames of a study's streams, and what is annotated in them."""

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidkd.base.errors import ConfigError, DataError
from vidkd.bench.streams.spec import WHOLE, SegmentSpec
from vidkd.bench.streams.study import StreamStudy
from vidkd.bench.study import Places
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.detection.layouts import read_boxes
from vidkd.video import Frame, open_video
from vidkd.video.files import content_of


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Frames start to stop - 1 of a video; `first` is the place of the first in the stream."""

    path: Path
    start: int
    stop: int
    first: int
    name: str | None = None
    short_side: int | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    def frames(self) -> Iterator[Frame]:
        """In order, one in memory at a time; index and time are the video's own. Raises VideoError at one that cannot be decoded."""
        with open_video(self.path, short_side=self.short_side) as reader:
            yield from itertools.islice(reader.stream(self.start), len(self))


def stretches_of(study: StreamStudy, stream: str, places: Places) -> list[Stretch]:
    """The stretches of a stream, in order. Raises DataError for one that goes beyond the end of its video, and as `open_video`."""
    found: list[Stretch] = []
    first = 0
    for segment in study.spec.streams[stream].segments:
        path = study.find(segment.video, places)
        with open_video(path) as reader:
            there = len(reader)
        start, stop = segment.frames or (0, there)
        if stop > there:
            raise DataError(f"stream '{stream}' asks for frames up to {stop} of {path}, which has {there}", study=study.path)
        found.append(Stretch(path=path, start=start, stop=stop, first=first, name=segment.name, short_side=segment.short_side))
        first += stop - start
    return found


def frames_of(stretches: Sequence[Stretch]) -> Iterator[Frame]:
    """Every frame of a stream, in order."""
    for stretch in stretches:
        yield from stretch.frames()


def check_streams_apart(study: StreamStudy, places: Places) -> None:
    """Raise ConfigError where a tuning stream and a test stream share frames of a video, known by its content, wherever it is.

    A copy in another encoding is another video.
    """
    streams = study.spec.streams
    for first, second in itertools.product(study.spec.tuning.streams, study.spec.test_streams):
        for mine, theirs in itertools.product(streams[first].segments, streams[second].segments):
            one, other = ((segment.frames or [0, sys.maxsize]) for segment in (mine, theirs))
            if one[0] < other[1] and other[0] < one[1] and _content(study, mine, places) == _content(study, theirs, places):
                raise ConfigError(
                    f"'{first}' (tuning) and '{second}' share frames of {mine.video}",
                    **({} if mine.video == theirs.video else {"same_content": theirs.video}),
                    study=study.path,
                    hint="tune on other videos, or on other frames: what is chosen is judged on the rest",
                )


def _content(study: StreamStudy, segment: SegmentSpec, places: Places) -> str:
    """Its hash, or its name where it is not on this machine."""
    try:
        return content_of(study.find(segment.video, places))
    except ConfigError:
        return segment.video


def ranges_of(study: StreamStudy, stream: str, stretches: Sequence[Stretch]) -> dict[str, tuple[int, int]]:
    """The named ranges of a stream, the whole first. Raises ConfigError for one that goes beyond the end."""
    length = sum(map(len, stretches))
    found = {WHOLE: (0, length)}
    found |= {name: (bounds[0], bounds[1]) for name, bounds in study.spec.streams[stream].ranges.items()}
    found |= {stretch.name: (stretch.first, stretch.first + len(stretch)) for stretch in stretches if stretch.name}
    for name, (_, stop) in found.items():
        if stop > length:
            raise ConfigError(f"streams.{stream}.ranges.{name} ends at {stop}, the stream at {length}", study=study.path)
    return found


def truth_of(study: StreamStudy, stream: str, stretches: Sequence[Stretch], classes: tuple[str, ...], places: Places) -> BoxManifest | None:
    """Annotated frames of a stream, filed under (stream, place in the stream), with labels of `classes`; None without any.

    Raises DataError where none of the data set's frames is of the stream, and as the layout.
    """
    spec = study.spec.streams[stream].truth
    if spec is None:
        return None
    annotations = tuple(study.find(name, places) for name in spec.annotations)
    folder = study.find(spec.folder, places)
    manifest = read_boxes(spec.layout, folder, annotations=annotations, classes=classes, allow_missing=True)
    by_place = {((manifest.root / frame.path).resolve(), frame.frame_index): frame for frame in manifest.frames}
    frames = [frame for stretch in stretches for frame in _in_stretch(stretch, stream, by_place)]
    if not frames:
        raise DataError(f"no annotated frame of {spec.folder} is in the stream '{stream}'", study=study.path)
    return dataclasses.replace(manifest, name=stream, frames=tuple(frames))


def _in_stretch(stretch: Stretch, stream: str, by_place: Mapping[tuple[Path, int | None], LabelledFrame]) -> Iterator[LabelledFrame]:
    path = stretch.path.resolve()
    for index in range(stretch.start, stretch.stop):
        frame = by_place.get((path, index))
        if frame is not None:
            yield dataclasses.replace(frame, path=stream, frame_index=stretch.first + index - stretch.start)
