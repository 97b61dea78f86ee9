"""EPIC-KITCHENS-100: the official CSV files, and videos or folders of frames as the download script leaves them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import ClipFiles, Options, Reading, first_folder, hashes, not_found, relative, shortened
from vidkd.data.layouts.lists import check_overlaps, inside, read_table
from vidkd.data.manifest import Clip, Manifest

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


NAME = "epic100"
LIST_FOLDERS = ("annotations", "epic-kitchens-100-annotations", "splits", ".")
TRAIN, VALIDATION, TEST = "EPIC_100_train.csv", "EPIC_100_validation.csv", "EPIC_100_test_timestamps.csv"
EXPECTED = f"{TRAIN}, {VALIDATION}, the class lists and EPIC_100_video_info.csv (in annotations/, say) and {EXPECTED_VIDEOS}"
UNSEEN = "EPIC_100_unseen_participant_ids_validation.csv"
_COLUMNS = ("narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp")
_TIME = re.compile(r"(\d+):([0-5]?\d):([0-5]?\d(?:\.\d+)?)")


@dataclass(frozen=True, kw_only=True)
class Narration:
    """A row of one of the lists: an action, without its classes in the list of the challenge's test set."""

    name: str
    participant: str
    video: str
    start_s: float
    end_s: float
    classes: tuple[int, int] | None
    source: str
    where: str


def read(root: Path, options: Options) -> Reading:
    """A clip is an action of an uncut video; its label is the pair (verb, noun), its targets are verb and noun; a group is a video.

    Split "1" trains on the training list and tests on the validation list, which is the last one with labels. Where videos of the test list
    are there, split "challenge" trains on both and tests on that, without labels. Classes are the pairs that occur in the lists, those of
    the validation list too, as the published results count them. Tags: "unseen" (participant), "tail_verb", "tail_noun", and "tail" for
    either, where the official lists of these are there.
    """
    lists = _lists(root)
    verbs, nouns = (read_classes(lists / f"EPIC_100_{kind}_classes.csv") for kind in ("verb", "noun"))
    rows = _narrations(lists, len(verbs), len(nouns))
    info = read_video_info(lists / "EPIC_100_video_info.csv", {row.video: row.where for row in rows})
    videos = find_videos(root, info)
    rows, notes = _without_unused_test(rows, videos)
    absent = check_there(NAME, root, EXPECTED, sorted({row.video for row in rows}), videos, options)
    pairs = {pair: label for label, pair in enumerate(sorted({row.classes for row in rows if row.classes is not None}))}
    splits = ("1", "challenge") if any(row.source == TEST for row in rows) else ("1",)
    here = [row for row in rows if row.video not in absent]
    tags = _Tags(lists, rows, len(verbs), len(nouns))
    clips = [_clip(row, videos[row.video], pairs, _subsets(row, splits), tags.of(row)) for row in here]
    notes += check_overlaps(clips, lambda number: here[number].where, allowed=True)
    manifest = Manifest(
        name=NAME,
        root=root,
        classes=tuple(f"{verbs[verb]} {nouns[noun]}" for verb, noun in pairs),
        splits=splits,
        clips=tuple(clips),
        sources=hashes(root, sorted(lists.glob("EPIC_100_*.csv"))),
        targets={"verb": verbs, "noun": nouns},
    )
    return Reading(manifest=manifest, absent=tuple(row.name for row in rows if row.video in absent), notes=notes)


def _lists(root: Path) -> Path:
    first_folder(NAME, root, (".",), EXPECTED)
    folders = [root / folder for folder in LIST_FOLDERS if any((root / folder / name).is_file() for name in (TRAIN, VALIDATION))]
    if not folders:
        not_found(NAME, root, EXPECTED, f"neither {TRAIN} nor {VALIDATION}, in the root or in {', '.join(LIST_FOLDERS[:-1])}")
    return folders[0]


def read_classes(path: Path) -> tuple[str, ...]:
    """The keys of a list of classes in the order of their ids. Raises DataError unless these are 0, 1, 2, … and every key is unique."""
    if not path.is_file():
        raise DataError(f"no list of classes: {path}", hint="take it from the annotations of the data set")
    keys = {row["id"]: row["key"] for row in read_table(path, ("id", "key")).values()}
    names = tuple(keys[str(number)] for number in range(len(keys)) if str(number) in keys)
    if not names or len(names) < len(keys) or len(set(names)) < len(names) or "" in names:
        raise DataError(f"not a list of classes: {path}", expected="ids from 0 on without a gap, each with a key of its own")
    return names


def _narrations(lists: Path, verbs: int, nouns: int) -> list[Narration]:
    rows: dict[str, Narration] = {}
    for source in (TRAIN, VALIDATION, TEST):
        path = lists / source
        columns = _COLUMNS if source == TEST else (*_COLUMNS, "verb_class", "noun_class")
        table = read_table(path, columns) if path.is_file() else {}
        for line, values in table.items():
            row = _narration(values, source, verbs, nouns, f"{path}:{line}")
            first = rows.setdefault(row.name, row)
            if first is not row:
                raise DataError(f"{row.where}: narration_id '{row.name}' stands in {first.where} too", hint="take one of the rows out")
    return list(rows.values())


