import threading
import time

import pytest
from online_samples import NAMES, Painter, frame_with, oracle, stream, student

from vidkd.detection.online import Answer, BoxOracle, SynchronousLearner, TimedOracle, Update
from vidkd.detection.policies import CallBudget, FixedInterval

SOON = 20.0


class Gate:
    """An oracle that answers when it is let."""

    gives_heads = True

    def __init__(self):
        self.open, self.calls, self.threads = threading.Event(), 0, set()

    def __call__(self, frame):
        self.calls += 1
        self.threads.add(threading.current_thread())
        assert self.open.wait(SOON)
        return Answer(detections=Painter.look(frame).select([]))


def test_answers_in_time_are_those_of_the_oracle_and_the_stream_is_the_same():
    frames = stream(6)
    steps = []
    for asked in (oracle(), TimedOracle(oracle(), SOON)):
        update = Update(trains="all", lr=1e-3, steps=1)
        running = SynchronousLearner(student(), asked, FixedInterval(), CallBudget(1, 2), update=update)
        steps.append([running.step(frame) for frame in frames])
    for plain, timed in zip(*steps, strict=True):
        assert (plain.output.heads[0] == timed.output.heads[0]).all()
        assert (plain.record.update, plain.record.disagreement) == (timed.record.update, timed.record.disagreement)
    assert sum(step.record.answered is not None for step in steps[1]) == 3


def test_an_answer_that_is_late_is_dropped_and_the_oracle_asked_again_only_when_it_has_come():
    gate = Gate()
    timed = TimedOracle(gate, 0.5)
    assert timed.gives_heads
    with pytest.raises(TimeoutError, match=r"no answer within 0\.5 s"):
        timed(frame_with(square=(3, 3)))
    start = time.monotonic()
    for _ in range(3):
        with pytest.raises(TimeoutError, match="not come back from an earlier call"):
            timed(frame_with())
    assert time.monotonic() - start < 0.5 * 3
    assert gate.calls == 1
    gate.open.set()
    end = time.monotonic() + SOON
    while not timed._last.done():
        assert time.monotonic() < end
        time.sleep(0.002)
    timed.timeout_s = SOON
    assert len(timed(frame_with()).detections) == 0
    assert gate.calls == 2
    assert threading.current_thread() not in gate.threads


def test_what_the_oracle_raises_is_raised_and_it_is_asked_again():
    class Moody(Painter):
        def __call__(self, frames):
            self.calls += 1
            if self.calls == 1:
                raise ValueError("out of sorts")
            return super().__call__(frames)

    timed = TimedOracle(BoxOracle(Moody(), NAMES), SOON)
    with pytest.raises(ValueError, match="out of sorts"):
        timed(frame_with())
    assert len(timed(frame_with(square=(3, 3))).detections) == 1
