"""A student in ONNX Runtime along a stream: its weights are those that learn, synchronous and asynchronous."""

import itertools
import threading

import numpy as np
import pytest
import torch
from online_samples import frame_with, oracle, stream, student

from vidkd.detection.online import AsynchronousLearner, Student, SynchronousLearner, Update
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


def test_the_weights_are_taken_within_the_update_and_not_by_the_next_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    light = student(runtime="onnx")
    learner = SynchronousLearner(light, oracle(), FixedInterval(), CallBudget(1, 1), update=UPDATE)
    learner.step(frame_with(square=(5, 5)))
    taken = []
    monkeypatch.setattr("vidkd.models.darknet.onnx.graph_weights", lambda net: taken.append(net))
    light.detect(frame_with())
    assert not taken


def test_a_reader_never_waits_for_weights_to_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version comes with its session; only the thread that learns makes any."""
    makers = []
    true = OnnxForward.follow

    def follow(self: OnnxForward) -> None:
        before = self._taken
        true(self)
        if self._taken != before:
            makers.append(threading.current_thread())

    with AsynchronousLearner(student(runtime="onnx"), oracle(), FixedInterval(), CallBudget(1, 1), update=UPDATE) as running:
        monkeypatch.setattr(OnnxForward, "follow", follow)
        frames, version = itertools.cycle(stream(5)), 0
        while version < 5:
            frame = next(frames)
            version = running.step(frame).record.version
            assert_same(running.student.detect(frame), eager_look(running.student, frame))
    assert makers
    assert threading.current_thread() not in makers
