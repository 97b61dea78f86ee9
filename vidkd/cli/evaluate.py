"""Judge a network on the clips of a subset.

Prints top-1, top-5 (where there are more than five classes), class mean, calibration error and a table of classes; writes predictions.csv,
evaluation.json and, for a run, its report.html. A model of early recognition is judged at every observed fraction: its metrics are means
over them, with top-1 at each (top1@obs20); classes and confusions are those at the largest one, which is named. An action before
whose gap nothing can be observed is in no prediction; recalls that count such actions as misses end in _all (recall5_all).
The data set is that of the run; another root, manifest or split may be given as settings (--data.root DIR); one that judging does not read
(--train.epochs) is refused. An exported file names no data set:
it needs --data.root, and its results go to a folder next to it, or to --out.

A detector is judged on the annotated frames of a subset: average precision and recall, of each class too, in evaluation.json and
classes.csv. It is a run with task: yolo, or a file with its data set:

  vidkd evaluate --model student.cfg --weights student.weights --names student.names --data.root DIR --data.layout coco --out DIR
  vidkd evaluate --model yolox.onnx --data.root DIR --data.layout yolo --subset val --out DIR

Frames in which objects may lack their box (DAVIS) tell recall alone, of the boxes from --judge.score on, pooled and of each video.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vidkd.cli.classifiers import check_there, is_exported, other_runtime_named, refuse_runtime
from vidkd.cli.outputs import check_folder
from vidkd.cli.verb_parser import list_settings

if TYPE_CHECKING:
    from vidkd.bench.draws import Intervals
    from vidkd.data.learned_from import LearnedFrom
    from vidkd.engine.clips import Clips
    from vidkd.engine.config import RunConfig
    from vidkd.engine.evaluate import Judgement
    from vidkd.models import VideoClassifier
    from vidkd.models.saved import ExportedModule
    from vidkd.report.epic_submission import Levels
    from vidkd.runtime.metadata import ClassifierMetadata

NAME_WIDTH = 11  # of a metric, at least


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is judged, on what, and what is written.

    Args:
        model: a checkpoint, a run, a step of a recipe, an exported .onnx, .xml or .tflite file, a darknet .cfg, torchvision:NAME.
        weights: of a .cfg or torchvision:NAME.
        names: of a .cfg: its class names, one a line.
        metadata: YAML of an exported detector that carries none.
        resize: how frames meet the network of a .cfg (default: darknet; stretch for Yolo-Fastest).
        subset: which clips or frames of the split.
        device: auto, cpu, cuda or mps.
        runtime: what runs an exported .onnx file (default: onnxruntime).
        out: folder to write to (default: the run's).
        submission: EPIC-KITCHENS-100: also write the scores to this file as the challenge of action anticipation takes them.
        supervision: levels of pretraining, labels and data, 0 to 5 each, that it declares (2,3,3: public pretraining, the training list).
        list_settings: list every setting that may follow as a flag, and stop.
    """

    model: str
    weights: str | None = None
    names: str | None = None
    metadata: str | None = None
    resize: str | None = None
    subset: Literal["train", "val", "test"] = "test"
    device: str = "auto"
    runtime: Literal["onnxruntime", "openvino"] | None = None
    out: str | None = None
    submission: str | None = None
    supervision: str | None = None
    list_settings: bool = False
    settings: tuple[str, ...] = ()


def run(given: Settings) -> int:
    """Evaluate and write what was found."""
    if given.list_settings and not given.model:
        from vidkd.engine.config import RunConfig

        return list_settings(RunConfig, "supervised")
    if given.out is not None:
        check_folder("--out", Path(given.out))
    if _is_detector(given):
        from vidkd.cli.evaluate_detector import evaluate_detector

        return evaluate_detector(given)
    return _evaluate_classifier(given)


def _is_detector(given: Settings) -> bool:
    """Whether the model is a detector: by its name, or by what the file or run says of itself."""
    from vidkd.detection.opening import TORCHVISION, darknet_files
    from vidkd.detection.saved import is_detector
    from vidkd.models.saved import read_checkpoint
    from vidkd.runtime.opening import open_network

    path = Path(given.model)
    if given.model.startswith(TORCHVISION):
        return True
    check_there(path)
    if path.suffix.lower() in (".cfg", ".weights", ".tflite") or given.metadata is not None or darknet_files(path):
        return True
    if is_exported(path):
        with other_runtime_named(path, given.runtime):
            text = open_network(path, device="cpu", runtime=given.runtime).embedded
        return text is None or json.loads(text).get("task") != "classify"
    return is_detector(read_checkpoint(path))


