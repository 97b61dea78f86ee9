"""Compute optical flow once and store it as video files, for training with data.flow.source=stored.

TV-L1 and RAFT are too slow to compute in a training loop; DIS is not, and needs no extraction. Every video gives <name>.flow.mp4 and
<name>.flow.json below --out. A second call resumes: whole flow is kept.
See docs/guides/data.md.

  vidkd prepare_data flow /data/ucf101 --method tvl1 --out /data/ucf101_tvl1
  vidkd prepare_data flow videos/ --method raft --weights raft_small.pth --device cuda --out flow_raft --flow-step 1
"""

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from vidkd.base.errors import DataError
from vidkd.base.fields import Bounds, Count, Positive, Whole
from vidkd.cli.verb_parser import positional

if TYPE_CHECKING:
    from vidkd.data.flow_extract import ExtractConfig

SHOWN_FAILURES = 5
MUCH_CLIPPED = 0.001


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the videos lie.

    Args:
        root: their folder.
    """

    root: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is computed, of which videos.

    Args:
        source: a manifest, a data root that holds one, or a folder of videos.
        method: how flow is computed.
        out: folder of the stored flow; it holds one kind of flow only.
        data: folder of the videos, if it is not the one that the manifest remembers.
        flow_step: flow from frame i to i+K; data.window.flow_step of the training.
        short_side: shrink larger frames to this shorter side.
        bound: longest component stored, in pixels.
        preset: dis: speed.
        raft_model: raft: raft_small or raft_large.
        weights: raft: trained weights, or 'torchvision' to download them.
        device: raft: auto, cpu, cuda or mps.
        workers: processes (default: one a CPU; raft: 1).
        dask: a Dask scheduler (tcp://host:port) to use in place of local processes.
    """

    source: Path = positional("MANIFEST_OR_ROOT")
    method: Literal["tvl1", "raft", "dis"]
    out: Path
    data: Place = Place()
    flow_step: Count = 4
    short_side: Annotated[int, Bounds(ge=16)] = 128
    bound: Positive = 64.0
    preset: Literal["ultrafast", "fast", "medium"] = "fast"
    raft_model: str = "raft_small"
    weights: str | None = None
    device: str = "cpu"
    workers: Whole | None = None
    dask: str | None = None


def run(given: Settings) -> int:
    """Extract, print what was stored; returns 1 if a video failed."""
    from vidkd.base.files import claim_record
    from vidkd.data.flow_extract import FOLDER_FILE, ExtractConfig

    device = "cpu"
    if given.method == "raft":
        from vidkd.engine.devices import pick_device

        device = str(pick_device(given.device))  # by its own name: `auto` is none to the network
    names = ("method", "flow_step", "short_side", "bound", "preset", "raft_model", "weights")
    config = ExtractConfig(**{name: getattr(given, name) for name in names}, device=device)
    source, settings = videos_of(given.source, given.data.root, given.out), config.settings()
    claim_record(given.out / FOLDER_FILE, {"schema_version": 1, "settings": settings}, what="stored flow")
    done, failed = _extract(source, given, config, settings)
    sys.stdout.write(report(done, failed, given.out, config))
    return 1 if failed else 0


class Source(NamedTuple):
    """The videos: their root, and paths relative to it."""

    root: Path
    paths: list[str]


def videos_of(source: Path, root: Path | None, out: Path) -> Source:
    """The distinct videos of a manifest, of a root with one, or of a folder (`out` apart). Raises DataError if there is none."""
    from vidkd.cli.prepare_data_check import find_videos
    from vidkd.data.manifest import Manifest

    if source.is_dir() and not (source / "manifest.jsonl").exists():
        return Source(source, list(find_videos([str(source)], leave_out=out).values()))
    if not source.exists():
        raise DataError(f"no manifest and no folder: {source}", hint="name a manifest, a data root, or a folder of videos")
    manifest = Manifest.read(source / "manifest.jsonl" if source.is_dir() else source, root)
    if not manifest.clips:
        raise DataError(f"the manifest holds no clips: {source}")
    return Source(manifest.root, list(dict.fromkeys(clip.path for clip in manifest.clips)))


def _extract(
    source: Source, given: Settings, config: "ExtractConfig", settings: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """What was stored, and what failed and why, by clip."""
    from vidkd.base.progress import Progress
    from vidkd.base.walk import map_files
    from vidkd.data.flow_extract import extract_clip

    # every process would hold the network of RAFT, and one keeps the device busy
    workers = 1 if given.workers is None and config.method == "raft" else given.workers
    alone = given.dask is None and workers in (0, 1)
    extract = functools.partial(
        extract_clip,
        root=source.root.absolute(),
        out=given.out.absolute(),
        config=config,
        settings=dict(settings),
        threads=0 if alone else 1,
    )
    done: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    walk = map_files(extract, source.paths, workers=workers, dask=given.dask, fingerprint=lambda _: "")
    for result in Progress(len(source.paths), f"{config.method} flow").over(walk):
        if result.error is None and result.value is not None:
            done[result.item] = result.value
        else:
            failed[result.item] = result.error or "no answer"
    return done, failed


def report(done: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str], out: Path, config: "ExtractConfig") -> str:
    """The lines that the verb prints."""
    kept, frames = (sum(answer[name] for answer in done.values()) for name in ("kept", "frames"))
    stored = f"({len(done) - kept} written, {kept} already there)"
    lines = [f"{config.method} flow of {len(done)} videos, {frames} frames, in {out} {stored}"]
    if much := {name: answer["clipped"] for name, answer in done.items() if answer["clipped"] > MUCH_CLIPPED}:
        worst = max(much, key=lambda name: float(much[name]))
        share = f"{100 * much[worst]:.1f} % in {worst}"
        keeps = "a larger --bound keeps it, with a larger rounding error"
        lines.append(f"cut at the bound of {config.bound:g} px in {len(much)} videos ({share}); {keeps}")
    if failed:
        first = list(failed.items())[:SHOWN_FAILURES]
        lines += [
            f"{len(failed)} videos FAILED; run again when they are mended",
            *(f"  {path}: {error.splitlines()[0]}" for path, error in first),
        ]
    if done:
        lines.append(f"to train on it: --data.flow.source stored --data.flow.folder {out} --data.window.flow_step {config.flow_step}")
    return "".join(f"{line}\n" for line in lines)
