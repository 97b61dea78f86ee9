"""Judge a checkpoint on the clips of a subset.

Prints top-1, top-5 (where there are more than five classes), class mean, calibration error and a table of classes; writes predictions.csv,
evaluation.json and, for a run, its report.html. A model of early recognition is judged at every observed fraction: its metrics are means
over them, and top-1 stands at each (top1@obs20); classes and confusions are those at the largest one, which is named. An action before
whose gap nothing can be observed is in no prediction; recalls that count such actions as misses end in _all (recall5_all).
The data set is that of the run; another root, manifest or split may be given as settings (--data.root DIR). An exported file names none:
it needs --data.root, and its results go to a folder beside it, or to --out.

A detector is judged on the annotated frames of a subset: average precision and recall, of each class too, in evaluation.json and
classes.csv. It is a run with task: yolo, or a file with its data set:

  vidkd evaluate --model student.cfg --weights student.weights --names student.names --data.root DIR --data.layout coco --out DIR
  vidkd evaluate --model yolox.onnx --data.manifest boxes.jsonl --split val --out DIR

Frames in which objects may lack their box (DAVIS) tell recall alone, of the boxes from --judge.score on, pooled and of each video.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.cli.settings import add_settings_help, list_settings
from vidkd.cli.submit import add_submission_arguments, declared_levels, write_predictions_for_challenge

if TYPE_CHECKING:
    from vidkd.models import VideoClassifier
    from vidkd.models.exported import ExportedModule

TAKES_SETTINGS = True
NAME_WIDTH = 11  # of a metric, at least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    judged = parser.add_mutually_exclusive_group(required=True)
    judged.add_argument("--checkpoint", metavar="F", help="a checkpoint, a run, or an exported .onnx or .xml file")
    judged.add_argument("--model", metavar="F", help="a detector: darknet .cfg, .onnx, .tflite, torchvision:NAME")
    parser.add_argument("--weights", metavar="F", help="of a .cfg or torchvision:NAME")
    parser.add_argument("--names", metavar="F", help="of a .cfg: its class names, one a line")
    parser.add_argument("--metadata", metavar="F", help="YAML of an exported file that carries none")
    parser.add_argument(
        "--resize", metavar="WAY", help="how frames meet the network of a .cfg (default: darknet; stretch for Yolo-Fastest)"
    )
    parser.add_argument(
        "--split", default="test", choices=["train", "val", "test"], help="which clips or frames of the split (default: test)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--out", metavar="DIR", help="where to write (default: the run's folder)")
    add_submission_arguments(parser)
    add_settings_help(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and write what was found."""
    from vidkd.cli.classifiers import is_exported
    from vidkd.detection.saved import is_detector
    from vidkd.models.saved import read_checkpoint

    if arguments.model is None and is_exported(arguments.checkpoint):
        return _evaluate_classifier(arguments)
    if arguments.model is not None or is_detector(read_checkpoint(arguments.checkpoint)):
        from vidkd.cli.evaluate_detector import evaluate_detector

        return evaluate_detector(arguments)
    return _evaluate_classifier(arguments)


