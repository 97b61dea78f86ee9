"""UT-Interaction: segmented clips (set1/<number>_<sequence>_<class>.avi), or uncut videos (seq<k>.avi) with a table of intervals."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from vidkd.base.errors import DataError, require
from vidkd.data.layouts.common import (
    ClipFiles,
    Options,
    Reading,
    check_overlaps,
    first_folder,
    from_folders,
    manifest_of,
    not_found,
    relative,
    shortened,
)
from vidkd.data.manifest import Clip
from vidkd.video.files import video_files

EXPECTED = "set1/<number>_<sequence>_<class>.avi (or segmented_set1/, videos/), class 0 to 5"
CLASSES = ("hand-shaking", "hugging", "kicking", "pointing", "punching", "pushing")
_NAME = re.compile(r"(?P<number>\d+)_(?P<sequence>\d+)_(?P<label>[0-5])")

UNTRIMMED = "ut_interaction_untrimmed"
EXPECTED_UNTRIMMED = "ut-interaction_labels_110912.xls and ut-interaction_set1/seq<k>.avi (or set1/, videos/, or in the root itself)"
FOLDERS = ("ut-interaction_set1", "ut-interaction_set2", "set1", "set2", "videos", ".")
SEQUENCES_IN_SET, SEQUENCES_IN_FOLD = 10, 2
_SEQUENCE = re.compile(r"seq(\d+)")


def read(root: Path, options: Options) -> Reading:
    """Splits "seq<k>" (that sequence is the test) and "fold<k>" (the k-th pair of sequences is); a group is a sequence."""
    videos = first_folder("ut_interaction", root, ("set1", "segmented_set1", "videos"), EXPECTED)
    files = {}
    for path in video_files(videos):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            raise DataError(f"not a UT-Interaction name: {path}", expected=EXPECTED, hint="move the file away, or use layout folder")
        files[int(match["number"])] = int(match["sequence"]), int(match["label"]), path
    tests = sequence_splits(sorted({sequence for sequence, _, _ in files.values()}))
    clips = [
        Clip(path=relative(path, root), label=label, group=f"seq{sequence}", subsets=_subsets(tests, sequence))
        for _, (sequence, label, path) in sorted(files.items())
    ]
    return from_folders("ut_interaction", root, CLASSES, tests, clips, options, videos, EXPECTED)


def sequence_splits(sequences: Sequence[int], first_fold: int = 0) -> dict[str, list[int]]:
    """Split -> the sequences that it tests: "seq<k>" that one, "fold<first_fold + k>" the k-th pair in the order given."""
    pairs = [list(sequences[first : first + SEQUENCES_IN_FOLD]) for first in range(0, len(sequences), SEQUENCES_IN_FOLD)]
    folds = {f"fold{number}": pair for number, pair in enumerate(pairs, start=first_fold + 1)}
    return {f"seq{sequence}": [sequence] for sequence in sequences} | folds


def _subsets(tests: dict[str, list[int]], sequence: int) -> dict[str, str]:
    return {split: "test" if sequence in test else "train" for split, test in tests.items()}


class Action(NamedTuple):
    """A row of the labels. Frames are indices from 0, the last one exclusive; box: x1, y1, x2, y2 in pixels, around both persons."""

    sequence: int
    label: int
    start_frame: int
    end_frame: int
    box: tuple[float, float, float, float]
    where: str


def read_untrimmed(root: Path, options: Options) -> Reading:
    """A clip is an action; splits as in the segmented set, those of set 2 (sequences 11 to 20) apart from those of set 1.

    Times are the decoded timestamps of the frames that the labels name. Actions under "others:" go on behind the labelled ones at the same
    time and are no part of the protocol; they are left out, and so is a set of which there is no video at all.
    """
    first_folder(UNTRIMMED, root, (".",), EXPECTED_UNTRIMMED)
    labels = sorted(root.glob("ut-interaction_labels*.xls"))
    if not labels:
        there = shortened(sorted(path.name for path in root.iterdir())) or "nothing"
        not_found(UNTRIMMED, root, EXPECTED_UNTRIMMED, f"no ut-interaction_labels_110912.xls; there: {there}")
    actions, others = read_labels(labels[-1])
    files = ClipFiles(root, root, FOLDERS)
    sequences = sorted({action.sequence for action in actions})
    found = {sequence: [path for folder in FOLDERS if (path := files.find((folder, f"seq{sequence}")))] for sequence in sequences}
    videos = {sequence: paths[0] for sequence, paths in found.items() if paths}
    if not videos:
        not_found(UNTRIMMED, root, EXPECTED_UNTRIMMED, "no seq<k>.avi")
    sets = {_set_of(sequence) for sequence in videos}
    missing = [f"seq{sequence}" for sequence in sequences if sequence not in videos and _set_of(sequence) in sets]
    if missing and not options.allow_missing:
        raise DataError(
            f"data set '{UNTRIMMED}' is incomplete: {len(missing)} of {len(missing) + len(videos)} videos that its labels name are missing",
            looked_in=root,
            missing=shortened(missing),
            hint="unpack the archive again, or leave them out with --allow-missing",
        )
    splits = {number: _splits_of_set(number, sequences, videos) for number in sorted(sets)}
    here = [action for action in actions if action.sequence in videos]
    clips = _clips(root, here, videos, splits)
    notes = check_overlaps(clips, lambda number: here[number].where, allowed=options.allow_overlap)
    notes += (f"left out, under 'others:' in the labels: {others} actions that go on at the same time",) if others else ()
    names = [split for tests in splits.values() for split in tests]
    absent = tuple(action.where for action in actions if f"seq{action.sequence}" in missing)
    return Reading(manifest=manifest_of(UNTRIMMED, root, CLASSES, names, clips, labels[-1:]), absent=absent, notes=notes)


def read_labels(path: Path) -> tuple[list[Action], int]:
    """The actions of every sheet, and how many are listed under "others:". Needs the extra "xls".

    Raises DataError for a file or a row that is not as it should be.
    """
    xlrd = require("xlrd", "xls")
    try:
        sheets = xlrd.open_workbook(str(path)).sheets()
    except Exception as error:  # a damaged file raises whatever its parser happens to trip over
        raise DataError(f"not an Excel table: {path}", reason=repr(error), hint="take it from the archive again") from None
    parts = [read_rows(map(sheet.row_values, range(sheet.nrows)), f"{path}, sheet {sheet.name}") for sheet in sheets]
    actions = [action for found, _ in parts for action in found]
    if not actions:
        raise DataError(f"no action in: {path}", expected="rows that begin with seq<k>, class, first frame, last frame, four corners")
    return actions, sum(others for _, others in parts)


def read_rows(rows: Iterable[Sequence[object]], where: str) -> tuple[list[Action], int]:
    """The actions of one sheet, rows as cells, and how many are below "others:"; `where` begins the message of the DataError."""
    found: dict[bool, list[Action]] = {False: [], True: []}
    under_others = False
    for number, row in enumerate(rows, start=1):
        first = str(row[0]).strip() if row else ""
        under_others |= first.startswith("others")
        if match := _SEQUENCE.fullmatch(first):
            found[under_others].append(_action(int(match[1]), row[1:8], f"{where}, row {number}"))
    return found[False], len(found[True])


def _action(sequence: int, cells: Sequence[object], where: str) -> Action:
    numbers = [cell for cell in cells if isinstance(cell, float)]
    if len(numbers) < 7 or numbers[0] not in range(len(CLASSES)) or not 0 <= numbers[1] < numbers[2] or numbers[1] % 1 or numbers[2] % 1:
        expected = f"class from 0 to {len(CLASSES) - 1}, first frame, last frame after it, x1, y1, x2, y2 as numbers"
        raise DataError(f"{where}: not an action: {list(cells)}", expected=expected)
    label, start, end, x1, y1, x2, y2 = numbers
    return Action(sequence, int(label), int(start), int(end), (x1, y1, x2, y2), where)


def _set_of(sequence: int) -> int:
    return (sequence - 1) // SEQUENCES_IN_SET


def _splits_of_set(number: int, sequences: Sequence[int], videos: dict[int, str]) -> dict[str, list[int]]:
    """The splits of a set, pairs as in the whole set; one whose test sequences have no video is left out."""
    members = [sequence for sequence in sequences if _set_of(sequence) == number]
    tests = sequence_splits(members, number * SEQUENCES_IN_SET // SEQUENCES_IN_FOLD)
    return {split: test for split, test in tests.items() if set(test) & set(videos)}


def _clips(root: Path, actions: Sequence[Action], videos: dict[int, str], splits: dict[int, dict[str, list[int]]]) -> list[Clip]:
    from vidkd.video import open_video

    times_s: dict[int, list[float]] = {}  # of the frames of each video, and of its end
    for sequence in {action.sequence for action in actions}:
        with open_video(root / videos[sequence]) as video:
            times_s[sequence] = [*video.timestamps_s.tolist(), video.info.duration_s]
    clips = []
    for sequence, label, start, end, box, where in actions:
        times, path = times_s[sequence], videos[sequence]
        if end >= len(times):
            raise DataError(
                f"{where}: the interval lies outside the video",
                interval=f"frames {start} to {end}",
                video=f"{path}, {len(times) - 1} frames",
                hint="take the video from the archive again; it may be cut short, or have another frame rate",
            )
        clip = Clip(
            path=path,
            label=label,
            group=f"seq{sequence}",
            subsets=_subsets(splits[_set_of(sequence)], sequence),
            start_s=times[start],
            end_s=times[end],
            boxes=((times[start], *box),),
        )
        clips.append(clip)
    return clips
