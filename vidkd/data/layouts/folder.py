"""Any data set with a folder for each class, optionally below train/, val/ and test/."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vidkd.data.groups import hold_out_groups
from vidkd.data.layouts.layout import Options, Reading, compiled, first_folder, from_folders, not_found
from vidkd.data.layouts.own_data import broken_files, one_sided
from vidkd.data.layouts.tree import relative, subfolders
from vidkd.data.manifest import SUBSETS, Clip
from vidkd.video.files import video_files

EXPECTED = "<class>/<clip>.<any video extension>, or the same below train/, val/ and test/"
SPLIT = "1"
MORE_GROUPS = "a drawn split needs two groups of a class, of which one may be tested: add videos, or let --group cut finer"


def read(root: Path, options: Options) -> Reading:
    """Split "1": the subfolders train/, val/, test/ where they are there, else a seeded split by groups with 70 % for training.

    A class without a clip for training or for the test is remarked on.
    """
    base = first_folder("folder", root, ("videos", "."), EXPECTED)
    names = subfolders(base)
    subsets = [name for name in names if name in SUBSETS]
    if subsets and len(subsets) < len(names):
        mixed = ", ".join(sorted(set(names) - set(subsets)))
        not_found("folder", root, EXPECTED, f"{', '.join(subsets)} beside other folders ({mixed})")
    if (loose := video_files(base)) and not names:
        not_found("folder", root, EXPECTED, f"{len(loose)} videos, but no folder for a class (layout csv takes a list of labels instead)")
    parents = {subset: base / subset for subset in subsets} or {"": base}
    classes = sorted({name for parent in parents.values() for name in subfolders(parent)})
    files = [
        (subset, label, path)
        for subset, parent in parents.items()
        for label, name in enumerate(classes)
        for path in video_files(parent / name, deep=True)
    ]
    groups, grouped = groups_of([relative(path, base) for *_, path in files], compiled(options.group_pattern))
    clips = [
        Clip(path=relative(path, root), label=label, group=groups[relative(path, base)], subsets={SPLIT: subset} if subset else {})
        for subset, label, path in files
    ]
    broken, left_out = broken_files(clips, root, options)
    clips = [clip for clip in clips if clip.path not in broken]
    if not subsets:
        clips = seeded_split(clips, options)
    reading = from_folders(
        name=root.name or "folder",
        root=root,
        classes=classes,
        splits=[SPLIT],
        clips=clips,
        options=options,
        looked_in=base,
        expected=EXPECTED,
    )
    hint = "put videos of them below train/ and test/" if subsets else MORE_GROUPS
    warnings = one_sided(clips, classes, SPLIT, where=f"split {SPLIT} of {base}", hint=hint)
    return dataclasses.replace(reading, notes=(*left_out, *grouped, *reading.notes, *warnings))


CLIP_OF_GROUP = (
    r"(?<=g\d)_c\d+$|(?<=g\d\d)_c\d+$|(?<=g\d\d\d)_c\d+$",  # v_Punch_g13_c06: UCF101 and what is named like it
    r"_\d{6}_\d{6}$",  # <YouTube id>_000010_000020: Kinetics
    r"(?i)[ _.-]+(clip|part|seg|segment|scene|shot|chunk|cut|take|split)[ _.-]*\d+$",  # anna_take2, film.part03
)
"""Ends of names of which several belong to one group; the first one that more than half of the files have is taken."""


def groups_of(paths: Sequence[str], pattern: re.Pattern[str] | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """The group of each file, and a remark where it was inferred: the file's name up to the pattern, or the file itself without one in it.

    pattern: None infers one from the names, see CLIP_OF_GROUP.
    """
    inferred = None if pattern is not None else _common_end(paths)
    groups = {path: _group_of(path, pattern or inferred) for path in paths}
    if inferred is None or len(set(groups.values())) == len(groups):
        return groups, ()
    path = next(path for path in paths if inferred.search(PurePosixPath(path).stem))
    example = f"{PurePosixPath(path).name} belongs to {groups[path]}"
    count = len(set(groups.values()))
    return groups, (f"groups are inferred from the names: {count} of {len(groups)} files, as {example}; --group REGEX sets others",)


def _common_end(paths: Sequence[str]) -> re.Pattern[str] | None:
    for end in map(re.compile, CLIP_OF_GROUP):
        if 2 * sum(end.search(PurePosixPath(path).stem) is not None for path in paths) > len(paths):
            return end
    return None


def _group_of(path: str, pattern: re.Pattern[str] | None) -> str:
    file = PurePosixPath(path)
    match = pattern.search(file.stem) if pattern else None
    return file.stem[: match.start()] if match and match.start() else str(file.with_suffix(""))


def seeded_split(clips: list[Clip], options: Options) -> list[Clip]:
    """The clips with split "1" drawn: whole groups, every class on both sides where it has two groups."""
    _, test = hold_out_groups(clips, options.test_fraction, options.seed)
    groups = {clip.group for clip in test}
    return [dataclasses.replace(clip, subsets={SPLIT: "test" if clip.group in groups else "train"}) for clip in clips]
