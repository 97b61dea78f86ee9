"""A user's own data, which has no official lists: layout folder, a folder for each class, optionally below train/, val/ and test/; and
layout csv, a CSV file with the columns path,label and optionally start_s, end_s, group, split, one clip a row.
"""

import contextlib
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from vidkd.base.errors import ConfigError, DataError, VideoError
from vidkd.data.groups import hold_out_groups
from vidkd.data.layouts.common import (
    Options,
    Reading,
    check_overlaps,
    first_folder,
    from_folders,
    inside,
    manifest_of,
    not_found,
    read_table,
    relative,
    shortened,
    subfolders,
)
from vidkd.data.manifest import SUBSETS, Clip, check_clip
from vidkd.video.files import video_files

SPLIT = "1"
TEST_FRACTION = 0.3
MORE_GROUPS = "a drawn split needs two groups of a class, of which one may be tested: add videos, or let --group cut finer"
CLIP_OF_GROUP = (
    r"(?<=g\d)_c\d+$|(?<=g\d\d)_c\d+$|(?<=g\d\d\d)_c\d+$",  # v_Punch_g13_c06: UCF101 and what is named like it
    r"_\d{6}_\d{6}$",  # <YouTube id>_000010_000020: Kinetics
    r"(?i)[ _.-]+(clip|part|seg|segment|scene|shot|chunk|cut|take|split)[ _.-]*\d+$",  # anna_take2, film.part03
)
"""Ends of names of which several belong to one group; the first one that more than half of the files have is taken."""


def groups_of(paths: Sequence[str], pattern: str | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """The group of each file, and a remark where it was inferred: the file's name up to the pattern, or the file itself without one in it.

    pattern: a regular expression; None infers one from the names, see CLIP_OF_GROUP. Raises ConfigError if it is none.
    """
    stems = [PurePosixPath(path).stem for path in paths]
    common = [end for end in CLIP_OF_GROUP if 2 * sum(re.search(end, stem) is not None for stem in stems) > len(stems)]
    try:
        end = re.compile(pattern) if pattern is not None else re.compile(common[0]) if common else None
    except re.error as error:
        raise ConfigError(f"not a regular expression: {pattern}", reason=error, hint="see --help for an example") from None
    groups, example = {}, ""
    for path, stem in zip(paths, stems, strict=True):
        match = end.search(stem) if end else None
        groups[path] = stem[: match.start()] if match and match.start() else str(PurePosixPath(path).with_suffix(""))
        example = f"{PurePosixPath(path).name} belongs to {groups[path]}" if match and not example else example
    count = len(set(groups.values()))
    if pattern is not None or end is None or count == len(groups):
        return groups, ()
    return groups, (f"groups are inferred from the names: {count} of {len(groups)} files, as {example}; --group REGEX sets others",)


def seeded_split(clips: list[Clip], options: Options) -> list[Clip]:
    """The clips with split "1" drawn: whole groups, 30 % of the clips for the test, every class on both sides where it has two groups."""
    _, test = hold_out_groups(clips, TEST_FRACTION, options.seed)
    groups = {clip.group for clip in test}
    return [dataclasses.replace(clip, subsets={SPLIT: "test" if clip.group in groups else "train"}) for clip in clips]


def one_sided(clips: Sequence[Clip], classes: Sequence[str], *, where: object, hint: str) -> tuple[str, ...]:
    """Warnings of classes none of whose clips are in `train`, or in `test`, of the split: what, where and how to fix it.

    Such a class is never learned, or never judged. Classes without any clip are not counted.
    """
    warnings = []
    for subset in ("train", "test"):
        found = {clip.label for clip in clips if clip.subsets.get(SPLIT) == subset}
        if lacking := [classes[label] for label in sorted({clip.label for clip in clips if clip.label is not None} - found)]:
            what = f"warning: {len(lacking)} of {len(classes)} classes have no {subset} clip"
            warnings.append(str(DataError(what, classes=shortened(lacking), where=where, hint=hint)))
    return tuple(warnings)


EXPECTED_FOLDER = "<class>/<clip>.<any video extension>, or the same below train/, val/ and test/"


def read_folder(root: Path, options: Options) -> Reading:
    """Split "1": the subfolders train/, val/, test/ where they are there, else a seeded split by groups with 70 % for training.

    A class without a clip for training or for the test is remarked on.
    """
    base = first_folder("folder", root, ("videos", "."), EXPECTED_FOLDER)
    names = subfolders(base)
    subsets = [name for name in names if name in SUBSETS]
    if subsets and len(subsets) < len(names):
        mixed = ", ".join(name for name in names if name not in SUBSETS)
        not_found("folder", root, EXPECTED_FOLDER, f"{', '.join(subsets)} next to other folders ({mixed})")
    if (loose := video_files(base)) and not names:
        not_found(
            "folder", root, EXPECTED_FOLDER, f"{len(loose)} videos, but no folder for a class (layout csv takes a list of labels instead)"
        )
    parents = {subset: base / subset for subset in subsets} or {"": base}
    classes = sorted({name for parent in parents.values() for name in subfolders(parent)})
    clips = [
        Clip(path=relative(path, root), label=label, group="", subsets={SPLIT: subset} if subset else {})
        for subset, parent in parents.items()
        for label, name in enumerate(classes)
        for path in video_files(parent / name, deep=True)
        if relative(path, root) not in options.broken
    ]
    groups, grouped = groups_of([relative(root / clip.path, base) for clip in clips], options.group_pattern)
    clips = [dataclasses.replace(clip, group=group) for clip, group in zip(clips, groups.values(), strict=True)]
    if not subsets:
        clips = seeded_split(clips, options)
    reading = from_folders(root.name or "folder", root, classes, [SPLIT], clips, options, base, EXPECTED_FOLDER)
    hint = "put videos of them below train/ and test/" if subsets else MORE_GROUPS
    warnings = one_sided(clips, classes, where=f"split {SPLIT} of {base}", hint=hint)
    return dataclasses.replace(reading, notes=(*grouped, *reading.notes, *warnings))


EXPECTED_CSV = "clips.csv (or --list FILE) with the columns path,label and optionally start_s,end_s,group,split"
COLUMNS = ("path", "label", "start_s", "end_s", "group", "split")


def read_csv(root: Path, options: Options) -> Reading:
    """Labels are names, or numbers throughout; an empty one is an unlabelled clip. Without the column split, 70 % of the groups train.

    Intervals must lie inside their videos and, unless `allow_overlap`, not overlap in one.
    """
    path = options.list_file or root / "clips.csv"
    for there, kind in ((root, root.is_dir()), (path, path.is_file())):
        if not kind:
            not_found("csv", root, EXPECTED_CSV, f"{there} is missing")
    rows = read_table(path, ("path", "label"), known=COLUMNS)
    labels = {row["label"] for row in rows.values()} - {""}
    classes = sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)
    groups, grouped = groups_of([row["path"] for row in rows.values() if row["path"] and not row.get("group")], options.group_pattern)
    named = {where: _clip(row, classes, groups, where) for where, row in rows.items()}
    absent = tuple(dict.fromkeys(clip.path for clip in named.values() if not (root / clip.path).is_file()))
    left_out = {*absent, *options.broken}
    named = {where: clip for where, clip in named.items() if clip.path not in left_out}
    if not named:
        not_found(
            "csv", root, EXPECTED_CSV, f"none of the files that {path} names ({shortened(absent)})" if absent else f"no row in {path}"
        )
    if absent and not options.allow_missing:
        hint = "give paths relative to --data.root, or leave them out with --allow-missing"
        raise DataError(f"{len(absent)} files that {path} names are missing", looked_in=root, missing=shortened(absent), hint=hint)
    clips = _checked(named, root)
    places = list(named)
    notes = check_overlaps(clips, lambda number: places[number], allowed=options.allow_overlap)
    if any(row.get("split") for row in rows.values()):
        notes += _both_sides(clips, path)
        notes += one_sided(clips, classes, where=path, hint="give rows of them the split that they lack")
    else:
        clips = seeded_split(clips, options)
        notes += one_sided(clips, classes, where=path, hint=MORE_GROUPS)
    name = path.stem if options.list_file else root.name or "csv"
    return Reading(manifest=manifest_of(name, root, classes, [SPLIT], clips, [path]), absent=absent, notes=(*grouped, *notes))


