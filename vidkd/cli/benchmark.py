"""Measure speed against accuracy: models in turn on the same clips or frames, alone and from file to answer, and in fresh processes.

  vidkd benchmark --config SUITE.yaml         times vidkd itself and its peers: loader, training step, streams, ...
  vidkd benchmark --config BENCHMARK.yaml     measures; writes summary.json and report.html
  vidkd benchmark compare A.json B.json       lists what is worse in B than in A beyond the intervals; exit code 1 if anything is

Exit code 1, too, if a fresh process of a model fails after others were measured: that model has no cold start, all else is kept.
Ctrl-C stops after the current round: complete rounds are written, and the exit code is 130.

A benchmark names models by label: runs, checkpoints, exported files, backbones with random weights, or detectors. --data.root DIR: the data
set, or a folder of the videos and weights that it names (may be repeated; default: $VIDKD_DATA).
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkd.base.errors import ConfigError
from vidkd.base.roots import data_root, roots_of, split_roots
from vidkd.cli.outputs import check_folder
from vidkd.cli.verb_parser import list_settings

PARTS = ("compare",)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and where results go. Any setting of the benchmark may follow as a flag: --data.root DIR --rounds 5.

    Args:
        config: a benchmark or a suite (YAML), or the name of a shipped one (vidkd config ls benchmark).
        out: folder of the results (default: runs/<name of the benchmark>).
        overwrite: replace the results in --out.
        device: auto, cpu, cuda or mps.
        list_settings: list every setting of a benchmark, and stop.
    """

    config: str | None = None
    out: str | None = None
    overwrite: bool = False
    device: str = "auto"
    list_settings: bool = False
    settings: tuple[str, ...] = ()


def run(given: Settings) -> int:
    """Measure."""
    from vidkd.base.settings import load_settings, read_yaml
    from vidkd.base.yaml_files import find_config
    from vidkd.bench.speed.config import BenchmarkConfig, read_benchmark

    if given.list_settings:
        return list_settings(BenchmarkConfig)
    if given.config is None:
        raise ConfigError("no benchmark given", hint="--config BENCHMARK.yaml, as in configs/benchmark/")
    path, (roots, others) = find_config(given.config), split_roots(given.settings)
    where = ["--data.root=DIR"] if roots else []
    command = shlex.join(["vidkd", "benchmark", "--config", given.config, *others, *where])
    suite = "parts" in read_yaml(path).content
    config: Any
    if suite:
        from vidkd.bench.performance.suite import SuiteConfig

        config = load_settings(SuiteConfig, path, overrides=given.settings)
    else:
        config = read_benchmark(path, others)
    if roots and not suite:
        root = data_root("" if config.data is None else config.data.root, roots_of(given.settings), roots)
        config = read_benchmark(path, [*others, f"--data.root={root}"])
    folder = Path(given.out) if given.out else Path("runs") / config.name
    check_folder("--out", folder)
    results = folder / ("performance.json" if suite else "summary.json")
    if results.exists() and not given.overwrite:
        raise ConfigError(f"results exist already: {results}", hint="another --out, or --overwrite to replace them")
    if suite:
        return _measure_suite(config, folder, command)
    return _measure_models(config, folder, command, given, path.read_text(encoding="utf-8"))


def _measure_models(config: Any, folder: Path, command: str, given: Settings, text: str) -> int:
    """Models in turn: summary.json and report.html."""
    from vidkd.base.errors import require

    require("matplotlib", "report")  # before anything is measured
    from vidkd.bench.speed.record import summary_of
    from vidkd.bench.speed.run import run_benchmark
    from vidkd.bench.summary import write_summary
    from vidkd.report.benchmark import benchmark_report
    from vidkd.report.page import render_report, table_text

    try:
        results = run_benchmark(config, roots=roots_of(given.settings), device=given.device)
    except KeyboardInterrupt:
        sys.stderr.write("vidkd: no round was complete, so nothing is written\n")
        raise
    summary = summary_of(results, text, command)
    page = benchmark_report(summary, command=command)
    sys.stdout.write(table_text(page.tables[0]))  # first: it is all that is left if the disk is full by now
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
    from vidkd.report.benchmark import performance_page

    results = run_suite(config, command)
    write_json(folder / "performance.json", results)
    with atomic_write(folder / "performance.md") as file:
        file.write(performance_page(results))
    sys.stdout.write(f"written: {folder / 'performance.json'}, {folder / 'performance.md'}\n")
    return 0
