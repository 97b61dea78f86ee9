"""The heavy detector as a teacher: its boxes under the student's labels, and its raw heads where both share cells."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, VidkdError
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.models.darknet.net import Darknet
from vidkd.runtime.detections import UNKNOWN, ClassMapping, Detections, map_classes
from vidkd.runtime.detector import Detector

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Answer:
    """What the oracle says of one frame.

    detections: in pixels of the frame, labels of the student. heads: raw, (A * (5 + C), h, w) float32 each, on the student's cells; None of
    an oracle that has others. known: the student's labels that the oracle could have said, None for all of them; of boxes of other classes
    it says nothing.
    """

    detections: Detections
    heads: tuple[NDArray[np.float32], ...] | None = None
    known: frozenset[int] | None = None

    def judged(self, found: Detections) -> Detections:
        """Those of the student's boxes that can be judged: of classes that the oracle knows."""
        return of_labels(found, self.known)

    def unjudged(self, found: Detections) -> Detections:
        """The others."""
        return found.select(np.isin(found.labels, [] if self.known is None else sorted(self.known), invert=self.known is not None))


class Oracle(Protocol):
    """Whatever answers on a frame: RGB uint8 (H, W, 3) -> Answer."""

    @property
    def gives_heads(self) -> bool:
        """Whether its answers hold raw heads."""
        ...

    def __call__(self, frame: NDArray[np.uint8]) -> Answer:
        """As the class says."""
        ...


def may_fail(error: Exception) -> bool:
    """Whether a working oracle may raise this on a single call (time-out, network, memory, its runtime), so that the stream survives it.

    Anything else (TypeError, ValueError, ...) is a mistake in the code that would come back at every call: it must end the run.
    """
    # ONNX Runtime's exceptions share no base class but Exception
    return isinstance(error, VidkdError | OSError | RuntimeError | MemoryError) or type(error).__module__.startswith("onnxruntime")


def ask(oracle: Oracle, frame: NDArray[np.uint8]) -> tuple[Answer | None, str | None]:
    """The answer, or why there is none. Raises what the stream does not survive."""
    try:
        return oracle(frame), None
    except Exception as error:
        if not may_fail(error):
            raise
        return None, f"{type(error).__name__}: {error}"


class BoxOracle:
    """Any detector as an oracle. Its classes are the student's of the same name; those that only one side has are logged once.

    Boxes of every class that the student knows are handed on, and which these are (`Answer.known`). Raises ConfigError if no class is on
    both sides, or a list of names is ambiguous.
    """

    gives_heads = False

    def __init__(self, detector: Detector, student_names: Sequence[str]) -> None:
        self.detector = detector
        self.mapping = _mapped(detector.class_names, student_names)
        self.known = known_labels(self.mapping)

    def __call__(self, frame: NDArray[np.uint8]) -> Answer:
        """As `Oracle`."""
        (found,) = self.detector(frame[None])
        return Answer(detections=self.mapping.translate(found), known=self.known)


class HeadOracle:
    """A darknet detector whose heads have the cells, anchors and classes of the student's, so that raw outputs match cell by cell.

    The detector is in eval mode and never changed. Raises ConfigError for networks that do not pair, saying in what.
    """

    gives_heads = True

    def __init__(self, detector: DarknetDetector, student: DarknetDetector) -> None:
        self.detector = detector
        mapping = _mapped(detector.class_names, student.class_names)
        if mapping.labels.tolist() != list(range(student.net.classes)):
            raise ConfigError("oracle and student share no heads: their classes differ in order or number", hint=USE_BOXES)
        mine, theirs = _geometry(detector.net, detector.resize), _geometry(student.net, student.resize)
        for name, value in mine.items():
            if value != theirs[name]:
                raise ConfigError(f"oracle and student share no heads: {name} differ", oracle=value, student=theirs[name], hint=USE_BOXES)

    def __call__(self, frame: NDArray[np.uint8]) -> Answer:
        """As `Oracle`."""
        images, letterbox = self.detector.prepare(frame[None])
        with torch.inference_mode():
            raw = self.detector.net(images)
            (found,) = self.detector.finish(raw, letterbox)
        return Answer(detections=found, heads=tuple(head[0].float().cpu().numpy() for head in raw))


class OneAtATime:
    """Another oracle that several learners share: a call waits until all earlier ones have come back, those of closed learners too.

    Not all that runs detectors may be called from two threads at once.
    """

    def __init__(self, oracle: Oracle) -> None:
        self.oracle, self.gives_heads = oracle, oracle.gives_heads
        self._lock = threading.Lock()

    def __call__(self, frame: NDArray[np.uint8]) -> Answer:
        """As `Oracle`."""
        with self._lock:
            return self.oracle(frame)


USE_BOXES = "distil from its boxes: loss oracle_assigned"


def of_labels(found: Detections, labels: frozenset[int] | None) -> Detections:
    """The boxes of these labels; None for all."""
    return found if labels is None else found.select(np.isin(found.labels, sorted(labels)))


def known_labels(mapping: ClassMapping) -> frozenset[int] | None:
    """The student's labels that an oracle knows, by a mapping from the oracle's; None for all."""
    return frozenset(mapping.labels[mapping.labels != UNKNOWN].tolist()) if mapping.only_target else None


def _geometry(net: Darknet, resize: str) -> dict[str, object]:
    return {
        "input sizes": net.input_size,
        "ways of resizing": resize,
        "anchors": [head.anchors for head in net.heads],
        "strides": [head.stride for head in net.heads],
        "scale_x_y": [head.scale_x_y for head in net.heads],
    }


def _mapped(oracle: Sequence[str], student: Sequence[str]) -> ClassMapping:
    mapping = map_classes(oracle, student)
    for side, names in (("oracle", mapping.only_source), ("student", mapping.only_target)):
        if names:
            log.warning("classes that only the %s knows are left out: %s", side, ", ".join(names))
    return mapping


class TimedOracle:
    """Another oracle, asked in a thread of its own: an answer later than timeout_s is dropped when it comes, and TimeoutError is raised.

    Until it has come the oracle is not asked again, and every call raises at once; one that hangs for good is never asked again. What the
    oracle raises is raised. A stream in which nothing is late repeats as with the oracle itself.
    """

    def __init__(self, oracle: Oracle, timeout_s: float) -> None:
        self.oracle, self.gives_heads, self.timeout_s = oracle, oracle.gives_heads, timeout_s
        self._last: Future[Answer] = Future()
        self._last.cancel()

    def __call__(self, frame: NDArray[np.uint8]) -> Answer:
        """As `Oracle`."""
        if not self._last.done():
            raise TimeoutError("the oracle has not come back from an earlier call")
        call = self._last = Future()
        # a daemon: an oracle that hangs for good must not keep the process from ending
        threading.Thread(target=self._work, args=(call, frame.copy()), name="oracle", daemon=True).start()
        if not wait([call], self.timeout_s).done:
            raise TimeoutError(f"no answer within {self.timeout_s:g} s")
        return call.result()

    def _work(self, call: "Future[Answer]", frame: NDArray[np.uint8]) -> None:
        try:
            call.set_result(self.oracle(frame))
        except Exception as error:  # whatever library runs the oracle; raised to who asked
            call.set_exception(error)
