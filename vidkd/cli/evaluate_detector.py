"""What `vidkd evaluate` does with a detector."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vidkd.cli.classifiers import refuse_runtime
from vidkd.cli.evaluate import metric_lines, run_folder
from vidkd.cli.settings import check_judging_reads, list_settings

if TYPE_CHECKING:
    from vidkd.bench.judged_intervals import Intervals
    from vidkd.detection.annotations import BoxManifest
    from vidkd.detection.config import DetectorRunConfig
    from vidkd.detection.evaluate import DetectorJudgement, RecallJudgement
    from vidkd.detection.frames import RunFrames
    from vidkd.runtime.detector import Detector


def evaluate_detector(arguments: argparse.Namespace) -> int:
    """Judge a run's detector or one in a file, print what was found, and write it where there is a folder to write to."""
    from vidkd.bench.judged_intervals import frame_intervals
    from vidkd.detection.config import DetectorRunConfig
    from vidkd.detection.evaluate import DetectorJudgement, RecallJudgement, judge_detector, judge_recall
    from vidkd.detection.frames import read_frames

    if arguments.list_settings:
        return list_settings(DetectorRunConfig, "yolo")
    _refuse_submission(arguments)
    detector, config = _of_file(arguments) if arguments.model is not None else _of_run(arguments)
    unread = "data.transform" if arguments.model is not None else None  # a file has --resize
    check_judging_reads(arguments.settings, DetectorRunConfig, ("data", "judge"), unread=unread)
    truth = _truth(read_frames(config.data), arguments)
    judgement: DetectorJudgement | RecallJudgement
    if any(frame.complete for frame in truth.frames):
        judgement = judge_detector(detector, truth, batch_size=config.judge.batch_size)
    else:
        judgement = judge_recall(detector, truth, score=config.judge.score, batch_size=config.judge.batch_size)
    intervals = frame_intervals(judgement, truth)
    if isinstance(judgement, DetectorJudgement):
        sys.stdout.write(_text(judgement, intervals, arguments.subset))
    else:
        sys.stdout.write(_recall_text(judgement, intervals, arguments.subset))
    folder = Path(arguments.out) if arguments.out else None
    if folder is None and arguments.checkpoint is not None:
        folder = run_folder(Path(arguments.checkpoint))
    if folder is None:
        sys.stdout.write("not written: --out DIR names a folder for evaluation.json and its table\n")
        return 0
    notes = {"checkpoint": _hash(arguments), "ci95": intervals.ci95, "ci95_over": intervals.over}
    document, table = judgement.write(folder, arguments.subset, notes)
    sys.stdout.write(f"written: {document}, {table}\n")
    if isinstance(judgement, DetectorJudgement) and (folder / "config.yaml").exists():
        sys.stdout.write(f"written: {_report(folder, judgement, intervals, arguments.subset)}\n")
    return 0


def _truth(frames: "RunFrames", arguments: argparse.Namespace) -> "BoxManifest":
    """The frames to judge on; a detector in a file is one that no run trained on them."""
    return (frames.subset if arguments.model is None else frames.subset_for_others)(arguments.subset)


def _hash(arguments: argparse.Namespace) -> str | None:
    """Of the weights that are judged: of a run, of a cfg, or in an exported file; None for a network that a library knows by name."""
    from vidkd.base.files import sha256
    from vidkd.models.saved import checkpoint_in

    path = checkpoint_in(Path(arguments.checkpoint)) if arguments.model is None else Path(arguments.weights or arguments.model)
    return sha256(path) if path.is_file() else None


def _refuse_submission(arguments: argparse.Namespace) -> None:
    from vidkd.base.errors import ConfigError

    if getattr(arguments, "submission", None) is not None:
        raise ConfigError("--submission is for recognised actions, not for a detector", hint="leave out --submission")


