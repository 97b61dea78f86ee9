"""Each policy along whole streams under one budget: equal numbers of calls, apart and on pace, whatever frames and answers show."""

import math

import numpy as np
import pytest
import torch

from vidkd.detection.policies import POLICIES, CallBudget, Feedback, Hindsight, KeyFrameChooser, LstmSelector, Observation, open_policy
from vidkd.models.selector import KeyFrameLSTM, SelectorConfig
from vidkd.runtime.detections import Detections

FRAMES, SHARES = (398, 454, 795), (0.02, 0.05, 0.1, 0.2)
PLANNED = ("fixed", "random", "hindsight")
NOTHING = Detections.none()
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
