"""How good detections are: against annotated frames, and against what a heavier detector finds in the same frames."""

from vidkd.detection.metrics.average_precision import METRICS, AveragePrecision, average_precision, drawn_precision
from vidkd.detection.metrics.matching import FrameCounts, FrameRecall, Matching, disagreement, f1_against, match, recall_of

__all__ = [
    "METRICS",
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
