"""Measure speed against accuracy: models in turn on the same clips or frames, alone and from file to answer, and in fresh processes.

  vidkd benchmark BENCHMARK.yaml                    measures; writes summary.json, measurements.json and report.html
  vidkd benchmark BENCHMARK.yaml --repeat           measures a second time, and compares with the first as below; with --overwrite too a
                                                    second run that lies there is replaced, never the first
  vidkd benchmark report DIR                        makes the page of what lies in DIR anew
  vidkd benchmark compare A.json B.json             tells what is worse in B than in A beyond the intervals; exit code 1 if anything is,
                                                    or if it moved the wrong way and nothing tells whether by chance

Exit code 1, too, where a fresh process of a model fails after others were measured: that model has no cold start, all else is kept.
Ctrl-C ends a measurement with the round that runs: what whole rounds tell is written, and the exit code is 130.

A benchmark names models by label: runs, checkpoints, exported files, backbones with random weights, or detectors; docs/benchmark.md
tells what is measured and how.
"""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.roots import ROOT_HELP, roots_of
from vidkd.cli.number_flags import add_number
from vidkd.cli.outputs import add_overwrite_argument, check_folder, written_or_refused
from vidkd.cli.settings import list_benchmark

if TYPE_CHECKING:
    from vidkd.bench.speed.config import Benchmark
    from vidkd.bench.speed.regressions import Comparison

TAKES_SETTINGS = True
COMPARE, REPORT = "compare", "report"
SECOND = ("repeat.json", "repeat_measurements.json")
"""What a second run leaves."""
ANOTHER = "another --out, or measure anew without --repeat"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WHAT",
        help="a benchmark, as in configs/benchmark/; or compare and two summaries; or report and the folder of one",
    )
    parser.add_argument("--out", metavar="DIR", help="where results go (default: runs/<name of the benchmark>)")
    parser.add_argument("--root", action="append", metavar="DIR", help=ROOT_HELP)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument(
        "--repeat", action="store_true", help="measure a second time beside what lies in --out; a first time too if nothing does"
    )
    add_number(
        parser,
        "--tolerance",
        least=0,
        metavar="X",
        help="of compare and --repeat: share by which a figure may differ beyond the intervals (default: 0)",
    )
    add_overwrite_argument(parser, "--out")
    parser.add_argument("--settings", dest="list_settings", action="store_true", help="list every setting of a benchmark, and stop")
    parser.epilog = "any setting of the benchmark may follow as a flag: --data.root DIR --rounds 5   (--settings lists them)"


def run(arguments: argparse.Namespace) -> int:
    """Measure, or compare."""
    if arguments.list_settings:
        return list_benchmark()
    if not arguments.words:
        raise ConfigError("which benchmark?", to_mend="vidkd benchmark BENCHMARK.yaml, as in configs/benchmark/; or compare, or report")
    if arguments.words[0] == COMPARE:
        return _compare(arguments)
    if arguments.words[0] == REPORT:
        return _report_again(arguments)
    from vidkd.base.extras import require
    from vidkd.bench.speed.config import read_benchmark

    if len(arguments.words) > 1:
        raise ConfigError(f"one benchmark at a time, not {len(arguments.words)}", found=", ".join(arguments.words))
    if arguments.tolerance is not None and not arguments.repeat:
        raise ConfigError("--tolerance is of two runs, and this measures one", to_mend="--repeat too, or leave it out")
    benchmark = read_benchmark(arguments.words[0], arguments.settings, roots=roots_of(arguments.root))
    folder = Path(arguments.out) if arguments.out else Path("runs") / benchmark.config.name
    check_folder("--out", folder)
    _check_place(folder, arguments)
    command = ["vidkd", "benchmark", *arguments.words, *_flags(arguments), *arguments.settings]
    require("matplotlib", "report")  # before anything is measured
    if arguments.repeat:
        return _repeat(benchmark, folder, arguments.device, command, arguments.tolerance or 0.0)
    summary = _measure(benchmark, folder, "summary.json", "measurements.json", arguments.device, command)
    for name in SECOND if arguments.overwrite else ():  # of what is replaced
        (folder / name).unlink(missing_ok=True)
    _report(folder, summary, shlex.join(command))
    sys.stdout.write(f"written: {folder / 'summary.json'}, {folder / 'measurements.json'}, {folder / 'report.html'}\n")
    return _told_end(summary)


