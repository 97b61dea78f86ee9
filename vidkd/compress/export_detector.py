"""Export of a darknet detector to a file that runs without torch: raw heads, with all that decoding them takes in its metadata."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidkd import __version__
from vidkd.base.errors import ConfigError
from vidkd.base.extras import require
from vidkd.compress.config import TOLERANCE, QuantiseConfig
from vidkd.compress.export import Exported, write_checked, write_openvino
from vidkd.compress.export_card import Judged, judged_rows, latency_text, names_text, write_rows
from vidkd.compress.parity import (
    MORE,
    DetectorParity,
    Frames,
    Limit,
    check_weights,
    compare_darknet,
    compare_detector,
    drawn_frames,
)
from vidkd.compress.quantise import Feed, Quantised, quantise_once
from vidkd.detection.saved import write_darknet
from vidkd.models.darknet.detector import GREY, DarknetDetector
from vidkd.models.darknet.onnx import INPUT, head_name, whole_model
from vidkd.runtime.letterbox import RESIZE_WORDS
from vidkd.runtime.metadata import EMBEDDED_KEY, Head, InputFormat, ModelMetadata
from vidkd.runtime.opening import open_detector

FORMATS = (".onnx", ".xml")


def export_detector(
    detector: DarknetDetector,
    path: Path,
    *,
    frames: Frames | None = None,
    integers: QuantiseConfig | None = None,
    footage: Sequence[NDArray[np.uint8]] = (),
    kept: dict[str, Quantised] | None = None,
    tolerance: float = TOLERANCE,
    more: str = MORE,
    named: Path | str | None = None,
) -> Exported[ModelMetadata, DetectorParity]:
    """Write a detector to `path`, .onnx or .xml; what was there is replaced only once the check is passed.

    frames: what network and file are compared on, by default those of `drawn_frames`. integers: how it computes in eight-bit integers,
    by default in float; footage: the frames on which the ranges of activations are found; kept: see `quantise_once`. tolerance: of
    raw heads, times the largest where that is above 1, and more: how a larger one is asked for; the differences of integers are told,
    whatever they are, and warned of where they are most of what the file says. named: where the network was read from, for messages.
    Raises ConfigError for another suffix, a network that does not compute with finite numbers or that the library of the format refuses, a
    place that cannot be written, a difference beyond the tolerance, integers without footage, or a runtime that computes in float what is
    in integers in the file; MissingExtraError without the packages of the format.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"not a format of a detector's export: {path}", known=", ".join(FORMATS))
    check_weights(detector.net, named)
    onnx = require("onnx", "export")
    metadata = detector_metadata(detector)
    model = whole_model(detector.net)
    model.producer_name, model.producer_version = "vidkd", __version__
    model.metadata_props.add(key=EMBEDDED_KEY, value=metadata.to_json())
    onnx.checker.check_model(model)
    content, quantised = bytes(model.SerializeToString()), None
    if integers is not None:
        quantised = quantise_once(content, _feeds(detector, footage), integers, {} if kept is None else kept)
        content = quantised.graph
    limit = Limit(tolerance=tolerance if integers is None else math.inf, what=path.name, more=more, named=named)

    def write_and_compare(new: Path) -> DetectorParity:
        if path.suffix.lower() == ".xml":
            write_openvino(content, metadata.to_json(), new)
        else:
            new.write_bytes(content)
        return compare_detector(detector, new, metadata, frames or drawn_frames(), limit)

    parity = write_checked(path, write_and_compare, lambda: quantised)
    parameters = sum(parameter.numel() for parameter in detector.net.parameters())
    return Exported(path=path, metadata=metadata, parity=parity, parameters=parameters, quantised=quantised)