def _evaluate_classifier(given: Settings) -> int:
    from vidkd.engine.config import RunConfig

    if given.list_settings:
        return list_settings(RunConfig, "supervised")
    levels = declared_levels(given)
    judged = _judged(given)
    config = _config(given, judged)
    clips = _clips(given, judged, config)
    judgement = _judgement(given.subset, judged, config, clips)
    if judgement is None:
        return 0
    folder = Path(given.out) if given.out else judged.folder
    judgement.write_csv(folder / "predictions.csv")
    if levels is not None:
        from vidkd.report.epic_submission import submission_of, write_submission

        trained, path = judged.run["data"]["split"], Path(str(given.submission))
        content, remarks = submission_of(
            judgement.fullest, clips.manifest, levels, unobservable=judgement.unobservable, trained_split=trained
        )
        write_submission(path, content)
        _say(remarks, path)
    if (judgement.fullest.labels < 0).all():
        sys.stdout.write(f"{len(judgement.fullest.clips)} clips of '{given.subset}', none with a label: there is nothing to judge\n")
        _say(judgement.remarks(), folder / "predictions.csv")
        return 0
    _write_evaluation(given, judgement, judged.classes, folder)
    if (folder / "config.yaml").exists() and not judged.exported:
        _write_page(given, config, clips, judgement, folder)
    return 0


def declared_levels(given: Settings) -> "Levels | None":
    """The levels that a submission declares; None where none is asked for. ConfigError for one without the other, or other levels."""
    if given.submission is None and given.supervision is None:
        return None
    from vidkd.base.errors import ConfigError
    from vidkd.report.epic_submission import LEVELS, Levels

    words = (given.supervision or "").split(",")
    if given.submission is None or len(words) != 3 or not all(word.strip().isdecimal() and int(word) in LEVELS for word in words):
        raise ConfigError(
            "a submission declares three levels of supervision",
            given=f"--submission {given.submission}, --supervision {given.supervision}",
            hint="--submission F --supervision 2,3,3   (each 0 to 5)",
        )
    return Levels(*(int(word) for word in words))


def _config(given: Settings, judged: "_Judged") -> "RunConfig":
    """The settings that what is judged brings, with those of the command line over them; threads as there are cores, if these are fewer."""
    from vidkd.base.settings import merge
    from vidkd.engine.config import RunConfig, load_config
    from vidkd.engine.loop_config import with_threads_of_here

    here = {"train.device": judged.device, "train.devices": 1}
    config = load_config(settings=merge(with_threads_of_here(judged.run), here), overrides=given.settings)
    check_judging_reads(given.settings, RunConfig, ("data", "train"))
    if judged.exported is not None:
        _check_shape(given.model, judged.exported, config)
    return config


def _check_shape(file: str, metadata: "ClassifierMetadata", config: "RunConfig") -> None:
    """Raise ConfigError for clips of another shape than an exported file takes."""
    from vidkd.base.errors import ConfigError

    _, frames, crop, _ = metadata.clip_shape
    asked = {"data.window.frames": (config.data.window.frames, frames), "data.transform.crop": (config.data.transform.crop, crop)}
    for name, (given, made_for) in asked.items():
        if given != made_for:
            raise ConfigError(f"{file} takes {name} {made_for}, not {given}", hint=f"leave out --{name}, or export the run with it")


def _clips(given: Settings, judged: "_Judged", config: "RunConfig") -> "Clips":
    """The clips of the data set. Raises CheckpointError for one of other classes."""
    from vidkd.base.errors import CheckpointError
    from vidkd.data.learned_from import check_unseen
    from vidkd.engine.clips import read_clips_of_run

    clips = read_clips_of_run(config)
    if clips.manifest.classes != judged.classes:
        raise CheckpointError(
            f"{given.model} was trained on other classes than {clips.manifest.name} has",
            checkpoint=", ".join(judged.classes[:6]),
            data_set=", ".join(clips.manifest.classes[:6]),
        )
    if given.subset != "train":
        split = config.data.split
        check_unseen(str(given.model), judged.learned, clips.manifest, split, clips.subset(given.subset, split))
    return clips


