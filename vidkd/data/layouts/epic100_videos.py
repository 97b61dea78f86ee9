"""Where the videos of EPIC-KITCHENS-100 lie: files, or folders of frames whose rate is the one at which they were extracted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.data.layouts.layout import Options, not_found, shortened
from vidkd.data.layouts.tables import read_table
from vidkd.data.layouts.tree import ClipFiles, relative

EXPECTED_VIDEOS = "<participant>/videos/<video>.MP4 or <participant>/rgb_frames/<video>/frame_0000000001.jpg (or videos/, rgb_frames/)"
VIDEO_FOLDERS = ("{}/videos", "videos/{}", "videos/train/{}", "videos/test/{}", "videos")
FRAME_FOLDERS = ("{}/rgb_frames", "rgb_frames/{}", "frames_rgb_flow/rgb/train/{}", "frames_rgb_flow/rgb/test/{}", "rgb_frames")
EARLIER_FRAMES_FPS = 60.0
"""Frames of the videos of EPIC-KITCHENS-55 (P01_01) were extracted at this rate whatever their own; those of the extension (P01_101) at
the video's. Source: start_frame against start_timestamp in the official lists."""
RATE_SLACK, RATE_SLACK_S = 0.02, 2.0


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """What the list of videos says of one."""

    duration_s: float
    fps: float


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video that is there: its path from the root, its length, and the rate of a folder of frames (None for a file)."""

    path: str
    duration_s: float
    fps: float | None = None


def read_video_info(path: Path, used: Mapping[str, str]) -> dict[str, VideoFacts]:
    """Facts of the videos in `used`, a map of video to where it is named. Raises DataError for one that is not in the list."""
    if not path.is_file():
        raise DataError(f"no list of videos: {path}", hint="take it from the annotations of the data set")
    facts = {}
    for line, values in read_table(path, ("video_id", "duration", "fps")).items():
        facts[values["video_id"]] = VideoFacts(
            duration_s=_positive(values, "duration", f"{path}:{line}"), fps=_positive(values, "fps", f"{path}:{line}")
        )
    for video, where in used.items():
        if video not in facts:
            raise DataError(f"{where}: unknown video '{video}'", expected=f"one of the {len(facts)} in {path}")
    return {video: facts[video] for video in used}


def _positive(values: Mapping[str, str], column: str, where: str) -> float:
    try:
        number = float(values[column])
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise DataError(f"{where}: {column} {values[column]!r} is not a positive number")
    return number


def find_videos(root: Path, facts: Mapping[str, VideoFacts]) -> dict[str, Video]:
    """The videos that are there; a file wins over a folder of frames."""
    folders = {video: [folder.format(video.partition("_")[0]) for folder in VIDEO_FOLDERS] for video in facts}
    files = ClipFiles(root, root, sorted({folder for choices in folders.values() for folder in choices}))
    found = {}
    for video, fact in facts.items():
        path = next(filter(None, (files.find((folder, video)) for folder in folders[video])), None)
        if path is not None:
            found[video] = Video(path=path, duration_s=fact.duration_s)
        elif (frames := _frames(root, video)) is not None:
            found[video] = _of_frames(root, frames, video, fact)
    return found


def _frames(root: Path, video: str) -> Path | None:
    folders = (root / folder.format(video.partition("_")[0]) / video for folder in FRAME_FOLDERS)
    return next((folder for folder in folders if folder.is_dir()), None)


def _of_frames(root: Path, folder: Path, video: str, fact: VideoFacts) -> Video:
    from vidkd.video.image_sequence import list_images

    count = len(list_images(str(folder)))
    fps = frame_rate(count, video, fact, folder)
    return Video(path=relative(folder, root), duration_s=count / fps, fps=fps)


def frame_rate(count: int, video: str, fact: VideoFacts, folder: object) -> float:
    """Frames a second of `count` images: the rate of the official frames or of the video, whichever fits its duration better.

    Between 60 and 59.94 lie two seconds after half an hour. Raises DataError if neither fits within 2 % (2 s in a short video).
    """
    official = EARLIER_FRAMES_FPS if len(video.partition("_")[2]) == 2 else fact.fps
    rates = (official, fact.fps)
    fps = min(rates, key=lambda rate: abs(count / rate - fact.duration_s))
    if abs(count / fps - fact.duration_s) > max(RATE_SLACK_S, RATE_SLACK * fact.duration_s):
        raise DataError(
            f"{count} images do not make video '{video}'",
            folder=folder,
            expected=f"about {' or '.join(f'{rate * fact.duration_s:.0f} ({rate:g} a second)' for rate in dict.fromkeys(rates))}",
            hint="unpack the archive again, or extract frames at the rate of the video",
        )
    return fps


def check_there(name: str, root: Path, expected: str, used: Sequence[str], videos: Mapping[str, Video], options: Options) -> frozenset[str]:
    """The videos in `used` that are absent. Raises DataError if some are and `allow_missing` is not given, and always if all are."""
    absent = [video for video in used if video not in videos]
    packed = [path for video in absent for folder in FRAME_FOLDERS if (path := _packed(root, folder, video)).is_file()]
    hint = {"packed": f"{shortened([relative(path, root) for path in packed])}: unpack each into a folder of its name"} if packed else {}
    if len(absent) == len(used) and not packed:
        not_found(name, root, expected, f"none of the {len(used)} videos that the lists name ({shortened(absent)})")
    if absent and (not options.allow_missing or len(absent) == len(used)):
        raise DataError(
            f"data set '{name}' is incomplete: {len(absent)} of the {len(used)} videos that its lists name are missing",
            looked_in=root,
            missing=shortened(absent),
            **hint,
            hint="fetch or unpack them, or leave their actions out with --allow-missing",
        )
    return frozenset(absent)


def _packed(root: Path, folder: str, video: str) -> Path:
    return root / folder.format(video.partition("_")[0]) / f"{video}.tar"