def _told_end(*summaries: Mapping[str, Any]) -> int:
    """Say what is missing of runs that were interrupted, or of models that did not start; the exit code that comes of it."""
    from vidkd.bench.speed.asked import INTERRUPTED

    failed = _told_cold_starts(*summaries)
    if not any(summary["data"].get(INTERRUPTED) for summary in summaries):
        return failed
    rounds = summaries[-1]["data"]["rounds"]
    sys.stderr.write(f"vidkd: interrupted after {rounds} round{'s' * (rounds != 1)}: all figures are of these; --overwrite measures anew\n")
    return 130


def _told_cold_starts(*summaries: Mapping[str, Any]) -> int:
    """Say which models have no cold start because a process of theirs failed; the exit code that comes of it."""
    models = [item for summary in summaries for item in summary["data"]["models"].items()]
    failed = {label: reason for label, model in models if (reason := model.get("cold_start_failed"))}
    for label, reason in failed.items():
        sys.stderr.write(f"no cold start of {label}: {reason}\n")
    return 1 if failed else 0


def _check_place(folder: Path, arguments: argparse.Namespace) -> None:
    """Raise ConfigError where another run, the second one under --repeat, would be replaced unasked."""
    if arguments.overwrite:
        return
    there = [path for name in SECOND if (path := folder / name).exists()]
    if arguments.repeat and there:
        mend = "--repeat --overwrite to replace the second run alone, or copy it elsewhere first"
        raise ConfigError(f"a second run lies there already: {there[0]}", to_mend=mend)
    if (folder / "summary.json").exists() and not arguments.repeat:
        mend = "--repeat to measure a second time beside it, another --out, or --overwrite to replace it"
        raise ConfigError(f"a summary lies there already: {folder / 'summary.json'}", to_mend=mend)


def _flags(arguments: argparse.Namespace) -> list[str]:
    given = [f"--out={arguments.out}"] if arguments.out else []
    given += [f"--root={folder}" for folder in arguments.root or ()]
    given += [f"--device={arguments.device}"] if arguments.device != "auto" else []
    given += [f"--{name}" for name in ("repeat", "overwrite") if getattr(arguments, name)]
    return [*given, *([f"--tolerance={arguments.tolerance:g}"] if arguments.tolerance is not None else [])]


