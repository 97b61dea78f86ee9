"""Weights from the trainer to the stream: always a whole version, never a mixture."""

from typing import NamedTuple

from vidkd.detection.online.lesson import synchronise
from vidkd.detection.online.student import Student


class Version(NamedTuple):
    """A student whose weights nobody changes any more, and how many were published before it."""

    number: int
    student: Student


class Published:
    """The newest version of a student.

    One thread publishes, any number read. A version is prepared aside, whole, and then becomes the newest by one assignment of a
    reference, so a reader has the one before or the new one. Readers keep what they took as long as they like.
    """

    def __init__(self, student: Student) -> None:
        self._newest = Version(0, _fixed(student))

    def newest(self) -> Version:
        """The version to use for the next frame."""
        return self._newest

    def publish(self, student: Student) -> Version:
        """Make a copy of the student's present weights the newest version."""
        copied = _fixed(student)
        # the copy was queued on the trainer's stream; a reader on another stream must not see weights that are still to be written
        synchronise(student.detector.device)
        self._newest = Version(self._newest.number + 1, copied)
        return self._newest


def _fixed(student: Student) -> Student:
    """A copy that nobody will change; its runtime has taken the weights, so that no reader waits for that."""
    copied = student.copy()
    copied.detector.follow_weights()
    return copied
