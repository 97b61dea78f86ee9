"""Whether an exported detector says what the network said: on frames, raw head by raw head and box by box."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidkd.base.errors import ConfigError
from vidkd.compress.export_parity import MORE, recorded
from vidkd.compress.finite import check_outputs
from vidkd.compress.integer_warnings import mostly_apart
from vidkd.compress.quantise import signal_to_noise_db
from vidkd.data.synthetic.street import VideoPlace, draw_street, render_street
from vidkd.data.synthetic.street_scene import StreetShapesConfig
from vidkd.detection.metrics import f1_against
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.detections import Detections
from vidkd.runtime.detector import Detector
from vidkd.runtime.metadata import ModelMetadata
from vidkd.runtime.opening import open_detector, open_network

PARITY_FRAMES = 8
"""How many frames a file is compared on where nobody names others."""
IOU = 0.9
"""From which overlap on a box of the file is that of the network."""
FAINT_BOXES = 5, 40
"""How few and how many boxes are compared that the network would not show."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """RGB uint8 (H, W, 3) each, to compare on. source: where they are from, in words."""

    values: Sequence[NDArray[np.uint8]]
    source: str


@dataclass(frozen=True, kw_only=True)
class DetectorParity:
    """What file and network said of the same frames.

    heads: largest difference of a raw head; scale: its largest value. boxes: how many of the network were compared; f1: of those of the
    file against them, of the same class and at an IoU of at least IOU; 1 where both found none. signal_db: signal to noise of all raw
    heads. shown: the score from which the detector shows boxes; score: from which they were compared, lower where it shows none. source:
    where the frames are from, in words.
    """

    heads: float
    scale: float
    boxes: int
    f1: float
    frames: int
    signal_db: float
    source: str
    shown: float
    score: float

    def __str__(self) -> str:
        heads = f"largest difference to the network: {self.heads:.2g} of raw heads up to {self.scale:.3g}"
        if not self.boxes:
            return f"{heads}; no box was compared, for the network finds none at any score ({self.source})"
        boxes = f"F1 {self.f1:.3f} (IoU {IOU:g}) against its {self.boxes} box{'es' * (self.boxes != 1)}"
        if self.score < self.shown:
            boxes += f" of a score of at least {self.score:.2g}, for it finds none from its own {self.shown:g} on"
        return f"{heads}; {boxes} ({self.source})"

    @property
    def apart(self) -> str:
        """See `Nearness`; boxes that the detector would not show anyway are not asked."""
        shown = self.boxes > 0 and self.score >= self.shown
        return mostly_apart(f"F1 of its boxes against those of the network {self.f1:.3f}", self.f1 if shown else None, self.signal_db)

    def record(self) -> dict[str, Any]:
        """See `Nearness`."""
        return recorded(self)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How large a difference may be, and what a refusal says.

    tolerance: of raw heads, times the largest where that is above 1; boxes are told, whatever they are. what: the name of what was written.
    more: how a larger tolerance is asked for. named: where the network was read from.
    """

    tolerance: float
    what: str
    more: str = MORE
    named: Path | str | None = None


def drawn_frames(count: int = PARITY_FRAMES) -> Frames:
    """Pictures with shapes, each of another scene of the embedded street shapes: for who has no footage of the detector."""
    config = StreetShapesConfig()
    street = draw_street(config, VideoPlace(role="val_wide", number=1))
    shown = itertools.islice(render_street(config, street), 0, count * config.scene_frames, config.scene_frames)
    return Frames(values=list(shown), source=f"{count} drawn pictures")


def compare(detector: DarknetDetector, path: Path, metadata: ModelMetadata, frames: Frames, limit: Limit) -> DetectorParity:
    """Run network and file on every frame; metadata: of the file. The rest, and errors, as of `compare_heads`."""
    network = open_network(path, device="cpu")

    def heads(images: Tensor) -> list[NDArray[np.floating]]:
        return network.run(images.cpu().contiguous().numpy(), metadata.head.outputs)

    return compare_heads(detector, heads, lambda score: open_detector(path, device="cpu", score=score), frames, limit)


