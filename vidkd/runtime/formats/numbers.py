"""Numbers of detections as text: short, exact, finite."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.runtime.detections import Detections


def require_finite(detections: Detections) -> None:
    """Raises DataError if a box, a score or the time is NaN or infinite: no format can hold it so that others read it."""
    time_s = 0.0 if detections.time_s is None else detections.time_s
    for what, values in (("boxes", detections.boxes), ("scores", detections.scores), ("time_s", np.asarray(time_s))):
        if not np.isfinite(values).all():
            raise DataError(
                f"{what} of frame {detections.frame_index} are not finite", to_mend="find out which model or file they come from"
            )


def decimals(values: NDArray[np.float32]) -> list[float]:
    """The shortest decimals that are these float32 again, as Python floats: 0.9, not 0.8999999761581421."""
    return [float(str(value)) for value in values.ravel()]


def corner_and_size(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """x1 y1 x2 y2 (N, 4) as x y width height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


def names_of(detections: Detections, class_names: Sequence[str]) -> list[str]:
    """The name of each label. Raises ValueError if a label has none."""
    labels = detections.labels.tolist()
    if labels and not 0 <= min(labels) <= max(labels) < len(class_names):
        raise ValueError(f"labels {min(labels)} to {max(labels)} do not fit {len(class_names)} class names")
    return [class_names[label] for label in labels]
