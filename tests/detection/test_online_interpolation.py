import dataclasses
import math

import numpy as np
import pytest
import torch
from online_samples import changed, keys, oracle, stream, student, weights

from vidkd.base.errors import ConfigError
from vidkd.detection.online import Replay, Trainer, Update
from vidkd.detection.online.learner import OnlineTrainer, key_frame_of
from vidkd.detection.online.update import UpdateRecord


def test_what_was_learned_is_pulled_back_by_a_share():
    def learned(**settings):
        light = student()
        first, *rest = keys(light)
        trainer = Trainer(light, Update(trains="all", lr=1e-2, steps=5, **settings))
        records = [trainer.learn(first, rest)]
        return records, weights(light), trainer

    began = weights(student())
    (whole,), far, _ = learned()
    (pulled,), near, trainer = learned(retain=0.75)
    assert pulled == whole
    for name, value in near.items():
        torch.testing.assert_close(value, began[name] + 0.75 * (far[name] - began[name]) if value.is_floating_point() else far[name])
    # the next update begins there and is pulled back towards the same beginning
    second = keys(student(), 1, oracle(), seed=5)[0]
    light = trainer.student.copy()
    assert Trainer(light, Update(trains="all", lr=1e-2, steps=5)).learn(second, []).outcome == "kept"
    assert trainer.learn(second, []).outcome == "kept"
    for name, value in weights(trainer.student).items():
        there = weights(light)[name]
        torch.testing.assert_close(value, began[name] + 0.75 * (there - began[name]) if value.is_floating_point() else there)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, math.nan])
def test_a_share_that_cannot_be_retained_is_refused(share):
    with pytest.raises(ConfigError, match=r"update\.retain"):
        Update(retain=share)


SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def learned_and_unseen(**settings):
    """A trainer whose student has learned one frame by heart, and a frame of another stream."""
    light = student()
    trainer = Trainer(light, Update(trains="all", lr=1e-2, steps=5, **settings))
    assert trainer.learn(keys(light, 1)[0], []).outcome == "kept"
    return trainer, keys(light, 1, oracle(), seed=5)[0]


def loss_at(trainer, key, began, here, share):
    """The loss on a key frame of weights a share of the way from `began` to `here`, worked out anew."""
    light = trainer.student.copy()
    mixed = {name: began[name] + share * (here[name] - began[name]) if here[name].is_floating_point() else here[name] for name in here}
    light.net.load_state_dict(mixed)
    return Trainer(light, Update(steps=0)).learn(key, []).loss_before


def test_the_share_of_what_was_learned_that_serves_an_unseen_frame_best_stays():
    trainer, key = learned_and_unseen(interpolate=SHARES)
    began, here = weights(student()), weights(trainer.student)
    losses = {share: loss_at(trainer, key, began, here, share) for share in SHARES}
    best = min(losses, key=losses.get)
    found = trainer.interpolate(key)
    assert (found.share, found.loss) == (best, pytest.approx(losses[1.0], rel=1e-5))
    assert len(set(losses.values())) == len(SHARES)
    for name, value in weights(trainer.student).items():
        torch.testing.assert_close(value, began[name] + best * (here[name] - began[name]) if value.is_floating_point() else here[name])


def test_nothing_of_what_was_learned_stays_where_the_student_as_it_began_is_best():
    light = student()
    trainer = Trainer(light, Update(trains="all", lr=1.0, steps=3, keep_best=False, most_worse=None, interpolate=(0.0, 1.0)))
    first, second = keys(light, 2)
    before = weights(light)
    assert trainer.learn(first, []).outcome == "kept"
    assert changed(before, weights(light))
    assert trainer.interpolate(second).share == 0.0
    assert changed(before, weights(light)) == set()


def test_without_shares_nothing_is_interpolated_and_one_share_of_all_changes_nothing():
    trainer, key = learned_and_unseen(interpolate=())
    assert trainer.interpolate(key) is None
    trainer, key = learned_and_unseen(interpolate=(1.0,))
    before = weights(trainer.student)
    assert trainer.interpolate(key).share == 1.0
    assert changed(before, weights(trainer.student)) == set()


