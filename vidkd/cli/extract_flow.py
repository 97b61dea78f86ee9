"""Compute optical flow once and store it as video files, for training with data.flow.source=stored.

TV-L1 and RAFT are too slow to compute in a training loop; DIS is not, and needs no extraction. Every video gives <name>.flow.mp4 and
<name>.flow.json below --out. Run again to go on after an interruption: flow that lies there whole is kept.
docs/guides/data.md tells the rest.

  vidkd extract_flow /data/ucf101 --method tvl1 --out /data/ucf101_tvl1
  vidkd extract_flow videos/ --method raft --weights raft_small.pth --device cuda --out flow_raft --flow-step 1
"""

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vidkd.base.errors import DataError
from vidkd.cli.number_flags import add_count, add_number

if TYPE_CHECKING:
    from vidkd.data.flow_extract import ExtractConfig

SHOWN_FAILURES = 5
MUCH_CLIPPED = 0.001


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "source", type=Path, metavar="MANIFEST_OR_ROOT", help="a manifest, a data root that holds one, or a folder of videos"
    )
    parser.add_argument("--method", required=True, choices=("tvl1", "raft", "dis"), help="how flow is computed")
    parser.add_argument("--out", type=Path, required=True, help="folder of the stored flow; it holds one kind of flow only")
    parser.add_argument("--root", type=Path, help="folder of the videos, if it is not the one that the manifest remembers")
    add_count(parser, "--flow-step", default=4, metavar="K", help="flow from frame i to i+K: data.window.flow_step (default: 4)")
    add_count(parser, "--short-side", least=16, default=128, metavar="N", help="shrink larger frames to this shorter side (default: 128)")
    add_number(parser, "--bound", above=0, default=64.0, metavar="PX", help="longest component stored, in pixels (default: 64)")
    parser.add_argument("--preset", choices=("ultrafast", "fast", "medium"), default="fast", help="dis: speed (default: fast)")
    parser.add_argument("--raft-model", default="raft_small", metavar="NAME", help="raft: raft_small (default) or raft_large")
    parser.add_argument("--weights", metavar="FILE", help="raft: trained weights, or 'torchvision' to download them")
    parser.add_argument("--device", default="cpu", help="raft: auto, cpu, cuda or mps (default: cpu)")
    add_count(parser, "--workers", least=0, help="processes (default: one a CPU; raft: 1)")
    parser.add_argument("--dask", metavar="ADDRESS", help="a Dask scheduler (tcp://host:port) to use instead of local processes")


def run(arguments: argparse.Namespace) -> int:
    """Extract, print what was stored; returns 1 if a video failed."""
    from vidkd.data.flow_extract import ExtractConfig, claim_folder

    names = ("method", "flow_step", "short_side", "bound", "preset", "raft_model", "weights")
    device = _device(arguments.device) if arguments.method == "raft" else "cpu"
    config = ExtractConfig(**{name: getattr(arguments, name) for name in names}, device=device)
    source = videos_of(arguments.source, arguments.root, arguments.out)
    settings = config.settings()
    claim_folder(arguments.out, settings)
    done, failed = _extract(source, arguments.out, config, settings, arguments.workers, arguments.dask)
    sys.stdout.write(report(done, failed, arguments.out, config))
    return 1 if failed else 0


def _device(name: str) -> str:
    """The device's own name (`auto` is none to the network). Raises ConfigError if it is not there."""
    from vidkd.engine.devices import pick_device

    return str(pick_device(name))


class Source(NamedTuple):
    """The videos: their root, and paths relative to it."""

    root: Path
    paths: list[str]


def videos_of(source: Path, root: Path | None, out: Path) -> Source:
    """The distinct videos of a manifest, of a root with one, or of a folder (`out` apart). Raises DataError if there is none."""
    from vidkd.cli.check_videos import find_videos
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
    source: Source, out: Path, config: "ExtractConfig", settings: Mapping[str, Any], workers: int | None, dask: str | None
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """What was stored, and what failed and why, by clip."""
    from vidkd.base.progress import Progress
    from vidkd.base.walk import map_files
    from vidkd.data.flow_extract import extract_clip

    if workers is None and config.method == "raft":
        workers = 1  # every process would hold the network, and one keeps the device busy
    alone = dask is None and workers in (0, 1)
    extract = functools.partial(
        extract_clip,
        root=source.root.absolute(),
        out=out.absolute(),
        config=config,
        settings=dict(settings),
        threads=0 if alone else 1,
    )
    done: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    walk = map_files(extract, source.paths, workers=workers, dask=dask, fingerprint=_no_fingerprint)
    for result in Progress(len(source.paths), f"{config.method} flow").over(walk):
        if result.error is None and result.value is not None:
            done[result.item] = result.value
        else:
            failed[result.item] = result.error or "no answer"
    return done, failed


def _no_fingerprint(_item: str) -> str:
    """Nothing is kept by the walk: the side file of a clip says whether its flow is there."""
    return ""


def report(done: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str], out: Path, config: "ExtractConfig") -> str:
    """The lines that the verb prints."""
    kept = sum(answer["kept"] for answer in done.values())
    frames = sum(answer["frames"] for answer in done.values())
    lines = [
        f"{config.method} flow of {len(done)} videos, {frames} frames, in {out} ({len(done) - kept} written, {kept} already there)",
        *_clipped_line(done, config.bound),
        *_failed_lines(failed),
    ]
    if done:
        lines.append(f"to train on it: --data.flow.source stored --data.flow.folder {out} --data.window.flow_step {config.flow_step}")
    return "".join(f"{line}\n" for line in lines)


def _clipped_line(done: Mapping[str, Mapping[str, Any]], bound: float) -> Sequence[str]:
    much = [name for name, answer in done.items() if answer["clipped"] > MUCH_CLIPPED]
    if not much:
        return []
    worst = max(much, key=lambda name: float(done[name]["clipped"]))
    share = f"{100 * done[worst]['clipped']:.1f} % in {worst}"
    return [f"cut at the bound of {bound:g} px in {len(much)} videos ({share}); a larger --bound keeps it, with a larger rounding error"]


def _failed_lines(failed: Mapping[str, str]) -> Sequence[str]:
    if not failed:
        return []
    first = list(failed.items())[:SHOWN_FAILURES]
    return [
        f"{len(failed)} videos FAILED; run again when they are mended",
        *(f"  {path}: {error.splitlines()[0]}" for path, error in first),
    ]
