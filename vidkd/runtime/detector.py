"""Detectors: the interface that the rest of vidkd uses, and a detector in an exported file: frames to input, outputs to boxes."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import CheckpointError, unknown_name
from vidkd.runtime.detections import Detections, box_area, nms
from vidkd.runtime.heads import HEADS, Array, Candidates
from vidkd.runtime.letterbox import Letterbox
from vidkd.runtime.metadata import InputFormat, ModelMetadata
from vidkd.runtime.networks import Network, Port, misfit

PixelTable: TypeAlias = NDArray[np.float32] | NDArray[np.int32]
# Dequantised scores may pass 1 by a step; what passes it by more is no score.
HIGHEST_SCORE = 1.02
# Padding rows of decoded boxes have score 0 and any label.
LOWEST_SCORE = 1e-6


class Detector(Protocol):
    """Frames in, boxes in pixels of those frames out; resizing, padding, normalisation and their inverse are the detector's own."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes that labels index."""

    def __call__(self, frames: NDArray[np.uint8]) -> list[Detections]:
        """RGB uint8 (B, H, W, 3) -> B results, frame_index 0 and time_s None, each sorted by falling score."""


@runtime_checkable
class StagedDetector(Detector, Protocol):
    """A detector in two halves, so that a network has the next frames while boxes are made of those before: `end(begin(frames))` is a call.

    The halves may be called from two threads, `end` in the order of `begin`. What lies between them holds no frame.
    """

    def begin(self, frames: NDArray[np.uint8]) -> Any:
        """Frames as `__call__` takes them -> the network's outputs; on a GPU they may not be worked out yet."""

    def end(self, begun: Any) -> list[Detections]:
        """What `begin` gave -> what `__call__` gives."""


Begun = tuple[list[tuple[int, list[Array]]], Letterbox | None]


class ExportedDetector:
    """A `Detector` on any `Network`. Boxes are cut at the edges of the frame; those that are then empty, or not finite, are dropped.

    score, nms_iou: in place of the metadata's. device: where it really runs, cpu or cuda. input_size: (width, height) of what the network
    sees. Raises ConfigError where file and metadata do not fit; a trial run on a blank frame shows.
    """

    def __init__(self, network: Network, metadata: ModelMetadata, *, score: float | None = None, nms_iou: float | None = None) -> None:
        self._network, self._metadata = network, metadata
        self._score = metadata.score if score is None else score
        self._nms_iou = metadata.nms_iou if nms_iou is None else nms_iou
        self.device, self.class_names, self.input_size = network.device, metadata.classes, metadata.input.size
        self._port = _fitting_input(network, metadata)
        known = [port.name for port in network.outputs]
        for name in metadata.head.outputs:
            if name not in known:
                raise unknown_name("output", name, known, where=f"head.outputs in the metadata of {network.path}")
        self._output_names = list(metadata.head.outputs) or known
        try:
            self._table = pixel_table(metadata.input, self._port)
        except ValueError as error:
            raise misfit(network, error) from None
        self._try()

    def __call__(self, frames: NDArray[np.uint8]) -> list[Detections]:
        """See `Detector`. A file of fixed batch size is run in pieces of that size, any other once for all frames."""
        return self.end(self.begin(frames))

    def begin(self, frames: NDArray[np.uint8]) -> Begun:
        """See `StagedDetector`: of each piece how many frames it has and its outputs, and how to come back; None for no frame.

        Raises ValueError unless frames are RGB uint8 (B, H, W, 3).
        """
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            raise ValueError(f"frames must be uint8 (B, H, W, 3): {frames.dtype} {frames.shape}")
        if not len(frames):
            return [], None
        box = Letterbox.fit((frames.shape[2], frames.shape[1]), self.input_size, self._metadata.input.resize)
        piece = self._port.shape[0] or len(frames)
        pieces = [frames[start : start + piece] for start in range(0, len(frames), piece)]
        return [(len(part), self._run(part, box)) for part in pieces], box

    def end(self, begun: Begun) -> list[Detections]:
        """See `StagedDetector`."""
        ran, box = begun
        if box is None:
            return []
        return [self._found(self._decode(outputs, index, self._score), box) for count, outputs in ran for index in range(count)]

    def _run(self, frames: NDArray[np.uint8], box: Letterbox) -> list[Array]:
        """The outputs, whose first axis counts the batch; rows after those of the frames only fill it."""
        batch = fill_input(frames, self._metadata.input, box, self._table, self._port.dtype)
        lacking = (self._port.shape[0] or len(batch)) - len(batch)
        if lacking:
            batch = np.concatenate([batch, np.repeat(batch[-1:], lacking, 0)])
        outputs = self._network.run(batch, self._output_names)
        for name, output in zip(self._output_names, outputs, strict=True):
            if not output.ndim or len(output) != len(batch):
                raise misfit(self._network, f"output '{name}' of shape {output.shape} does not begin with the batch of {len(batch)}")
        return outputs

    def _decode(self, outputs: Sequence[Array], index: int, least: float) -> Candidates:
        try:
            return HEADS[self._metadata.head.style]([output[index] for output in outputs], self._metadata, least)
        except ValueError as error:
            raise misfit(self._network, error) from None

    def _found(self, found: Candidates, box: Letterbox) -> Detections:
        (finite,) = np.nonzero(np.isfinite(found.boxes).all(1))
        boxes, scores, labels = found.boxes[finite], found.scores[finite], found.labels[finite]
        order = np.argsort(-scores, kind="stable") if self._nms_iou is None else nms(boxes, scores, labels, self._nms_iou)
        inside = box.to_frame(boxes[order]).clip(0, [box.source_width, box.source_height] * 2)
        seen = box_area(inside) > 0
        return Detections(boxes=inside[seen], scores=scores[order][seen].clip(0, 1), labels=labels[order][seen])

    def _try(self) -> None:
        width, height = self._metadata.input.size
        blank = np.full((1, height, width, 3), self._metadata.input.fill, np.uint8)
        outputs = self._run(blank, Letterbox.fit((width, height), (width, height), "stretch"))
        if any(np.isnan(output).any() for output in outputs):
            raise CheckpointError(f"model gives values that are not numbers: {self._network.path}", hint="export it again, in float32")
        highest = self._decode(outputs, 0, LOWEST_SCORE).scores.max(initial=0)
        if highest > HIGHEST_SCORE:
            raise misfit(
                self._network, f"a blank frame scores {highest:.3g}, scores end at 1; is head.style '{self._metadata.head.style}' right?"
            )


