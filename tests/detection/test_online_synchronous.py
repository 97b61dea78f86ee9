"""Learning along a short stream gives the same numbers as ever for the same seeds, whatever runs the student."""

import dataclasses
import io
import itertools
import json
import threading

import numpy as np
import pytest
import torch
from online_samples import NAMES, Painter, detector, frame_with, oracle, stream, student

from vidkd.base.errors import ConfigError
from vidkd.detection.online import AsynchronousLearner, BoxOracle, HeadOracle, Replay, Student, SynchronousLearner, Update
from vidkd.detection.online.key_frames import LOSSES
from vidkd.detection.online.oracle import may_fail
from vidkd.detection.online.student import StudentOutput
from vidkd.detection.policies import CallBudget, FixedInterval, LstmSelector, Policy, open_policy
from vidkd.models.darknet.onnx import OnnxForward
from vidkd.models.selector import KeyFrameLSTM, SelectorConfig

QUICK = Update(trains="all", lr=1e-2, steps=12)


def learner(*, light=None, asked=None, policy=None, budget=(1, 5), update=QUICK, **settings):
    return SynchronousLearner(
        light or student(), asked or oracle(), policy or FixedInterval(), CallBudget(*budget), update=update, **settings
    )


def timeless(records):
    return [dataclasses.replace(record, seconds={}) for record in records]


def test_scored_boxes_are_those_from_before_the_frame_is_learned_from():
    running, alone, frames = learner(budget=(1, 1)), student(), stream(3)
    for t, frame in enumerate(frames):
        expected = alone.detect(frame, frame_index=t)
        step = running.step(frame, time_s=t / 10)
        np.testing.assert_array_equal(step.output.heads[0], expected.heads[0])
        assert step.record.update.outcome == "kept"
        assert step.answer is not None
        assert (step.detections.frame_index, step.detections.time_s, step.record.version) == (t, t / 10, t)
        alone.net.load_state_dict(running.student.net.state_dict())


def test_the_record_of_a_frame():
    running, frames = learner(budget=(1, 3), update=Update(steps=1, lr=1e-4)), stream(7)
    records = [running.step(frame).record for frame in frames]
    assert [record.called for record in records] == [True, False, False, True, False, False, True]
    assert [record.answered for record in records] == [0, None, None, 3, None, None, 6]
    assert [record.version for record in records] == [0, 1, 1, 1, 2, 2, 2]
    assert records[0].update.replay_before is None
    assert records[3].update.replay_before > 0
    assert records[0].disagreement == 1.0
    assert set(records[0].seconds) == {"student", "selector", "oracle", "update", "other"}
    assert set(records[1].seconds) == {"student", "selector", "other"}
    row = json.loads(json.dumps(records[3].as_row(), allow_nan=False))
    assert (row["frame_index"], row["outcome"], row["called"]) == (3, "kept", True)
    assert row["loss_before"] == records[3].update.loss_before
    spoilt = dataclasses.replace(records[3], update=dataclasses.replace(records[3].update, loss_after=float("nan")))
    assert spoilt.as_row()["loss_after"] is None


def policy_of(name):
    if name == "lstm":
        torch.manual_seed(1)
        return LstmSelector(KeyFrameLSTM(SelectorConfig(features=24, units=6)))
    return open_policy(name, seed=4)


