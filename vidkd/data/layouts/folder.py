"""Any data set with a folder for each class, optionally below train/, val/ and test/."""

import dataclasses
from pathlib import Path

from vidkd.data.layouts.common import Options, Reading, compiled, first_folder, from_folders, not_found, relative, subfolders
from vidkd.data.layouts.own_data import MORE_GROUPS, SPLIT, broken_files, groups_of, one_sided, seeded_split
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
