"""How good detections are: against annotated frames, and against what a heavier detector finds in the same frames."""

from vidkd.detection.metrics.agreement import disagreement, f1_against
from vidkd.detection.metrics.average_precision import AveragePrecision, average_precision
from vidkd.detection.metrics.counts import FrameCounts
from vidkd.detection.metrics.drawn_precision import drawn_precision
from vidkd.detection.metrics.matching import Matching, match
from vidkd.detection.metrics.recall import FrameRecall, recall_of

__all__ = [
    "AveragePrecision",
    "FrameCounts",
    "FrameRecall",
    "Matching",
    "average_precision",
    "disagreement",
    "drawn_precision",
    "f1_against",
    "match",
    "recall_of",
]
