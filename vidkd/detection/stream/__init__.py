"""Detection along a stream, offline: frames in order, boxes and drawn pictures out, in parts that a kill cannot tear. Never imports torch.

`walk_stream` is the whole of it. What looks at the frames is handed in: a `Stepper`, of which a detector is the case that nothing changes.
"""

from vidkd.detection.stream.folder import FORMATS
from vidkd.detection.stream.run import StreamConfig, walk_stream
from vidkd.detection.stream.stepper import DetectorStepper, Filtered, Region, Step, Stepper, labels_of
from vidkd.detection.stream.tracking import ByteTracker, Tracked

__all__ = [
    "FORMATS",
    "ByteTracker",
    "DetectorStepper",
    "Filtered",
    "Region",
    "Step",
    "Stepper",
    "StreamConfig",
    "Tracked",
    "labels_of",
    "walk_stream",
]
