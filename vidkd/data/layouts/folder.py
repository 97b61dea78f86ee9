"""Any data set with a folder for each class, optionally below train/, val/ and test/."""

import dataclasses
from pathlib import Path

from vidkd.data.layouts.common import Options, Reading, first_folder, from_folders, not_found, relative, subfolders
from vidkd.data.layouts.own_data import MORE_GROUPS, SPLIT, groups_of, one_sided, seeded_split
from vidkd.data.manifest import SUBSETS, Clip
from vidkd.video.files import video_files

EXPECTED = "<class>/<clip>.<any video extension>, or the same below train/, val/ and test/"


def read(root: Path, options: Options) -> Reading:
    """Split "1": the subfolders train/, val/, test/ where they are there, else a seeded split by groups with 70 % for training.

    A class without a clip for training or for the test is remarked on.
    """
    base = first_folder("folder", root, ("videos", "."), EXPECTED)
    names = subfolders(base)
    subsets = [name for name in names if name in SUBSETS]
    if subsets and len(subsets) < len(names):
        mixed = ", ".join(name for name in names if name not in SUBSETS)
        not_found("folder", root, EXPECTED, f"{', '.join(subsets)} next to other folders ({mixed})")
    if (loose := video_files(base)) and not names:
        not_found("folder", root, EXPECTED, f"{len(loose)} videos, but no folder for a class (layout csv takes a list of labels instead)")
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
    reading = from_folders(root.name or "folder", root, classes, [SPLIT], clips, options, base, EXPECTED)
    hint = "put videos of them below train/ and test/" if subsets else MORE_GROUPS
    warnings = one_sided(clips, classes, where=f"split {SPLIT} of {base}", hint=hint)
    return dataclasses.replace(reading, notes=(*grouped, *reading.notes, *warnings))
