"""Measure vidkd on this machine: loader, training step, losses, start, memory, optical flow, anticipation, streams; write numbers and page.

python benchmarks/run.py                         all parts, on generated videos
python benchmarks/run.py --data DIR              on the videos of a folder
python benchmarks/run.py --parts flow --quick    tries a part out; written to runs/, not to the documentation
"""

import argparse
import dataclasses
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PARTS = (
    "loader",
    "stages",
    "step",
    "distill_step",
    "shift_losses",
    "imports",
    "memory",
    "flow",
    "anticipate",
    "stream_speed",
    "integers",
    "waiting",
)
RESULTS, PAGE = "results/performance.json", "docs/performance.md"
TRIED = "runs/performance.json"
SCHEMA_VERSION = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or write the page anew from numbers that are there."""
    from vidkd.base.errors import VidkdError

    arguments = parser().parse_args(argv)
    out = Path(arguments.out or (TRIED if is_trial(arguments) else RESULTS))
    try:
        if not arguments.page_only:
            _measure(arguments, out)
        page = Path(arguments.page) if arguments.page else Path(PAGE) if out == Path(RESULTS) else out.with_suffix(".md")
        _write_page(out, page)
    except VidkdError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    words.add_argument("--data", metavar="DIR", help="folder of videos to measure on (default: generated ones)")
    words.add_argument("--out", metavar="F", help=f"numbers (default: {RESULTS}; of a trial: {TRIED})")
    words.add_argument("--page", metavar="F", help=f"page (default: {PAGE}, or beside other numbers)")
    words.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    words.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds that count (default: 5)")
    words.add_argument("--workers", type=int, metavar="N", help="loader processes (default: the cores that this process may use)")
    words.add_argument("--threads", type=int, metavar="N", help="threads of a training step (default: 2, or 1 on one core)")
    words.add_argument("--quick", action="store_true", help="as little as shows that everything runs; the numbers mean nothing")
    words.add_argument("--page-only", action="store_true", help="write the page from the numbers that are there")
    return words


def is_trial(arguments: argparse.Namespace) -> bool:
    """Whether the numbers are not the ones to be kept: not all parts, or too short."""
    return arguments.quick or set(arguments.parts) != set(PARTS)


def _measure(arguments: argparse.Namespace, out: Path) -> None:
    from vidkd.base.cores import sleep_while_waiting
    from vidkd.base.files import write_json

    sleep_while_waiting()  # before torch is imported
    from vidkd.engine.allocator import keep_freed_memory
    from vidkd.engine.environment import environment

    # as training does
    keep_freed_memory()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vidkd-benchmark-") as scratch:
        setting, videos = _setting(arguments, Path(scratch))
        parts = {}
        for name in PARTS:
            if name in arguments.parts:
                parts[name] = _run(name, setting)
    command = " ".join(["python benchmarks/run.py", *_shown(arguments)])
    results = {"schema_version": SCHEMA_VERSION, "kind": "vidkd-performance", "command": command, "videos": videos}
    write_json(out, {**results, "environment": environment(), "seconds": round(time.monotonic() - start, 1), "parts": parts})
    sys.stdout.write(f"written: {out}\n")


def _setting(arguments: argparse.Namespace, scratch: Path) -> tuple[Any, str]:
    """What the parts are handed, and the videos in words."""
    from benchmarks.clips import FPS, FRAMES, generated_sets, users_set
    from benchmarks.setting import Setting
    from vidkd.video.writer import GOP_FRAMES

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if arguments.data:
        sets = [users_set(Path(arguments.data))]
        videos = f"{len(sets[0].clips)} of the folder `{sets[0].name}`"
    else:
        sets = generated_sets(scratch / "videos", clips=4 if arguments.quick else 12)
        sizes = " and ".join(each.name for each in sets)
        videos = f"{len(sets[0].clips)} generated ones of {sizes} each, H.264, {FRAMES / FPS:g} s, a key frame every {GOP_FRAMES} frames"
    threads = arguments.threads or min(2, cores)
    rounds = 2 if arguments.quick else arguments.rounds
    setting = Setting(sets=sets, scratch=scratch, rounds=rounds, workers=arguments.workers or cores, threads=threads, quick=arguments.quick)
    return setting, videos


def _run(name: str, setting: Any) -> dict[str, Any]:
    start = time.monotonic()
    part = importlib.import_module(f"benchmarks.{name}").run(setting)
    seconds = round(time.monotonic() - start, 1)
    sys.stdout.write(f"{part.title}: {seconds} s\n")
    for row in part.ratios:
        sys.stdout.write(f"  {row['name']}: {row['median']} ({row['min']} to {row['max']})\n")
    for row in part.budgets:
        cost, times = row["ms"]["value"], row["ratio"]["value"]
        sys.stdout.write(f"  {row['name']}, {100 * row['share']:g} % asked: {cost} ms a frame, {times} x the student alone\n")
    return {**dataclasses.asdict(part), "seconds": seconds}


def _shown(arguments: argparse.Namespace) -> list[str]:
    """The arguments that decide the numbers, as one would type them; a folder by its name."""
    words = [f"--data {Path(arguments.data).name}"] if arguments.data else []
    words += [f"--parts {' '.join(arguments.parts)}"] if set(arguments.parts) != set(PARTS) else []
    words += [f"--{key} {value}" for key in ("workers", "threads") if (value := getattr(arguments, key))]
    words += [f"--rounds {arguments.rounds}"] if arguments.rounds != parser().get_default("rounds") else []
    return words + (["--quick"] if arguments.quick else [])


def _write_page(results: Path, page: Path) -> None:
    from benchmarks.page import performance_page
    from vidkd.base.files import atomic_write, read_json

    with atomic_write(page) as file:
        file.write(performance_page(read_json(results)))
    sys.stdout.write(f"written: {page}\n")


if __name__ == "__main__":
    sys.exit(main())
