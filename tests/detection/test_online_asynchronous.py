"""Oracles and learners in threads of their own."""

import logging
import threading
import time

import numpy as np
import pytest
import torch
from online_samples import NAMES, Painter, detector, frame_with, oracle, stream, student

from vidkd.detection.online import AsynchronousLearner, BoxOracle, OneAtATime, SynchronousLearner, TimedOracle, Update
from vidkd.detection.online.learner import UpdateResult
from vidkd.detection.online.update import UpdateRecord
from vidkd.detection.policies import CallBudget, FixedInterval

SOON = 20.0


def learner(*, asked=None, budget=(1, 1), update=None, **settings):
    update = update or Update(trains="all", lr=1e-3, steps=1)
    return AsynchronousLearner(student(), asked or oracle(), FixedInterval(), CallBudget(*budget), update=update, **settings)


def until(holds):
    """Wait for what a thread brings about."""
    end = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.002)


class Gate(Painter):
    """An oracle that answers when it is let."""

    def __init__(self):
        super().__init__()
        self.open, self.entered = threading.Event(), threading.Semaphore(0)
        self.inside = self.most_inside = 0

    def __call__(self, frames):
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.entered.release()
        self.open.wait(SOON)
        self.inside -= 1
        return super().__call__(frames)


def test_the_stream_goes_on_with_whole_weights_until_the_answer_comes():
    gate, frames = Gate(), stream(6)
    start = student()
    with learner(asked=BoxOracle(gate, NAMES)) as running:
        steps = [running.step(frame) for frame in frames[:3]]
        assert gate.entered.acquire(timeout=SOON)
        assert [step.record.called for step in steps] == [True, False, False]
        assert [step.record.version for step in steps] == [0, 0, 0]
        for step, frame in zip(steps, frames, strict=False):
            np.testing.assert_array_equal(step.output.heads[0], start.detect(frame).heads[0])
        gate.open.set()
        until(lambda: running._newest[0] == 1)
        until(lambda: not running._thread.is_alive())
        step = running.step(frames[3])
        assert (step.record.version, step.record.answered, step.record.disagreement) == (1, 0, 1.0)
        assert step.record.update.outcome == "kept"
        assert not torch.equal(step.output.heads[0], start.detect(frames[3]).heads[0])
        assert step.record.called
    assert gate.most_inside == 1


def test_what_is_learned_from_a_frame_is_not_what_its_owner_writes_over_it_meanwhile():
    """A frame of the network's own size is its own input, and the answer comes when the next frame stands in its place."""
    gate, frames = Gate(), stream(2)
    with learner(asked=BoxOracle(gate, NAMES), budget=(1, 50)) as running:
        shared = frames[0].copy()
        assert running.step(shared).record.called
        assert gate.entered.acquire(timeout=SOON)
        shared[...] = frames[1]
        gate.open.set()
        until(lambda: len(running.trainer.buffer.frames) == 1)
    (key,) = running.trainer.buffer.frames
    np.testing.assert_array_equal(key.image, frames[0])
    assert key.boxes.tolist() == Painter.look(frames[0]).boxes.tolist()


def test_answers_in_time_teach_what_they_teach_in_step():

    frames, update = stream(5), Update(trains="all", lr=3e-3, steps=2)
    own = student()
    in_step = SynchronousLearner(own, oracle(), FixedInterval(), CallBudget(1, 1), update=update)
    with learner(update=update) as running:
        for frame in frames:
            number = running._newest[0]
            expected, step = in_step.step(frame), running.step(frame)
            until(lambda number=number: running._newest[0] > number)
            until(lambda: not running._thread.is_alive())
            np.testing.assert_array_equal(step.output.heads[0], expected.output.heads[0])


class Numbered:
    """In place of a pupil: each lesson writes its number over all weights, one after the other, and can be caught at it."""

    def __init__(self, light, pause_s=0.0):
        self.student, self.number, self.pause_s = light, 0, pause_s

    def learn(self, look, answer):
        self.number += 1
        with torch.no_grad():
            for value in self.student.net.state_dict().values():
                value.fill_(self.number)
                time.sleep(self.pause_s)
        update = UpdateRecord(outcome="kept", loss_before=1.0, loss_after=0.5)
        return UpdateResult(answered=look.detections.frame_index, disagreement=0.0, update=update)


def numbers_seen(net, frames, step):
    """Run `step` on the frames; the set of numbers that the weights held while each convolution and normalisation ran."""
    seen = []

    def note(module, inputs):
        seen[-1].update(int(value.flatten()[0]) for value in module.state_dict().values())

    handles = []

    def hook(version):
        handles.extend(module.register_forward_pre_hook(note) for module in version.modules() if not list(module.children()))

    for frame in frames:
        seen.append(set())
        net_now = net()
        hook(net_now)
        step(frame)
        while handles:
            handles.pop().remove()
    return seen