def _clip(row: Mapping[str, str], classes: list[str], groups: Mapping[str, str], where: str) -> Clip:
    if row.get("split") and row["split"] not in SUBSETS:
        raise DataError(f"{where}: split {row['split']!r} is not one of {', '.join(SUBSETS)}")
    if not row["path"]:
        raise DataError(f"{where}: no path", hint="give the path of a video, relative to --data.root")
    try:
        start_s, end_s = (float(row[column]) if row.get(column) else None for column in ("start_s", "end_s"))
        if not math.isfinite((start_s or 0) + (end_s or 0)):
            raise ValueError("not finite")
    except ValueError as error:
        raise DataError(f"{where}: start_s and end_s are numbers of seconds", reason=error) from None
    clip = Clip(
        path=str(PurePosixPath(row["path"])),
        label=classes.index(row["label"]) if row["label"] else None,
        group=row.get("group") or groups[row["path"]],
        subsets={SPLIT: row["split"]} if row.get("split") else {},
        start_s=start_s or 0.0,
        end_s=end_s,
    )
    check_clip(clip, classes, [SPLIT], where)
    return clip


def _checked(named: Mapping[str, Clip], root: Path) -> list[Clip]:
    """The clips, whose intervals lie inside their videos: those of files with an interval are opened once, for their length.

    Raises DataError for an interval outside, and where rows give a file to different groups: held-out groups would share frames with
    training.
    """
    from vidkd.video import open_video

    durations_s: dict[str, float] = {}
    first: dict[str, tuple[str, str]] = {}
    clips = []
    for where, clip in named.items():
        before, group = first.setdefault(clip.path, (where, clip.group))
        if group != clip.group:
            hint = "give all rows of a file the same group"
            raise DataError(f"{where}: '{clip.path}' is in group '{clip.group}', in {before} in group '{group}'", hint=hint)
        if clip.start_s or clip.end_s is not None:
            if clip.path not in durations_s:
                durations_s[clip.path] = math.inf  # of a file that is no video, which is found out with all others
                with contextlib.suppress(VideoError), open_video(root / clip.path) as video:
                    durations_s[clip.path] = video.info.duration_s
            clip = dataclasses.replace(clip, end_s=inside(clip.start_s, clip.end_s, durations_s[clip.path], where, clip.path))
        clips.append(clip)
    return clips


def _both_sides(clips: Sequence[Clip], path: Path) -> tuple[str, ...]:
    """A warning of groups, among them files, that the column split puts into training and into another subset."""
    subsets: dict[str, set[str]] = {}
    for clip in clips:
        subsets.setdefault(clip.group, set()).update(clip.subsets.values())
    leaking = [group for group, found in subsets.items() if "train" in found and len(found) > 1]
    if not leaking:
        return ()
    what = f"warning: {len(leaking)} groups are in training and in another subset: a test on them overstates the model"
    hint = "give all rows of a group (a file, a person, a scene) the same split"
    return (str(DataError(what, groups=shortened(leaking), where=path, hint=hint)),)
