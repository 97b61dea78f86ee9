"""Make a trained student smaller, step by step, as a recipe says; every step is judged, and all stand in one table.

A recipe (YAML, as in configs/compress/) names the student and the steps: prune, factorise, refit, repair, distil, quantise,
export; --settings lists what each takes. One that was interrupted resumes when the same command is given again. Settings
over those of the student's run follow as flags. --data.root DIR: the data set, or a folder of the videos and weights that a recipe of a
detector names (may be repeated; default: $VIDKD_DATA).

  vidkd compress --config configs/compress/motion_shapes.yaml --data.root DIR
  vidkd compress --config small.yaml --model runs/mine --name mine-small --train.device cuda
"""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.base.fields import Whole
from vidkd.base.roots import roots_of

if TYPE_CHECKING:
    from vidkd.compress.recipe import Recipe
    from vidkd.compress.steps import Outcome
    from vidkd.compress.subject import Subject


REPAIR = "repair"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The recipe, and what replaces its settings.

    Args:
        config: the recipe (YAML), or the name of a shipped one (vidkd config ls compress).
        model: run or checkpoint to compress, in place of the recipe's student.
        name: folder of the results below --runs (default: the recipe's, or its file's name).
        runs: folder of all runs (default: the recipe's, or runs).
        seed: of all that the steps draw; the default name then ends with it.
        list_settings: list every setting of every kind of step, and stop.
    """

    config: str | None = None
    model: str | None = None
    name: str | None = None
    runs: str | None = None
    seed: Whole | None = None
    list_settings: bool = False
    settings: tuple[str, ...] = ()


def run(given: Settings) -> int:
    """Do the steps, then write the summary and the page."""
    from vidkd.base.errors import ConfigError
    from vidkd.compress.recipe import SETTINGS, read_recipe
    from vidkd.compress.steps import run_recipe
    from vidkd.engine.loop import InterruptedRunError

    if given.list_settings:
        return _list_steps(SETTINGS)
    if given.config is None:
        raise ConfigError("no recipe is named", hint="--config configs/compress/motion_shapes.yaml, or one of your own")
    recipe = read_recipe(
        given.config,
        student=given.model,
        name=given.name,
        runs=given.runs,
        seed=given.seed,
        roots=roots_of(given.settings),
    )
    subject = _subject(recipe, given)
    outcomes: list[Outcome] = []
    try:
        for outcome in run_recipe(recipe, subject):
            outcomes.append(outcome)
            sys.stdout.write(_line(outcome, subject.main_metric))
            sys.stdout.flush()
    except InterruptedRunError as stopped:
        sys.stderr.write(f"vidkd: {stopped}\n")
        return 130
    except KeyboardInterrupt:
        sys.stderr.write(f"vidkd: interrupted; finished steps are kept in {recipe.folder}, and the same command resumes after them\n")
        return 130
    return _report(recipe, outcomes, subject.main_metric, given, given.config)


def _subject(recipe: "Recipe", given: Settings) -> "Subject":
    """The student as what it is: a classifier, or a detector. Raises ConfigError or CheckpointError where it is neither."""
    from vidkd.base.errors import CheckpointError, ConfigError
    from vidkd.bench.compression import box_draws, interval_of
    from vidkd.detection.opening import darknet_files
    from vidkd.detection.saved import is_detector
    from vidkd.models.saved import read_checkpoint
    from vidkd.runtime.opening import CLIP_NETWORKS, NETWORKS

    student = Path(recipe.student)
    if student.suffix.lower() in {**NETWORKS, **CLIP_NETWORKS}:
        raise ConfigError(f"an exported file cannot be compressed: {student}", hint="name the run that it was exported from")
    place = next((folder / student for folder in recipe.roots if (folder / student).exists()), student)
    try:
        detector = student.suffix.lower() == ".cfg" or bool(darknet_files(place)) or is_detector(read_checkpoint(place))
    except CheckpointError as error:
        named_by = "--model" if given.model else f"`student:` in {given.config}; --model RUN replaces it"
        raise error.with_lines(named_by=named_by) from error
    if detector:
        from vidkd.compress.detector import DetectorSubject

        return DetectorSubject(recipe, given.settings, interval=interval_of, draws=box_draws)
    from vidkd.compress.classifier import ClassifierSubject

    return ClassifierSubject(recipe, given.settings, interval=interval_of)


def _line(outcome: "Outcome", main: str) -> str:
    """What a step came to, as it ends."""
    from vidkd.compress.quantise import counted

    text, found = "", " (found finished)" if outcome.found_finished else ""
    for name, content in outcome.rows.items():
        text += f"{name}{found}: {main} {content['metrics'][main]:.3f}, {content['parameters']:,} parameters, "
        text += f"{content['macs'] / 1e6:,.1f} M MACs, {content['bytes']:,} bytes\n"
    notes: Mapping[str, Any] = outcome.content["notes"]
    for file, near in notes.get("parity", {}).items():
        text += f"  {file}: {near['said']}\n"
    if "integer_convolutions" in notes:
        text += f"  {counted(notes['layers'].values())}; ranges found on {notes['calibration']}\n"
    return text


def _report(recipe: "Recipe", outcomes: "Sequence[Outcome]", main: str, given: Settings, config: str) -> int:
    from vidkd.bench.compression import compression_summary
    from vidkd.bench.summary import write_summary
    from vidkd.report.compression import compression_report
    from vidkd.report.page import render_report, table_text

    summary = compression_summary(recipe, outcomes, main)
    write_summary(recipe.folder / "summary.json", summary)
    flags = {name: getattr(given, name) for name in ("model", "name", "runs", "seed") if getattr(given, name) is not None}
    command = [
        "vidkd",
        "compress",
        "--config",
        config,
        *(f"--{name}={value}" for name, value in flags.items()),
        *given.settings,
    ]
    report = compression_report(
        summary,
        {outcome.name: outcome.content for outcome in outcomes},
        main=main,
        command=shlex.join(command),
        config_text=Path(config).read_text(encoding="utf-8"),
    )
    page = render_report(recipe.folder / "report.html", report)
    sys.stdout.write(table_text(report.tables[0]))
    sys.stdout.write(f"written: {recipe.folder / 'summary.json'}, {page}\n")
    return 0


def _list_steps(kinds: Mapping[str, type]) -> int:
    """Print every setting of every kind of step of a recipe; those of a repair are a run's, so it is said where these are."""
    from vidkd.base.settings import settings_help

    text = "".join(
        re.sub(r"^  --", f"  {name}.", settings_help(kind), flags=re.MULTILINE) for name, kind in kinds.items() if name != REPAIR
    )
    sys.stdout.write(f"prune.ratio is the key `ratio` of a step, which a recipe holds as `- prune: {{ratio: 0.5}}`.\n\n{text}\n")
    sys.stdout.write(
        f"Training of what is left:\n  {REPAIR}.*   settings of a run, as `vidkd train --settings` lists them, and `teacher: original`\n"
    )
    return 0
