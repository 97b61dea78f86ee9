"""EPIC-KITCHENS-100: the official CSV files, and videos or folders of frames as the download script leaves them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidkd.base.errors import DataError
from vidkd.data.layouts.epic100_videos import EXPECTED_VIDEOS, Video, check_there, find_videos, read_video_info
from vidkd.data.layouts.intervals import check_overlaps, inside
from vidkd.data.layouts.layout import Options, Reading, first_folder, hashes, not_found
from vidkd.data.layouts.tables import read_table
from vidkd.data.manifest import Clip, Manifest

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
    """The keys of a list of classes in the order of their ids. Raises DataError unless these are 0, 1, 2, … and every key stands once."""
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
    """Which rows belong to the subsets that the official evaluation tells apart."""

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
