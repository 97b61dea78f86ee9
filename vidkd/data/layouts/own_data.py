"""A user's own data, which has no official lists: which clips belong together, a split by groups, classes on one side of it."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from vidkd.base.errors import ConfigError, DataError
from vidkd.data.groups import hold_out_groups
from vidkd.data.layouts.common import Options, shortened
from vidkd.data.manifest import Clip

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
