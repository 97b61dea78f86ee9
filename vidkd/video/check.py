"""Is a video whole, and does reading a frame by index give that frame? Decodes everything once."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vidkd.base.errors import VideoError
from vidkd.video.containers import RgbConverter, decoded_frames, missing_part, opened
from vidkd.video.index import PacketIndex
from vidkd.video.opening import open_video, read_file
from vidkd.video.pyav_reader import Timeline
from vidkd.video.reader import VideoReader
from vidkd.video.types import MAX_PIXELS, Image

AGREE_LEVELS = 1.0
"""Mean absolute difference, of 255, up to which two pictures count as the same: decoders may round the conversion to RGB differently."""

TIMES_AGREE_S = 2e-3


@dataclass(frozen=True, kw_only=True)
class VideoCheck:
    """What is known of one file.

    usable: every frame that the file promises can be decoded. first_error says what went wrong and after which frame.
    index_reliable: every decoder finds frames by index, in random order, as sequential decoding gives them; index_problem says why not.
        Always False for a file that is not usable.
    width, height: of the upright picture; sizes, counts and times are 0 where the file cannot be opened.
    """

    path: str
    usable: bool
    codec: str
    width: int
    height: int
    frame_count: int
    average_fps: float
    duration_s: float
    index_reliable: bool
    first_error: str | None
    index_problem: str | None = None


def check_video(path: Path | str, *, samples: int = 10, seed: int = 0, max_pixels: int = MAX_PIXELS) -> VideoCheck:
    """Decode a file once from beginning to end, then read sample frames by index and compare.

    samples: how many frames besides the first and the last, chosen by `seed` and the same on every run. Never raises for a bad file.
    """
    name = str(path)
    try:
        index = read_file(name, max_pixels)
        walk = _decode_all(name, index, samples, seed)
    except VideoError as error:
        return _unusable(name, error)
    problem = index.problem or (None if walk.error else _index_problem(name, walk, seed))
    return VideoCheck(
        path=name,
        usable=walk.error is None,
        codec=index.codec,
        width=index.width,
        height=index.height,
        frame_count=walk.frame_count,
        average_fps=walk.frame_count / walk.duration_s if walk.duration_s else 0.0,
        duration_s=walk.duration_s,
        index_reliable=walk.error is None and problem is None,
        first_error=walk.error,
        index_problem=problem,
    )


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """What sequential decoding found: sample images by index, upright."""

    frame_count: int
    times_s: "np.typing.NDArray[np.float64]"
    duration_s: float
    samples: Mapping[int, Image]
    error: str | None


class _Sampler:
    """The first frame, the last, and a uniform choice of the others (reservoir sampling), held undecoded until the end."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._random = size, random.Random(seed)
        self._kept: list[tuple[int, Any]] = []
        self._ends: dict[str, tuple[int, Any]] = {}
        self.count = 0

    def add(self, frame: Any) -> None:
        self._ends.setdefault("first", (self.count, frame))
        self._ends["last"] = (self.count, frame)
        if len(self._kept) < self._size:
            self._kept.append((self.count, frame))
        elif self._size and (place := self._random.randrange(self.count + 1)) < self._size:
            self._kept[place] = (self.count, frame)
        self.count += 1

    def frames(self) -> dict[int, Any]:
        return dict([*self._kept, *self._ends.values()])


def _decode_all(name: str, index: PacketIndex, samples: int, seed: int) -> _Walk:
    sampler, error = _Sampler(samples, seed), None
    with opened(name) as (container, stream):
        timeline = Timeline(stream, float(1 / index.fps))
        try:
            for frame in decoded_frames(container, stream, name):
                timeline.add(frame)
                sampler.add(frame)
        except VideoError as damage:
            error = f"after {damage.lines['after frames']} frames: {damage.lines['reason']}"

    if not sampler.count:
        raise VideoError(f"no frame can be decoded: {name}", reason=error or "no picture comes out of the decoder")
    error = error or index.damage or missing_part(name, timeline.duration_s())
    to_rgb = RgbConverter(threads=1)
    images = {place: index.orientation.apply(to_rgb(frame)) for place, frame in sampler.frames().items()}
    return _Walk(frame_count=sampler.count, times_s=timeline.times_s(), duration_s=timeline.duration_s(), samples=images, error=error)


def _index_problem(name: str, walk: _Walk, seed: int) -> str | None:
    """Reads the samples one by one in random order, so that every one of them costs a seek."""
    order = sorted(walk.samples)
    random.Random(seed).shuffle(order)
    try:
        with open_video(name, backend="pyav") as reader:
            problem = _timeline_problem(reader, walk) or _sample_problem(reader, walk.samples, order)
    except VideoError as error:
        return error.lines.get("reason", error.what)
    return problem or _decord_problem(name, walk, order)


def _decord_problem(name: str, walk: _Walk, order: list[int]) -> str | None:
    """As above, of decord; None too where decord does not open the file, which is no fault of it."""
    try:
        reader = open_video(name, backend="decord")
    except VideoError:
        return None
    try:
        with reader:
            return _sample_problem(reader, walk.samples, order)
    except VideoError as error:
        return error.lines.get("reason", error.what)


class _ByIndex(Protocol):
    def frames_at_indices(self, indices: list[int], /) -> Image: ...


def _sample_problem(reader: _ByIndex, samples: Mapping[int, Image], order: list[int]) -> str | None:
    for place in order:
        found = reader.frames_at_indices([place])[0]
        if found.shape != samples[place].shape:
            return f"frame {place} by index has the size {found.shape[1]} x {found.shape[0]}"
        levels = float(np.abs(found.astype(np.int16) - samples[place]).mean())
        if levels > AGREE_LEVELS:
            return f"frame {place} by index is not frame {place} in order (they differ by {levels:.1f} levels)"
    return None


def _timeline_problem(reader: VideoReader, walk: _Walk) -> str | None:
    if len(reader) != walk.frame_count:
        return f"the index counts {len(reader)} frames, decoding gives {walk.frame_count}"
    apart_s = float(np.abs(reader.timestamps_s - walk.times_s).max())
    return f"times by index are off by up to {apart_s:.3f} s" if apart_s > TIMES_AGREE_S else None


def _unusable(name: str, error: VideoError) -> VideoCheck:
    reason = error.lines.get("reason") or error.lines.get("size")
    return failed_check(name, error.what.split(":")[0] + (f": {reason}" if reason else ""))


def failed_check(name: str, reason: str) -> VideoCheck:
    """The result for a file of which nothing could be found out."""
    return VideoCheck(
        path=name,
        usable=False,
        codec="",
        width=0,
        height=0,
        frame_count=0,
        average_fps=0.0,
        duration_s=0.0,
        index_reliable=False,
        first_error=reason,
    )