def compare_darknet(detector: DarknetDetector, files: Sequence[Path], frames: Frames, limit: Limit) -> DetectorParity:
    """Run a network and what was written of it as a darknet cfg, weights and names, read again. The rest as of `compare_heads`."""

    def opened(score: float) -> DarknetDetector:
        cfg, weights, names = files
        return DarknetDetector.open(
            cfg, weights, names, device="cpu", score_threshold=score, nms_iou=detector.nms_iou, resize=detector.resize
        )

    net = opened(detector.score_threshold).net

    def heads(images: Tensor) -> list[NDArray[np.floating]]:
        return [head.cpu().numpy() for head in net(images.cpu())]

    return compare_heads(detector, heads, opened, frames, limit)


def compare_heads(
    detector: DarknetDetector,
    heads_of: Callable[[Tensor], Sequence[NDArray[np.floating]]],
    opened: Callable[[float], Detector],
    frames: Frames,
    limit: Limit,
) -> DetectorParity:
    """Run a network and what was written of it on every frame.

    heads_of: raw heads of what was written, of images as the network takes them. opened: it as a detector, with this least score. Boxes are
    those that the detector shows; where it shows none in any frame, its best ones at a lower score. Raises ConfigError beyond the limit and
    for a network whose heads are no finite numbers.
    """
    every: list[Detections] = []
    wanted: list[NDArray[np.floating]] = []
    got: list[NDArray[np.floating]] = []
    for frame in frames.values:
        images, letterbox = detector.prepare(frame[None])
        with torch.inference_mode():
            heads = detector.net(images)
            said = [head.cpu().numpy() for head in heads]
            check_outputs(said, frames.source, limit.named)
            got += heads_of(images)
        wanted += said
        every += detector.finish(heads, letterbox, 0.0)
    difference = max(float(np.abs(one - two).max()) for one, two in zip(got, wanted, strict=True))
    scale = max(float(np.abs(each).max()) for each in wanted)
    score = compared_from(np.concatenate([found.scores for found in every]), detector.score_threshold)
    here = [found.select(found.scores >= score) for found in every]
    exported = opened(score)
    there = [found for frame in frames.values for found in exported(frame[None])]
    parity = DetectorParity(
        heads=difference,
        scale=scale,
        boxes=sum(map(len, here)),
        f1=f1_against(there, here, iou=IOU, score=0.0, oracle_score=0.0).f1,
        frames=len(frames.values),
        signal_db=signal_to_noise_db(wanted, got),
        source=frames.source,
        shown=detector.score_threshold,
        score=score,
    )
    if not difference <= limit.tolerance * max(1.0, scale):
        raise ConfigError(
            f"the exported file does not say what the network says: {limit.what}",
            found=str(parity),
            allowed=f"{limit.tolerance:g} of values up to 1, in proportion above",
            hint=f"{limit.more}, if so much does not matter",
        )
    return parity


def compared_from(scores: NDArray[np.float32], shown: float) -> float:
    """The score from which boxes are compared: `shown` if any box reaches it.

    Else one that leaves between the bounds of FAINT_BOXES, in the widest gap (as a ratio) between the scores of two boxes, so that rounding
    moves none of them across it. All of them where there are not so many.
    """
    fewest, most = FAINT_BOXES
    falling = np.sort(scores[scores > 0].astype(np.float64))[::-1]
    if not len(falling) or falling[0] >= shown:
        return shown
    if len(falling) <= fewest:
        return float(falling[-1] / 2)
    counts = np.arange(fewest, min(most, len(falling) - 1) + 1)
    count = int(counts[np.argmax(falling[counts - 1] / falling[counts])])
    return math.sqrt(falling[count - 1] * falling[count])
