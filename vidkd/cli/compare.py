"""Run a study: methods x seeds x folds, each cell kept as it ends.

`--phase tune` judges every method's trials on validation groups and writes chosen.json; `--phase test` trains and judges the cells with
what was chosen. Given again, a command goes on where it was. Writes summary.json, a table and report.html of the cells that are finished,
and tells those that failed in the end.
"""

import argparse
import shlex
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.cli.number_flags import add_count

if TYPE_CHECKING:
    from vidkd.bench.cells import Places
    from vidkd.bench.failed_cells import CellsFailedError
    from vidkd.bench.study import Study
    from vidkd.engine.clips import Clips
    from vidkd.engine.config import RunConfig
    from vidkd.report.parts import Figure, Strip

TAKES_SETTINGS = True
RUNS = "runs"
PICTURED = 2
"""Example clips on examples.png; the report shows more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("study", metavar="STUDY.yaml", help="a study, as in configs/studies/")
    parser.add_argument(
        "--phase",
        choices=["tune", "test", "all", "report"],
        default="all",
        help="part of the study (default: all; report only reads finished cells)",
    )
    shortlisted = "test only these methods and their teachers; all are tuned (default: the study's shortlist, or all)"
    parser.add_argument("--methods", metavar="A,B", help=shortlisted)
    parser.add_argument("--seeds", metavar="0,1", help="test only these seeds; the summary is of all that are finished")
    parser.add_argument("--out", metavar="DIR", help="where cells and summary go (default: results/<study>)")
    parser.add_argument("--runs", metavar="DIR", default=RUNS, help=f"where checkpoints go (default: {RUNS})")
    help_of_workers = "cells trained at once; give each train.threads of its own (default: 1)"
    add_count(parser, "--workers", least=0, default=1, metavar="N", help=help_of_workers)
    parser.epilog = "any setting of a run may follow as a flag, for all methods: --data.root DIR   (vidkd train --settings lists them)"


def run(arguments: argparse.Namespace) -> int:
    """Run the phases asked for, then write the summary and the report."""
    import dataclasses

    from vidkd.bench.cells import Places
    from vidkd.bench.failed_cells import reported
    from vidkd.bench.study import Study, check_settings, read_study
    from vidkd.bench.tuning import read_chosen, tune
    from vidkd.engine.loop import InterruptedRunError

    study = read_study(arguments.study, arguments.settings)
    methods = _methods(arguments.methods, study)
    seeds = _seeds(arguments.seeds, study) if arguments.seeds else study.spec.seeds
    places = Places(Path(arguments.out) if arguments.out else Path("results") / study.spec.study, Path(arguments.runs))
    failed = None
    try:
        if arguments.phase != "report":
            check_settings(study)
        if arguments.phase in ("tune", "all") and study.spec.tuned:
            tune(study, places, arguments.workers)
        if arguments.phase == "tune":
            return 0
        content = read_chosen(study, places)
        if arguments.phase in ("test", "all"):
            # fewer seeds are run; the summary is of all that are there
            run_now = Study(dataclasses.replace(study.spec, seeds=seeds), study.path, study.overrides)
            failed = _test(run_now, methods, places, content, arguments.workers)
    except InterruptedRunError as stopped:
        sys.stderr.write(f"vidkd: {stopped}\n")
        return 130
    return reported(lambda: _report(study, places, content, arguments), failed)


def _test(
    study: "Study", methods: list[str] | None, places: "Places", content: Mapping[str, Any], workers: int
) -> "CellsFailedError | None":
    """Train and judge the cells of the test phase, saying so as they end; returns what failed, after all the others have been tried."""
    from vidkd.bench.cells import cells_to_test, run_waves
    from vidkd.bench.failed_cells import CellsFailedError
    from vidkd.bench.tuning import chosen_settings

    waves = cells_to_test(study, methods)
    total = sum(len(wave) for wave in waves)
    try:
        for done, (key, cell) in enumerate(run_waves(study, "test", waves, places, chosen_settings(content), workers), start=1):
            sys.stdout.write(f"[{done}/{total}] {key}  top-1 {cell['metrics']['top1']:.3f}  {cell['train_seconds']:.0f} s\n")
            sys.stdout.flush()
    except CellsFailedError as error:
        return error
    return None


def _seeds(text: str, study: "Study") -> list[int]:
    from vidkd.base.errors import unknown_name

    known = {str(seed): seed for seed in study.spec.seeds}
    for word in text.split(","):
        if word.strip() not in known:
            raise unknown_name("seed", word, known, where=study.path)
    return [known[word.strip()] for word in text.split(",")]


def _methods(text: str | None, study: "Study") -> list[str] | None:
    """The methods asked for and their teachers; None for all."""
    from vidkd.base.errors import unknown_name
    from vidkd.bench.study import with_teachers

    if text is None:
        return None
    for name in text.split(","):
        if name not in study.spec.methods:
            raise unknown_name("method", name, study.spec.methods, where=study.path)
    return with_teachers(study.spec, text.split(","))


def _report(study: "Study", places: "Places", content: Mapping[str, Any], arguments: argparse.Namespace) -> int:
    from vidkd.base.errors import DataError
    from vidkd.bench.collect import as_cell, read_cells, summarise
    from vidkd.bench.summary import write_summary
    from vidkd.bench.tables import table
    from vidkd.bench.tuning import chosen_settings
    from vidkd.report.examples import write_picture
    from vidkd.report.page import render_report
    from vidkd.report.study import study_report

    found = read_cells(study, places, chosen_settings(content))
    if not found:
        raise DataError(f"no finished cell in {places.results}", hint=f"vidkd compare {study.path}")
    summary = summarise(study, found, content["claim"])
    write_summary(places.results / "summary.json", summary)
    sys.stdout.write(table(summary))
    example = _example(study, places, content, found)
    strips, figures = ([], []) if example is None else (example.strips(), example.figures(found[example.method]))
    page = render_report(
        places.results / "report.html",
        study_report(
            summary,
            cells={study.spec.shown_name(name): [as_cell(cell) for cell in cells] for name, cells in found.items()},
            command=_command(arguments),
            config_text=study.path.read_text(encoding="utf-8"),
            title=study.spec.title or "",
            text=" ".join((study.spec.text or "").split()),
            strips=strips,
            strips_of="" if example is None else example.label,
            figures=figures,
        ),
    )
    written = [places.results / "summary.json", page]
    if strips:
        written.append(places.results / "examples.png")
        write_picture(written[-1], strips[:PICTURED])
    sys.stdout.write(f"written: {', '.join(str(path) for path in written)}\n")
    return 0


def _command(arguments: argparse.Namespace) -> str:
    """The command that makes this study again."""
    flags = [f"--{name}={value}" for name in ("methods", "seeds", "out") if (value := getattr(arguments, name))]
    flags += [f"--runs={arguments.runs}"] if arguments.runs != RUNS else []
    return shlex.join(["vidkd", "compare", arguments.study, *flags, *arguments.settings])


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

    def figures(self, cells: list[dict[str, Any]]) -> "list[Figure]":
        """Curves of the run, and the confusions of all of its method's cells."""
        import dataclasses

        from vidkd.base.files import read_jsonl
        from vidkd.bench.collect import confusion
        from vidkd.report.figures import confusion_figure, training_curves

        classes = self.clips.manifest.classes
        matrix = confusion_figure(confusion(cells, len(classes)), classes)
        curves = training_curves(read_jsonl(self.folder / "metrics.jsonl"))
        titles = [(figure, f"{figure.title}, {self.label}, first seed") for figure in curves] + [(matrix, f"{matrix.title}, {self.label}")]
        return [dataclasses.replace(figure, title=title) for figure, title in titles]


