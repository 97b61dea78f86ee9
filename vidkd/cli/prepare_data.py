r"""Turn a data set, as its official archive unpacks, into a checked manifest that training reads.

layouts: ucf101, hmdb51, jhmdb, something, weizmann, ut_interaction, ut_interaction_untrimmed, epic100, folder (one folder a class),
csv (path,label,...).
What each one expects is told by its error when it is not there, and by docs/guides/data.md. Of each video the table of its frames is read
once and kept next to the manifest (manifest.index); nothing but a first frame is decoded unless --check is given.

  vidkd prepare_data ucf101 --root /data/ucf101
  vidkd prepare_data folder --root clips --group '_take\d+$'      "anna_take2.mp4" belongs to group "anna"
  vidkd prepare_data ucf101 --root /data/ucf101 --out ucf101.jsonl      where nothing can be written in the root: vidkd train
                                                                        then takes --data.manifest ucf101.jsonl
"""

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vidkd.base.errors import DataError, unknown_name
from vidkd.cli.number_flags import add_count

if TYPE_CHECKING:
    from vidkd.data.index import VideoIndex
    from vidkd.data.layouts import Options, Reading
    from vidkd.data.manifest import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("layout", help="how the data set lies on disk (see above)")
    parser.add_argument("--root", type=Path, required=True, help="folder into which the data set was unpacked")
    parser.add_argument("--out", type=Path, help="the manifest to write (default: manifest.jsonl in the root)")
    parser.add_argument("--name", help="name of the data set in results (default: the layout's, or the folder's)")
    parser.add_argument("--allow-missing", action="store_true", help="leave out clips without a (usable) file; they are counted")
    parser.add_argument("--group", metavar="REGEX", help="folder, csv: a clip's group is its file name up to this (default: inferred)")
    add_count(parser, "--seed", least=0, default=0, help="folder, csv without splits: draws the 70/30 split (default: 0)")
    parser.add_argument("--list", type=Path, metavar="CSV", help="csv: the list (default: clips.csv in the root)")
    parser.add_argument("--allow-overlap", action="store_true", help="csv, ut_interaction_untrimmed: actions of a file may overlap in time")
    parser.add_argument("--no-boxes", dest="boxes", action="store_false", help="jhmdb: do not read the puppet masks")
    parser.add_argument("--check", action="store_true", help="decode every video, to find damage and what decord would misread")
    add_count(parser, "--workers", least=0, help="processes that open or decode videos (default: one a CPU)")
    parser.add_argument("--dask", metavar="ADDRESS", help="--check: a Dask scheduler, tcp://host:port, instead of processes here")


def run(arguments: argparse.Namespace) -> int:
    """Read the layout, check, write the manifest, print what is in it."""
    from vidkd.data.index import index_file
    from vidkd.data.layouts import LAYOUTS, Options
    from vidkd.video.index import write_index_file

    if arguments.layout not in LAYOUTS:
        raise unknown_name("layout", arguments.layout, LAYOUTS)
    root = arguments.root.expanduser().absolute()
    out = (arguments.out or root / "manifest.jsonl").expanduser()
    _check_out(out)
    options = Options(
        allow_missing=arguments.allow_missing,
        seed=arguments.seed,
        group_pattern=arguments.group,
        list_file=arguments.list.expanduser().absolute() if arguments.list else None,
        boxes=arguments.boxes,
        allow_overlap=arguments.allow_overlap,
    )
    reading, index = _inspected(arguments, root, options)
    manifest = dataclasses.replace(reading.manifest, name=arguments.name or reading.manifest.name)
    _write(manifest, out)
    write_index_file(index_file(out), index.records)
    sys.stdout.write(f"{table(manifest)}\n{_remarks(reading)}{_remark_on_groups(manifest, arguments)}written: {out}\n")
    return 0