def _judgement(subset: str, judged: "_Judged", config: "RunConfig", clips: "Clips") -> "Judgement | None":
    """What was found on the subset; None in all processes but the first."""
    from vidkd.engine.devices import start_fabric
    from vidkd.engine.evaluate import judge

    fabric = start_fabric(config.train, batch_size=config.data.batch_size, flag="--device")
    judgement = judge(
        judged.model.to(fabric.device),
        clips,
        subset,
        config.data,
        judged.classes,
        device=fabric.device,
        workers=config.data.workers,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        progress="evaluate",
    )
    return judgement if fabric.is_global_zero else None


def _write_evaluation(given: Settings, judgement: "Judgement", names: tuple[str, ...], folder: Path) -> None:
    """evaluation.json, and the same as text: metrics, and classes and confusions of what saw most; and the hash of what was judged."""
    from vidkd.base.files import sha256, write_json
    from vidkd.bench.draws import clip_intervals
    from vidkd.engine.metrics import confusion_matrix, per_class
    from vidkd.models.saved import checkpoint_in

    predictions, metrics = judgement.fullest, judgement.metrics()
    labelled = predictions.labels >= 0
    predicted, labels = predictions.predicted[labelled], predictions.labels[labelled]
    classes = per_class(predicted, labels, names)
    split, intervals = given.subset, clip_intervals(judgement)
    found = {
        "split": split,
        "checkpoint": sha256(checkpoint_in(Path(given.model))),
        **judgement.counts(),
        "metrics": metrics,
        "ci95": intervals.ci95,
        "ci95_over": intervals.over,
        "observed": judgement.fractions[-1] if judgement.fractions else None,
        "classes": classes,
        "confusion": confusion_matrix(predicted, labels, len(names)).tolist(),
    }
    write_json(folder / "evaluation.json", found)
    sys.stdout.write(_text(metrics, intervals, classes, f"{len(predictions.clips)} clips of '{split}'", judgement.fractions))
    _say(judgement.remarks(), folder / "predictions.csv", folder / "evaluation.json")


def _write_page(given: Settings, config: "RunConfig", clips: "Clips", judgement: "Judgement", folder: Path) -> None:
    """report.html of the run, with example clips of what was judged."""
    from vidkd.engine.config import solved_task
    from vidkd.report.examples import example_strips
    from vidkd.report.page import render_report
    from vidkd.report.run import run_report

    asked = config.teacher and not solved_task(config.task)  # a solved task asks its teacher by its own data
    teacher = config.teacher if asked and Path(str(config.teacher)).exists() else None
    shown = clips.without(given.subset, judgement.unobservable)
    strips = example_strips(given.model, shown, given.subset, config.data, teacher=teacher)
    notes = {"judged on": f"{given.subset}, {len(judgement.fullest.clips)} clips"}
    if remarks := judgement.remarks():
        notes["note"] = "; ".join(remarks)
    _say([], render_report(folder / "report.html", run_report(folder, strips=strips, notes=notes, evaluated=True)))


def _say(remarks: Sequence[str], *written: Path) -> None:
    sys.stdout.write("".join(f"note: {line}\n" for line in remarks))
    sys.stdout.write(f"written: {', '.join(str(path) for path in written)}\n")


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """What is judged: the network, its classes, the settings that it brings, the device of torch, where results go by default, what an
    exported file says of itself, and which clips it was trained on, if it says.
    """

    model: "VideoClassifier | ExportedModule"
    classes: tuple[str, ...]
    run: dict[str, Any]
    device: str
    folder: Path
    exported: "ClassifierMetadata | None"
    learned: "LearnedFrom | None"


def _judged(given: Settings) -> _Judged:
    from vidkd.data.learned_from import LearnedFrom
    from vidkd.engine.checkpoint import warn_if_unfinished
    from vidkd.models.saved import load_classifier

    path = Path(given.model)
    if is_exported(path):
        return _judged_file(given, path)
    refuse_runtime(path, given.runtime)
    saved = load_classifier(path)
    warn_if_unfinished(path)
    return _Judged(
        model=saved.model,
        classes=saved.classes,
        run=saved.run,
        device=given.device,
        folder=run_folder(path),
        exported=None,
        learned=LearnedFrom.of(saved.learned),
    )


