"""EPIC-KITCHENS-100: the official CSV files, and videos or folders of frames as the download script leaves them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import (
    ClipFiles,
    Options,
    Reading,
    check_overlaps,
    first_folder,
    inside,
    manifest_of,
    not_found,
    read_table,
    relative,
    shortened,
)
from vidkd.data.manifest import Clip

NAME = "epic100"
LIST_FOLDERS = ("annotations", "epic-kitchens-100-annotations", "splits", ".")
TRAIN, VALIDATION, TEST = "EPIC_100_train.csv", "EPIC_100_validation.csv", "EPIC_100_test_timestamps.csv"
EXPECTED_VIDEOS = "<participant>/videos/<video>.MP4 or <participant>/rgb_frames/<video>/frame_0000000001.jpg (or videos/, rgb_frames/)"
EXPECTED = f"{TRAIN}, {VALIDATION}, the class lists and EPIC_100_video_info.csv (in annotations/, say) and {EXPECTED_VIDEOS}"
VIDEO_FOLDERS = ("{}/videos", "videos/{}", "videos/train/{}", "videos/test/{}", "videos")
FRAME_FOLDERS = ("{}/rgb_frames", "rgb_frames/{}", "frames_rgb_flow/rgb/train/{}", "frames_rgb_flow/rgb/test/{}", "rgb_frames")
EARLIER_FRAMES_FPS = 60.0
"""Frames of the videos of EPIC-KITCHENS-55 (P01_01) were extracted at this rate whatever their own; those of the extension (P01_101) at
the video's. Source: start_frame against start_timestamp in the official lists."""
RATE_SLACK, RATE_SLACK_S = 0.02, 2.0
_SUBSETS = {TRAIN: {"1": "train", "challenge": "train"}, VALIDATION: {"1": "test", "challenge": "train"}, TEST: {"challenge": "test"}}
_COLUMNS = ("narration_id", "video_id", "start_timestamp", "stop_timestamp")
_TIME = re.compile(r"(\d+):([0-5]?\d):([0-5]?\d(?:\.\d+)?)")


class Narration(NamedTuple):
    """A row of one of the lists: an action, without its classes (verb, noun) in the list of the challenge's test set."""

    name: str
    video: str
    start_s: float
    end_s: float
    classes: tuple[int, int] | None
    source: str
    where: str


class Video(NamedTuple):
    """A video that is there: its path from the root, its length, and the rate of a folder of frames (None for a file)."""

    path: str
    duration_s: float
    fps: float | None = None


