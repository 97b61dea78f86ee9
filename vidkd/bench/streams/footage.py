"""The frames of a study's streams, what is annotated in them, and what the oracle says of each: asked once, kept, given as answers."""

import dataclasses
import itertools
import logging
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import cached_arrays
from vidkd.bench.streams.spec import WHOLE, SegmentSpec
from vidkd.bench.streams.study import StreamStudy
from vidkd.bench.study import Places
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.detection.layouts import read_boxes
from vidkd.detection.online import Answer, Oracle, SynchronousLearner
from vidkd.detection.online.oracle import known_labels
from vidkd.detection.opening import ModelFiles
from vidkd.runtime.detections import Detections, map_classes
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


log = logging.getLogger(__name__)

COLUMNS = ("boxes", "scores", "labels")


@dataclass(frozen=True, kw_only=True)
class OracleBoxes:
    """detections: one entry a frame, labels of class_names. frame_s: median seconds that the oracle took on a frame."""

    detections: tuple[Detections, ...]
    class_names: tuple[str, ...]
    frame_s: float

    def for_student(self, student_names: Sequence[str]) -> tuple[Detections, ...]:
        """The same with the student's labels; boxes of classes that it lacks are left out."""
        mapping = map_classes(self.class_names, student_names)
        return tuple(mapping.translate(found) for found in self.detections)

    def known_to(self, student_names: Sequence[str]) -> frozenset[int] | None:
        """The student's labels of classes that the oracle has too; None for all."""
        return known_labels(map_classes(self.class_names, student_names))


def oracle_boxes(stretches: Sequence[Stretch], oracle: ModelFiles, cache: Path) -> OracleBoxes:
    """The oracle's boxes on every frame of a stream, from `cache` where they were made from the same files.

    A stretch is kept as one .npz under a hash of the oracle's files and thresholds, the video and its frames. One that is damaged is made
    again, and logged. frame_index of the entries is the place in the stream. Raises as the detector and the reader.
    """
    parts = [_of_stretch(stretch, oracle, cache) for stretch in stretches]
    found = [
        detections.at(stretch.first + place, None)
        for stretch, part in zip(stretches, parts, strict=True)
        for place, detections in enumerate(part.detections)
    ]
    return OracleBoxes(detections=tuple(found), class_names=parts[0].class_names, frame_s=float(np.mean([part.frame_s for part in parts])))


class KnownOracle:
    """An `Oracle` that was asked before: it answers with the boxes of the frame at which the learner that it follows is.

    known: as in `Answer`.
    """

    gives_heads = False

    def __init__(self, detections: Sequence[Detections], known: frozenset[int] | None = None) -> None:
        self.detections, self.known = detections, known

    def follow(self, learner: SynchronousLearner) -> None:
        """Answer as of this learner's position from now on."""
        self._learner = learner

    def __call__(self, frame: NDArray[np.uint8]) -> Answer:  # noqa: ARG002 - it knows where it is
        """As `Oracle`."""
        return Answer(detections=self.detections[self._learner.position], known=self.known)


def _of_stretch(stretch: Stretch, oracle: ModelFiles, cache: Path) -> OracleBoxes:
    made_from = {
        "oracle": {**oracle.record(), "threads": oracle.threads},
        "video": content_of(stretch.path),
        "frames": [stretch.start, stretch.stop],
        "short_side": stretch.short_side,
    }
    kept = cached_arrays(cache, made_from, lambda: _asked(stretch, oracle))
    cuts = np.cumsum(kept["counts"])[:-1]
    rows = zip(*(np.split(kept[name], cuts) for name in COLUMNS), strict=True)
    found = tuple(Detections(**dict(zip(COLUMNS, row, strict=True))) for row in rows)
    return OracleBoxes(detections=found, class_names=tuple(map(str, kept["class_names"])), frame_s=float(kept["frame_s"]))


def _asked(stretch: Stretch, oracle: ModelFiles) -> dict[str, Any]:
    """The arrays that are kept of a stretch."""
    log.info("the oracle looks at %d frames of %s", len(stretch), stretch.path)
    detector = oracle.open()
    found, seconds = [], []
    for frame in stretch.frames():
        start = time.perf_counter()
        found += detector(frame.image[None])
        seconds.append(time.perf_counter() - start)
    columns: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in found]) for name in COLUMNS}
    counts = [len(one) for one in found]
    return {**columns, "counts": counts, "class_names": detector.class_names, "frame_s": np.median(seconds)}


DROPPED, SHIFTED, DOUBLED = range(3)
SHIFT = (0.5, 1.0)
"""A shifted box moves along each side by so much of that side, either way, so that it overlaps where it was by an IoU of 1/7 at most."""


class WrongOracle:
    """Another oracle's boxes, each in error with probability `share`: dropped, shifted, or joined by a false box like it.

    A third of the errors is of each kind; a false box is anywhere in the frame. What is drawn depends only on `seed` and on the picture, so
    a frame that returns meets the same errors. Not for an oracle that gives raw heads, which would stay right.
    """

    gives_heads = False

    def __init__(self, oracle: Oracle, share: float, seed: int = 0) -> None:
        self.oracle, self.share, self.seed = oracle, share, seed

    def __call__(self, frame: NDArray[np.uint8]) -> Answer:
        """As `Oracle`."""
        answer = self.oracle(frame)
        found = answer.detections
        rng = np.random.default_rng([self.seed, zlib.crc32(np.ascontiguousarray(frame).data)])
        error = np.where(rng.random(len(found)) < self.share, rng.integers(0, 3, len(found)), -1)
        boxes = found.boxes.copy()
        boxes[error == SHIFTED] += _shifts(boxes[error == SHIFTED], rng)
        doubled = found.select(np.flatnonzero(error == DOUBLED))
        false = _elsewhere(doubled.boxes, frame.shape[1], frame.shape[0], rng)
        stays = error != DROPPED
        wrong = Detections(
            boxes=np.concatenate([boxes[stays], false]),
            scores=np.concatenate([found.scores[stays], doubled.scores]),
            labels=np.concatenate([found.labels[stays], doubled.labels]),
            frame_index=found.frame_index,
            time_s=found.time_s,
        )
        return dataclasses.replace(answer, detections=wrong)


def _shifts(boxes: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    sides = boxes[:, 2:] - boxes[:, :2]
    moved = sides * rng.uniform(*SHIFT, sides.shape) * rng.choice([-1.0, 1.0], sides.shape)
    return np.tile(moved, 2).astype(np.float32)


def _elsewhere(boxes: NDArray[np.float32], width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    sides = np.minimum(boxes[:, 2:] - boxes[:, :2], [width, height])
    corners = rng.random(sides.shape) * (np.asarray([width, height]) - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
