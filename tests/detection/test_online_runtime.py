"""A student in ONNX Runtime along a stream: its weights are those that learn, in step and beside."""

import threading
import time

import numpy as np
import pytest
import torch
from online_samples import frame_with, oracle, stream, student

from vidkd.detection.online import AsynchronousLearner, Student, SynchronousLearner, Update
from vidkd.detection.online.asynchronous import Published
from vidkd.detection.online.student import StudentOutput
from vidkd.detection.policies import CallBudget, FixedInterval
from vidkd.models.darknet.onnx import OnnxForward

UPDATE = Update(trains="all", lr=3e-3, steps=2)


def eager_look(light: Student, frame: np.ndarray) -> StudentOutput:
    """What the same weights see in torch."""
    copied = light.copy().detector
    return Student(type(copied)(copied.net, copied.class_names, score_threshold=copied.score_threshold)).detect(frame)


def assert_same(found: StudentOutput, expected: StudentOutput) -> None:
    for one, other in zip(found.heads, expected.heads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    np.testing.assert_allclose(found.features, expected.features, atol=1e-4)
    np.testing.assert_array_equal(found.detections.labels, expected.detections.labels)
    np.testing.assert_allclose(found.detections.scores, expected.detections.scores, atol=1e-4)


@pytest.mark.parametrize("trains", ["heads", "added", "blocks", "all"])
def test_after_every_update_the_student_sees_what_torch_sees(trains: str) -> None:
    update = Update(trains=trains, lr=3e-3, steps=2, replay=1, most_worse=None)
    light = student(runtime="onnx", score_threshold=0.3).for_update(update)
    learner = SynchronousLearner(light, oracle(), FixedInterval(), CallBudget(1, 2), update=update)
    heads, kept = [], 0
    for frame in stream(16):
        expected = eager_look(light, frame)
        step = learner.step(frame)
        assert_same(step.output, expected)
        heads.append(step.output.heads[0])
        kept += step.record.update is not None and step.record.update.outcome == "kept"
    assert kept >= 4
    assert (heads[-1] - heads[0]).abs().max() > 0.1


def test_an_update_that_is_rolled_back_leaves_the_student_as_it_was() -> None:
    light = student(runtime="onnx")
    update = Update(trains="all", lr=0.5, steps=2, replay=1, most_worse=0.0, keep_best=False, interpolate=())
    learner = SynchronousLearner(light, oracle(), FixedInterval(), CallBudget(1, 1), update=update)
    frame = frame_with(square=(5, 5))
    outcomes = []
    for _ in range(4):
        before = light.detect(frame)
        outcomes.append(learner.step(frame).record.update.outcome)
        if outcomes[-1] == "rolled_back":
            torch.testing.assert_close(light.detect(frame).heads[0], before.heads[0], atol=0, rtol=0)
    assert "rolled_back" in outcomes


def test_the_weights_are_taken_within_the_update_and_not_by_the_next_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    light = student(runtime="onnx")
    learner = SynchronousLearner(light, oracle(), FixedInterval(), CallBudget(1, 1), update=UPDATE)
    learner.step(frame_with(square=(5, 5)))
    taken = []
    monkeypatch.setattr("vidkd.models.darknet.onnx.graph_weights", lambda net: taken.append(net))
    light.detect(frame_with())
    assert not taken


def test_a_stream_that_goes_on_has_the_weights_that_it_was_left_with() -> None:
    frames = stream(8)

    def learner() -> SynchronousLearner:
        return SynchronousLearner(student(runtime="onnx"), oracle(), FixedInterval(), CallBudget(1, 2), update=UPDATE)

    whole = learner()
    expected = [whole.step(frame).output.heads[0] for frame in frames]
    first = learner()
    for frame in frames[:5]:
        first.step(frame)
    second = learner()
    second.step(frames[0])  # a session of other weights stands already
    second.restore(first.state())
    for frame, heads in zip(frames[5:], expected[5:], strict=True):
        assert torch.equal(second.step(frame).output.heads[0], heads)


def until(holds) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.002)


def test_beside_the_stream_answers_in_time_teach_what_they_teach_in_step() -> None:
    frames = stream(5)
    in_step = SynchronousLearner(student(runtime="onnx"), oracle(), FixedInterval(), CallBudget(1, 1), update=UPDATE)
    with AsynchronousLearner(student(runtime="onnx"), oracle(), FixedInterval(), CallBudget(1, 1), update=UPDATE) as running:
        for frame in frames:
            number = running.published.newest().number
            expected, step = in_step.step(frame), running.step(frame)
            until(lambda number=number: running.published.newest().number > number)
            until(lambda: not running._busy.is_set())
            torch.testing.assert_close(step.output.heads[0], expected.output.heads[0], atol=0, rtol=0)


def test_a_reader_never_waits_for_weights_to_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is published has its session; only the thread that publishes makes any."""
    makers = []
    true = OnnxForward.follow

    def follow(self: OnnxForward) -> None:
        before = self._taken
        true(self)
        if self._taken != before:
            makers.append(threading.current_thread())

    monkeypatch.setattr(OnnxForward, "follow", follow)
    slot = Published(student(runtime="onnx"))
    del makers[:]
    writer_student = student(seed=1, runtime="onnx")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with torch.no_grad():
                for value in writer_student.net.parameters():
                    value.mul_(1.001)
            slot.publish(writer_student)

    thread = threading.Thread(target=write)
    thread.start()
    frame, numbers = frame_with(square=(5, 5)), set()
    try:
        while slot.newest().number < 60:
            version = slot.newest()
            assert_same(version.student.detect(frame), eager_look(version.student, frame))
            numbers.add(version.number)
    finally:
        stop.set()
        thread.join(20)
    assert len(numbers) > 5
    assert set(makers) == {thread}
