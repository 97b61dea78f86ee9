"""A darknet detector for export: raw heads, with all that decoding them takes in its metadata; or cfg, weights and names."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vidkd import __version__
from vidkd.base.errors import require
from vidkd.compress.export import Source, names_text
from vidkd.compress.parity import Parity, Samples, compare_heads, drawn_frames
from vidkd.compress.quantise import Integers, Quantised
from vidkd.compress.recipe import QuantiseConfig
from vidkd.detection.opening import darknet_files
from vidkd.detection.saved import write_darknet
from vidkd.models.darknet.detector import GREY, DarknetDetector
from vidkd.models.darknet.onnx import INPUT, head_name, whole_model
from vidkd.runtime.letterbox import RESIZE_WORDS
from vidkd.runtime.metadata import EMBEDDED_KEY, Head, InputFormat, ModelMetadata
from vidkd.runtime.opening import open_detector, open_network


class DetectorSource(Source):
    """A detector with its thresholds. called: what it is, for the card."""

    suffixes = (".onnx", ".xml", ".weights")

    def __init__(self, detector: DarknetDetector, named: Path | str, called: str = "darknet") -> None:
        super().__init__(detector.net, named)
        self.detector, self.called = detector, called
        self.metadata = detector_metadata(detector)

    def graph(self, *, quantised: bool) -> bytes:  # noqa: ARG002 - only a classifier's metadata name it
        """See `Source`."""
        onnx, model = require("onnx", "export"), whole_model(self.detector.net)
        model.producer_name, model.producer_version = "vidkd", __version__
        model.metadata_props.add(key=EMBEDDED_KEY, value=self.metadata.to_json())
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    def write(self, path: Path, integers: Integers | None) -> Quantised | None:
        """See `Source`; student.weights with its cfg and names."""
        if path.suffix.lower() != ".weights":
            return super().write(path, integers)
        write_darknet(path.parent, self.detector.net, self.detector.class_names, resize=self.detector.resize)
        return None

    def compare(self, path: Path, samples: Samples | None) -> Parity:
        """See `Source`."""
        detector, frames = self.detector, samples or drawn_frames()
        if path.suffix.lower() != ".weights":
            network = open_network(path, device="cpu")

            def run(images: Tensor) -> list[NDArray[np.floating]]:
                return network.run(images.numpy(), self.metadata.head.outputs)

            return compare_heads(detector, run, open_detector(path, device="cpu"), frames)
        written = detector.with_net(DarknetDetector.open(*darknet_files(path.parent).values()).net)
        return compare_heads(detector, lambda images: [head.numpy() for head in written.net(images)], written, frames)

    def rows(self) -> dict[str, str]:
        """See `Source`."""
        given = self.metadata.input
        width, height = given.size
        padding = "" if given.resize == "stretch" else f" with the value {given.fill}"
        return {
            "Network": self.called,
            "Sees": f"frames in RGB, {width} x {height} pixels",
            "Resizing": f"{RESIZE_WORDS[given.resize]}{padding}, to {width} x {height} pixels",
            "Classes": names_text(self.metadata.classes),
        }

    def timed(self, path: Path) -> tuple[Callable[[], object], str] | None:
        """See `Source`: letterbox and suppression with it."""
        if path.suffix == ".weights":
            return None
        detector, (width, height) = open_detector(path, device="cpu", threads=1), self.metadata.input.size
        frame = np.zeros((1, height, width, 3), np.uint8)
        return lambda: detector(frame), "one frame, from pixels to boxes"


def integers_on(detector: DarknetDetector, frames: Sequence[NDArray[np.uint8]], source: str, config: QuantiseConfig) -> Integers:
    """Integers with ranges found on these frames. source: in words what they are."""
    feeds = [{INPUT: detector.prepare(frame[None])[0].cpu().contiguous().numpy()} for frame in frames]
    return Integers(config=config, feeds=feeds, source=source)


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
