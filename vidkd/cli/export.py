"""Export a video classifier or a detector to a file that runs without torch, with a model card next to it.

Every file is checked on clips against the network that it comes from before it is kept, and the largest difference is printed. The clips
are those of --clips, else of the run's own data set where it can be read, else generated ones.

  vidkd export --model runs/student --out student.onnx
  vidkd export --model runs/student --out student.onnx,student.pt2 --clips street.mp4 --licence CC-BY-4.0
  vidkd export --model runs/student --out student8.onnx,student8.xml --int8
  vidkd predict street.mp4 --model student.onnx
  vidkd export --model tiny.cfg --weights tiny.weights --names coco.names --out tiny.onnx --int8 --int8-footage other.mp4

docs/guides/deployment.md says what the machine that runs it needs.
"""

import contextlib
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from vidkd.base.fields import Count, Positive
from vidkd.cli.classifiers import check_there
from vidkd.cli.outputs import check_outputs

if TYPE_CHECKING:
    from vidkd.compress.export import Judged, Source
    from vidkd.compress.parity import Samples
    from vidkd.compress.quantise import Integers
    from vidkd.compress.recipe import QuantiseConfig
    from vidkd.detection.frames import RunFrames

CLIPS_OF_THE_RUN = 4
INT8_CLIPS = 128
# Metrics of a run's evaluation that a card holds.
METRICS = ("top1", "top5", "class_mean", "ap50", "map", "recall50")


