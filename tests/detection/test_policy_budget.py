"""The budget, whatever wants to spend it: by wishes, and by every policy along whole streams."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidkd.base.errors import ConfigError
from vidkd.detection.policies import (
    POLICIES,
    CallBudget,
    Feedback,
    Hindsight,
    KeyFrameChooser,
    LstmSelector,
    Observation,
    Policy,
    open_policy,
)
from vidkd.detection.policies.budget import ScoreThreshold
from vidkd.models.selector import KeyFrameLSTM, SelectorConfig
from vidkd.runtime.detections import Detections


class Wishes(Policy):
    """Wants what it is told to want."""

    def __init__(self, wishes):
        self.wishes = wishes

    def wants(self, observation):
        return self.wishes[observation.frame_index]


GREY, FEATURES, NOTHING = np.zeros((1, 1), np.uint8), np.zeros(1, np.float32), Detections.none()


def frame(index):
    return Observation(frame_index=index, grey=GREY, features=FEATURES, detections=NOTHING, frames_since=index, key_grey=GREY)


def calls(policy, budget, frames, *, able=lambda index: True):
    chooser = KeyFrameChooser(policy, budget)
    return np.array([chooser.choose(frame(index), able=able(index)) for index in range(frames)])


def most_in_a_window(called, window):
    return max(called[start : start + window].sum() for start in range(len(called)))


budgets = st.integers(1, 25).flatmap(lambda window: st.tuples(st.integers(1, window), st.just(window)))
wish = st.one_of(st.booleans(), st.floats(-5, 5), st.sampled_from([float("nan"), float("inf"), 0.0]))


@given(budgets, st.lists(wish, min_size=65, max_size=65), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_no_window_holds_more_than_the_budget(budget, wishes, unable):
    able = np.random.default_rng(unable).random(65) < 0.8
    called = calls(Wishes(wishes), CallBudget(*budget), 65, able=lambda index: able[index])
    assert most_in_a_window(called, budget[1]) <= budget[0]
    assert not called[~able].any()


@given(budgets, st.lists(wish, min_size=60, max_size=60))
@settings(max_examples=30, deadline=None)
def test_every_whole_block_spends_the_budget_in_full(budget, wishes):
    count, window = budget
    called = calls(Wishes(wishes), CallBudget(count, window), 60)
    whole = 60 // window * window
    assert (called[:whole].reshape(-1, window).sum(1) == count).all()


def test_who_always_wants_calls_at_half_the_even_spacing_until_it_is_fifty_frames_ahead():
    # even spacing 16: after the first seven, each comes 50 frames before that of `fixed`
    called = np.flatnonzero(calls(Wishes([True] * 800), CallBudget(50, 800), 800))
    assert called.tolist() == [*range(0, 49, 8), *range(7 * 16 - 50, 800 - 50, 16)]


def test_who_never_wants_is_made_to_call_one_call_behind_the_pace():
    # even spacing 4; the last of each block falls due at its last frame
    called = calls(Wishes([False] * 24), CallBudget(3, 12), 24)
    assert np.flatnonzero(called).tolist() == [4, 8, 11, 16, 20, 23]


@given(st.integers(1, 12), st.integers(0, 2**32), st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_yes_and_no_keep_the_spacing_and_the_pace_whatever_they_are(count, seed, chance):
    window = 120
    wishes = [bool(flag) for flag in np.random.default_rng(seed).random(window) < chance]
    called = calls(Wishes(wishes), CallBudget(count, window), window)
    places, rate = np.flatnonzero(called), count / window
    assert len(places) == count
    assert min(np.diff(places), default=window) >= window // (2 * count)
    ahead = np.arange(count) - rate * places  # calls before each, less those of an even pace
    assert ahead.max() <= max(1, count / 4) + 1e-9
    assert ahead.min() >= -1 - rate - 1e-9, "called on the frame on which it is one call behind, but for rounding"


def test_a_call_that_could_not_be_made_is_made_up_for_when_the_oracle_is_free():
    called = calls(Wishes([False] * 12), CallBudget(3, 12), 12, able=lambda index: index not in (4, 11))
    assert np.flatnonzero(called).tolist() == [5, 8]
    called = calls(Wishes([False] * 12), CallBudget(3, 12), 12, able=lambda index: not 4 <= index < 8)
    assert np.flatnonzero(called).tolist() == [8, 9, 11]


def test_a_share_of_the_frames():
    assert (CallBudget.of_share(0.05).calls, CallBudget.of_share(0.05).window) == (10, 200)
    assert (CallBudget.of_share(0.07, window=100).calls, CallBudget.of_share(0.07, window=100).rate) == (7, 0.07)
    assert (CallBudget.of_share(0.001).calls, CallBudget.of_share(0.001).window) == (1, 1000)
    assert CallBudget.of_share(0.0034).rate == 1 / 295 <= 0.0034
    assert CallBudget.of_share(1).rate == 1


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_that_is_none(share):
    with pytest.raises(ConfigError, match=r"must lie in \(0, 1\]"):
        CallBudget.of_share(share)


@pytest.mark.parametrize(("count", "window"), [(0, 5), (6, 5)])
def test_a_budget_that_is_none(count, window):
    with pytest.raises(ConfigError, match=f"a budget of {count} calls in {window} frames is impossible"):
        CallBudget(count, window)


def test_the_threshold_passes_the_highest_share_of_scores_that_come_at_random():
    rng = np.random.default_rng(1)
    scores, threshold, passed = rng.random(4000), ScoreThreshold(0.1, 100), []
    for score in scores:
        passed.append(threshold.passes(score))
        threshold.seen(score, passed[-1])
    passed = np.array(passed)
    assert passed.mean() == pytest.approx(0.1, abs=0.005)
    assert scores[passed].mean() > 0.91, "one in ten, and each the highest of its ten would be 10 / 11"


def test_equal_scores_call_for_nothing_after_the_first():
    threshold, passed = ScoreThreshold(0.2, 10), []
    for _ in range(100):
        passed.append(threshold.passes(0.0))
        threshold.seen(0.0, passed[-1])
    assert np.flatnonzero(passed).tolist() == [0]


FRAMES, SHARES = (398, 454, 795), (0.02, 0.05, 0.1, 0.2)
PLANNED = ("fixed", "random", "hindsight")
# what frames and answers show: (anything new in them, disagreement, loss); None is drawn anew
SHOWN = {"frozen": (False, 0.5, 2.0), "random": (True, None, None), "best": (False, 0.0, 0.0), "worst": (True, 1.0, None)}


def policy_of(name, frames):
    if name == "hindsight":
        return Hindsight(np.random.default_rng(1).random(frames))
    if name == "lstm":
        torch.manual_seed(0)
        return LstmSelector(KeyFrameLSTM(SelectorConfig(features=2, units=5)))
    return open_policy(name, seed=2)


def calls_along(policy, calls, frames, shown):
    """Frames called in a stream in which `shown` is all that there is."""
    chooser, rng, (lively, disagreement, loss) = KeyFrameChooser(policy, CallBudget(calls, frames)), np.random.default_rng(5), SHOWN[shown]
    pictures = rng.integers(0, 256, (frames, 2, 3), np.uint8) if lively else np.full((frames, 2, 3), 7, np.uint8)
    features = rng.random((frames, 2), np.float32) if lively else np.ones((frames, 2), np.float32)
    doubts, answers = rng.random(frames) if lively else np.zeros(frames), rng.random((frames, 2))
    key, called = None, []
    for index in range(frames):
        observation = Observation(
            frame_index=index,
            grey=pictures[index],
            features=features[index],
            detections=NOTHING,
            frames_since=index if key is None else index - key,
            doubt=doubts[index],
            key_grey=None if key is None else pictures[key],
            key_features=None if key is None else features[key],
        )
        if chooser.choose(observation):
            key = index
            called.append(index)
            text = answers[index, 0] if disagreement is None else disagreement, 5 * answers[index, 1] if loss is None else loss
            chooser.update(Feedback(frame_index=index, disagreement=text[0], loss=text[1]))
    return called


@pytest.mark.parametrize("name", POLICIES)
def test_a_whole_stream_is_one_block_of_which_every_policy_spends_all_calls(name):
    for frames in FRAMES:
        for share in SHARES:
            calls = math.floor(share * frames)
            called = calls_along(policy_of(name, frames), calls, frames, "random")
            assert len(called) == calls, (frames, share)
            if name != "random":
                assert min(np.diff(called)) >= frames // (2 * calls), (frames, share)


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("name", [name for name in POLICIES if name not in PLANNED])
def test_no_policy_that_does_not_plan_falls_behind_or_spends_all_at_the_start(name, shown):
    most_ahead = 50 if name in ("loss_adaptive", "stride") else 200
    for frames, share in ((398, 0.02), (454, 0.2), (795, 0.05)):
        calls = math.floor(share * frames)
        called, rate = np.array(calls_along(policy_of(name, frames), calls, frames, shown)), calls / frames
        assert len(called) == calls
        ahead = np.arange(calls) - rate * called
        assert ahead.min() >= -1 - rate - 1e-9, "at most one call behind an even pace"
        assert ahead.max() <= max(1.0, most_ahead * rate) + 1e-9, "at most the calls of so many frames before it"


def test_the_published_rules_answer_to_what_they_see_within_a_few_calls():
    spacing = 795 / 39
    for name, slow, fast in (("stride", "best", "worst"), ("loss_adaptive", "frozen", "random")):
        early = {shown: calls_along(policy_of(name, 795), 39, 795, shown)[:8] for shown in (slow, fast)}
        assert early[slow][-1] > early[fast][-1] + spacing, name