def _judged_file(given: Settings, path: Path) -> _Judged:
    """An exported file is run by its own library on --device; what torch does here stays on the processor."""
    from vidkd.base.errors import ConfigError
    from vidkd.data.config import shown_data
    from vidkd.data.learned_from import LearnedFrom
    from vidkd.models.saved import ExportedModule
    from vidkd.runtime.opening import open_exported_classifier

    if given.submission:
        raise ConfigError("--submission needs the run: an exported file does not name the split of its training", hint="name the run")
    with other_runtime_named(path, given.runtime):
        classifier = open_exported_classifier(path, device=given.device, runtime=given.runtime)
    metadata = classifier.metadata
    shown_data(metadata, str(path))
    run = {"view": metadata.view, "data": dict(metadata.shown)}
    folder = path.with_name(f"{path.name}{'_' + given.runtime if given.runtime else ''}_evaluation")
    return _Judged(
        model=ExportedModule(classifier),
        classes=metadata.classes,
        run=run,
        device="cpu",
        folder=folder,
        exported=metadata,
        learned=LearnedFrom.of(metadata.trained.get("learned")),
    )


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that a checkpoint belongs to."""
    if checkpoint.is_dir():
        return checkpoint
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def metric_lines(metrics: Mapping[str, float], intervals: "Intervals") -> list[str]:
    """A line for each metric with its interval, and what the intervals are over, or why there are none."""
    width = max(NAME_WIDTH, *map(len, metrics))
    bounds = {name: f" [{low:.3f}, {high:.3f}]" for name, (low, high) in intervals.ci95.items()}
    about = f"in brackets: 95 % intervals over {intervals.over}" if bounds else "no intervals: all is of one group"
    return [*(f"  {name:<{width}} {value:.3f}{bounds.get(name, '')}" for name, value in metrics.items()), f"  {about}"]


def _text(
    metrics: dict[str, float], intervals: "Intervals", classes: Sequence[Mapping[str, Any]], judged: str, fractions: Sequence[float]
) -> str:
    """Metrics, which are means over the fractions where there are any, then the classes, which are those of the last of them."""
    percents = [f"{100 * fraction:g}" for fraction in fractions]
    lines = [judged + (f": means over {', '.join(percents)} % observed" if percents else "")]
    lines += [*metric_lines(metrics, intervals), ""]
    if percents:
        lines.append(f"classes at {percents[-1]} % observed")
    width = max(len(str(row["class"])) for row in classes)
    lines.append(f"  {'class':<{width}}  clips  recall  precision")
    for row in classes:
        recall, precision = (("    -" if row[key] is None else f"{row[key]:.3f}") for key in ("recall", "precision"))
        lines.append(f"  {row['class']:<{width}}  {row['clips']:>5}   {recall}      {precision}")
    return "\n".join(lines) + "\n"


def check_judging_reads(flags: Sequence[str], kind: type, sections: Sequence[str], *, unread: str | None = None) -> None:
    """Raise ConfigError for the first flag, known as a setting, that judging does not read.

    sections: those of `kind` that judging reads, but for what their fields say is for training alone (`vidkd.base.records.for_training`),
    and but for the section `unread`.
    """
    from vidkd.base.errors import ConfigError
    from vidkd.base.settings import keys_of_judging

    read = [key for key in keys_of_judging(kind, sections) if unread is None or not key.startswith(f"{unread}.")]
    for key in (word[2:].partition("=")[0] for word in flags if word.startswith("--")):
        if key in read:
            continue
        if below := _below(key, read):
            raise ConfigError(f"--{key} is a section of settings", hint=f"one by one what judging reads of it: {below}")
        section = key
        while section and not _below(section, read):
            section = section.rpartition(".")[0]
        what = _below(section, read) if section else f"is one of {', '.join(f'--{name}.' for name in sections)}"
        mend = f"leave it out; what judging reads: {what}" if section else f"leave it out; what judging reads {what}"
        raise ConfigError(f"--{key} means nothing to an evaluation: judging does not read it", hint=mend)


def _below(section: str, keys: Iterable[str]) -> str:
    """The flags of a section among the keys, "" if it has none."""
    return ", ".join(f"--{key}" for key in keys if key.startswith(f"{section}."))
