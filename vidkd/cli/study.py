"""Run a study, each cell kept as it ends: methods x seeds x folds, or methods x shares of calls x seeds x streams.

`--phase tune` judges every method's trials on validation groups or tuning streams and writes chosen.json; `--phase test` runs the test
cells with what was chosen. Given again, a command resumes. Writes summary.json, cells.parquet, tables and report.html of the
finished cells, and reports those that failed in the end. `--check` recomputes all committed summaries.

  vidkd study configs/studies/motion_shapes.yaml --data.root DIR
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.cli.number_flags import add_count

if TYPE_CHECKING:
    from vidkd.bench.clip_study import ClipStudy
    from vidkd.bench.streams.study import StreamStudy
    from vidkd.bench.study import CellsFailedError, Places, Study
    from vidkd.engine.clips import Clips
    from vidkd.engine.config import RunConfig
    from vidkd.report.parts import Figure, Report, Strip

TAKES_SETTINGS = True
RUNS = "runs"
STUDIES, RESULTS = Path("configs/studies"), Path("results")
CACHE = "runs/oracle"
PICTURED = 2
"""Example clips on examples.png; the report shows more."""
SMOOTHED = 15
"""Frames over which the time line averages F1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("study", nargs="?", metavar="STUDY.yaml", help="a study, as in configs/studies/")
    phases = ["tune", "test", "all", "report"]
    parser.add_argument("--phase", choices=phases, default="all", help="part of the study (default: all; report only reads finished cells)")
    shortlisted = "test only these methods and their teachers; all are tuned (default: the study's shortlist, or all)"
    parser.add_argument("--methods", metavar="A,B", help=shortlisted)
    parser.add_argument("--seeds", metavar="0,1", help="test only these seeds; the summary is of all that are finished")
    parser.add_argument("--out", metavar="DIR", help="folder of cells and summary (default: results/<study>)")
    parser.add_argument("--runs", metavar="DIR", default=RUNS, help=f"folder of checkpoints and of cells under way (default: {RUNS})")
    parser.add_argument("--cache", default=CACHE, metavar="DIR", help=f"streams: folder of the oracle's boxes (default: {CACHE})")
    parser.add_argument("--device", help="auto, cpu, cuda or mps (default: the run's; of streams cpu, where a cell repeats bit by bit)")
    workers = "cells run at once, a process each; give each train.threads of its own (default: 1)"
    add_count(parser, "--workers", least=0, default=1, metavar="N", help=workers)
    parser.add_argument("--check", action="store_true", help="recompute every committed summary from its cells and compare")
    parser.epilog = (
        "--data.root DIR: the data set, or of streams a folder of videos and weights (may be repeated; default: $VIDKD_DATA).\n"
        "any other setting of a run may follow as a flag, for all methods   (vidkd train --settings lists them)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the phases asked for, then write the summary and the report; or check what is committed."""
    from vidkd.base.errors import ConfigError

    if arguments.check:
        return _check()
    if arguments.study is None:
        raise ConfigError("no study is given", hint="vidkd study configs/studies/NAME.yaml, or --check")
    return _run(arguments)


def _check() -> int:
    from vidkd.bench.reading import check_summaries

    wrong = 0
    for name, differing in check_summaries(STUDIES, RESULTS):
        sys.stdout.write(f"{name}: {'as committed' if not differing else f'{len(differing)} differ'}\n")
        sys.stdout.writelines(f"  {line}\n" for line in differing[:5])
        sys.stdout.flush()
        wrong += bool(differing)
    return 1 if wrong else 0


def _opened(arguments: argparse.Namespace) -> "tuple[Study, Places]":
    """The study, and where it reads and writes. Of a study of streams --data.root names the folders of its files."""
    from vidkd.base.roots import roots_of
    from vidkd.bench.reading import read_study
    from vidkd.bench.streams.study import StreamStudy
    from vidkd.bench.study import Places

    words, roots = list(arguments.settings), list[str]()
    study = read_study(arguments.study)
    if isinstance(study, StreamStudy):
        words, roots = _roots(words)
    elif arguments.device is not None:
        words.append(f"--train.device={arguments.device}")
    study = read_study(arguments.study, words)
    places = Places(
        results=Path(arguments.out) if arguments.out else RESULTS / study.name,
        runs=Path(arguments.runs),
        roots=roots_of(roots),
        cache=Path(arguments.cache),
        device=arguments.device or "cpu",
        committed=RESULTS,
    )
    return study, places


def _roots(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Settings without --data.root, and the folders that it names."""
    left: list[str] = []
    roots: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if flag != "--data.root":
            left.append(word)
        elif equals:
            roots.append(value)
        elif words:
            roots.append(words.pop(0))
    return left, roots


def _run(arguments: argparse.Namespace) -> int:
    from vidkd.bench.clip_spec import check_settings
    from vidkd.bench.clip_study import ClipStudy
    from vidkd.bench.reading import chosen_of
    from vidkd.bench.tuning import tune
    from vidkd.engine.loop import InterruptedRunError

    study, places = _opened(arguments)
    methods = _named(arguments.methods, list(study.methods), "method", study.path)
    seeds = _named(arguments.seeds, [str(seed) for seed in study.seeds], "seed", study.path)
    failed = None
    try:
        if arguments.phase != "report" and isinstance(study, ClipStudy):
            check_settings(study)
        if arguments.phase in ("tune", "all") and study.tuned:
            tune(study, places, arguments.workers)
        if arguments.phase == "tune":
            return 0
        content = chosen_of(study, places)
        if arguments.phase in ("test", "all"):
            failed = _test(study, methods, None if seeds is None else [int(seed) for seed in seeds], places, content, arguments.workers)
    except InterruptedRunError as stopped:
        sys.stderr.write(f"vidkd: {stopped}\n")
        return 130
    return _reported(lambda: _report(study, places, content, arguments), failed)


def _named(names: str | None, known: Sequence[str], kind: str, where: Path) -> list[str] | None:
    """The names of a comma-separated list, None for None. Raises ConfigError for one that is unknown."""
    from vidkd.base.errors import unknown_name

    if names is None:
        return None
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise unknown_name(kind, name, known, where=where)
    return wanted


def _test(
    study: "Study", methods: list[str] | None, seeds: list[int] | None, places: "Places", content: Mapping[str, Any], workers: int
) -> "CellsFailedError | None":
    """Run the cells of the test phase, a line each; returns what failed, after all the others have been tried."""
    from vidkd.bench.study import CellsFailedError, run_cells
    from vidkd.bench.tuning import chosen_settings

    waves = study.test_waves(methods, seeds)
    total = sum(len(wave) for wave in waves)
    try:
        for done, (key, cell) in enumerate(run_cells(study, "test", waves, places, chosen_settings(content), workers), start=1):
            sys.stdout.write(f"[{done}/{total}] {key}  {study.line(cell)}\n")
            sys.stdout.flush()
    except CellsFailedError as error:
        return error
    return None


def _reported(report: Callable[[], int], failed: "CellsFailedError | None") -> int:
    """What the report of the finished cells returns. Raises what failed after it, with a line more where there is no report either."""
    from vidkd.base.errors import VidkdError

    if failed is None:
        return report()
    try:
        report()
    except VidkdError as error:
        raise failed.with_lines(no_report=error.what) from error
    raise failed


def _report(study: "Study", places: "Places", content: Mapping[str, Any], arguments: argparse.Namespace) -> int:
    from vidkd.base.errors import DataError
    from vidkd.bench.clip_study import ClipStudy
    from vidkd.bench.streams.study import StreamStudy
    from vidkd.bench.study import read_cells
    from vidkd.bench.summary import write_summary
    from vidkd.report.page import render_report

    cells = read_cells(study, places)
    if not cells:
        raise DataError(f"no finished cell in {places.results}", hint=f"vidkd study {study.path}")
    summary = study.summarise(cells, content["claims"])
    write_summary(places.results / "summary.json", summary)
    pictures: Sequence[Strip] = ()
    if isinstance(study, ClipStudy):
        report, text = _clip_report(study, places, content, cells, summary, arguments)
        pictures = report.strips[:PICTURED]
    else:
        assert isinstance(study, StreamStudy)
        report, text = _stream_report(study, cells, summary, arguments)
    sys.stdout.write(text)
    written = [places.results / "summary.json", render_report(places.results / "report.html", report)]
    if pictures:
        from vidkd.report.examples import write_picture

        written.append(places.results / "examples.png")
        write_picture(written[-1], pictures)
    sys.stdout.write(f"written: {', '.join(str(path) for path in written)}\n")
    return 0


def _clip_report(
    study: "ClipStudy",
    places: "Places",
    content: Mapping[str, Any],
    cells: Mapping[str, Mapping[str, Any]],
    summary: Mapping[str, Any],
    arguments: argparse.Namespace,
) -> "tuple[Report, str]":
    from vidkd.bench.clip_summary import as_cell, by_method
    from vidkd.bench.tables import table
    from vidkd.report.study import study_report

    found = by_method(study, cells)
    example = _example(study, places, content, found)
    report = study_report(
        summary,
        cells={study.spec.shown_name(name): [as_cell(cell) for cell in of_method] for name, of_method in found.items()},
        command=_command(arguments),
        config_text=study.path.read_text(encoding="utf-8"),
        title=study.spec.title or "",
        text=" ".join((study.spec.text or "").split()),
        strips=[] if example is None else example.strips(),
        strips_of="" if example is None else example.label,
        figures=[] if example is None else example.figures(found[example.method]),
    )
    return report, table(summary)


def _stream_report(
    study: "StreamStudy", cells: Mapping[str, Mapping[str, Any]], summary: Mapping[str, Any], arguments: argparse.Namespace
) -> "tuple[Report, str]":
    from vidkd.bench.streams.page import blocks_note, stream_table
    from vidkd.report.stream_study import stream_study_report

    report = stream_study_report(
        summary,
        command=_command(arguments),
        config_text=study.path.read_text(encoding="utf-8"),
        title=study.spec.title or "",
        text=" ".join([*(study.spec.text or "").split(), blocks_note(summary)]).strip(),
        figures=time_lines(study, cells, summary["data"]["labels"]),
    )
    return report, stream_table(summary)


def _command(arguments: argparse.Namespace) -> str:
    """The command that makes this study again."""
    flags = [f"--{name}={value}" for name in ("methods", "seeds", "out", "device") if (value := getattr(arguments, name))]
    flags += [f"--{name}={value}" for name, usual in (("runs", RUNS), ("cache", CACHE)) if (value := getattr(arguments, name)) != usual]
    return shlex.join(["vidkd", "study", arguments.study, *flags, *arguments.settings])


@dataclass(frozen=True)
class _Example:
    """The run of a study whose clips, curves and confusions its page shows."""

    method: str
    label: str
    folder: Path
    config: "RunConfig"
    clips: "Clips"
    subset: str

    def strips(self) -> "list[Strip]":
        """Example clips."""
        from vidkd.report.examples import example_strips

        return example_strips(self.folder, self.clips, self.subset, self.config.data, teacher=self.config.teacher)

    def figures(self, cells: Sequence[Mapping[str, Any]]) -> "list[Figure]":
        """Curves of the run, and the confusions of all of its method's cells."""
        import dataclasses

        from vidkd.base.files import read_jsonl
        from vidkd.bench.clip_summary import confusion
        from vidkd.report.figures import confusion_figure, training_curves

        classes = self.clips.manifest.classes
        matrix = confusion_figure(confusion(cells, len(classes)), classes)
        curves = training_curves(read_jsonl(self.folder / "metrics.jsonl"))
        titles = [(figure, f"{figure.title}, {self.label}, first seed") for figure in curves] + [(matrix, f"{matrix.title}, {self.label}")]
        return [dataclasses.replace(figure, title=title) for figure, title in titles]


def _example(study: "ClipStudy", places: "Places", content: Mapping[str, Any], found: Mapping[str, Any]) -> "_Example | None":
    """The claim's method (else a candidate for it, or the first that distils attention or anticipates) where its run and its teacher's are.

    found: methods with finished cells; a run that is there may not have been judged yet.
    None without a data.root; raises DataError where that names no data set.
    """
    from vidkd.bench.clip_spec import cell_config
    from vidkd.bench.study import CellKey
    from vidkd.bench.tuning import chosen_settings
    from vidkd.engine.clips import read_clips_of_run
    from vidkd.models.saved import checkpoint_in

    taught = [
        name
        for name, method in study.spec.methods.items()
        if method.teacher and {**study.spec.settings, **method.settings}.get("task") in ("attention_distillation", "anticipation")
    ]
    candidates = [name for name in taught if study.spec.methods[name].claim]
    wanted = [*dict.fromkeys(content["claims"].values()), *candidates, *taught]
    for name in (name for name in wanted if name in found):
        key = CellKey(name, -1, study.spec.seeds[0], study.spec.folds[0])
        config = cell_config(study, key, "test", chosen_settings(content), places.runs)
        folder = Path(config.runs) / str(config.name)
        runs = [folder, Path(config.teacher)] if config.teacher is not None else []
        if runs and config.data.root and all(checkpoint_in(run).exists() for run in runs):
            label = study.spec.methods[name].label or name
            return _Example(name, label, folder, config, read_clips_of_run(config), study.spec.subset)
    return None


def time_lines(study: "StreamStudy", cells: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> "list[Figure]":
    """For every test stream each method with the first seed: F1 along the stream, its calls and the updates that were kept.

    Of several shares of calls the one nearest to that of tuning is drawn.
    """
    from vidkd.bench.streams.summary import by_method_and_share

    found, figures = by_method_and_share(study, cells), []
    for stream in study.spec.test_streams:
        rows: dict[str, dict[str, Any]] = {}
        for name in labels:
            shares = sorted((abs(share - study.spec.tuning.calls), share) for other, share in found if other == name)
            for cell in found[name, shares[0][1]] if shares else []:
                if cell["place"] == stream and cell["seed"] == study.spec.seeds[0]:
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