def export_darknet_files(
    detector: DarknetDetector,
    folder: Path,
    *,
    frames: Frames | None = None,
    tolerance: float = TOLERANCE,
    more: str = MORE,
    named: Path | str | None = None,
) -> Exported[ModelMetadata, DetectorParity]:
    """Write a detector as student.cfg, student.weights and student.names, read them again and compare; settings as of `export_detector`.

    What was there is replaced. Raises ConfigError for numbers that are not finite and a difference beyond the tolerance, and as
    `write_darknet` does.
    """
    check_weights(detector.net, named)
    files = write_darknet(folder, detector.net, detector.class_names, resize=detector.resize)
    limit = Limit(tolerance=tolerance, what=files[1].name, more=more, named=named)
    parity = compare_darknet(detector, files, frames or drawn_frames(), limit)
    parameters = sum(parameter.numel() for parameter in detector.net.parameters())
    return Exported(path=files[1], metadata=detector_metadata(detector), parity=parity, parameters=parameters)


def float_bytes(detector: DarknetDetector, suffix: str, named: Path | str | None = None) -> int:
    """Size of the file that a detector becomes in float: what others of this suffix are compared with. Raises as `export_detector`."""
    with tempfile.TemporaryDirectory() as folder:
        return export_detector(detector, Path(folder) / f"model{suffix}", tolerance=math.inf, named=named).bytes


def detector_metadata(detector: DarknetDetector) -> ModelMetadata:
    """What running the raw heads of a detector takes, its own thresholds among it."""
    heads = detector.net.heads
    return ModelMetadata(
        classes=detector.class_names,
        input=InputFormat(
            size=detector.net.input_size, layout="NCHW", colour="rgb", pixel_max=1, resize=detector.resize, fill=GREY, name=INPUT
        ),
        head=Head(
            style="darknet",
            anchors=tuple(head.anchors for head in heads),
            scale_xy=tuple(head.scale_x_y for head in heads),
            outputs=tuple(map(head_name, range(len(heads)))),
        ),
        score=detector.score_threshold,
        nms_iou=detector.nms_iou,
        vidkd=__version__,
    )


def write_detector_card(
    exported: Exported[ModelMetadata, DetectorParity],
    *,
    network: str,
    data: str | None = None,
    judged: Sequence[Judged] = (),
    of_file: Sequence[Judged] = (),
    why_not: str | None = None,
    licence: str | None = None,
) -> Path:
    """Write the card beside the file; returns its path.

    network: what it is. data: the data set of its training, or of its judging. The rest: as of `write_card`.
    """
    metadata = exported.metadata
    width, height = metadata.input.size
    rows = {
        "Network": network,
        "Sees": f"frames in RGB, {width} x {height} pixels",
        "Resizing": resizing_text(metadata.input),
        "Classes": names_text(metadata.classes),
        "Data": data or "unknown",
        **judged_rows(exported.path, judged, of_file, integers=exported.quantised is not None, why_not=why_not),
        "Size": f"{exported.bytes:,} bytes, {exported.parameters:,} parameters",
        "Speed": _speed(exported.path, metadata),
        **({} if exported.quantised is None else {"Integers": str(exported.quantised)}),
        "Parity": str(exported.parity),
    }
    return write_rows(exported.path, rows, licence=licence)


def resizing_text(given: InputFormat) -> str:
    """How frames of any size meet the input, in a row of a card."""
    width, height = given.size
    padding = "" if given.resize == "stretch" else f" with the value {given.fill}"
    return f"{RESIZE_WORDS[given.resize]}{padding}, to {width} x {height} pixels"


def _speed(path: Path, metadata: ModelMetadata) -> str:
    """Latency of the file as vidkd runs it on one core, letterbox and suppression with it; darknet files are not timed."""
    if path.suffix == ".weights":
        return "not measured"
    detector, (width, height) = open_detector(path, device="cpu", threads=1), metadata.input.size
    frame = np.zeros((1, height, width, 3), np.uint8)
    return latency_text(lambda: detector(frame), "one frame, from pixels to boxes")


def _feeds(detector: DarknetDetector, frames: Sequence[NDArray[np.uint8]]) -> list[Feed]:
    if not frames:
        raise ConfigError("nothing to find the ranges of activations on", hint="name footage that the detector is not judged on")
    return [{INPUT: detector.prepare(frame[None])[0].cpu().contiguous().numpy()} for frame in frames]