def _evaluate_classifier(arguments: argparse.Namespace) -> int:
    from vidkd.base.errors import CheckpointError
    from vidkd.base.files import write_json
    from vidkd.engine.clips import read_clips_of_run
    from vidkd.engine.config import RunConfig, load_config
    from vidkd.engine.devices import start_fabric
    from vidkd.engine.judge import judge
    from vidkd.engine.metrics import confusion_matrix, per_class
    from vidkd.engine.settings import merge
    from vidkd.report.examples import example_strips
    from vidkd.report.observed import remark_notes
    from vidkd.report.page import render_report
    from vidkd.report.run import run_report

    if arguments.list_settings:
        return list_settings(RunConfig, "supervised")
    levels = declared_levels(arguments)
    judged = _judged(arguments)
    here = {"train.device": judged.device, "train.devices": 1}
    config = load_config(settings=merge(judged.run, here), overrides=arguments.settings)
    clips = read_clips_of_run(config)
    if clips.manifest.classes != judged.classes:
        raise CheckpointError(
            f"{arguments.checkpoint} was trained on other classes than {clips.manifest.name} has",
            checkpoint=", ".join(judged.classes[:6]),
            data_set=", ".join(clips.manifest.classes[:6]),
        )
    fabric = start_fabric(config.train, batch_size=config.data.batch_size)
    judgement = judge(
        judged.model.to(fabric.device),
        clips,
        arguments.split,
        config.data,
        judged.classes,
        device=fabric.device,
        workers=config.data.workers,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    if not fabric.is_global_zero:
        return 0
    folder = Path(arguments.out) if arguments.out else judged.folder
    judgement.write_csv(folder / "predictions.csv")
    predictions, remarks = judgement.fullest, judgement.remarks()
    if levels is not None:
        write_predictions_for_challenge(
            Path(arguments.submission),
            predictions,
            clips.manifest,
            levels,
            unobservable=judgement.unobservable,
            trained_split=judged.run["data"]["split"],
        )
    labelled = predictions.labels >= 0
    if not labelled.any():
        sys.stdout.write(f"{len(predictions.clips)} clips of '{arguments.split}', none with a label: there is nothing to judge\n")
        sys.stdout.write("".join(f"note: {line}\n" for line in remarks))
        sys.stdout.write(f"written: {folder / 'predictions.csv'}\n")
        return 0
    metrics = judgement.metrics()
    classes = per_class(predictions.predicted[labelled], predictions.labels[labelled], judged.classes)
    matrix = confusion_matrix(predictions.predicted[labelled], predictions.labels[labelled], len(judged.classes))
    count = len(predictions.clips)
    found = {
        "split": arguments.split,
        **judgement.counts(),
        "metrics": metrics,
        "observed": judgement.fractions[-1] if judgement.fractions else None,
        "classes": classes,
        "confusion": matrix.tolist(),
    }
    write_json(folder / "evaluation.json", found)
    sys.stdout.write(_text(metrics, classes, f"{count} clips of '{arguments.split}'", judgement.fractions))
    sys.stdout.write("".join(f"note: {line}\n" for line in remarks))
    sys.stdout.write(f"written: {folder / 'predictions.csv'}, {folder / 'evaluation.json'}\n")
    if (folder / "config.yaml").exists() and not judged.exported:
        teacher = config.teacher if config.teacher and Path(config.teacher).exists() else None
        judged_clips = clips.without(arguments.split, judgement.unobservable)
        strips = example_strips(arguments.checkpoint, judged_clips, arguments.split, config.data, teacher=teacher)
        notes = {"judged on": f"{arguments.split}, {count} clips", **remark_notes(remarks)}
        page = render_report(folder / "report.html", run_report(folder, strips=strips, notes=notes))
        sys.stdout.write(f"written: {page}\n")
    return 0


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """What is judged: the network, its classes, the settings that it brings, the device of torch, and where results go by default."""

    model: "VideoClassifier | ExportedModule"
    classes: tuple[str, ...]
    run: dict[str, Any]
    device: str
    folder: Path
    exported: bool


def _judged(arguments: argparse.Namespace) -> _Judged:
    from vidkd.cli.classifiers import is_exported
    from vidkd.engine.checkpoint import warn_if_unfinished
    from vidkd.models.saved import load_classifier

    path = Path(arguments.checkpoint)
    if is_exported(path):
        return _judged_file(arguments, path)
    saved = load_classifier(path)
    warn_if_unfinished(path)
    return _Judged(
        model=saved.model, classes=saved.classes, run=saved.run, device=arguments.device, folder=run_folder(path), exported=False
    )


def _judged_file(arguments: argparse.Namespace, path: Path) -> _Judged:
    """An exported file is run by its own library on --device; what torch does here stays on the processor."""
    from vidkd.base.errors import ConfigError
    from vidkd.data.exported import shown_data
    from vidkd.models.exported import ExportedModule
    from vidkd.runtime.opening import open_exported_classifier

    if arguments.submission:
        raise ConfigError("--submission needs the run: an exported file does not name the split of its training", to_mend="name the run")
    classifier = open_exported_classifier(path, device=arguments.device)
    metadata = classifier.metadata
    shown_data(metadata, str(path))
    run = {"view": metadata.view, "data": dict(metadata.shown)}
    folder = path.with_name(f"{path.stem}_evaluation")
    return _Judged(model=ExportedModule(classifier), classes=metadata.classes, run=run, device="cpu", folder=folder, exported=True)


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that a checkpoint belongs to."""
    if checkpoint.is_dir():
        return checkpoint
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def _text(metrics: dict[str, float], classes: Sequence[Mapping[str, Any]], judged: str, fractions: Sequence[float]) -> str:
    """Metrics, which are means over the fractions where there are any, then the classes, which are those of the last of them."""
    percents = [f"{100 * fraction:g}" for fraction in fractions]
    width = max(NAME_WIDTH, *map(len, metrics))
    lines = [judged + (f": means over {', '.join(percents)} % observed" if percents else "")]
    lines += [*(f"  {name:<{width}} {value:.3f}" for name, value in metrics.items()), ""]
    if percents:
        lines.append(f"classes at {percents[-1]} % observed")
    width = max(len(str(row["class"])) for row in classes)
    lines.append(f"  {'class':<{width}}  clips  recall  precision")
    for row in classes:
        recall, precision = (("    -" if row[key] is None else f"{row[key]:.3f}") for key in ("recall", "precision"))
        lines.append(f"  {row['class']:<{width}}  {row['clips']:>5}   {recall}      {precision}")
    return "\n".join(lines) + "\n"
