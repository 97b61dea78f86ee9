"""Online distillation: a light student along a stream that learns from a heavy oracle on few key frames. Importing it imports torch."""

from vidkd.detection.online.asynchronous import AsynchronousLearner
from vidkd.detection.online.key_frames import KeyFrame, Replay, ReplayBuffer
from vidkd.detection.online.learner import FrameRecord, LearnerStep, OnlineTrainer, SynchronousLearner, UpdateResult
from vidkd.detection.online.oracle import Answer, BoxOracle, HeadOracle, OneAtATime, Oracle, TimedOracle
from vidkd.detection.online.student import Student, StudentOutput
from vidkd.detection.online.update import Trainer, Update, UpdateRecord

__all__ = [
    "Answer",
    "AsynchronousLearner",
    "BoxOracle",
    "FrameRecord",
    "HeadOracle",
    "KeyFrame",
    "LearnerStep",
    "OneAtATime",
    "OnlineTrainer",
    "Oracle",
    "Replay",
    "ReplayBuffer",
    "Student",
    "StudentOutput",
    "SynchronousLearner",
    "TimedOracle",
    "Trainer",
    "Update",
    "UpdateRecord",
    "UpdateResult",
]
