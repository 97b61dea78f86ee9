import dataclasses
import logging

import numpy as np
import pytest
import torch
from online_samples import NAMES, Painter, stream, student

from vidkd.base.errors import DataError
from vidkd.detection.metrics.matching import SCORE, expected_disagreement
from vidkd.detection.online import BoxOracle, SynchronousLearner, Update, cached_record, record_stream
from vidkd.detection.online.learner import agreement_of
from vidkd.detection.online.records import SelectorRecord, read_record, write_record
from vidkd.detection.policies import CallBudget, FixedInterval
from vidkd.detection.policies.lstm import hash_of_weights
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
    assert len(running.trainer.buffer) == 3


def test_the_inputs_of_a_record_are_those_of_the_selector():
    record = made()
    inputs = record.inputs
    np.testing.assert_array_equal(inputs[:, :2], record.features)
    np.testing.assert_allclose(inputs[:, 2], np.log1p(record.frames_since), rtol=1e-6)
    np.testing.assert_array_equal(inputs[:, 3:6], np.stack([record.last_loss, record.motion, record.doubt], 1))
    np.testing.assert_allclose(inputs[:, 6], np.log1p(record.boxes), rtol=1e-6)


def test_a_student_that_does_not_learn_stays_as_it_is():
    running = learner(steps=0)
    before = hash_of_weights(running.student.net)
    record = record_stream(running, stream(5))
    assert hash_of_weights(running.student.net) == before
    assert record.last_loss[1] > 0


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


def test_no_frame_no_record():
    with pytest.raises(DataError, match="without frames"):
        record_stream(learner(), [])


def test_the_hash_is_of_the_weights_and_nothing_else():
    light = student()
    assert hash_of_weights(light.net) == hash_of_weights(light.copy().net) == hash_of_weights(student().net)
    assert hash_of_weights(light.net) != hash_of_weights(student(seed=1).net)
    with torch.no_grad():
        light.net.layers[0].norm.running_mean[0] += 1e-6
    assert hash_of_weights(light.net) != hash_of_weights(student().net)


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
    write_record(path, made(3), {"student": "another"})
    assert len(cached_record(tmp_path, {"student": "a"}, lambda: made(6))) == 6
    assert read_record(path)[1] == {"student": "a"}


def test_files_that_are_no_records(tmp_path):
    with pytest.raises(DataError, match="not a selector's record"):
        read_record(tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", features=np.zeros((2, 2)))
    with pytest.raises(DataError, match="not a selector's record"):
        read_record(tmp_path / "other.npz")


def test_parts_of_unlike_lengths():
    with pytest.raises(ValueError, match="one a frame"):
        dataclasses.replace(made(4), motion=np.zeros(3, np.float32))