def _of_run(arguments: argparse.Namespace) -> "tuple[Detector, DetectorRunConfig]":
    from vidkd.detection.config import load_detector_config
    from vidkd.detection.saved import load_detector
    from vidkd.engine.checkpoint import warn_if_unfinished
    from vidkd.engine.devices import pick_device
    from vidkd.models.darknet.detector import DarknetDetector

    _refuse_companions(arguments)
    saved = load_detector(arguments.checkpoint)
    warn_if_unfinished(arguments.checkpoint)
    config = load_detector_config(settings=saved.run, overrides=arguments.settings)
    detector = DarknetDetector(
        saved.net,
        saved.classes,
        score_threshold=config.judge.score,
        nms_iou=config.judge.nms_iou,
        device=pick_device(arguments.device),
        resize=config.data.transform.resize,
    )
    return detector, config


def _refuse_companions(arguments: argparse.Namespace) -> None:
    from vidkd.base.errors import ConfigError

    for name in ("weights", "names", "metadata", "resize"):
        if getattr(arguments, name) is not None:
            raise ConfigError(f"--{name} belongs to --model; a checkpoint holds all that it needs", hint=f"leave out --{name}")
    refuse_runtime(arguments.checkpoint, arguments.runtime)


def _of_file(arguments: argparse.Namespace) -> "tuple[Detector, DetectorRunConfig]":
    from vidkd.detection.config import load_detector_config
    from vidkd.detection.opening import ModelFiles

    config = load_detector_config(overrides=arguments.settings)
    files = ModelFiles(
        model=arguments.model,
        weights=arguments.weights,
        names=arguments.names,
        metadata=arguments.metadata,
        resize=arguments.resize,
        score=config.judge.score,
        nms_iou=config.judge.nms_iou,
        device=arguments.device,
        runtime=arguments.runtime,
        model_flag="--model",
    )
    return files.open(), config


def _text(judgement: "DetectorJudgement", intervals: "Intervals", split: str) -> str:
    found = judgement.precision
    lines = [f"{found.frames} frames of '{split}', {found.boxes} boxes, {found.ignored} regions to ignore"]
    if found.incomplete:
        lines.append(f"{found.incomplete} frames left out, in which objects may lack their box")
    if judgement.unknown:
        lines.append(f"classes that the detector does not have: {', '.join(judgement.unknown)}")
    lines += [*metric_lines(judgement.metrics(), intervals), ""]
    rows = judgement.rows()
    width = max(len("class"), *(len(row["class"]) for row in rows))
    lines.append(f"  {'class':<{width}}  boxes   AP50     AP  recall50")
    lines += [
        f"  {row['class']:<{width}}  {row['boxes']:>5}  {_share(row['ap50'])}  {_share(row['ap'])}     {_share(row['recall50'])}"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _recall_text(judgement: "RecallJudgement", intervals: "Intervals", split: str) -> str:
    found = judgement.recall
    lines = [
        f"{len(found.keys)} frames of '{split}' with {int(found.objects.sum())} objects to find; others may lack a box, so recall alone",
        f"boxes from score {judgement.score:g} (--judge.score), IoU 0.5, the right class",
    ]
    if judgement.unknown:
        lines.append(f"classes that the detector does not have: {', '.join(judgement.unknown)}")
    lines += [*metric_lines(judgement.metrics(), intervals), ""]
    rows = judgement.rows()
    width = max(len("video"), *(len(row["video"]) for row in rows))
    lines.append(f"  {'video':<{width}}  objects  recall50")
    lines += [f"  {row['video']:<{width}}  {row['objects']:>7}     {row['recall50']:.3f}" for row in rows]
    return "\n".join(lines) + "\n"


def _share(value: float | None) -> str:
    return "    -" if value is None else f"{value:.3f}"


def _report(folder: Path, judgement: "DetectorJudgement", intervals: "Intervals", split: str) -> Path:
    from vidkd.report.page import render_report
    from vidkd.report.run import run_report

    text = {name: f"{value:.3f}" for name, value in judgement.metrics().items()}
    text |= {name: f"{text[name]} [{low:.3f}, {high:.3f}]" for name, (low, high) in intervals.ci95.items()}
    notes = {"judged on": f"{split}, {judgement.precision.frames} frames", "AP50": text["ap50"], "mAP": text["map"]}
    return render_report(folder / "report.html", run_report(folder, notes=notes))
