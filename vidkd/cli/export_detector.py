"""What `vidkd export` does with a detector."""

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidkd.compress.export_card import Judged
    from vidkd.compress.parity import Frames
    from vidkd.compress.quantise import Quantised
    from vidkd.detection.config import DetectorRunConfig
    from vidkd.detection.frames import Pictures
    from vidkd.models.darknet.detector import DarknetDetector


def export_detector_files(arguments: argparse.Namespace) -> int:
    """Export a run's detector, or a darknet cfg with weights and names, to every file; say how far each is from it; write the cards."""
    from vidkd.base.errors import ConfigError
    from vidkd.cli.export import integers_config, integers_said
    from vidkd.compress.config import TOLERANCE
    from vidkd.compress.export_detector import FORMATS, export_detector, write_detector_card
    from vidkd.detection.frames import drawn_footage, read_frames
    from vidkd.models.saved import checkpoint_in

    for path in arguments.out:
        if path.suffix.lower() not in FORMATS:
            raise ConfigError(f"not a format of a detector's export: {path}", known=", ".join(FORMATS))
    detector = _opened(arguments)
    frames = _parity_frames(arguments)
    integers = integers_config(arguments) if arguments.int8 else None
    footage: Pictures = []
    judged, why_not, data = _known(arguments)
    if integers is not None:
        if not arguments.int8_footage and arguments.weights:
            raise ConfigError("nothing to find the ranges of activations on", hint="--int8-footage VIDEO, footage it is not judged on")
        _check_footage(arguments)
        footage, source = drawn_footage(arguments.int8_footage or (), lambda: read_frames(_config(arguments).data).train, integers.clips)
        sys.stdout.write(f"ranges of activations found on {source}\n")
    kept: dict[str, Quantised] = {}
    said = ""
    for path in arguments.out:
        tolerance = TOLERANCE if arguments.tolerance is None else arguments.tolerance
        exported = export_detector(
            detector,
            path,
            frames=frames,
            integers=integers,
            footage=footage,
            kept=kept,
            tolerance=tolerance,
            more="--tolerance X",
            named=arguments.weights or checkpoint_in(Path(arguments.checkpoint)),
        )
        if exported.quantised is not None:
            said = integers_said(exported.quantised, said)
        network = f"darknet, {Path(arguments.checkpoint).name}"
        card = write_detector_card(exported, network=network, data=data, judged=judged, why_not=why_not, licence=arguments.licence)
        sys.stdout.write(f"{exported.parity}\nwritten: {path} ({exported.bytes / 2**20:.2f} MiB), {card}\n")
    return 0


def _check_footage(arguments: argparse.Namespace) -> None:
    """Raise DataError for footage that is judged, as far as the run's data set is there to tell; a cfg has none."""
    from vidkd.base.errors import DataError, VidkdError
    from vidkd.detection.frames import judged_footage, read_frames

    if arguments.weights or not arguments.int8_footage:
        return
    try:
        frames = read_frames(_config(arguments).data)
    except VidkdError as error:
        sys.stderr.write(f"vidkd: whether the footage is judged is not known, as the run's data cannot be read: {error.what}\n")
        return
    parts = [frames.val]
    with contextlib.suppress(DataError):  # a data set without frames to test on
        parts.append(frames.subset("test"))
    for part in parts:
        if shared := judged_footage(arguments.int8_footage, frames.manifest, part):
            mend = "--int8-footage of other videos, or none: then training frames are taken"
            raise DataError("the footage is judged, or of a group that is, so no ranges may be found on it", first=shared[0], hint=mend)


def _known(arguments: argparse.Namespace) -> "tuple[list[Judged], str | None, str | None]":
    """Of a run what `vidkd evaluate` found or the reason for nothing, and its data set, where that is still there; nothing of a cfg."""
    from vidkd.base.errors import VidkdError
    from vidkd.cli.export import judged_of
    from vidkd.detection.frames import read_frames

    if arguments.weights:
        return [], "a .cfg has no run that was evaluated", None
    judged, why_not = judged_of(arguments.checkpoint)
    try:
        return judged, why_not, read_frames(_config(arguments).data).manifest.name
    except VidkdError:
        return judged, why_not, None


def _parity_frames(arguments: argparse.Namespace) -> "Frames | None":
    """What to check on: videos that are named, else validation frames of the run; None for drawn pictures, said with the reason."""
    from vidkd.base.errors import ConfigError, VidkdError
    from vidkd.compress.parity import PARITY_FRAMES, Frames
    from vidkd.detection.frames import frames_of_manifest, frames_of_videos, read_frames

    if arguments.clips:
        found = frames_of_videos(arguments.clips, PARITY_FRAMES)
        return Frames(values=found, source=f"{len(found)} frames of {len(arguments.clips)} videos")
    try:
        if arguments.weights:
            raise ConfigError("a .cfg has no data of its own (--clips VIDEO)")
        frames = read_frames(_config(arguments).data)
        part = frames.val if frames.val.frames else frames.train
        shown = frames_of_manifest(part, PARITY_FRAMES)
        return Frames(values=shown, source=f"{len(shown)} frames of '{'val' if frames.val.frames else 'train'}'")
    except VidkdError as error:
        sys.stderr.write(f"vidkd: checked on drawn pictures: {error.what}\n")
        return None


def _config(arguments: argparse.Namespace) -> "DetectorRunConfig":
    from vidkd.detection.config import load_detector_config
    from vidkd.detection.saved import load_detector

    return load_detector_config(settings=load_detector(arguments.checkpoint).run)


def _opened(arguments: argparse.Namespace) -> "DarknetDetector":
    from vidkd.base.errors import ConfigError
    from vidkd.detection.opening import ModelFiles
    from vidkd.models.darknet.detector import DarknetDetector

    given = {name: getattr(arguments, name) for name in ("weights", "names", "resize")}
    files = ModelFiles(model=arguments.checkpoint, device="cpu", model_flag="--checkpoint", **given)
    detector = files.open()
    if not isinstance(detector, DarknetDetector):
        raise ConfigError(f"only darknet detectors are exported, and this is none: {arguments.checkpoint}")
    return detector
