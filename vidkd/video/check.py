"""Is a video whole, and does reading a frame by index give that frame? And a clean copy of it, on whose frames every decoder agrees."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidkd.base.errors import VideoError
from vidkd.video.containers import RgbConverter, decoded_frames, missing_part, opened
from vidkd.video.opening import open_video, read_file
from vidkd.video.pyav_reader import Timeline
from vidkd.video.reader import Image, Times, VideoReader
from vidkd.video.writer import write_video

AGREE_LEVELS = 1.0
"""Mean absolute difference, of 255, up to which two pictures count as the same."""

TIMES_AGREE_S = 2e-3


@dataclass(frozen=True, kw_only=True)
class VideoCheck:
    """What is known of one file.

    usable: every frame that the file promises can be decoded. first_error says what went wrong and after which frame.
    index_reliable: nothing in its packets speaks against reading it by index with decord, and the frames that PyAV read by index are those
        of sequential decoding; index_problem says why not. Always False for a file that is not usable.
    width, height: of the upright picture; sizes, counts and times are 0 where the file cannot be opened.
    """

    path: str
    usable: bool = False
    codec: str = ""
    width: int = 0
    height: int = 0
    frame_count: int = 0
    average_fps: float = 0.0
    duration_s: float = 0.0
    index_reliable: bool = False
    first_error: str | None
    index_problem: str | None = None


def check_video(path: Path | str, *, samples: int = 10, seed: int = 0) -> VideoCheck:
    """Decode a file once from beginning to end, then read sample frames by index and compare.

    samples: how many frames besides the first and the last, chosen by `seed` and the same on every run; none of a file that decord must
    not read by what its packets tell. Never raises for a bad file.
    """
    name, error, count = str(path), None, 0
    try:
        index = read_file(name)
        last = len(index.pts) - 1
        wanted = set() if index.problem else {0, last, *random.Random(seed).sample(range(last + 1), min(samples, last + 1))}
        expected: dict[int, Image] = {}
        with opened(name) as (container, stream):
            timeline, rgb = Timeline(stream, index.fps), RgbConverter(threads=1)
            try:
                for frame in decoded_frames(container, stream, name):
                    timeline.add(frame)
                    if count in wanted:
                        expected[count] = index.orientation.apply(rgb(frame))
                    count += 1
            except VideoError as damage:
                error = f"after {count} frames: {damage.lines['reason']}"
        if not count:
            raise VideoError(f"no frame can be decoded: {name}", reason=error or "no picture comes out of the decoder")
        times_s, duration_s = timeline.times()
        error = error or index.damage or missing_part(name, duration_s)
        problem = index.problem
        if not error and not problem:
            with open_video(name) as reader:
                problem = index_problem(reader, times_s, expected, seed)
    except VideoError as failure:
        reason = failure.lines.get("reason") or failure.lines.get("size")
        return VideoCheck(path=name, first_error=failure.what.split(":")[0] + (f": {reason}" if reason else ""))
    return VideoCheck(
        path=name,
        usable=error is None,
        codec=index.codec,
        width=index.width,
        height=index.height,
        frame_count=count,
        average_fps=count / duration_s if duration_s else 0.0,
        duration_s=duration_s,
        index_reliable=error is None and problem is None,
        first_error=error,
        index_problem=problem,
    )


def index_problem(
    reader: VideoReader, times_s: "np.typing.NDArray[np.float64]", expected: Mapping[int, Image], seed: int = 0
) -> str | None:
    """Why frames by index are not those of sequential decoding, whose times and sample images are given.

    Samples are read one by one in random order, so that every one of them costs a seek.
    """
    if len(reader) != len(times_s):
        return f"the index counts {len(reader)} frames, decoding gives {len(times_s)}"
    apart_s = float(np.abs(reader.timestamps_s - times_s).max())
    if apart_s > TIMES_AGREE_S:
        return f"times by index are off by up to {apart_s:.3f} s"
    for place in random.Random(seed).sample(sorted(expected), len(expected)):
        found = reader.frames_at_indices([place])[0]
        if found.shape != expected[place].shape:
            return f"frame {place} by index has the size {found.shape[1]} x {found.shape[0]}"
        levels = float(np.abs(found.astype(np.int16) - expected[place]).mean())
        if levels > AGREE_LEVELS:
            return f"frame {place} by index is not frame {place} in order (they differ by {levels:.1f} levels)"
    return None


USUAL_RATES = [Fraction(rate) for rate in range(1, 241)] + [Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120)]


def normalise_video(source: Path | str, destination: Path | str) -> VideoCheck:
    """Write a copy of `source` that can be read by index safely and quickly, and check it; the source is only read.

    The copy is H.264 without B-frames, a key frame at least every 12 frames, yuv420p (yuv444p for odd sizes), index at the front (mp4),
    no sound, display rotation carried out. A source of constant rate keeps its frames one for one; another is resampled to its average
    rate, each frame showing what was on the screen at that time. An existing destination is replaced.
    Raises VideoError if the source is damaged, ends early, or is the destination.
    """
    source, destination = Path(source), Path(destination)
    if source.resolve() == destination.resolve():
        raise VideoError(f"the copy would replace its source: {source}")
    with open_video(source) as reader:
        if reason := incomplete(reader):  # damage inside is met while streaming
            raise VideoError(f"cannot normalise: {source}", reason=reason)
        rate, repeats = plan_frames(reader.timestamps_s, reader.info.duration_s)
        write_video(destination, _repeated(reader, repeats), fps=rate)
    return check_video(destination)


def incomplete(reader: VideoReader) -> str | None:
    """Why a video ends before its header says, or has a hole, as far as its packets tell; None for one that is whole."""
    info = reader.info
    return None if info.backend == "images" else info.damage or missing_part(info.path, info.duration_s)


def plan_frames(times_s: Times, duration_s: float) -> tuple[Fraction, Counter[int]]:
    """The constant rate of the copy, and how often each source frame appears in it.

    times_s: presentation times (N,) from 0. Every frame once if the times are regular.
    """
    gaps_s = np.diff(times_s)
    typical_s = float(times_s[-1]) / len(gaps_s) if len(gaps_s) else duration_s
    if not len(gaps_s) or np.abs(gaps_s - typical_s).max() <= max(0.1 * typical_s, 2e-3):
        return usual_rate(1 / typical_s), Counter(range(len(times_s)))
    rate = usual_rate(len(times_s) / duration_s)
    ticks_s = np.arange(max(1, round(duration_s * rate))) / float(rate)
    return rate, Counter((np.searchsorted(times_s, ticks_s + 1e-6, side="right") - 1).tolist())


def usual_rate(fps: float) -> Fraction:
    """The usual frame rate within 0.05 percent of `fps` (containers round their times), else `fps` as a fraction."""
    nearest = min(USUAL_RATES, key=lambda rate: abs(float(rate) - fps))
    return nearest if abs(float(nearest) - fps) <= 5e-4 * fps else Fraction(fps).limit_denominator(1001)


def _repeated(reader: VideoReader, repeats: Counter[int]) -> Iterator[Image]:
    for frame in reader.stream():
        for _ in range(repeats[frame.index]):
            yield frame.image
