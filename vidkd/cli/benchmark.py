"""Measure speed against accuracy: models in turn on the same clips or frames, alone and from file to answer, and in fresh processes.

  vidkd benchmark SUITE.yaml                  times vidkd itself and its peers: loader, training step, streams, ...
  vidkd benchmark BENCHMARK.yaml              measures; writes summary.json and report.html
  vidkd benchmark compare A.json B.json       lists what is worse in B than in A beyond the intervals; exit code 1 if anything is

Exit code 1, too, if a fresh process of a model fails after others were measured: that model has no cold start, all else is kept.
Ctrl-C stops after the current round: complete rounds are written, and the exit code is 130.

A benchmark names models by label: runs, checkpoints, exported files, backbones with random weights, or detectors.
"""

import argparse
import shlex
import sys
from collections import Counter
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
    from vidkd.base.settings import load_settings, read_yaml
    from vidkd.base.shipped import find_config
    from vidkd.bench.performance.suite import SuiteConfig
    from vidkd.bench.speed.config import BenchmarkConfig, read_benchmark

    words = arguments.words
    if arguments.list_settings:
        return list_settings(BenchmarkConfig)
    if not words:
        raise ConfigError("no benchmark given", hint="vidkd benchmark BENCHMARK.yaml, as in configs/benchmark/; or compare A.json B.json")
    if words[0] == COMPARE:
        return _compare(arguments)
    if len(words) > 1:
        raise ConfigError(f"one benchmark at a time, not {len(words)}", found=", ".join(words))
    path, command = find_config(words[0]), shlex.join(["vidkd", "benchmark", words[0], *arguments.settings])
    suite = "parts" in read_yaml(path).content
    config: Any = load_settings(SuiteConfig, path, overrides=arguments.settings) if suite else read_benchmark(path, arguments.settings)
    folder = Path(arguments.out) if arguments.out else Path("runs") / config.name
    check_folder("--out", folder)
    results = folder / ("performance.json" if suite else "summary.json")
    if results.exists() and not arguments.overwrite:
        raise ConfigError(f"results exist already: {results}", hint="another --out, or --overwrite to replace them")
    if suite:
        return _measure_suite(config, folder, command)
    return _measure_models(config, folder, command, arguments, path.read_text(encoding="utf-8"))


def _measure_models(config: Any, folder: Path, command: str, arguments: argparse.Namespace, text: str) -> int:
    """Models in turn: summary.json and report.html."""
    from vidkd.base.extras import require

    require("matplotlib", "report")  # before anything is measured
    from vidkd.bench.speed.record import summary_of
    from vidkd.bench.speed.run import run_benchmark
    from vidkd.bench.summary import write_summary
    from vidkd.report.benchmark import benchmark_report
    from vidkd.report.page import render_report
    from vidkd.report.text import table_text

    try:
        results = run_benchmark(config, roots=roots_of(arguments.root), device=arguments.device)
    except KeyboardInterrupt:
        sys.stderr.write("vidkd: no round was complete, so nothing is written\n")
        raise
    summary = summary_of(results, text, command)
    page = benchmark_report(summary, command=command)
    sys.stdout.write(table_text(page.tables[0]))  # first: it is all that is left if the disk is full by now
    with written_or_refused("--out", folder):
        write_summary(folder / "summary.json", summary)
        render_report(folder / "report.html", page)
    sys.stdout.write(f"written: {folder / 'summary.json'}, {folder / 'report.html'}\n")
    failed = {label: model.cold_failure for label, model in results.models.items() if model.cold_failure}
    for label, reason in failed.items():
        sys.stderr.write(f"no cold start of {label}: {reason}\n")
    if results.interrupted:
        sys.stderr.write(f"vidkd: interrupted; all figures are of the complete rounds: {summary['data']['rounds']}\n")
        return 130
    return 1 if failed else 0


def _measure_suite(config: Any, folder: Path, command: str) -> int:
    """Timings of vidkd itself: performance.json and performance.md."""
    from vidkd.base.files import atomic_write, write_json
    from vidkd.bench.performance.suite import run_suite
    from vidkd.report.performance import performance_page

    results = run_suite(config, command)
    with written_or_refused("--out", folder):
        write_json(folder / "performance.json", results)
        with atomic_write(folder / "performance.md") as file:
            file.write(performance_page(results))
    sys.stdout.write(f"written: {folder / 'performance.json'}, {folder / 'performance.md'}\n")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    """Exit code 1 if something got worse, is missing, or moved in the wrong direction without an interval."""
    from vidkd.base.files import near_files
    from vidkd.bench.speed.compare import compare
    from vidkd.bench.summary import read_summary

    paths = [Path(name) for name in arguments.words[1:]]
    if len(paths) != 2 or arguments.settings:
        raise ConfigError("compare takes two summaries", hint="vidkd benchmark compare A.json B.json")
    for path in paths:
        if not path.is_file():
            hint = "name the summary.json in the folder of a benchmark; vidkd benchmark BENCHMARK.yaml writes it"
            raise DataError(f"not a file: {path}", **near_files(path, (".json",)), hint=hint)
    changes = compare(*map(read_summary, paths), tolerance=arguments.tolerance or 0.0)
    sys.stdout.write("".join(f"  {change}\n" for change in changes if change.verdict != "same"))
    sys.stdout.write(", ".join(f"{count} {verdict}" for verdict, count in Counter(change.verdict for change in changes).items()) + "\n")
    return int(any(change.is_regression for change in changes))