def _inspected(arguments: argparse.Namespace, root: Path, options: "Options") -> "tuple[Reading, VideoIndex]":
    """What the layout reads, and its videos' index; files that are no sound videos are an error, or left out with --allow-missing."""
    from vidkd.data.index import inspect_videos
    from vidkd.data.layouts import LAYOUTS
    from vidkd.data.layouts.common import shortened

    reading = LAYOUTS[arguments.layout](root, options)
    paths = list(dict.fromkeys(clip.path for clip in reading.manifest.clips))
    index = inspect_videos(root, paths, decode=arguments.check, workers=arguments.workers, dask=arguments.dask)
    notes: list[str] = []
    if index.broken:
        if not options.allow_missing or len(index.broken) == len(paths):
            raise _unusable(index.broken, len(paths), root)
        reading = LAYOUTS[arguments.layout](root, dataclasses.replace(options, broken=frozenset(index.broken)))
        clips = tuple(clip for clip in reading.manifest.clips if clip.path not in index.broken)
        reading = dataclasses.replace(reading, manifest=dataclasses.replace(reading.manifest, clips=clips))
        notes = [f"left out, cannot be read: {len(index.broken)} files: {shortened(sorted(index.broken))}"]
    if index.misread:
        notes += [f"{len(index.misread)} videos cannot be read with data.decoder=decord: {shortened(sorted(index.misread))}"]
    return dataclasses.replace(reading, notes=(*notes, *reading.notes)), index


def _check_out(out: Path) -> None:
    """Only a manifest may be written over."""
    from vidkd.data.manifest import is_manifest

    if out.is_dir():
        raise DataError(f"--out is a folder: {out}", hint=f"--out {out / 'manifest.jsonl'}")
    if out.exists() and out.stat().st_size and not is_manifest(out):
        raise DataError(f"--out names a file that is no manifest: {out}", hint="name another file; this one was left as it is")


def _write(manifest: "Manifest", out: Path) -> None:
    try:
        manifest.write(out)
    except OSError as error:
        raise DataError(
            f"the manifest cannot be written: {out}", reason=error.strerror or error, hint="name another place with --out"
        ) from error


def table(manifest: "Manifest") -> str:
    """Counts of clips, classes and groups, then for each split its clips by subset and how many groups stand on both sides."""
    groups = {clip.group for clip in manifest.clips}
    lines = [f"{manifest.name}: {len(manifest.clips)} clips, {len(manifest.classes)} classes, {len(groups)} groups"]
    width = max(len("split"), *map(len, manifest.splits))
    lines.append(f"{'split':<{width}}  {'train':>6}  {'val':>6}  {'test':>6}  {'unused':>6}  groups in train and test")
    for split in manifest.splits:
        counts = Counter(clip.subsets.get(split, "unused") for clip in manifest.clips)
        numbers = "  ".join(f"{counts[subset]:>6}" for subset in ("train", "val", "test", "unused"))
        lines.append(f"{split:<{width}}  {numbers}  {len(shared_groups(manifest, split)):>6}")
    return "\n".join(lines)


def shared_groups(manifest: "Manifest", split: str) -> set[str]:
    """Groups with clips both in the training and in the test subset of a split."""
    train, test = ({clip.group for clip in manifest.select(split, subset)} for subset in ("train", "test"))
    return train & test


def _remarks(reading: "Reading") -> str:
    from vidkd.data.layouts.common import shortened

    absent = [f"left out, no file: {len(reading.absent)} clips: {shortened(reading.absent)}"] if reading.absent else []
    return "".join(f"{line}\n" for line in (*absent, *reading.notes))


def _remark_on_groups(manifest: "Manifest", arguments: argparse.Namespace) -> str:
    """What to check where nothing tells which files of a user's own data belong together."""
    alone = len({clip.group for clip in manifest.clips}) == len({clip.path for clip in manifest.clips})
    if not alone or arguments.layout not in ("folder", "csv") or arguments.group is not None:
        return ""
    return (
        "each file is a group of its own; where several show one person, scene or source video, name what they share with --group REGEX, "
        "or training and test clips are not independent\n"
    )


def _unusable(broken: Mapping[str, str], files: int, root: Path) -> DataError:
    from vidkd.data.layouts.common import SHOWN

    first = sorted(broken.items())[:SHOWN]
    return DataError(
        f"{len(broken)} of {files} video files cannot be read",
        looked_in=root,
        **{("first" if place == 0 else f"then {place}"): f"{path}: {reason}" for place, (path, reason) in enumerate(first)},
        **({"and": f"{len(broken) - SHOWN} more"} if len(broken) > SHOWN else {}),
        hint=f"replace or remove them, or leave them out with --allow-missing   (all that is wrong: vidkd check_videos {root})",
    )
