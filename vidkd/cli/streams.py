"""What the verbs that walk along a stream share: arguments, the stream's configuration, and what is said of Ctrl-C."""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vidkd.base.errors import ConfigError
from vidkd.cli.classifiers import add_threads_argument
from vidkd.cli.number_flags import add_count, add_number, add_share

if TYPE_CHECKING:
    from vidkd.detection.stream import Region, StreamConfig

STOPPED = 130
"""Exit code of a verb that the user stopped."""
FINISHING = "finishing the part in hand"
"""What such a verb does behind the first Ctrl-C."""


def add_stream_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is written, which boxes are kept, and which frames are looked at."""
    parser.add_argument("--formats", nargs="+", metavar="NAME", help="video, jsonl, coco, mot, csv (default: all)")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="keep boxes of these classes alone")
    add_share(parser, "--score", metavar="P", help="least score of a box (default: the model's)")
    add_share(parser, "--nms", metavar="IOU", help="overlap above which the weaker of two boxes falls (default: the model's)")
    parser.add_argument("--region", metavar="X1,Y1,X2,Y2", help="keep boxes whose centre is inside; pixels, or parts of the frame")
    parser.add_argument("--track", action="store_true", help="number objects along the video (ByteTrack)")
    add_count(parser, "--every", default=1, metavar="N", help="look at every N-th frame only (default: 1)")
    add_number(parser, "--seconds", above=0, metavar="S", help="stop after so many seconds of the video")
    add_number(parser, "--fps", above=0, metavar="N", help="frames a second of an image sequence (default: 25)")
    add_count(parser, "--part", default=240, metavar="N", help="frames written together: what a kill costs (default: 240)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    add_threads_argument(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier run left for these inputs")


def stream_config(arguments: argparse.Namespace, *, batch: int) -> "StreamConfig":
    """The stream that the arguments describe. Raises ConfigError for one that cannot be."""
    from vidkd.detection.stream import FORMATS, StreamConfig

    with told_by("--formats"):  # numbers were looked at when flags were read
        return StreamConfig(
            formats=tuple(dict.fromkeys(arguments.formats or FORMATS)),
            every=arguments.every,
            seconds=arguments.seconds,
            sequence_fps=arguments.fps,
            part_frames=arguments.part,
            batch=batch,
        )


def region_of(arguments: argparse.Namespace) -> "Region | None":
    """The region of --region. Raises ConfigError for what is none."""
    from vidkd.detection.stream import Region

    with told_by("--region"):
        return Region.parse(arguments.region) if arguments.region else None


@contextlib.contextmanager
def told_by(flag: str) -> Iterator[None]:
    """A ConfigError of the block says which flag it is about."""
    try:
        yield
    except ConfigError as error:
        raise error.with_lines(flag=flag) from error


@contextlib.contextmanager
def out_folder(out: Path) -> Iterator[None]:
    """The folder --out, which goes again if it was made in the block and every input failed: then it is empty."""
    there = out.exists()
    try:
        yield
    finally:
        if not there:
            with contextlib.suppress(OSError):
                out.rmdir()