def _narration(values: Mapping[str, str], source: str, verbs: int, nouns: int, where: str) -> Narration:
    for column in _COLUMNS[:3]:
        if not values[column]:
            raise DataError(f"{where}: no {column}")
    participant, video = values["participant_id"], values["video_id"]
    if participant != video.partition("_")[0]:
        raise DataError(f"{where}: unknown participant '{participant}'", expected=f"that of video '{video}'")
    start_s, end_s = (seconds(values[f"{edge}_timestamp"], f"{where}: {edge}_timestamp") for edge in ("start", "stop"))
    if end_s <= start_s:
        raise DataError(f"{where}: the action stops at {end_s:g} s, not after its start at {start_s:g} s")
    classes = None
    if source != TEST:
        classes = (_class_id(values, "verb_class", verbs, where), _class_id(values, "noun_class", nouns, where))
    return Narration(
        name=values["narration_id"],
        participant=participant,
        video=video,
        start_s=start_s,
        end_s=end_s,
        classes=classes,
        source=source,
        where=where,
    )


def seconds(text: str, where: str) -> float:
    """Seconds of HH:MM:SS.ff; raises DataError, beginning with `where`, for anything else."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise DataError(f"{where} {text!r} is not a time", expected="HH:MM:SS.ff")
    return round(int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]), 6)


def _class_id(values: Mapping[str, str], column: str, count: int, where: str) -> int:
    if not values[column].isdecimal() or int(values[column]) >= count:
        raise DataError(f"{where}: {column} {values[column]!r} is out of range", expected=f"0 to {count - 1}")
    return int(values[column])


def _without_unused_test(rows: Sequence[Narration], videos: Mapping[str, Video]) -> tuple[list[Narration], tuple[str, ...]]:
    """The rows, without those of the test list if not one of its videos is there, and remarks."""
    sources = {row.source for row in rows}
    sides = {TRAIN: "training", VALIDATION: "test"}
    notes = tuple(f"{source} is not there: split 1 has no {side} clips" for source, side in sides.items() if source not in sources)
    if any(row.source == TEST and row.video in videos for row in rows):
        return list(rows), notes
    if TEST in sources:
        notes += (f"none of the videos of {TEST} is there: no split challenge",)
    return [row for row in rows if row.source != TEST], notes


class _Tags:
    """Which rows belong to the subsets that the official evaluation distinguishes."""

    def __init__(self, lists: Path, rows: Sequence[Narration], verbs: int, nouns: int) -> None:
        self._unseen = _participants(lists / UNSEEN, rows)
        self._verbs = _tail(lists / "EPIC_100_tail_verbs.csv", "verb", verbs)
        self._nouns = _tail(lists / "EPIC_100_tail_nouns.csv", "noun", nouns)

    def of(self, row: Narration) -> tuple[str, ...]:
        if row.classes is None:
            return ()
        verb, noun = row.classes[0] in self._verbs, row.classes[1] in self._nouns
        present = {"unseen": row.participant in self._unseen, "tail": verb or noun, "tail_verb": verb, "tail_noun": noun}
        return tuple(name for name, holds in present.items() if holds)


def _participants(path: Path, rows: Iterable[Narration]) -> set[str]:
    known = {source: {row.participant for row in rows if row.source == source} for source in (TRAIN, VALIDATION)}
    unseen = set()
    for line, values in (read_table(path, ("participant_id",)) if path.is_file() else {}).items():
        participant = values["participant_id"]
        if participant not in known[VALIDATION] | known[TRAIN]:
            raise DataError(f"{path}:{line}: unknown participant '{participant}'", expected=f"one of those in {VALIDATION}")
        if participant in known[TRAIN]:
            raise DataError(f"{path}:{line}: participant '{participant}' is not unseen", found=f"in {TRAIN}")
        unseen.add(participant)
    return unseen


def _tail(path: Path, column: str, count: int) -> set[int]:
    table = read_table(path, (column,)) if path.is_file() else {}
    return {_class_id(values, column, count, f"{path}:{line}") for line, values in table.items()}


_SUBSETS = {TRAIN: {"1": "train", "challenge": "train"}, VALIDATION: {"1": "test", "challenge": "train"}, TEST: {"challenge": "test"}}


def _subsets(row: Narration, splits: Sequence[str]) -> dict[str, str]:
    return {split: subset for split, subset in _SUBSETS[row.source].items() if split in splits}


def _clip(row: Narration, video: Video, pairs: Mapping[tuple[int, int], int], subsets: Mapping[str, str], tags: tuple[str, ...]) -> Clip:
    return Clip(
        path=video.path,
        label=None if row.classes is None else pairs[row.classes],
        group=row.video,
        subsets=subsets,
        start_s=row.start_s,
        end_s=inside(row.start_s, row.end_s, video.duration_s, row.where, video.path),
        targets={} if row.classes is None else {"verb": row.classes[0], "noun": row.classes[1]},
        name=row.name,
        tags=tags,
        fps=video.fps,
    )