def _measure(
    benchmark: "Benchmark",
    folder: Path,
    summary_name: str,
    measurements_name: str,
    device: str,
    command: Sequence[str],
    first: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """first: the summary that this run is to stand beside."""
    from vidkd.base.files import write_json
    from vidkd.bench.speed.record import measurements_of, summary_of
    from vidkd.bench.speed.regressions import check_runs_alike
    from vidkd.bench.speed.run import run_benchmark
    from vidkd.bench.summary import write_summary

    try:
        results = run_benchmark(benchmark, device=device, check=None if first is None else partial(check_runs_alike, first))
    except KeyboardInterrupt:
        sys.stderr.write("vidkd: no round was whole, so nothing is written; the same command begins anew\n")
        raise
    summary = summary_of(results, benchmark.path.read_text(encoding="utf-8"), command)
    sys.stdout.write(_text(summary))  # first: it is all that is left where the disk is full by now
    with written_or_refused("--out", folder):
        write_summary(folder / summary_name, summary)
        write_json(folder / measurements_name, measurements_of(results))
    return summary


def _report(folder: Path, summary: Mapping[str, Any], command: str, repeated: "Comparison | None" = None) -> None:
    from vidkd.bench.speed.asked import told_settings
    from vidkd.report.benchmark import benchmark_report
    from vidkd.report.page import render_report

    page = benchmark_report(summary, command=command, config_text=told_settings(summary["data"]), repeated=repeated)
    with written_or_refused("--out", folder):
        render_report(folder / "report.html", page)


def _repeat(benchmark: "Benchmark", folder: Path, device: str, command: Sequence[str], tolerance: float) -> int:
    """The second run lies beside the first, which stays; the exit code is that of `compare`."""
    from vidkd.bench.speed.asked import INTERRUPTED, told_command
    from vidkd.bench.speed.kept import read_measurements
    from vidkd.bench.speed.regressions import compare
    from vidkd.bench.summary import read_summary

    path = folder / "summary.json"
    if path.exists():
        first = read_summary(path)
        _check_repeated(first, benchmark, folder)
    else:
        first = _measure(benchmark, folder, "summary.json", "measurements.json", device, command)
        if first["data"].get(INTERRUPTED):
            _report(folder, first, shlex.join(command))
            return _told_end(first)
    second = _measure(benchmark, folder, *SECOND, device, command, first)
    kept = read_measurements(path, first), read_measurements(folder / "repeat.json", second)
    comparison = compare(first, second, tolerance=tolerance, measurements=kept)
    _report(folder, first, told_command(first["data"]), comparison)
    sys.stdout.write(_compared(comparison, "the first run"))
    sys.stdout.write(f"written: {folder / 'repeat.json'}, {folder / 'repeat_measurements.json'}, {folder / 'report.html'}\n")
    return _told_end(second) or _told_cold_starts(first) or (1 if comparison.regressions else 0)


def _check_repeated(first: Mapping[str, Any], benchmark: "Benchmark", folder: Path) -> None:
    """Raise DataError or ConfigError, before anything is measured, where the first run can be no pair of this one."""
    from vidkd.bench.speed.cost import content_of
    from vidkd.bench.speed.places import located
    from vidkd.bench.speed.regressions import asked_for, check_alike, check_is_benchmark, unlike_models

    try:
        check_is_benchmark(first)
        check_alike(first["data"], asked_for(benchmark.config))
    except DataError as error:
        raise error.with_lines(first_run=folder, to_mend=ANOTHER) from error
    told = first["data"].get("models") or {label: {} for label in first["methods"]}
    now = {label: {"content": content_of(spec), "way": spec.way} for label, spec in located(benchmark).models.items()}
    shape = dataclasses.asdict(benchmark.config.shape)
    other = unlike_models(told, now) or (["all: of another shape"] if first["data"].get("shape", shape) != shape else [])
    if other:
        raise ConfigError(
            f"the run in {folder} is of other models, of other files, or ran them otherwise", models=", ".join(other), to_mend=ANOTHER
        )


def _summary_in(path: Path) -> dict[str, Any]:
    """The summary of a run that was named. Raises DataError as `read_summary`, and for what is no file."""
    from vidkd.base.files import near_files
    from vidkd.bench.summary import read_summary

    mend = "name the summary.json, or repeat.json, in the folder of a benchmark; vidkd benchmark BENCHMARK.yaml writes it"
    if path.is_dir():
        raise DataError(f"a folder, not a summary: {path}", to_mend=mend)
    if not path.is_file():
        raise DataError(f"file not found: {path}", **near_files(path, (".json",)), to_mend=mend)
    return read_summary(path)


def _report_again(arguments: argparse.Namespace) -> int:
    """The page of a benchmark that was measured, with its second run if there is one; for a page that was lost or could not be made."""
    from vidkd.bench.speed.asked import told_command
    from vidkd.bench.speed.kept import read_measurements
    from vidkd.bench.speed.regressions import check_is_benchmark, compare
    from vidkd.bench.summary import read_summary

    if len(arguments.words) != 2 or arguments.settings or any(not flag.startswith("--tolerance") for flag in _flags(arguments)):
        raise ConfigError("report takes the folder of a benchmark and nothing more", to_mend="vidkd benchmark report runs/benchmark")
    folder = Path(arguments.words[1])
    paths = [folder / name for name in ("summary.json", "repeat.json")]
    summary, repeated = _summary_in(paths[0]), None
    check_is_benchmark(summary)
    if paths[1].exists():
        second = read_summary(paths[1])
        kept = read_measurements(paths[0], summary), read_measurements(paths[1], second)
        repeated = compare(summary, second, tolerance=arguments.tolerance or 0.0, measurements=kept)
    _report(folder, summary, told_command(summary["data"]), repeated)
    sys.stdout.write(f"written: {folder / 'report.html'}\n")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    """Exit code 1 where something got worse, is gone, or moved the wrong way without an interval that tells whether by chance."""
    from vidkd.bench.speed.kept import read_measurements
    from vidkd.bench.speed.regressions import compare

    if len(arguments.words) != 3 or arguments.settings:
        raise ConfigError("compare takes two summaries and nothing more", to_mend="vidkd benchmark compare A.json B.json")
    if useless := [flag.partition("=")[0] for flag in _flags(arguments) if not flag.startswith("--tolerance")]:
        raise ConfigError(f"{useless[0]} means nothing to compare, which measures nothing", to_mend=f"leave out {', '.join(useless)}")
    first, second = arguments.words[1:]
    summaries = _summary_in(Path(first)), _summary_in(Path(second))
    kept = read_measurements(first, summaries[0]), read_measurements(second, summaries[1])
    comparison = compare(*summaries, tolerance=arguments.tolerance or 0.0, measurements=kept)
    sys.stdout.write(_compared(comparison, first))
    return 1 if comparison.regressions else 0


def _compared(comparison: "Comparison", what: str) -> str:
    """The figures that are not the same, and how many are."""
    different = comparison.of("worse", "better", "gone", "new", "unknown")
    lines = [f"  {change}" for change in different]
    counts = {verdict: len(comparison.of(verdict)) for verdict in ("same", "worse", "better", "gone", "new", "unknown")}
    lines.append(f"against {what}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))
    if not comparison.same_machine:
        lines.append("note: measured on unlike machines; times were not compared, ratios were")
    lines += [f"note: {note}" for note in comparison.notes]
    return "\n".join(lines) + "\n"


def _text(summary: Mapping[str, Any]) -> str:
    """A line a model: accuracy, latency at the first condition, and from file to answer; difference and ratio are to what it is against."""
    from vidkd.bench.speed.regressions import held_against

    differences = {pair["method"]: pair for pair in summary["paired"]}
    rows = [("model", "accuracy", "difference", "latency ms", "p95", "times", "against", "end to end ms", "cold start s")]
    for label, method in summary["methods"].items():
        metrics = method["metrics"]
        latency = next(name for name in metrics if name.startswith("latency_ms@"))
        at = latency.partition("@")[2]
        alone = f"@b1{at[at.index('t') :]}"
        times = [_number(metrics.get(name)) for name in (latency, f"latency_p95_ms@{at}", f"latency_ratio@{at}")]
        rest = [_number(metrics.get(name)) for name in (f"end_to_end_ms{alone}", "cold_start_s")]
        judged = next((name for name in ("top1", "ap50", "recall50") if name in metrics), "")
        accuracy = (_number(metrics.get(judged)), _difference(differences.get(label)))
        rows.append((label, *accuracy, *times, held_against(summary["data"], label) or "-", *rest))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    batch, _, threads = at.removeprefix("b").partition("t")
    head = f"latency: of a batch of {batch}; end to end: one after another from the file; threads: {threads}\n"
    return head + "".join("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows)


def _number(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{row['mean']:.3g}" + (f" [{row['ci95'][0]:.3g}, {row['ci95'][1]:.3g}]" if row["ci95"] else "")


def _difference(pair: Mapping[str, Any] | None) -> str:
    if pair is None:
        return "-"
    return f"{pair['difference']:+.3g}" + (f" [{pair['ci95'][0]:+.3g}, {pair['ci95'][1]:+.3g}]" if pair["ci95"] else "")