def read(root: Path, options: Options) -> Reading:
    """A clip is an action in an uncut video; its label is the pair (verb, noun), its targets are verb and noun; a group is a video.

    Split "1" trains on the training list and tests on the validation list, which is the last one with labels. Where videos of the test list
    are there, split "challenge" trains on both and tests on that, without labels. Classes are the pairs that occur in the lists, those of
    the validation list too, as the published results count them. Tags: "unseen" (participant), "tail_verb", "tail_noun", and "tail" for
    either, where the official lists of these are there.
    """
    first_folder(NAME, root, (".",), EXPECTED)
    folders = [root / folder for folder in LIST_FOLDERS if any((root / folder / name).is_file() for name in (TRAIN, VALIDATION))]
    if not folders:
        not_found(NAME, root, EXPECTED, f"neither {TRAIN} nor {VALIDATION}, in the root or in {', '.join(LIST_FOLDERS[:-1])}")
    lists = folders[0]
    verbs, nouns = (read_classes(lists / f"EPIC_100_{kind}_classes.csv") for kind in ("verb", "noun"))
    rows = [row for source in _SUBSETS for row in _narrations(lists / source, len(verbs), len(nouns))]
    videos = find_videos(root, _facts(lists / "EPIC_100_video_info.csv", rows))
    sources, sides = {row.source for row in rows}, {TRAIN: "training", VALIDATION: "test"}
    notes = tuple(f"{source} is not there: split 1 has no {side} clips" for source, side in sides.items() if source not in sources)
    splits: tuple[str, ...] = ("1", "challenge")
    if not any(row.source == TEST and row.video in videos for row in rows):
        splits, rows = ("1",), [row for row in rows if row.source != TEST]
        notes += (f"none of the videos of {TEST} is there: no split challenge",) if TEST in sources else ()
    absent = _absent(root, sorted({row.video for row in rows}), videos, options)
    pairs = {pair: label for label, pair in enumerate(sorted({row.classes for row in rows if row.classes is not None}))}
    tags = _tags(lists, rows)
    here = [row for row in rows if row.video not in absent]
    clips = [
        Clip(
            path=videos[row.video].path,
            label=pairs.get(row.classes) if row.classes else None,
            group=row.video,
            subsets={split: subset for split, subset in _SUBSETS[row.source].items() if split in splits},
            start_s=row.start_s,
            end_s=inside(row.start_s, row.end_s, videos[row.video].duration_s, row.where, videos[row.video].path),
            targets=dict(zip(("verb", "noun"), row.classes or (), strict=False)),
            name=row.name,
            tags=tags[row.name],
            fps=videos[row.video].fps,
        )
        for row in here
    ]
    notes += check_overlaps(clips, lambda number: here[number].where, allowed=True)
    classes, files = [f"{verbs[verb]} {nouns[noun]}" for verb, noun in pairs], sorted(lists.glob("EPIC_100_*.csv"))
    manifest = manifest_of(NAME, root, classes, splits, clips, files, horizontal_flip=True, targets={"verb": verbs, "noun": nouns})
    return Reading(manifest=manifest, absent=tuple(row.name for row in rows if row.video in absent), notes=notes)


def read_classes(path: Path) -> tuple[str, ...]:
    """The keys of a list of classes in the order of their ids. Raises DataError unless these are 0, 1, 2, ..."""
    keys = {row["id"]: row["key"] for row in read_table(path, ("id", "key")).values()}
    if set(keys) != {str(number) for number in range(len(keys))}:
        raise DataError(f"not a list of classes: {path}", expected="ids from 0 on without a gap")
    return tuple(keys[str(number)] for number in range(len(keys)))


def _narrations(path: Path, verbs: int, nouns: int) -> Iterator[Narration]:
    columns = _COLUMNS if path.name == TEST else (*_COLUMNS, "verb_class", "noun_class")
    for where, row in read_table(path, columns).items() if path.is_file() else ():
        start_s, end_s = (seconds(row[f"{edge}_timestamp"], f"{where}: {edge}_timestamp") for edge in ("start", "stop"))
        classes = None if path.name == TEST else (_class(row, "verb_class", verbs, where), _class(row, "noun_class", nouns, where))
        yield Narration(row["narration_id"], row["video_id"], start_s, end_s, classes, path.name, where)


