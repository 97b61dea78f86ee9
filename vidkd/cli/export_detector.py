"""What `vidkd export` does with a detector: what it is checked on, and what ranges of integers are found on."""

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vidkd.cli.export import Opened, integers_config

if TYPE_CHECKING:
    from vidkd.detection.frames import RunFrames


def open_detector(arguments: argparse.Namespace) -> Opened:
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

    given = {name: getattr(arguments, name) for name in ("weights", "names", "resize")}
    detector = ModelFiles(model=arguments.checkpoint, device="cpu", model_flag="--model", **given).open()
    assert isinstance(detector, DarknetDetector)
    named = arguments.weights or checkpoint_in(Path(arguments.checkpoint))
    source = DetectorSource(detector, named, f"darknet, {Path(arguments.checkpoint).name}")
    frames, why = None, "a .cfg has no data of its own (--clips VIDEO)"
    if not arguments.weights:
        try:
            frames = read_frames(load_detector_config(settings=load_detector(arguments.checkpoint).run).data)
        except VidkdError as error:
            why = error.what
    samples = None
    if arguments.clips:
        shown = frames_of_videos(arguments.clips, PARITY_FRAMES)
        samples = Samples(values=shown, source=f"{len(shown)} frames of {len(arguments.clips)} videos")
    elif frames is not None:
        subset = "val" if frames.val.frames else "train"
        shown = frames_of_manifest(frames.subset(subset), PARITY_FRAMES)
        samples = Samples(values=shown, source=f"{len(shown)} frames of '{subset}'")
    else:
        sys.stderr.write(f"vidkd: checked on drawn pictures: {why}\n")
    integers = None
    if arguments.int8:
        config, footage = integers_config(arguments), arguments.int8_footage or ()
        if frames is not None:
            _check_footage(footage, frames)
        elif not footage:
            raise ConfigError("nothing to find the ranges of activations on", hint="--int8-footage VIDEO, footage it is not judged on")
        elif not arguments.weights:
            sys.stderr.write(f"vidkd: whether the footage is judged is not known, as the run's data cannot be read: {why}\n")
        shown, source_text = drawn_footage(footage, lambda: cast("RunFrames", frames).train, config.clips)
        integers = integers_on(detector, shown, source_text, config)
    return Opened(source, samples, integers, None if frames is None else frames.manifest.name)


def _check_footage(footage: "list[Path] | tuple[()]", frames: "RunFrames") -> None:
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