def _example(study: "Study", places: "Places", content: Mapping[str, Any], found: Collection[str]) -> "_Example | None":
    """The claim's method (else a candidate for it, or the first that distils attention or anticipates) where its run and its teacher's are.

    found: methods with finished cells; a run that is there may not have been judged yet.
    None without a data.root; raises DataError where that names no data set.
    """
    from vidkd.bench.study import CellKey, cell_config
    from vidkd.bench.tuning import chosen_settings
    from vidkd.engine.clips import read_clips_of_run
    from vidkd.models.saved import checkpoint_in

    taught = [
        name
        for name, method in study.spec.methods.items()
        if method.teacher and {**study.spec.settings, **method.settings}.get("task") in ("attention_distillation", "anticipation")
    ]
    candidates = [name for name in taught if study.spec.methods[name].claim]
    wanted = ([content["claim"]] if content["claim"] else []) + candidates + taught
    for name in (name for name in wanted if name in found):
        key = CellKey(name, -1, study.spec.seeds[0], study.spec.folds[0])
        config = cell_config(study, key, "test", chosen_settings(content), places.runs)
        folder = Path(config.runs) / str(config.name)
        runs = [folder, Path(config.teacher)] if config.teacher is not None else []
        if runs and config.data.root and all(checkpoint_in(run).exists() for run in runs):
            label = study.spec.methods[name].label or name
            return _Example(name, label, folder, config, read_clips_of_run(config), study.spec.subset)
    return None