@pytest.mark.parametrize(
    ("name", "trains", "over"),
    [
        ("lstm", "all", {}),
        ("random", "all", {}),
        ("frame_difference", "all", {}),
        ("lstm", "added", {}),
        ("random", "all", {"retain": 0.9, "interpolate": (0.0, 0.5, 1.0)}),
    ],
)
def test_stopped_and_restored_it_is_the_uninterrupted_run(name, trains, over):
    frames, update = stream(18), Update(trains=trains, lr=3e-3, steps=2, keep_optimiser=True, **over)
    settings = {"budget": (2, 6), "update": update, "replay": Replay(frames=3)}
    whole = learner(policy=policy_of(name), light=student().for_update(update), **settings)
    expected = [whole.step(frame) for frame in frames]
    first = learner(policy=policy_of(name), light=student().for_update(update), **settings)
    early = [first.step(frame) for frame in frames[:10]]
    file = io.BytesIO()
    torch.save(first.state(), file)
    first.step(frames[10])
    file.seek(0)
    again = learner(policy=policy_of(name), light=student(seed=9).for_update(update, seed=9), **settings)
    again.restore(torch.load(file, weights_only=True))
    late = [again.step(frame) for frame in frames[10:]]
    assert timeless([step.record for step in early + late]) == timeless([step.record for step in expected])
    assert sum(step.record.called for step in expected) == 6
    for ours, theirs in zip(late, expected[10:], strict=True):
        assert torch.equal(ours.output.heads[0], theirs.output.heads[0])
    for ours, theirs in zip(again.student.net.state_dict().values(), whole.student.net.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_state_shares_no_memory_with_the_learner():
    running, frames = learner(budget=(1, 1)), stream(2)
    running.step(frames[0])
    state = running.state()
    kept = {name: value.clone() for name, value in state["trainer"]["weights"].items()}
    running.step(frames[1])
    assert all(torch.equal(value, kept[name]) for name, value in state["trainer"]["weights"].items())


class Failing(Painter):
    asked = 0

    def __call__(self, frames):
        self.asked += 1
        if self.asked in (1, 3):
            raise RuntimeError("no memory")
        return super().__call__(frames)


def test_an_oracle_that_throws_costs_its_call_and_the_student_goes_on(caplog):
    running = learner(asked=BoxOracle(Failing(), NAMES), budget=(1, 2), update=Update(steps=1))
    records = [running.step(frame).record for frame in stream(8)]
    assert {record.frame_index: record.failed for record in records if record.failed} == dict.fromkeys((0, 4), "RuntimeError: no memory")
    assert [record.answered for record in records] == [None, None, 2, None, None, None, 6, None]
    assert sum(record.called for record in records) == 4
    assert running.failures == 2
    assert "oracle failed at frame 4 (2 failures): RuntimeError: no memory" in caplog.text


@pytest.mark.parametrize("kind", [TypeError, ValueError, RuntimeError])
def test_a_broken_loss_ends_the_run(kind, monkeypatch):
    def broken(*_):
        raise kind("wrong shape")

    monkeypatch.setitem(LOSSES, "oracle_assigned", broken)
    with pytest.raises(kind, match="wrong shape"):
        learner().step(frame_with())


def test_what_onnx_runtime_raises_may_fail():
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    assert may_fail(Fail("no"))
    assert may_fail(TimeoutError())
    assert not may_fail(KeyError("boxes"))


class Listening(Policy):
    def __init__(self):
        self.heard = []

    def wants(self, observation):
        self.heard.append(("sees", observation.frame_index, round(observation.last_loss, 4)))
        return observation.frame_index == 1

    def update(self, feedback):
        self.heard.append(("told", feedback.frame_index, round(feedback.loss, 4), feedback.disagreement))


def test_a_policy_is_told_after_the_call_and_sees_the_loss_from_then_on():
    policy = Listening()
    running = learner(policy=policy, budget=(1, 50), update=Update(steps=1))
    loss = [running.step(frame) for frame in stream(3)][1].record.update.loss_before
    loss = round(loss, 4)
    assert policy.heard == [("sees", 0, 0.0), ("sees", 1, 0.0), ("told", 1, loss, 1.0), ("sees", 2, loss)]


def test_losses_of_raw_heads_want_an_oracle_that_gives_them():
    with pytest.raises(ConfigError, match="matched_heads compares raw heads and the oracle gives only boxes"):
        learner(update=Update(loss="matched_heads"))
    light = student()
    running = learner(light=light, asked=HeadOracle(detector(seed=3), light.detector), update=Update(loss="matched_heads", steps=1))
    assert running.step(frame_with()).record.update.outcome == "kept"


ROWS = {
    "default": (
        ("fixed", Update(lr=3e-3, steps=4)),
        [0, 4, 8, 12, 16, 20, 24, 28, 32],
        [15.6757, 13.7255, 11.4492, 9.7352, 5.5428, 3.719, 5.3254, 4.035, 5.3142],
        [12.9914, 11.1717, 7.1921, 5.1875, 3.8656, 2.3482, 2.3172, 2.2702, 2.4614],
        1134.349,
    ),
    "interpolated": (
        ("uncertainty", Update(lr=3e-3, steps=4, interpolate=(0.0, 0.7))),
        [0, 8, 11, 13, 20, 23, 27, 32, 35],
        [15.6757, 12.7543, 12.6167, 10.0863, 10.4086, 10.9388, 9.1654, 10.0208, 11.4923],
        [12.9914, 9.8541, 9.4115, 7.1765, 7.5797, 8.1386, 7.2955, 8.3632, 7.6479],
        1087.524,
    ),
    "retained": (
        ("random", Update(lr=1e-3, steps=4, retain=0.9, keep_optimiser=True, optimiser="sgd", trains="blocks")),
        [0, 4, 7, 16, 19, 20, 28, 31, 34],
        [15.6757, 14.1402, 14.3096, 13.2975, 13.9108, 13.7305, 13.848, 13.5827, 12.8305],
        [15.4526, 14.0644, 14.2169, 13.2268, 13.7894, 13.6418, 13.7636, 13.503, 12.7543],
        1077.034,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_short_stream(name):
    (policy, update), called, before, after, weights = ROWS[name]
    running = SynchronousLearner(
        student(seed=1, score_threshold=0.2),
        oracle(),
        open_policy(policy, seed=3),
        CallBudget(3, 12),
        update=update,
        replay=Replay(frames=4, evict="random"),
    )
    records = [record for frame in stream(36, seed=5) if (record := running.step(frame).record).called]
    assert [record.frame_index for record in records] == called
    assert [record.update.outcome for record in records] == ["kept"] * len(called)
    assert [record.update.loss_before for record in records] == pytest.approx(before, rel=1e-3)
    assert [record.update.loss_after for record in records] == pytest.approx(after, rel=1e-3)
    with torch.no_grad():
        assert float(sum(part.abs().sum() for part in running.student.net.parameters())) == pytest.approx(weights, rel=1e-5)


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