class Opened(NamedTuple):
    """A network to export. samples: what to check on, None for generated ones. data: its data set, where that is known."""

    source: "Source"
    samples: "Samples | None"
    integers: "Integers | None"
    data: str | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is exported, to which files, and how they are checked.

    Args:
        model: a checkpoint, the folder of a run, or a darknet .cfg.
        weights: of a .cfg.
        names: of a .cfg: its class names, one a line.
        resize: how frames meet the network of a .cfg (default: darknet; stretch for Yolo-Fastest).
        out: files to write, with commas: .onnx, .xml (OpenVINO), .pt2.
        overwrite: replace what --out names if it is there.
        clips: videos to check the file on (default: the run's own data).
        tolerance: largest difference of an output that is allowed (default: 1e-4).
        licence: licence of the weights, for the card (default: unknown).
        int8: weights and activations in eight-bit integers (.onnx and .xml); ranges from the run's training clips.
        int8_clips: training clips, or frames of a detector, to find ranges on (default: 128).
        int8_footage: of a detector: videos to take these frames from.
        int8_exclude: layers that stay in float (backbone.net.stem*).
        int8_weight_bits: of weights; 7 for x86 processors without VNNI, whose eight-bit products saturate (default: 8).
    """

    model: str
    weights: str | None = None
    names: str | None = None
    resize: str | None = None
    out: tuple[Path, ...]
    overwrite: bool = False
    clips: tuple[Path, ...] | None = None
    tolerance: Positive | None = None
    licence: str | None = None
    int8: bool = False
    int8_clips: Count | None = None
    int8_footage: tuple[Path, ...] | None = None
    int8_exclude: tuple[str, ...] = ()
    int8_weight_bits: Literal[7, 8] | None = None


def run(given: Settings) -> int:
    """Export to every file, print how far each is from the network, and write the cards."""
    from vidkd.base.errors import ConfigError, require_all
    from vidkd.compress.export import check_format, export, packages, write_card
    from vidkd.compress.export_classifier import ClassifierSource
    from vidkd.compress.export_detector import DetectorSource
    from vidkd.compress.recipe import TOLERANCE
    from vidkd.detection.opening import darknet_files
    from vidkd.detection.saved import is_detector
    from vidkd.models.saved import read_checkpoint
    from vidkd.runtime.opening import CLIP_NETWORKS, NETWORKS

    if Path(given.model).suffix.lower() in {**NETWORKS, **CLIP_NETWORKS}:
        raise ConfigError(f"exported already: {given.model}", hint="name the run, the checkpoint or the .cfg that it comes from")
    of_integers = [name for name, value in vars(given).items() if name.startswith("int8_") and value not in (None, False, ())]
    if of_integers and not given.int8:
        flags = ", ".join("--" + name.replace("_", "-") for name in of_integers)
        raise ConfigError(f"only with --int8: {flags}", hint="add --int8")
    check_there(given.model, exported=False)
    files: dict[str, Any] = {name: str(path) for name, path in darknet_files(Path(given.model)).items()}
    given = dataclasses.replace(given, **files)
    _check_out(given)
    detector = Path(given.model).suffix.lower() == ".cfg" or is_detector(read_checkpoint(given.model))
    kind = DetectorSource if detector else ClassifierSource
    for path in given.out:
        check_format(kind, path, integers=given.int8)
    steps = ["quantise"] if given.int8 else []
    require_all(packages([*steps, *(path.suffix.lower().removeprefix(".") for path in given.out)], kind))
    source, samples, integers, data = (_open_detector if detector else _open_classifier)(given)
    if integers is not None:
        sys.stdout.write(f"ranges of activations found on {integers.source}\n")
    judged, why_not = ([], "a .cfg has no run that was evaluated") if given.weights else judged_of(given.model)
    for path in given.out:
        exported = export(source, path, samples, tolerance=given.tolerance or TOLERANCE, integers=integers, more="--tolerance X")
        if exported.quantised is not None:
            left = [f"  {name} stays in float: {reason}\n" for name, reason in exported.quantised.left.items()]
            sys.stdout.writelines([f"{exported.quantised}\n", *left])
        if not source.open_batch:
            sys.stdout.write(f"{path.name} takes one clip at a time: the code of the network is bound to its batch size\n")
        card = write_card(exported, data=data, judged=judged, why_not=why_not, licence=given.licence)
        sys.stdout.write(f"{exported.parity}\nwritten: {path} ({exported.bytes / 2**20:.2f} MiB), {card}\n")
    return 0


def _check_out(given: Settings) -> None:
    """Raise ConfigError where a file that is there would be replaced unasked: one of --out, the weights next to it, or its card."""
    from vidkd.compress.export import card_path

    files = [part for path in given.out for part in (path, card_path(path))]
    files += [path.with_suffix(".bin") for path in given.out if path.suffix.lower() == ".xml"]
    check_outputs({f"--out {path}": str(path) for path in files}, source=given.model, overwrite=given.overwrite)


def _open_classifier(given: Settings) -> Opened:
    """The classifier of a run or checkpoint; checked on --clips, else on clips of its run where these can be read."""
    from vidkd.base.errors import ConfigError, VidkdError
    from vidkd.compress.export_classifier import ClassifierSource, integers_of
    from vidkd.compress.parity import data_set_clips, video_clips
    from vidkd.engine.checkpoint import warn_if_unfinished
    from vidkd.engine.clips import read_clips_of_run
    from vidkd.engine.config import load_config
    from vidkd.models.saved import checkpoint_in, load_classifier

    for flag in ("weights", "names", "resize", "int8_footage"):
        if getattr(given, flag) is not None:
            raise ConfigError(f"--{flag.replace('_', '-')} belongs to a detector, and {given.model} is a classifier of clips")
    saved = load_classifier(given.model)
    warn_if_unfinished(given.model)
    config = load_config(settings=saved.run)
    source = ClassifierSource(saved, config.data, checkpoint_in(Path(given.model)))
    samples = data = None
    try:
        data = f"{read_clips_of_run(config).manifest.name}, split {config.data.split}"
        samples = None if given.clips else data_set_clips(config, saved.view, CLIPS_OF_THE_RUN)
    except VidkdError as error:
        if not given.clips:
            sys.stderr.write(f"vidkd: checked on generated clips, as the run's own cannot be read: {error.what}\n")
    if given.clips:
        samples = video_clips(given.clips, config.data, saved.view)
    return Opened(source, samples, integers_of(config, source.metadata, _integers_config(given)) if given.int8 else None, data)


def _open_detector(given: Settings) -> Opened:
    """A run's detector, or a darknet cfg with weights and names.

    It is checked on videos that are named, else on validation frames of the run; else on drawn pictures, and the reason is written.
    """
    from vidkd.base.errors import ConfigError, VidkdError
    from vidkd.compress.export_detector import DetectorSource, integers_on
    from vidkd.compress.parity import PARITY_FRAMES, Samples
    from vidkd.detection.config import load_detector_config
    from vidkd.detection.frames import drawn_footage, frames_of_manifest, frames_of_videos, read_frames
    from vidkd.detection.opening import ModelFiles
    from vidkd.detection.saved import load_detector
    from vidkd.models.darknet.detector import DarknetDetector
    from vidkd.models.saved import checkpoint_in

    files = {name: getattr(given, name) for name in ("weights", "names", "resize")}
    detector = ModelFiles(model=given.model, device="cpu", model_flag="--model", **files).open()
    assert isinstance(detector, DarknetDetector)
    named = given.weights or checkpoint_in(Path(given.model))
    source = DetectorSource(detector, named, f"darknet, {Path(given.model).name}")
    frames, why = None, "a .cfg has no data of its own (--clips VIDEO)"
    if not given.weights:
        try:
            frames = read_frames(load_detector_config(settings=load_detector(given.model).run).data)
        except VidkdError as error:
            why = error.what
    samples = None
    if given.clips:
        shown = frames_of_videos(given.clips, PARITY_FRAMES)
        samples = Samples(values=shown, source=f"{len(shown)} frames of {len(given.clips)} videos")
    elif frames is not None:
        subset = "val" if frames.val.frames else "train"
        shown = frames_of_manifest(frames.subset(subset), PARITY_FRAMES)
        samples = Samples(values=shown, source=f"{len(shown)} frames of '{subset}'")
    else:
        sys.stderr.write(f"vidkd: checked on drawn pictures: {why}\n")
    integers = None
    if given.int8:
        config, footage = _integers_config(given), given.int8_footage or ()
        if frames is not None:
            _check_footage(footage, frames)
        elif not footage:
            raise ConfigError("nothing to find the ranges of activations on", hint="--int8-footage VIDEO, footage it is not judged on")
        elif not given.weights:
            sys.stderr.write(f"vidkd: whether the footage is judged is not known, as the run's data cannot be read: {why}\n")
        shown, source_text = drawn_footage(footage, lambda: cast("RunFrames", frames).train, config.clips)
        integers = integers_on(detector, shown, source_text, config)
    return Opened(source, samples, integers, None if frames is None else frames.manifest.name)


def _check_footage(footage: tuple[Path, ...], frames: "RunFrames") -> None:
    """Raise DataError for footage that is judged."""
    from vidkd.base.errors import DataError
    from vidkd.detection.frames import judged_footage

    parts = [frames.val]
    with contextlib.suppress(DataError):  # a data set without frames to test on
        parts.append(frames.subset("test"))
    for part in parts:
        if shared := judged_footage(footage, frames.manifest, part):
            mend = "--int8-footage of other videos, or none: then training frames are taken"
            raise DataError("the footage is judged, or of a group that is, so no ranges may be found on it", first=shared[0], hint=mend)


def _integers_config(given: Settings) -> "QuantiseConfig":
    """The settings of --int8 and its companions."""
    from vidkd.compress.quantise import warn_if_saturating
    from vidkd.compress.recipe import QuantiseConfig

    bits = given.int8_weight_bits or 8
    config = QuantiseConfig(clips=given.int8_clips or INT8_CLIPS, exclude=given.int8_exclude, weight_bits=bits)
    warn_if_saturating(config, "--int8-weight-bits 7")
    return config


def judged_of(checkpoint: Path | str) -> "tuple[list[Judged], str | None]":
    """What `vidkd evaluate` left in the run's folder on these very weights, with 95 % intervals where it could tell them.

    Nothing, and the reason, where the run was not evaluated, or other weights of it were.
    """
    from vidkd.base.files import read_json, sha256
    from vidkd.cli.evaluate import run_folder
    from vidkd.compress.export import Judged
    from vidkd.models.saved import checkpoint_in

    folder = run_folder(Path(checkpoint))
    if not (folder / "evaluation.json").exists():
        return [], None
    found = read_json(folder / "evaluation.json")
    if found.get("checkpoint") != sha256(checkpoint_in(Path(checkpoint))):
        of_others = "is of other weights" if found.get("checkpoint") else "does not say of which weights it is"
        return [], f"the evaluation of the run {of_others} (vidkd evaluate --model {Path(checkpoint).name})"
    counted = "clips" if "clips" in found else "frames"
    on = f"{found[counted]} {counted} of '{found['split']}'"
    bounds = {name: (float(low), float(high)) for name, (low, high) in found.get("ci95", {}).items()}
    values = found["metrics"]
    return [Judged(metric=name, value=values[name], ci95=bounds.get(name), on=on) for name in METRICS if name in values], None