def test_a_stream_never_sees_torn_weights():
    """Each forward pass sees the weights of one version alone, checked layer by layer, while the trainer writes the next."""
    running, frame, versions = learner(), frame_with(), []
    running.trainer = Numbered(running.trainer.student)
    with running:
        while len(set(versions)) < 20:
            versions.append(running.step(frame).record.version)
            number, light = running._newest
            (seen,) = numbers_seen(lambda light=light: light.net, [frame], light.detect)
            assert seen == {number} or number == 0
    assert versions == sorted(versions)


@pytest.mark.parametrize("last", [False, True])
def test_an_update_that_throws_ends_the_run(last):
    running = learner()

    def learn(look, answer):
        raise TypeError("wrong shape")

    running.trainer.learn = learn

    def along(steps):
        with running:
            for _ in range(steps):
                running.step(frame_with())
                until(lambda: not running._thread.is_alive())

    with pytest.raises(TypeError, match="wrong shape"):
        along(1 if last else 3)
    assert running.position == 1
    assert running._newest[0] == 0


def test_an_oracle_that_hangs_is_given_up_and_asked_again_when_it_comes_back(caplog):
    gate = Gate()
    with learner(asked=BoxOracle(gate, NAMES), timeout_s=0.05) as running:
        assert running.step(frame_with(square=(3, 3))).record.called
        time.sleep(0.06)
        late = running.step(frame_with()).record
        assert (late.failed, late.called) == ("no answer within 0.05 s", False)
        assert [running.step(frame_with()).record.called for _ in range(3)] == [False] * 3
        assert running.failures == 1
        gate.open.set()
        until(lambda: not running._thread.is_alive())
        assert len(running.trainer.buffer.frames) == 0
        assert running._newest[0] == 0
        record = running.step(frame_with()).record
        assert (record.called, record.answered, record.failed) == (True, None, None)
    assert "oracle failed at frame 0 (1 failures): no answer within 0.05 s" in caplog.text


def test_closing_joins_the_thread_and_leaves_behind_one_that_hangs(caplog):
    running = learner()
    running.step(frame_with(square=(3, 3)))
    assert running.close()
    assert not running._thread.is_alive()
    assert running.close()
    gate = Gate()
    hanging = learner(asked=BoxOracle(gate, NAMES), timeout_s=0.2)
    hanging.step(frame_with())
    assert gate.entered.acquire(timeout=SOON)
    with caplog.at_level(logging.WARNING):
        assert not hanging.close()
    assert "its thread is left behind" in caplog.text
    gate.open.set()
    hanging._thread.join(SOON)
    assert not hanging._thread.is_alive()
    assert len(hanging.trainer.buffer.frames) == 0


def test_an_oracle_that_two_learners_share_is_asked_by_one_at_a_time():
    gate = Gate()
    shared = OneAtATime(BoxOracle(gate, NAMES))
    assert not shared.gives_heads
    with learner(asked=shared, timeout_s=0.2) as first, learner(asked=shared, timeout_s=5.0) as second:
        first.step(frame_with())
        assert gate.entered.acquire(timeout=SOON)
        second.step(frame_with())
        assert not gate.entered.acquire(timeout=0.2)
        gate.open.set()
        until(lambda: not first._thread.is_alive() and not second._thread.is_alive())
    assert (gate.calls, gate.most_inside) == (2, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_thread_has_its_own_stream_and_swaps_are_whole():
    from vidkd.detection.online import Student

    light = Student(detector(device="cuda"))
    streams = []
    running = AsynchronousLearner(light, oracle(), FixedInterval(), CallBudget(1, 1), update=Update(trains="all", lr=1e-3, steps=2))
    inner = running.trainer.learn

    def learn(look, answer):
        streams.append(torch.cuda.current_stream())
        return inner(look, answer)

    running.trainer.learn = learn
    with running:
        for frame in stream(80):
            light = running._newest[1]
            checksum = [float(value.double().sum()) for value in light.net.state_dict().values()]
            running.step(frame)
            assert checksum == [float(value.double().sum()) for value in light.net.state_dict().values()]
        until(lambda: not running._thread.is_alive())
    assert running._newest[0] > 2
    assert all(each != torch.cuda.default_stream() for each in streams)


def test_an_answer_that_is_late_is_dropped_and_the_oracle_asked_again_only_when_it_has_come():
    gate = Gate()
    timed = TimedOracle(BoxOracle(gate, NAMES), 0.5)
    with pytest.raises(TimeoutError, match=r"no answer within 0\.5 s"):
        timed(frame_with(square=(3, 3)))
    start = time.monotonic()
    for _ in range(3):
        with pytest.raises(TimeoutError, match="not come back from an earlier call"):
            timed(frame_with())
    assert time.monotonic() - start < 0.5 * 3
    assert gate.entered.acquire(timeout=SOON)
    assert not gate.entered.acquire(blocking=False), "asked once"
    gate.open.set()
    until(lambda: timed._last.done())
    timed.timeout_s = SOON
    assert len(timed(frame_with()).detections) == 0
    assert gate.calls == 2


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
