"""A clean copy of a video: constant rate, plain H.264, upright, no sound; every decoder agrees on its frames."""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidkd.base.errors import VideoError
from vidkd.video.check import VideoCheck, check_video
from vidkd.video.containers import missing_part
from vidkd.video.opening import open_video
from vidkd.video.reader import VideoReader
from vidkd.video.types import Image, Times
from vidkd.video.writer import write_video

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