def _fitting_input(network: Network, metadata: ModelMetadata) -> Port:
    """The one input, if it has the metadata's name and takes its shape."""
    names = [port.name for port in network.inputs]
    if len(names) != 1:
        raise misfit(network, f"it has {len(names)} inputs ({', '.join(names)}); one, of pixels, is understood")
    port, form = network.inputs[0], metadata.input
    if form.name not in (None, port.name):
        raise unknown_name("input", str(form.name), names, where=f"input.name in the metadata of {network.path}")
    width, height = form.size
    wanted = (3, height, width) if form.layout == "NCHW" else (height, width, 3)
    if not port.fits(*wanted):
        shown, made = (f"({', '.join('?' if side is None else str(side) for side in shape)})" for shape in (port.shape, (None, *wanted)))
        raise misfit(network, f"input '{port.name}' is {shown}, the metadata make it {made} ({form.layout})")
    return port


def pixel_table(form: InputFormat, port: Port) -> PixelTable:
    """What each pixel value becomes in each channel of the input: (256, 3), float32 for a floating input, otherwise int32.

    Channels are in the order of `form.colour`. Raises ValueError if the input holds whole numbers and has no quantisation while mean, std
    or pixel_max ask for others.
    """
    values = np.arange(256)[:, None] * (form.pixel_max / 255)
    values = (values - np.asarray(form.mean)) / np.asarray(form.std)
    if np.issubdtype(port.dtype, np.floating):
        return np.asarray(values, np.float32)
    if not np.issubdtype(port.dtype, np.integer):
        raise ValueError(f"input '{port.name}' does not hold numbers that are known here")
    limits = np.iinfo(port.dtype)
    if port.quantisation:
        scale, zero = port.quantisation
        return np.asarray((values / scale + zero).round().clip(limits.min, limits.max), np.int32)
    if (values != values.round()).any() or values.min() < limits.min or values.max() > limits.max:
        raise ValueError(f"input '{port.name}' holds plain {port.dtype}: pixel_max, mean and std must leave pixels in its range")
    return np.asarray(values, np.int32)


def fill_input(
    frames: NDArray[np.uint8],
    form: InputFormat,
    box: Letterbox,
    table: PixelTable,
    dtype: np.dtype[np.generic],
) -> NDArray[np.generic]:
    """RGB frames (B, H, W, 3) as an input in the layout, colour order and type of the network; table: of `pixel_table`."""
    width, height = form.size
    flip = -1 if form.colour == "bgr" else 1
    batch = np.empty((len(frames), 3, height, width) if form.layout == "NCHW" else (len(frames), height, width, 3), dtype)
    look_up = np.ascontiguousarray(table[None, :, ::flip])
    for place, frame in zip(batch, frames, strict=True):
        values = cv2.LUT(box.apply(frame, form.fill), look_up)[..., ::flip]
        place[...] = values.transpose(2, 0, 1) if form.layout == "NCHW" else values
    return batch
