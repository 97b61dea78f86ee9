"""Measure speed against accuracy: models in turn on the same clips or frames, alone and from file to answer, and in fresh processes.

  vidkd benchmark SUITE.yaml                  times vidkd itself and its peers: loader, training step, streams, ...
  vidkd benchmark BENCHMARK.yaml              measures; writes summary.json, measurements.json and report.html
  vidkd benchmark compare A.json B.json       lists what is worse in B than in A beyond the intervals; exit code 1 if anything is

Exit code 1, too, if a fresh process of a model fails after others were measured: that model has no cold start, all else is kept.
Ctrl-C stops after the current round: complete rounds are written, and the exit code is 130.

A benchmark names models by label: runs, checkpoints, exported files, backbones with random weights, or detectors.
"""

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.roots import ROOT_HELP, roots_of
from vidkd.cli.number_flags import add_number
from vidkd.cli.outputs import add_overwrite_argument, check_folder, written_or_refused
from vidkd.cli.settings import list_settings

TAKES_SETTINGS = True
COMPARE = "compare"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("words", nargs="*", metavar="WHAT", help="a benchmark, as in configs/benchmark/; or compare and two summaries")
    parser.add_argument("--out", metavar="DIR", help="where results go (default: runs/<name of the benchmark>)")
    parser.add_argument("--root", action="append", metavar="DIR", help=ROOT_HELP)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    text = "of compare: share by which a figure may differ beyond the intervals (default: 0)"
    add_number(parser, "--tolerance", least=0, metavar="X", help=text)
    add_overwrite_argument(parser, "--out")
    parser.add_argument("--settings", dest="list_settings", action="store_true", help="list every setting of a benchmark, and stop")
    parser.epilog = "any setting of the benchmark may follow as a flag: --data.root DIR --rounds 5   (--settings lists them)"


def run(arguments: argparse.Namespace) -> int:
    """Measure, or compare."""
    if arguments.list_settings:
        from vidkd.bench.speed.config import BenchmarkConfig

        return list_settings(BenchmarkConfig)
    if not arguments.words:
        raise ConfigError("no benchmark given", hint="vidkd benchmark BENCHMARK.yaml, as in configs/benchmark/; or compare A.json B.json")
    if arguments.words[0] == COMPARE:
        return _compare(arguments)
    if len(arguments.words) > 1:
        raise ConfigError(f"one benchmark at a time, not {len(arguments.words)}", found=", ".join(arguments.words))
    return _measure(arguments)


def _measure(arguments: argparse.Namespace) -> int:
    from vidkd.base.extras import require
    from vidkd.base.files import write_json
    from vidkd.base.settings import read_yaml
    from vidkd.bench.speed.config import read_benchmark

    if "parts" in read_yaml(Path(arguments.words[0])).content:
        return _measure_suite(arguments)
    config = read_benchmark(arguments.words[0], arguments.settings)
    folder = Path(arguments.out) if arguments.out else Path("runs") / config.name
    check_folder("--out", folder)
    if (folder / "summary.json").exists() and not arguments.overwrite:
        raise ConfigError(f"a summary exists already: {folder / 'summary.json'}", hint="another --out, or --overwrite to replace it")
    require("matplotlib", "report")  # before anything is measured
    from vidkd.bench.speed.record import measurements_of, summary_of
    from vidkd.bench.speed.run import run_benchmark
    from vidkd.bench.summary import write_summary
    from vidkd.report.benchmark import benchmark_report
    from vidkd.report.page import render_report
    from vidkd.report.text import table_text

    command = shlex.join(["vidkd", "benchmark", arguments.words[0], *arguments.settings])
    try:
        results = run_benchmark(config, roots=roots_of(arguments.root), device=arguments.device)
    except KeyboardInterrupt:
        sys.stderr.write("vidkd: no round was complete, so nothing is written\n")
        raise
    summary = summary_of(results, Path(arguments.words[0]).read_text(encoding="utf-8"), command)
    page = benchmark_report(summary, command=command)
    sys.stdout.write(table_text(page.tables[0]))  # first: it is all that is left if the disk is full by now
    with written_or_refused("--out", folder):
        write_summary(folder / "summary.json", summary)
        write_json(folder / "measurements.json", measurements_of(results))
        render_report(folder / "report.html", page)
    sys.stdout.write(f"written: {folder / 'summary.json'}, {folder / 'measurements.json'}, {folder / 'report.html'}\n")
    return _exit_code(summary)


def _measure_suite(arguments: argparse.Namespace) -> int:
    """Timings of vidkd itself: performance.json and performance.md."""
    from vidkd.base.files import atomic_write, write_json
    from vidkd.bench.performance.rows import performance_page
    from vidkd.bench.performance.suite import read_suite, run_suite

    config = read_suite(Path(arguments.words[0]), arguments.settings)
    folder = Path(arguments.out) if arguments.out else Path("runs") / config.name
    check_folder("--out", folder)
    if (folder / "performance.json").exists() and not arguments.overwrite:
        hint = "another --out, or --overwrite to replace it"
        raise ConfigError(f"results exist already: {folder / 'performance.json'}", hint=hint)
    results = run_suite(config, shlex.join(["vidkd", "benchmark", arguments.words[0], *arguments.settings]))
    with written_or_refused("--out", folder):
        write_json(folder / "performance.json", results)
        with atomic_write(folder / "performance.md") as file:
            file.write(performance_page(results))
    sys.stdout.write(f"written: {folder / 'performance.json'}, {folder / 'performance.md'}\n")
    return 0


def _exit_code(summary: Mapping[str, Any]) -> int:
    """Say what is missing of a run that was interrupted, or of models that did not start; the exit code."""
    failed = {label: reason for label, model in summary["data"]["models"].items() if (reason := model.get("cold_start_failed"))}
    for label, reason in failed.items():
        sys.stderr.write(f"no cold start of {label}: {reason}\n")
    if summary["data"].get("interrupted"):
        sys.stderr.write(f"vidkd: interrupted; all figures are of the complete rounds: {summary['data']['rounds']}\n")
        return 130
    return 1 if failed else 0


def _compare(arguments: argparse.Namespace) -> int:
    """Exit code 1 if something got worse, is missing, or moved in the wrong direction without an interval."""
    from vidkd.bench.speed.compare import compare

    if len(arguments.words) != 3 or arguments.settings:
        raise ConfigError("compare takes two summaries", hint="vidkd benchmark compare A.json B.json")
    first, second = (_read(Path(name)) for name in arguments.words[1:])
    changes = compare(first, second, tolerance=arguments.tolerance or 0.0)
    counts: dict[str, int] = {}
    for change in changes:
        counts[change.verdict] = counts.get(change.verdict, 0) + 1
        if change.verdict != "same":
            sys.stdout.write(f"  {change}\n")
    sys.stdout.write(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + "\n")
    return int(any(change.is_regression for change in changes))


def _read(path: Path) -> dict[str, Any]:
    from vidkd.base.files import near_files
    from vidkd.bench.summary import read_summary

    if not path.is_file():
        hint = "name the summary.json in the folder of a benchmark; vidkd benchmark BENCHMARK.yaml writes it"
        raise DataError(f"not a file: {path}", **near_files(path, (".json",)), hint=hint)
    return read_summary(path)
