import dataclasses
import logging

import numpy as np
import pytest
from online_samples import NAMES, Painter, stream, student

from vidkd.base.errors import DataError
from vidkd.detection.metrics import SCORE, expected_disagreement
from vidkd.detection.online import BoxOracle, SynchronousLearner, Update
from vidkd.detection.online.learner import agreement_of
from vidkd.detection.policies import CallBudget, FixedInterval
from vidkd.detection.policies.train import SelectorRecord, cached_record, read_record, record_stream
from vidkd.models.selector import SIGNALS


def learner(**update):
    return SynchronousLearner(student(), BoxOracle(Painter(), NAMES), FixedInterval(), CallBudget(1, 3), update=Update(**update))


def made(frames=4, features=2):
    rng = np.random.default_rng(frames)
    signals = {name: rng.random(frames, np.float32) for name in (*SIGNALS, "disagreement", "errors")}
    return SelectorRecord(features=rng.random((frames, features), np.float32), called=np.zeros(frames, bool), **signals)


def test_a_record_is_the_stream_as_the_student_lived_it():
    frames, settings = stream(7), {"trains": "all", "lr": 1e-2, "steps": 4}
    running, again = learner(**settings), learner(**settings)
    record = record_stream(running, frames)
    steps = [again.step(frame) for frame in frames]
    assert len(record) == 7
    assert record.called.tolist() == [True, False, False, True, False, False, True]
    assert record.frames_since.tolist() == [0, 1, 2, 3, 1, 2, 3]
    assert record.errors.max() > 0
    for place, (step, frame) in enumerate(zip(steps, frames, strict=True)):
        np.testing.assert_array_equal(record.features[place], step.output.features)
        assert record.last_loss[place] == pytest.approx(step.observation.last_loss)
        assert record.motion[place] == pytest.approx(step.observation.motion)
        assert record.doubt[place] == pytest.approx(expected_disagreement(step.output.scores))
        assert record.boxes[place] == len(step.output.scores)
        answer = again.oracle(frame)
        assert record.disagreement[place] == pytest.approx(1 - agreement_of(step.output, answer).f1)
        own, other = (int((found.scores >= SCORE).sum()) for found in (step.output.detections, answer.detections))
        agreed = (1 - record.disagreement[place]) * (own + other) / 2
        assert record.errors[place] == pytest.approx(own + other - 2 * agreed, abs=1e-4)
    assert record.last_loss[1] > 0
    assert running.oracle.detector.calls == 7
    assert len(running.trainer.buffer.frames) == 3


def test_an_oracle_that_throws_leaves_no_record():
    class Tired(Painter):
        def __call__(self, frames):
            if self.calls == 3:
                raise RuntimeError("enough")
            return super().__call__(frames)

    running = SynchronousLearner(student(), BoxOracle(Tired(), NAMES), FixedInterval(), CallBudget(1, 2))
    with pytest.raises(DataError, match="the oracle failed at frame 3 of the stream") as caught:
        record_stream(running, stream(6))
    assert caught.value.lines["reason"] == "RuntimeError: enough"


def test_a_record_is_made_once_for_what_it_depends_on(tmp_path):
    calls = []

    def make(frames):
        calls.append(frames)
        return made(frames)

    first = cached_record(tmp_path, {"student": "a", "video": "v"}, lambda: make(4))
    again = cached_record(tmp_path, {"video": "v", "student": "a"}, lambda: make(5))
    other = cached_record(tmp_path, {"student": "b", "video": "v"}, lambda: make(6))
    assert calls == [4, 6]
    assert (len(again), len(other)) == (4, 6)
    for field in dataclasses.fields(SelectorRecord):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(first, field.name))
        assert getattr(again, field.name).dtype == getattr(first, field.name).dtype


def test_a_record_that_is_damaged_or_of_something_else_is_made_anew(tmp_path, caplog):
    cached_record(tmp_path, {"student": "a"}, lambda: made(4))
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:200])
    with caplog.at_level(logging.WARNING):
        assert len(cached_record(tmp_path, {"student": "a"}, lambda: made(5))) == 5
    assert "made again: not a selector's record" in caplog.text
    assert read_record(path)[1] == {"student": "a"}
