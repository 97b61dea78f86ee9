"""A stream of drawn shapes, an oracle that reads them off the picture, and a student of a few thousand weights."""

import numpy as np
import torch
from darknet_cfgs import stacked_cfg

from vidkd.detection.online import BoxOracle, Student
from vidkd.detection.online.learner import key_frame_of
from vidkd.models.darknet import Darknet, parse_cfg
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.detections import Detections

NAMES = ("square", "bar")
SIDE = 64

CFG = stacked_cfg([(8, 2), (16, 2), (24, 2), (24, 1)], classes=2, anchors=[(14, 14), (28, 10)])


def detector(seed: int = 0, **settings) -> DarknetDetector:
    torch.manual_seed(seed)
    return DarknetDetector(Darknet(parse_cfg(CFG)), NAMES, **settings)


def student(seed: int = 0, **settings) -> Student:
    return Student(detector(seed, **settings))


def frame_with(square=None, bar=None, seed: int = 0) -> np.ndarray:
    """A frame (64, 64, 3) with a red square of 14x14 and a green bar of 28x10 at these (x, y) over dim noise."""
    frame = np.random.default_rng(seed).integers(40, 90, (SIDE, SIDE, 3), np.uint8)
    for place, (width, height), colour in ((square, (14, 14), (250, 20, 20)), (bar, (28, 10), (20, 250, 20))):
        if place is not None:
            frame[place[1] : place[1] + height, place[0] : place[0] + width] = colour
    return frame


def stream(frames: int, seed: int = 0, *, square=True, bar=True) -> list[np.ndarray]:
    """Both shapes wander by up to 2 pixels a frame."""
    rng = np.random.default_rng(seed)
    places = {"square": rng.integers(0, SIDE - 14, 2), "bar": rng.integers(0, SIDE - 28, 2)}
    most = {"square": (SIDE - 14, SIDE - 14), "bar": (SIDE - 28, SIDE - 10)}
    shown = {"square": square, "bar": bar}
    result = []
    for t in range(frames):
        for name in places:
            places[name] = np.clip(places[name] + rng.integers(-2, 3, 2), 0, most[name])
        result.append(frame_with(**{name: tuple(place) for name, place in places.items() if shown[name]}, seed=t))
    return result


class Painter:
    """A detector that tells the truth, since it knows the colours. Classes in another order, and one more than the student's."""

    class_names = ("cloud", "bar", "square")

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frames: np.ndarray) -> list[Detections]:
        self.calls += len(frames)
        return [self.look(frame) for frame in frames]

    @staticmethod
    def look(frame: np.ndarray) -> Detections:
        boxes, labels = [], []
        for channel, label in ((0, 2), (1, 1)):
            rows, columns = np.nonzero(frame[:, :, channel] > 200)
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                labels.append(label)
        return Detections(boxes=np.array(boxes).reshape(-1, 4), scores=np.full(len(boxes), 0.9), labels=labels)


class Narrow:
    """A painter that has heard of squares alone."""

    class_names = ("square",)

    def __call__(self, frames: np.ndarray) -> list[Detections]:
        squares = [found.select(found.labels == Painter.class_names.index("square")) for found in map(Painter.look, frames)]
        return [Detections(boxes=found.boxes, scores=found.scores, labels=np.zeros(len(found))) for found in squares]


def oracle() -> BoxOracle:
    return BoxOracle(Painter(), NAMES)


def keys(light, count=3, asked=None, seed=0):
    """Key frames of a stream, with what the oracle says of them."""
    asked = asked or oracle()
    return [key_frame_of(light.detect(frame, frame_index=t), asked(frame)) for t, frame in enumerate(stream(count, seed))]


def weights(light):
    """A copy of all weights and buffers."""
    return {name: value.clone() for name, value in light.net.state_dict().items()}


def changed(before, after):
    """Names of those that are other."""
    return {name for name in before if not torch.equal(before[name], after[name])}
