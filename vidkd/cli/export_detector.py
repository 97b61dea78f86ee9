"""What `vidkd export` does with a detector."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidkd.detection.footage import Pictures
    from vidkd.models.darknet.detector import DarknetDetector

PARITY_FRAMES = 8


def export_detector_files(arguments: argparse.Namespace) -> int:
    """Export a run's detector, or a darknet cfg with weights and names, to every file; say how far each is from it; write the cards."""
    from vidkd.base.errors import ConfigError
    from vidkd.compress.config import QuantiseConfig
    from vidkd.compress.detector_export import TOLERANCE, export_detector, write_detector_card
    from vidkd.detection.footage import frames_of_videos

    detector = _opened(arguments)
    frames = frames_of_videos(arguments.clips, PARITY_FRAMES) if arguments.clips else []
    integers = QuantiseConfig(clips=arguments.int8_clips, spare=tuple(arguments.int8_spare)) if arguments.int8 else None
    footage: Pictures = []
    if integers is not None:
        if not arguments.int8_footage and arguments.weights:
            raise ConfigError("nothing to find the ranges of activations on", to_mend="--int8-footage VIDEO, footage it is not judged on")
        footage, source = _footage(arguments, integers.clips)
        sys.stdout.write(f"ranges of activations found on {source}\n")
    for path in arguments.out:
        tolerance = TOLERANCE if arguments.tolerance is None else arguments.tolerance
        exported = export_detector(
            detector, path, frames=frames, integers=integers, footage=footage, tolerance=tolerance, sensitivity=arguments.int8_sensitivity
        )
        if exported.quantised is not None:
            from vidkd.cli.export import integers_text

            sys.stdout.write(integers_text(exported.quantised))
        card = write_detector_card(exported, network=f"darknet, {Path(arguments.checkpoint).name}", licence=arguments.licence)
        sys.stdout.write(f"{exported.parity}\nwritten: {path} ({exported.bytes / 2**20:.2f} MiB), {card}\n")
    return 0


def _opened(arguments: argparse.Namespace) -> "DarknetDetector":
    from vidkd.base.errors import ConfigError
    from vidkd.detection.opening import ModelFiles
    from vidkd.models.darknet.detector import DarknetDetector

    files = ModelFiles(model=arguments.checkpoint, weights=arguments.weights, names=arguments.names, resize=arguments.resize, device="cpu")
    detector = files.open()
    if not isinstance(detector, DarknetDetector):
        raise ConfigError(f"only darknet detectors are exported, and this is none: {arguments.checkpoint}")
    return detector


def _footage(arguments: argparse.Namespace, count: int) -> "tuple[Pictures, str]":
    """Frames to find ranges on: of the videos that are named, else of the run's own training frames."""
    from vidkd.detection.config import load_detector_config
    from vidkd.detection.footage import frames_of_manifest, frames_of_videos
    from vidkd.detection.frames import read_frames
    from vidkd.detection.saved import load_detector

    if arguments.int8_footage:
        frames = frames_of_videos(arguments.int8_footage, count)
        return frames, f"{len(frames)} frames of {len(arguments.int8_footage)} videos"
    config = load_detector_config(settings=load_detector(arguments.checkpoint).run)
    frames = frames_of_manifest(read_frames(config.data).train, count)
    return frames, f"{len(frames)} training frames"