def seconds(text: str, where: str) -> float:
    """Seconds of HH:MM:SS.ff; raises DataError, beginning with `where`, for anything else."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise DataError(f"{where} {text!r} is not a time", expected="HH:MM:SS.ff")
    return round(int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]), 6)


def _class(row: Mapping[str, str], column: str, count: int, where: str) -> int:
    if not row[column].isdecimal() or int(row[column]) >= count:
        raise DataError(f"{where}: {column} {row[column]!r} is out of range", expected=f"0 to {count - 1}")
    return int(row[column])


def _tags(lists: Path, rows: Sequence[Narration]) -> dict[str, tuple[str, ...]]:
    """The subsets that the official evaluation distinguishes, by the name of a row; lists that are missing make none."""

    def listed(file: str, column: str) -> set[str]:
        path = lists / f"EPIC_100_{file}.csv"
        return {row[column] for row in read_table(path, (column,)).values()} if path.is_file() else set()

    unseen = listed("unseen_participant_ids_validation", "participant_id")
    tails = listed("tail_verbs", "verb"), listed("tail_nouns", "noun")
    tags = {}
    for row in rows:
        verb, noun = (str(label) in tail for label, tail in zip(row.classes or (None, None), tails, strict=True))
        holds = {"unseen": row.video.partition("_")[0] in unseen, "tail": verb or noun, "tail_verb": verb, "tail_noun": noun}
        tags[row.name] = tuple(name for name, present in holds.items() if present and row.classes)
    return tags


def _facts(path: Path, rows: Sequence[Narration]) -> dict[str, tuple[float, float]]:
    """Duration in seconds and frames a second of the videos of these rows. Raises DataError for one that is not in the list."""
    facts = {}
    for where, row in read_table(path, ("video_id", "duration", "fps")).items():
        try:
            facts[row["video_id"]] = float(row["duration"]), float(row["fps"])
        except ValueError as error:
            raise DataError(f"{where}: duration and fps are numbers", reason=error) from None
    for narration in rows:
        if narration.video not in facts:
            raise DataError(f"{narration.where}: unknown video '{narration.video}'", expected=f"one of the {len(facts)} in {path}")
    return {row.video: facts[row.video] for row in rows}


def find_videos(root: Path, facts: Mapping[str, tuple[float, float]]) -> dict[str, Video]:
    """The videos in `facts` (duration in seconds, frames a second) that are there, by name; a file wins over a folder of frames."""
    from vidkd.video.image_sequence import list_images

    folders = {video: [folder.format(video.partition("_")[0]) for folder in VIDEO_FOLDERS] for video in facts}
    files = ClipFiles(root, root, sorted({folder for choices in folders.values() for folder in choices}))
    found = {}
    for video, (duration_s, fps) in facts.items():
        paths = [path for folder in folders[video] if (path := files.find((folder, video)))]
        if paths:
            found[video] = Video(paths[0], duration_s)
        elif frames := [folder for place in FRAME_FOLDERS if (folder := root / place.format(video.partition("_")[0]) / video).is_dir()]:
            count = len(list_images(str(frames[0])))
            rate = frame_rate(count, video, duration_s, fps, frames[0])
            found[video] = Video(relative(frames[0], root), count / rate, rate)
    return found


def frame_rate(count: int, video: str, duration_s: float, fps: float, folder: object) -> float:
    """Frames a second of `count` images: the rate of the official frames or of the video, whichever fits its duration better.

    Between 60 and 59.94 lie two seconds after half an hour. Raises DataError if neither fits within 2 % (2 s in a short video).
    """
    official = EARLIER_FRAMES_FPS if len(video.partition("_")[2]) == 2 else fps
    rate = min((official, fps), key=lambda rate: abs(count / rate - duration_s))
    if abs(count / rate - duration_s) > max(RATE_SLACK_S, RATE_SLACK * duration_s):
        raise DataError(
            f"{count} images do not make video '{video}'",
            folder=folder,
            expected=f"about {' or '.join(f'{one * duration_s:.0f} ({one:g} a second)' for one in dict.fromkeys((official, fps)))}",
            hint="unpack the archive again, or extract frames at the rate of the video",
        )
    return rate


def _absent(root: Path, used: Sequence[str], videos: Mapping[str, Video], options: Options) -> frozenset[str]:
    """The videos in `used` that are absent. Raises DataError if some are and `allow_missing` is not given, and always if all are."""
    absent = [video for video in used if video not in videos]
    archives = [root / folder.format(video.partition("_")[0]) / f"{video}.tar" for video in absent for folder in FRAME_FOLDERS]
    packed = [relative(path, root) for path in archives if path.is_file()]
    if len(absent) == len(used) and not packed:
        not_found(NAME, root, EXPECTED, f"none of the {len(used)} videos that the lists name ({shortened(absent)})")
    if absent and (not options.allow_missing or len(absent) == len(used)):
        raise DataError(
            f"data set '{NAME}' is incomplete: {len(absent)} of the {len(used)} videos that its lists name are missing",
            looked_in=root,
            missing=shortened(absent),
            **({"packed": f"{shortened(packed)}: unpack each into a folder of its name"} if packed else {}),
            hint="fetch or unpack them, or leave their actions out with --allow-missing",
        )
    return frozenset(absent)
