"""Run a study, each cell kept as it ends: methods x seeds x folds, or methods x shares of calls x seeds x streams.

`--phase tune` judges every method's trials on validation groups or tuning streams and writes the choice into summary.json; `--phase test`
runs the test cells with what was chosen. Given again, a command resumes. Writes summary.json, cells.parquet, tables and report.html of the
finished cells, and reports those that failed in the end. `--check` recomputes all committed summaries.
--data.root DIR: the data set, or of streams a folder of videos and weights (may be repeated; default: $VIDKD_DATA). Any other setting of
a run may follow as a flag, for all methods   (vidkd train --settings lists them)

  vidkd study --config configs/studies/motion_shapes.yaml --data.root DIR
"""

import dataclasses
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vidkd.base.fields import Whole

if TYPE_CHECKING:
    from vidkd.bench.clip_study import ClipStudy
    from vidkd.bench.study import CellsFailedError, Places, Study
    from vidkd.report.parts import Report

RUNS, CACHE = "runs", "runs/oracle"
STUDIES, RESULTS = Path("configs/studies"), Path("results")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which study, what of it, and where results go.

    Args:
        config: a study (YAML), as in configs/studies/.
        phase: part of the study; report only reads finished cells.
        methods: A,B: test only these methods and their teachers; all are tuned (default: the study's shortlist, or all).
        seeds: 0,1: test only these seeds; the summary is of all that are finished.
        out: folder of cells and summary (default: results/<study>).
        runs: folder of checkpoints and of cells under way.
        cache: of streams: folder of the oracle's boxes.
        device: auto, cpu, cuda or mps (default: the run's; of streams cpu, where a cell repeats bit by bit).
        workers: cells run at once, a process each; give each train.threads of its own.
        check: recompute every committed summary from its cells and compare.
    """

    config: str | None = None
    phase: Literal["tune", "test", "all", "report"] = "all"
    methods: str | None = None
    seeds: str | None = None
    out: str | None = None
    runs: str = RUNS
    cache: str = CACHE
    device: str | None = None
    workers: Whole = 1
    check: bool = False
    settings: tuple[str, ...] = ()


def run(given: Settings) -> int:
    """Run the phases asked for, then write the summary and the report; or check what is committed."""
    from vidkd.base.errors import ConfigError, VidkdError
    from vidkd.bench.clip_spec import check_settings
    from vidkd.bench.clip_study import ClipStudy
    from vidkd.bench.reading import chosen_of
    from vidkd.bench.study import check_known
    from vidkd.bench.tuning import tune
    from vidkd.engine.loop import InterruptedRunError

    if given.check:
        return _check()
    if given.config is None:
        raise ConfigError("no study is given", hint="--config configs/studies/NAME.yaml, or --check")
    study, places = _opened(given, given.config)
    methods, seeds = (None if names is None else names.replace(" ", "").split(",") for names in (given.methods, given.seeds))
    for kind, names, known in (("method", methods, list(study.methods)), ("seed", seeds, list(map(str, study.spec.seeds)))):
        for name in names or ():
            check_known(name, known, kind, str(study.path))
    failed = None
    try:
        if isinstance(study, ClipStudy):
            check_settings(study)
        if given.phase in ("tune", "all") and study.tuned:
            tune(study, places, given.workers)
        if given.phase == "tune":
            return 0
        content = chosen_of(study, places)
        if given.phase != "report":
            failed = _test(study, methods, None if seeds is None else list(map(int, seeds)), places, content, given.workers)
    except InterruptedRunError as stopped:
        sys.stderr.write(f"vidkd: {stopped}\n")
        return 130
    try:
        _report(study, places, content, given)
    except VidkdError as error:
        if failed is not None:
            raise failed.with_lines(no_report=error.what) from error
        raise
    if failed is not None:
        raise failed
    return 0


def _check() -> int:
    from vidkd.bench.reading import check_summaries

    wrong = 0
    for name, differing in check_summaries(STUDIES, RESULTS):
        sys.stdout.write(f"{name}: {'as committed' if not differing else f'{len(differing)} differ'}\n")
        sys.stdout.writelines(f"  {line}\n" for line in differing[:5])
        sys.stdout.flush()
        wrong += bool(differing)
    return 1 if wrong else 0


def _opened(given: Settings, path: str) -> "tuple[Study, Places]":
    """The study, and where it reads and writes. Of a study of streams --data.root names the folders of its files."""
    from vidkd.base.roots import roots_of, split_roots
    from vidkd.bench.reading import read_study
    from vidkd.bench.streams.study import StreamStudy
    from vidkd.bench.study import Places

    words = list(given.settings)
    study = read_study(path)
    if isinstance(study, StreamStudy):
        words = split_roots(words)[1]
    elif given.device is not None:
        words.append(f"--train.device={given.device}")
    study = read_study(path, words)
    places = Places(
        results=Path(given.out) if given.out else RESULTS / study.name,
        runs=Path(given.runs),
        roots=roots_of(given.settings),
        cache=Path(given.cache),
        device=given.device or "cpu",
        committed=RESULTS,
    )
    return study, places


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


def _report(study: "Study", places: "Places", content: Mapping[str, Any], given: Settings) -> None:
    """Write the summary and the pages of the finished cells, and their tables as text."""
    from vidkd.base.errors import DataError
    from vidkd.bench.clip_study import ClipStudy
    from vidkd.bench.streams.study import StreamStudy
    from vidkd.bench.summary import write_summary
    from vidkd.report.page import render_report, table_text
    from vidkd.report.study import study_notes, study_report, time_lines

    cells = places.store(study.name).cells("test")
    if not cells:
        raise DataError(f"no finished cell in {places.results}", hint=f"vidkd study --config {study.path}")
    summary = study.summarise(cells, content["claims"])
    if study.tuned:
        summary["chosen"] = content
    written = [places.results / "summary.json", places.results / "report.html"]
    write_summary(written[0], summary)
    report = study_report(
        summary,
        command=_command(given),
        config_text=study.path.read_text(encoding="utf-8"),
        title=study.spec.title or "",
        text=" ".join(study.spec.text.split()),
    )
    if isinstance(study, StreamStudy):
        report = dataclasses.replace(report, figures=(*report.figures, *time_lines(study, cells)))
    if isinstance(study, ClipStudy):
        report = _with_example(report, study, places, content, cells)
    for table in report.tables:
        sys.stdout.write(f"{table.title}\n{table_text(table)}\n")
    sys.stdout.writelines(f"{name}: {value}\n" for name, value in study_notes(summary).items())
    render_report(written[1], report)
    sys.stdout.write(f"written: {', '.join(str(path) for path in written)}\n")


def _command(given: Settings) -> str:
    """The command that makes this study again."""
    usual = {"methods": None, "seeds": None, "out": None, "device": None, "runs": RUNS, "cache": CACHE}
    flags = [f"--{name}={value}" for name, default in usual.items() if (value := getattr(given, name)) != default]
    return shlex.join(["vidkd", "study", f"--config={given.config}", *flags, *given.settings])


def _with_example(
    report: "Report", study: "ClipStudy", places: "Places", content: Mapping[str, Any], cells: Mapping[str, Mapping[str, Any]]
) -> "Report":
    """The report with clips, curves and confusions of one method: that of the claim, else a candidate for it, else one that learns from
    another view or from the future. Of the first whose run and teacher's run are here; unchanged without one or without a data.root.

    Raises DataError where data.root names no data set.
    """
    from vidkd.base.files import read_jsonl
    from vidkd.bench.clip_spec import cell_config
    from vidkd.bench.clip_summary import by_method, confusion
    from vidkd.bench.study import CellKey
    from vidkd.bench.tuning import chosen_settings
    from vidkd.engine.clips import read_clips_of_run
    from vidkd.engine.config import solved_task
    from vidkd.models.saved import checkpoint_in
    from vidkd.report.examples import example_strips
    from vidkd.report.figures import confusion_figure, training_curves
    from vidkd.report.strips import caption_of_time_rows

    found = by_method(study, cells)
    taught = {name: method for name, method in study.spec.methods.items() if method.teacher is not None}
    tasks = {name: {**study.spec.settings, **method.settings}.get("task") for name, method in taught.items()}
    taught = {name: method for name, method in taught.items() if tasks[name] in ("attention_distillation", "anticipation")}
    wanted = [*content["claims"].values(), *sorted(taught, key=lambda name: not taught[name].claim)]
    for name in (name for name in dict.fromkeys(wanted) if name in found and not study.spec.methods[name].mean_of):
        key = CellKey(name, -1, study.spec.seeds[0], study.spec.folds[0])
        config = cell_config(study, key, "test", chosen_settings(content), places.runs)
        folder = Path(config.runs) / str(config.name)
        if config.data.root and config.teacher and all(checkpoint_in(run).exists() for run in (folder, Path(config.teacher))):
            clips, label = read_clips_of_run(config), study.spec.methods[name].label or name
            teacher = None if solved_task(config.task) else config.teacher  # a solved task asks it by its own data
            strips = example_strips(folder, clips, study.spec.subset, config.data, teacher=teacher)
            classes = clips.manifest.classes
            matrix = confusion_figure(confusion(found[name], len(classes)), classes)
            curves = training_curves(read_jsonl(folder / "metrics.jsonl"))
            titled = [(figure, f"{figure.title}, {label}, first seed") for figure in curves] + [(matrix, f"{matrix.title}, {label}")]
            return dataclasses.replace(
                report,
                figures=(*report.figures, *(dataclasses.replace(figure, title=title) for figure, title in titled)),
                strips=tuple(strips),
                strips_title=f"Clips, as named by: {label}",
                strips_caption=caption_of_time_rows(strips),
            )
    return report
