"""Online distillation: a light student along a stream that learns from a heavy oracle on few key frames. Importing it imports torch."""

from vidkd.detection.online.asynchronous import AsynchronousLearner
from vidkd.detection.online.oracle import Answer, BoxOracle, HeadOracle, OneAtATime, Oracle
from vidkd.detection.online.records import cached_record, record_stream
from vidkd.detection.online.replay import KeyFrame, Replay, ReplayBuffer
from vidkd.detection.online.student import Student
from vidkd.detection.online.synchronous import SynchronousLearner
from vidkd.detection.online.timed_oracle import TimedOracle
from vidkd.detection.online.update import Trainer, Update, UpdateRecord
from vidkd.detection.online.views import FrameRecord, Look, Step

__all__ = [
    "Answer",
    "AsynchronousLearner",
    "BoxOracle",
    "FrameRecord",
    "HeadOracle",
    "KeyFrame",
    "Look",
    "OneAtATime",
    "Oracle",
    "Replay",
    "ReplayBuffer",
    "Step",
    "Student",
    "SynchronousLearner",
    "TimedOracle",
    "Trainer",
    "Update",
    "UpdateRecord",
    "cached_record",
    "record_stream",
]
