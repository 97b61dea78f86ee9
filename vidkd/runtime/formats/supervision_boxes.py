"""`supervision.Detections`, for its trackers, zones and annotators."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vidkd.base.extras import require
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats.numbers import names_of, require_finite


def to_supervision(detections: Detections, class_names: Sequence[str]) -> Any:
    """The boxes of a frame as `supervision.Detections`, class names in `data["class_name"]`; frame index and time have no place there.

    Raises DataError if a number is not finite, ValueError if a label has no name, MissingExtraError without supervision.
    """
    supervision = require("supervision", "detect")
    require_finite(detections)
    return supervision.Detections(
        xyxy=detections.boxes.copy(),
        confidence=detections.scores.copy(),
        class_id=detections.labels.copy(),
        tracker_id=None if detections.track_ids is None else detections.track_ids.copy(),
        data={"class_name": np.asarray(names_of(detections, class_names), dtype=np.str_)},
    )


def from_supervision(found: Any, *, frame_index: int = 0, time_s: float | None = None) -> Detections:
    """The inverse of `to_supervision`; frame_index and time_s are those of the frame.

    Raises ValueError if boxes come without scores or classes, DataError if a number is not finite.
    """
    if not len(found):
        return Detections.none(frame_index=frame_index, time_s=time_s)
    if found.confidence is None or found.class_id is None:
        raise ValueError("supervision's detections have no confidence or no class_id")
    detections = Detections(
        boxes=found.xyxy,
        scores=found.confidence,
        labels=found.class_id,
        frame_index=frame_index,
        time_s=time_s,
        track_ids=found.tracker_id,
    )
    require_finite(detections)
    return detections