def test_a_trainer_that_takes_no_steps_keeps_no_weights_to_go_back_to():
    light = student()
    trainer = Trainer(light, Update(steps=0, interpolate=SHARES))
    assert trainer.interpolate(keys(light, 1)[0]) is None
    assert trainer.state()["retention"]["began"] == []


def test_weights_stay_where_no_share_has_a_finite_loss():
    trainer, key = learned_and_unseen(interpolate=(0.0, 0.5))
    before = weights(trainer.student)
    broken = dataclasses.replace(key, scores=np.full_like(key.scores, np.nan))
    assert len(broken.scores)
    assert trainer.interpolate(broken).share == 1.0
    assert changed(before, weights(trainer.student)) == set()


def test_a_pupil_goes_on_from_the_share_and_says_so():
    light, asked = student(), oracle()
    pupil = OnlineTrainer(light, asked, Update(trains="all", lr=1e-2, steps=5, interpolate=SHARES), Replay())
    plain = OnlineTrainer(student(), asked, Update(trains="all", lr=1e-2, steps=5, interpolate=()), Replay())
    for place, frame in enumerate((*stream(2, 0), *stream(2, 5))):
        look = light.detect(frame, frame_index=place)
        seen = Trainer(light.copy(), Update(steps=0)).learn(key_frame_of(look, asked(frame)), []).loss_before
        record = pupil.learn(look, asked(frame)).update
        assert record.interpolated in (SHARES if place else (1.0,))
        assert record.loss_before == pytest.approx(seen, rel=1e-5)
        assert plain.learn(plain.student.detect(frame, frame_index=place), asked(frame)).update.interpolated is None


def test_an_update_that_throws_leaves_the_weights_that_were_there_before_the_share_was_chosen(monkeypatch):
    light, asked = student(), oracle()
    pupil = OnlineTrainer(light, asked, Update(trains="all", lr=1e-2, steps=5, interpolate=(0.0,)), Replay())
    first, second = (*stream(1, 0), *stream(1, 5))
    pupil.learn(light.detect(first, frame_index=0), asked(first))
    before, state = weights(light), pupil.trainer.state()["retention"]["mean_share"]
    monkeypatch.setattr(pupil.trainer, "learn", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pupil.learn(light.detect(second, frame_index=1), asked(second))
    assert changed(before, weights(light)) == set()
    assert pupil.trainer.state()["retention"]["mean_share"] == state
    assert changed(before, weights(student())), "the share of nothing would have put the weights of the beginning back"


def test_what_is_learned_next_is_pulled_back_by_the_mean_of_the_shares_that_served():
    light = student()
    trainer = Trainer(light, Update(trains="all", lr=1e-2, steps=3, retain=0.9, interpolate=(0.5,)))
    plain = Update(trains="all", lr=1e-2, steps=3)
    began, mean = weights(light), None
    for key in (*keys(light, 2), *keys(light, 2, oracle(), seed=5)):
        assert trainer.interpolate(key).share == 0.5
        mean = None if mean is None else 0.8 * mean + 0.2 * 0.5
        beside = light.copy()
        assert Trainer(beside, plain).learn(key, []).outcome == "kept"
        assert trainer.learn(key, []).outcome == "kept"
        mean = 1.0 if mean is None else mean  # nothing had been learned before the first
        far = weights(beside)
        for name, value in weights(light).items():
            expected = began[name] + 0.9 * mean * (far[name] - began[name]) if value.is_floating_point() else far[name]
            torch.testing.assert_close(value, expected)
    assert mean == pytest.approx(0.8**3 + 0.5 * (1 - 0.8**3))


@pytest.mark.parametrize(
    ("outcome", "interpolated", "other"),
    [("kept", None, True), ("rolled_back", None, False), ("no_better", 0.5, True), ("no_better", 1.0, False)],
)
def test_weights_are_other_where_an_update_was_kept_or_something_let_go(outcome, interpolated, other):
    assert UpdateRecord(outcome=outcome, loss_before=1.0, loss_after=1.0, interpolated=interpolated).changed is other


@pytest.mark.parametrize("shares", [(-0.1,), (0.0, 1.5), (math.nan,)])
def test_shares_beyond_reason_are_refused(shares):
    with pytest.raises(ConfigError, match=r"update\.interpolate"):
        Update(interpolate=shares)
