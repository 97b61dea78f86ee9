"""What the verbs that walk along videos share: their settings, the stream's configuration, and the folder of results."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vidkd.base.records import Count, Positive, Share, Whole

if TYPE_CHECKING:
    from vidkd.detection.stream import StreamConfig

STOPPED = 130
"""Exit code of a verb that the user stopped."""
FINISHING = "finishing the part in hand"
"""What such a verb does behind the first Ctrl-C."""


@dataclass(frozen=True, kw_only=True)
class FootageSettings:
    """Which frames a model looks at, and where it runs.

    Args:
        score: least score of a box (default: the model's).
        nms: overlap above which the weaker of two boxes is dropped (default: the model's).
        every: look at every N-th frame only.
        seconds: stop after so many seconds of each video.
        fps: frames a second of an image sequence (default: 25).
        device: auto, cpu, cuda or mps.
        threads: of the model on a processor (default: its library's choice).
        overwrite: replace what an earlier run left.
    """

    score: Share | None = None
    nms: Share | None = None
    every: Count = 1
    seconds: Positive | None = None
    fps: Positive | None = None
    device: str = "auto"
    threads: Whole = 0
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class StreamSettings(FootageSettings):
    """What is written, and which boxes are kept.

    Args:
        out: each input gets a folder of its own in it.
        formats: video, jsonl, coco, mot, csv (default: all).
        classes: keep only boxes of these classes.
        region: X1,Y1,X2,Y2, keep boxes whose centre is inside; pixels, or parts of the frame.
        track: number objects along the video (ByteTrack).
        part: frames written together, the most that a kill costs.
    """

    out: Path
    formats: tuple[Literal["video", "jsonl", "coco", "mot", "csv"], ...] = ()
    classes: tuple[str, ...] = ()
    region: str | None = None
    track: bool = False
    part: Count = 240


def stream_config(given: StreamSettings, *, batch: int, real_time: bool = False) -> "StreamConfig":
    """The stream that the settings describe."""
    from vidkd.detection.stream import FORMATS, StreamConfig

    return StreamConfig(
        formats=tuple(dict.fromkeys(given.formats or FORMATS)),
        every=given.every,
        seconds=given.seconds,
        sequence_fps=given.fps,
        part_frames=given.part,
        batch=batch,
        real_time=real_time,
    )


@contextlib.contextmanager
def out_folder(out: Path) -> Iterator[None]:
    """The folder --out, which is removed if it was made in the block and every input failed: then it is empty."""
    there = out.exists()
    try:
        yield
    finally:
        if not there:
            with contextlib.suppress(OSError):
                out.rmdir()
