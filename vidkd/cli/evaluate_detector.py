"""What `vidkd evaluate` does with a detector."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.cli.classifiers import refuse_runtime
from vidkd.cli.evaluate import Settings, check_judging_reads, metric_lines, run_folder
from vidkd.cli.verb_parser import list_settings

if TYPE_CHECKING:
    from vidkd.bench.draws import Intervals
    from vidkd.detection.config import DetectorRunConfig
    from vidkd.detection.evaluate import BoxJudgement
    from vidkd.runtime.detector import Detector


def evaluate_detector(given: Settings) -> int:
    """Judge a run's detector or one in a file, print what was found, and write it where there is a folder to write to."""
    from vidkd.base.files import sha256
    from vidkd.bench.draws import frame_intervals
    from vidkd.detection.config import DetectorRunConfig
    from vidkd.detection.evaluate import judge_boxes
    from vidkd.detection.frames import read_frames
    from vidkd.detection.opening import darknet_files, names_run
    from vidkd.models.saved import checkpoint_in

    if given.list_settings:
        return list_settings(DetectorRunConfig, "yolo")
    of_files = bool(darknet_files(Path(given.model)))
    of_run = names_run(given.model) and not of_files and given.metadata is None
    detector, config = _of_run(given) if of_run else _of_file(given)
    check_judging_reads(given.settings, DetectorRunConfig, ("data", "judge"), unread=None if of_run else "data.transform")
    frames, judge = read_frames(config.data), config.judge
    truth = (frames.subset if of_run else frames.subset_for_others)(given.subset)
    judgement = judge_boxes(detector, truth, score=judge.score, batch_size=judge.batch_size)
    intervals = frame_intervals(judgement, truth)
    sys.stdout.write(_text(judgement, intervals, given.subset))
    if given.out is None and not (of_run or of_files):
        sys.stdout.write("not written: --out DIR names a folder for evaluation.json and its table\n")
        return 0
    folder = Path(given.out) if given.out else run_folder(Path(given.model))
    weights = checkpoint_in(Path(given.model)) if of_run else Path(given.weights or given.model)
    judged_hash = sha256(weights) if weights.is_file() else None  # None of a network that a library knows by name
    document, table = judgement.write(
        folder, given.subset, {"checkpoint": judged_hash, "ci95": intervals.ci95, "ci95_over": intervals.over}
    )
    sys.stdout.write(f"written: {document}, {table}\n")
    if "ap50" in judgement.found.metrics() and (folder / "config.yaml").exists():
        sys.stdout.write(f"written: {_report(folder, judgement, intervals, given.subset)}\n")
    return 0


def _of_run(given: Settings) -> "tuple[Detector, DetectorRunConfig]":
    from vidkd.base.errors import ConfigError
    from vidkd.detection.config import load_detector_config
    from vidkd.detection.fit import judged_detector
    from vidkd.detection.saved import load_detector
    from vidkd.engine.checkpoint import warn_if_unfinished
    from vidkd.engine.devices import pick_device

    for name in ("weights", "names", "metadata", "resize", "submission"):
        if getattr(given, name) is not None:
            raise ConfigError(f"--{name} means nothing to the checkpoint of a detector", hint=f"leave out --{name}")
    refuse_runtime(given.model, given.runtime)
    saved = load_detector(given.model)
    warn_if_unfinished(given.model)
    config = load_detector_config(settings=saved.run, overrides=given.settings)
    return judged_detector(saved.net, saved.classes, config, pick_device(given.device)), config


def _of_file(given: Settings) -> "tuple[Detector, DetectorRunConfig]":
    from vidkd.detection.config import load_detector_config
    from vidkd.detection.opening import ModelFiles

    config = load_detector_config(overrides=given.settings)
    named = {name: getattr(given, name) for name in ("model", "weights", "names", "metadata", "resize", "device", "runtime")}
    return ModelFiles(**named, score=config.judge.score, nms_iou=config.judge.nms_iou, model_flag="--model").open(), config


def _text(judgement: "BoxJudgement", intervals: "Intervals", split: str) -> str:
    counts = ", ".join(f"{value:g} {name}" for name, value in judgement.found.counts.items())
    lines = [f"'{split}': {counts}"]
    if "score" in judgement.found.counts:
        lines.append("objects may lack their box, so only recall: boxes from that score (--judge.score), IoU 0.5, the right class")
    if judgement.unknown:
        lines.append(f"classes that the detector does not have: {', '.join(judgement.unknown)}")
    return "\n".join([*lines, *metric_lines(judgement.found.metrics(), intervals), "", *_table(judgement.found.rows)]) + "\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Aligned columns, shares with three digits, "-" for what is not known."""
    cells = [list(rows[0])] + [[_shown(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        f"  {row[0]:<{widths[0]}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)) for row in cells
    ]


def _shown(value: object) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _report(folder: Path, judgement: "BoxJudgement", intervals: "Intervals", split: str) -> Path:
    from vidkd.report.page import render_report
    from vidkd.report.run import run_report

    text = {name: f"{value:.3f}" for name, value in judgement.found.metrics().items()}
    text |= {name: f"{text[name]} [{low:.3f}, {high:.3f}]" for name, (low, high) in intervals.ci95.items()}
    notes = {"judged on": f"{split}, {judgement.found.counts['frames']} frames", "AP50": text["ap50"], "mAP": text["map"]}
    return render_report(folder / "report.html", run_report(folder, notes=notes))
