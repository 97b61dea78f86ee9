"""Run a study of online distillation along streams: methods x shares of calls x seeds x streams, each cell kept as it ends.

`--phase tune` judges every method's trials on the tuning streams and writes chosen.json; `--phase test` runs the test streams with what
was chosen. Given again, a command goes on where it was. Writes summary.json, tables and report.html of the cells that are finished, and
tells those that failed in the end. docs/stream_studies.md tells the rest.

  vidkd compare_streams configs/studies/streams/pets_fastest.yaml --root /data --workers 2
"""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.base.roots import ROOT_HELP, roots_of
from vidkd.cli.number_flags import add_count

if TYPE_CHECKING:
    from vidkd.bench.failed_cells import CellsFailedError
    from vidkd.bench.streams.collect import StreamCells
    from vidkd.bench.streams.places import StreamPlaces
    from vidkd.bench.streams.settings import ChosenTrials
    from vidkd.bench.streams.spec import StreamStudy
    from vidkd.report.parts import Figure

CACHE = "runs/oracle"
SMOOTHED = 15
"""Frames over which the time line averages F1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("study", metavar="STUDY.yaml", help="a study, as in configs/studies/streams/")
    parser.add_argument("--phase", choices=["tune", "test", "all", "report"], default="all", help="part of the study (default: all)")
    parser.add_argument("--root", action="append", metavar="DIR", help=ROOT_HELP)
    parser.add_argument("--methods", metavar="A,B", help="test only these methods; all are tuned")
    parser.add_argument("--seeds", metavar="0,1", help="test only these seeds")
    parser.add_argument("--out", metavar="DIR", help="where cells and summary go (default: results/<study>)")
    parser.add_argument("--cache", default=CACHE, metavar="DIR", help=f"where the oracle's boxes are kept (default: {CACHE})")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or mps (default: cpu, where a cell repeats bit by bit)")
    add_count(parser, "--workers", least=0, default=1, metavar="N", help="cells run at once, a process each (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    """Run the phases asked for, then write the summary and the report."""
    from vidkd.bench.failed_cells import reported
    from vidkd.bench.streams.places import StreamPlaces
    from vidkd.bench.streams.reading import read_stream_study
    from vidkd.bench.streams.tuning import read_chosen_trials, tune_streams

    study = read_stream_study(arguments.study)
    results = Path(arguments.out) if arguments.out else Path("results") / study.spec.study
    places = StreamPlaces(roots=roots_of(arguments.root), results=results, cache=Path(arguments.cache), device=arguments.device)
    if arguments.phase in ("tune", "all") and study.spec.tuned:
        tune_streams(study, places, arguments.workers)
    if arguments.phase == "tune":
        return 0
    chosen = read_chosen_trials(study, places)
    failed = _test(study, places, chosen, arguments) if arguments.phase in ("test", "all") else None
    return reported(lambda: _report(study, places, chosen, arguments), failed)


def _test(study: "StreamStudy", places: "StreamPlaces", chosen: "ChosenTrials", arguments: argparse.Namespace) -> "CellsFailedError | None":
    """Run the cells of the test phase, saying so as they end; returns what failed, after all the others have been tried."""
    from vidkd.bench.failed_cells import CellsFailedError
    from vidkd.bench.streams.cells import run_stream_cells
    from vidkd.bench.streams.collect import as_counts
    from vidkd.bench.streams.places import named
    from vidkd.bench.streams.settings import cells_to_run

    spec = study.spec
    methods = named(arguments.methods, list(spec.methods), "method", study.path)
    seeds = named(arguments.seeds, [str(seed) for seed in spec.seeds], "seed", study.path)
    keys = [key for key in cells_to_run(spec, methods) if str(key.seed) in seeds]
    try:
        for done, (key, cell) in enumerate(run_stream_cells(study, "test", keys, places, chosen, arguments.workers), start=1):
            whole = cell["seconds"]["whole"]
            sys.stdout.write(f"[{done}/{len(keys)}] {key}  F1 {as_counts(cell).f1:.3f}  {len(cell['called'])} calls  {whole:.0f} s\n")
            sys.stdout.flush()
    except CellsFailedError as error:
        return error
    return None


def _report(study: "StreamStudy", places: "StreamPlaces", chosen: "ChosenTrials", arguments: argparse.Namespace) -> int:
    from vidkd.bench.streams.collect import read_stream_cells, summarise_streams
    from vidkd.bench.streams.page import blocks_note, stream_table
    from vidkd.bench.summary import write_summary
    from vidkd.report.page import render_report
    from vidkd.report.stream_study import stream_study_report

    found = read_stream_cells(study, places, chosen)
    summary = summarise_streams(study, found)
    write_summary(places.results / "summary.json", summary)
    sys.stdout.write(stream_table(summary))
    page = render_report(
        places.results / "report.html",
        stream_study_report(
            summary,
            command=_command(arguments),
            config_text=study.path.read_text(encoding="utf-8"),
            title=study.spec.title or "",
            text=" ".join([*(study.spec.text or "").split(), blocks_note(summary)]).strip(),
            figures=time_lines(study, found, summary["data"]["labels"]),
        ),
    )
    sys.stdout.write(f"written: {places.results / 'summary.json'}, {page}\n")
    return 0


def _command(arguments: argparse.Namespace) -> str:
    """The command that makes this study again, with the flags as they were given."""
    flags = [f"--root={folder}" for folder in arguments.root or ()]
    flags += [f"--{name}={value}" for name in ("methods", "seeds", "out") if (value := getattr(arguments, name))]
    flags += [f"--{name}={value}" for name, usual in (("cache", CACHE), ("device", "cpu")) if (value := getattr(arguments, name)) != usual]
    return shlex.join(["vidkd", "compare_streams", arguments.study, *flags])


def time_lines(study: "StreamStudy", found: "StreamCells", labels: Mapping[str, str]) -> "list[Figure]":
    """For every test stream the way of each method with the first seed: F1 along the stream, its calls and the updates that were kept.

    Of several shares of calls the one nearest to that of tuning is drawn.
    """
    figures = []
    for stream in study.spec.test_streams:
        rows: dict[str, dict[str, Any]] = {}
        for name in labels:
            shares = sorted((abs(share - study.spec.tuning.calls), share) for other, share in found if other == name)
            for cell in found[name, shares[0][1]] if shares else []:
                if cell["stream"] == stream and cell["seed"] == study.spec.seeds[0]:
                    rows[labels[name]] = cell
        if rows:
            figures.append(_time_line(rows, stream))
    return figures


def _time_line(rows: Mapping[str, Mapping[str, Any]], stream: str) -> "Figure":
    import numpy as np

    from vidkd.report.drawing import INK, SERIES, canvas, finish, short

    with canvas(0.8 + 0.75 * len(rows), 8.6) as (drawing, axes):
        for row, cell in enumerate(rows.values()):
            colour = SERIES[row % len(SERIES)]
            axes.plot(np.arange(cell["frames"]), row + 0.4 - 0.75 * _smoothed_f1(cell["counts"]), color=colour, lw=1.2)
            axes.plot(cell["called"], np.full(len(cell["called"]), row + 0.45), "|", color=INK, ms=4, mew=0.8)
            axes.plot(cell["kept"], np.full(len(cell["kept"]), row + 0.45), ".", color=colour, ms=3)
        axes.set_yticks(range(len(rows)), [short(name) for name in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("frame of the stream")
        caption = f"Lines: F1 over {SMOOTHED} frames, from 0 at the row's foot to 1 at its top. Strokes: calls; dots: updates kept."
        return finish(drawing, f"Time line, {stream}", caption=caption, wide=True)


def _smoothed_f1(counts: Mapping[str, Sequence[int]]) -> Any:
    import numpy as np

    from vidkd.detection.metrics.matching import pooled_f1

    window = np.ones(min(SMOOTHED, len(counts["right"])))
    return pooled_f1(*(np.convolve(counts[name], window, mode="same") for name in ("right", "wrong", "missed")))
