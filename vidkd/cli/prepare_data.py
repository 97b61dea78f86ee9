r"""Turn a data set, as its official archive unpacks, into a checked manifest that training reads.

layouts: ucf101, hmdb51, jhmdb, something, weizmann, ut_interaction, ut_interaction_untrimmed, epic100, folder (one folder a class),
csv (path,label,...).
Its error says what each one expects, and so does docs/guides/data.md. Of each video the table of its frames is read
once and kept next to the manifest (manifest.index); nothing but a first frame is decoded unless --check is given.

  vidkd prepare_data ucf101 --data.root /data/ucf101
  vidkd prepare_data folder --data.root clips --group '_take\d+$'      "anna_take2.mp4" belongs to group "anna"
  vidkd prepare_data ucf101 --data.root /data/ucf101 --out ucf101.jsonl      where nothing can be written in the root: vidkd train
                                                                        then takes --data.manifest ucf101.jsonl
  vidkd prepare_data check --help                                        videos that cannot be read, and clean copies of others
  vidkd prepare_data flow --help                                         TV-L1 or RAFT flow, computed once and stored as video
"""

import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidkd.base.errors import DataError, unknown_name
from vidkd.base.fields import Whole
from vidkd.cli.verb_parser import positional

if TYPE_CHECKING:
    from vidkd.data.index import VideoIndex
    from vidkd.data.layouts import Options, Reading
    from vidkd.data.manifest import Manifest


PARTS = ("check", "flow")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Place of a data set.

    Args:
        root: its folder.
    """

    root: Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a data set is read.

    Args:
        layout: its layout on disk (see above).
        data: folder into which it was unpacked.
        out: the manifest to write (default: manifest.jsonl in the root).
        name: name of the data set in results (default: the layout's, or the folder's).
        allow_missing: leave out clips without a (usable) file; they are counted.
        group: folder, csv: a clip's group is its file name up to this regular expression (default: inferred).
        seed: folder, csv without splits: draws the 70/30 split.
        list: csv: the list (default: clips.csv in the root).
        allow_overlap: csv, ut_interaction_untrimmed: actions of a file may overlap in time.
        boxes: jhmdb: read the puppet masks.
        check: decode every video, to find damage and what decord would misread.
        workers: processes that open or decode videos (default: one a CPU).
        dask: with --check, a Dask scheduler, tcp://host:port, in place of processes here.
    """

    layout: str = positional("LAYOUT")
    data: Place
    out: Path | None = None
    name: str | None = None
    allow_missing: bool = False
    group: str | None = None
    seed: Whole = 0
    list: Path | None = None
    allow_overlap: bool = False
    boxes: bool = True
    check: bool = False
    workers: Whole | None = None
    dask: str | None = None


def run(given: Settings) -> int:
    """Read the layout, check, write the manifest, print what is in it."""
    from vidkd.base.files import writing
    from vidkd.data.index import index_file
    from vidkd.data.layouts import LAYOUTS, Options
    from vidkd.data.manifest import is_manifest
    from vidkd.video.index import write_index_file

    if given.layout not in LAYOUTS:
        raise unknown_name("layout", given.layout, LAYOUTS)
    root = given.data.root.expanduser().absolute()
    out = (given.out or root / "manifest.jsonl").expanduser()
    if out.is_dir():
        raise DataError(f"--out is a folder: {out}", hint=f"--out {out / 'manifest.jsonl'}")
    if out.exists() and out.stat().st_size and not is_manifest(out):
        raise DataError(f"--out names a file that is no manifest: {out}", hint="name another file; this one was left unchanged")
    options = Options(
        allow_missing=given.allow_missing,
        seed=given.seed,
        group_pattern=given.group,
        list_file=given.list.expanduser().absolute() if given.list else None,
        boxes=given.boxes,
        allow_overlap=given.allow_overlap,
    )
    reading, index = _inspected(given, root, options)
    manifest = dataclasses.replace(reading.manifest, name=given.name or reading.manifest.name)
    with writing(out):
        manifest.write(out)
    write_index_file(index_file(out), index.records)
    sys.stdout.write(f"{table(manifest)}\n{_remarks(reading)}{_remark_on_groups(manifest, given)}written: {out}\n")
    return 0


def _inspected(given: Settings, root: Path, options: "Options") -> "tuple[Reading, VideoIndex]":
    """What the layout reads, and its videos' index; files that are no sound videos are an error, or left out with --allow-missing."""
    from vidkd.data.index import inspect_videos
    from vidkd.data.layouts import LAYOUTS
    from vidkd.data.layouts.common import shortened

    reading = LAYOUTS[given.layout](root, options)
    paths = list(dict.fromkeys(clip.path for clip in reading.manifest.clips))
    index = inspect_videos(root, paths, decode=given.check, workers=given.workers, dask=given.dask)
    notes: list[str] = []
    if index.broken:
        if not options.allow_missing or len(index.broken) == len(paths):
            raise _unusable(index.broken, len(paths), root)
        reading = LAYOUTS[given.layout](root, dataclasses.replace(options, broken=frozenset(index.broken)))
        clips = tuple(clip for clip in reading.manifest.clips if clip.path not in index.broken)
        reading = dataclasses.replace(reading, manifest=dataclasses.replace(reading.manifest, clips=clips))
        notes = [f"left out, cannot be read: {len(index.broken)} files: {shortened(sorted(index.broken))}"]
    if index.misread:
        notes += [f"{len(index.misread)} videos cannot be read with data.decoder=decord: {shortened(sorted(index.misread))}"]
    return dataclasses.replace(reading, notes=(*notes, *reading.notes)), index


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


def _remark_on_groups(manifest: "Manifest", given: Settings) -> str:
    """What to check where it is unknown which files of a user's own data belong together."""
    alone = len({clip.group for clip in manifest.clips}) == len({clip.path for clip in manifest.clips})
    if not alone or given.layout not in ("folder", "csv") or given.group is not None:
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
        hint=f"replace or remove them, or leave them out with --allow-missing   (all that is wrong: vidkd prepare_data check {root})",
    )
