"""Each policy on sequences by hand, where what it must want is known."""

import io

import numpy as np
import pytest
import torch

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.detection.policies import (
    POLICIES,
    AdaptiveStride,
    CallBudget,
    FeatureDifference,
    Feedback,
    FixedInterval,
    FrameDifference,
    Hindsight,
    KeyFrameChooser,
    LossAdaptive,
    LstmSelector,
    Observation,
    RandomCalls,
    open_policy,
)
from vidkd.detection.policies.lstm import SelectorStep, observation_row
from vidkd.models.selector import SIGNALS, KeyFrameLSTM, SelectorConfig, selector_input
from vidkd.runtime.detections import Detections


def seen(index=0, *, grey=0, features=(1.0, 0.0), key_grey=None, key_features=None, frames_since=0, last_loss=0.0, doubt=0.0, boxes=0):
    def picture(value):
        return None if value is None else np.full((3, 4), value, np.uint8)

    return Observation(
        frame_index=index,
        grey=picture(grey),
        features=np.asarray(features, np.float32),
        detections=Detections.none(frame_index=index),
        frames_since=frames_since,
        last_loss=last_loss,
        doubt=doubt,
        boxes=boxes,
        key_grey=picture(key_grey),
        key_features=None if key_features is None else np.asarray(key_features, np.float32),
    )


def calls_of(policy, budget, frames):
    chooser = KeyFrameChooser(policy, budget)
    return [index for index in range(frames) if chooser.choose(seen(index))]


def selector(features=2, seed=0):
    torch.manual_seed(seed)
    return KeyFrameLSTM(SelectorConfig(features=features, units=5))


def test_fixed_interval():
    assert calls_of(FixedInterval(), CallBudget(5, 100), 201) == list(range(0, 201, 20))
    assert calls_of(FixedInterval(), CallBudget(3, 10), 20) == [0, 4, 7, 10, 14, 17]
    chooser = KeyFrameChooser(FixedInterval(), CallBudget(2, 10))  # a call that could not be made is made up for
    assert [t for t in range(20) if chooser.choose(seen(t), able=t not in (0, 1, 5))] == [2, 6, 12, 16]


def test_random_calls_are_even_over_a_block_and_by_seed():
    budget = (2, 8)
    counts = np.zeros(8)
    for seed in range(400):
        counts[calls_of(RandomCalls(seed), CallBudget(*budget), 8)] += 1
    assert counts.sum() == 800
    # a place is called with chance 1/4: 400 draws have a deviation of 8.7
    assert np.abs(counts - 100).max() < 4 * 8.7
    assert calls_of(RandomCalls(7), CallBudget(*budget), 80) == calls_of(RandomCalls(7), CallBudget(*budget), 80)
    assert calls_of(RandomCalls(7), CallBudget(*budget), 80) != calls_of(RandomCalls(8), CallBudget(*budget), 80)


def test_frame_difference_is_the_mean_change_of_grey():
    policy = FrameDifference()
    assert policy.wants(seen(grey=200)) == 0
    assert policy.wants(seen(grey=10, key_grey=61)) == pytest.approx(51 / 255)
    assert policy.wants(seen(grey=255, key_grey=0)) == 1


def test_feature_difference_is_one_less_the_cosine():
    policy = FeatureDifference()
    assert policy.wants(seen()) == 0
    assert policy.wants(seen(features=(3, 0), key_features=(0.1, 0))) == pytest.approx(0)
    assert policy.wants(seen(features=(3, 0), key_features=(0, 2))) == pytest.approx(1)
    assert policy.wants(seen(features=(1, 1), key_features=(1, 0))) == pytest.approx(1 - 0.5**0.5)
    assert policy.wants(seen(features=(3, 0), key_features=(-1, 0))) == pytest.approx(2)
    assert policy.wants(seen(features=(0, 0), key_features=(1, 0))) == 0


def started(policy, budget):
    policy.start(CallBudget(*budget))
    return policy


def test_loss_adaptive_moves_its_chance_by_the_loss():
    policy = started(LossAdaptive(), (2, 100))
    thetas = []
    #       first, +0.5 (still), +1.5 (rise), -0.05 (still), -0.2 (fall)
    for loss in (2.0, 2.5, 4.0, 3.95, 3.75, float("nan"), 3.75):
        policy.update(Feedback(frame_index=0, disagreement=0.5, loss=loss))
        thetas.append(policy.theta)
    assert thetas == pytest.approx([0.12, 0.1, 0.12, 0.1, 0.12, 0.12, 0.1])
    for expected in (0.08, 0.06, 0.04, 0.02, 0.012, 0.012):
        policy.update(Feedback(frame_index=0, disagreement=0.5, loss=3.75))
        assert policy.theta == pytest.approx(expected)
    policy.update(Feedback(frame_index=0, disagreement=0.5, loss=5.0))
    assert policy.theta == pytest.approx(0.024)
    assert started(LossAdaptive(), (1, 2)).theta == 1, "scaled to the budget"


def test_loss_adaptive_calls_still_frames_only_while_the_loss_moves():
    policy = started(LossAdaptive(), (1, 6))
    assert all(policy.wants(seen()) for _ in range(50)), "the first frame is called"
    assert all(policy.wants(seen(key_grey=0, grey=0)) for _ in range(50))
    for _ in range(9):
        policy.update(Feedback(frame_index=0, disagreement=0.5, loss=1.0))
    assert not any(policy.wants(seen(key_grey=0, grey=30)) for _ in range(500))
    share = np.mean([policy.wants(seen(key_grey=0, grey=31)) for _ in range(1500)])
    assert share == pytest.approx(0.1, abs=0.03)
    policy.theta = 0.5
    assert np.mean([policy.wants(seen(key_grey=0, grey=0)) for _ in range(1500)]) == pytest.approx(0.5, abs=0.04)


def test_stride_follows_the_agreement():
    policy = started(AdaptiveStride(), (5, 100))  # the even spacing is 20 frames, so the bounds are those published
    strides = []
    # r: perfect 2, at the threshold 1, above it (.9 + 1 - 1.6) / .2 = 1.5, below it .6 / .8 = .75, at the bottom 0
    for agreement in (1.0, 0.8, 0.9, 0.6, 0.0, 1.0, 1.0, 1.0, 1.0):
        policy.update(Feedback(frame_index=0, disagreement=1 - agreement, loss=0.0))
        strides.append(policy.stride)
    assert strides == pytest.approx([16, 16, 24, 18, 8, 16, 32, 64, 64])


def test_stride_calls_the_first_frame_and_then_a_stride_after_the_last_call():
    policy = started(AdaptiveStride(), (2, 15))
    assert policy.wants(seen(0))
    assert [policy.wants(seen(key_features=(1, 0), frames_since=n)) for n in (1, 2, 3, 4)] == [False, False, True, True]
    policy.update(Feedback(frame_index=0, disagreement=0.05, loss=0.0))  # r = 1.75, stride 5.25
    assert [policy.wants(seen(key_features=(1, 0), frames_since=n)) for n in (4, 5)] == [False, True]


def test_hindsight_leaves_room_for_the_calls_of_the_block_before():
    assert calls_of(Hindsight([0.1, 0.9, 0.2, 0.8, 0.0, 0.7, 0.1, 0.1]), CallBudget(3, 8), 12) == [1, 3, 5]
    # late in the first block, so no call of the second may stand before the same place of it
    true = [0.0, 0.0, 0.9, 0.8, 0.9, 0.8, 0.1, 0.2]
    assert calls_of(Hindsight(true), CallBudget(2, 4), 8) == [2, 3, 6, 7]
    # with one call early there is room for one early
    true = [0.9, 0.0, 0.0, 0.8, 0.7, 0.8, 0.1, 0.2]
    assert calls_of(Hindsight(true), CallBudget(2, 4), 8) == [0, 3, 5, 7]


def test_hindsight_is_the_best_of_its_blocks_by_trying_all():
    from itertools import combinations

    rng = np.random.default_rng(3)
    for _ in range(30):
        true = rng.random(12)
        policy = Hindsight(true)
        policy.start(CallBudget(3, 12))
        apart = [c for c in combinations(range(12), 3) if min(np.diff(c)) >= 2]
        assert true[sorted(policy._chosen)].sum() == pytest.approx(max(true[list(c)].sum() for c in apart))
    for _ in range(30):
        true, before = rng.random(14), sorted(rng.choice(7, 3, replace=False))
        policy = Hindsight(np.r_[np.isin(np.arange(7), before) * 1.0, true[:7]])
        policy.start(CallBudget(3, 7))
        picked = [i - 7 for i in sorted(policy._chosen) if i >= 7]
        allowed = [c for c in combinations(range(7), 3) if all(sum(q > p for q in before) + i + 1 <= 3 for i, p in enumerate(c))]
        assert true[picked].sum() == pytest.approx(max(true[list(c)].sum() for c in allowed))


def test_lstm_scores_a_stream_as_its_network_scores_the_whole_sequence():
    model = selector()
    frames = [seen(i, grey=i, key_grey=3, features=(i, -i), frames_since=i, last_loss=0.5 * i, doubt=0.1 * i, boxes=i) for i in range(6)]
    policy = LstmSelector(model)
    policy.start(CallBudget(1, 5))
    scores = [policy.wants(frame) for frame in frames]
    with torch.no_grad():
        whole, _ = model(torch.from_numpy(np.stack([observation_row(frame) for frame in frames]))[None])
    np.testing.assert_allclose(scores, whole[0], atol=1e-6)
    np.testing.assert_allclose(observation_row(frames[5]), [5, -5, np.log(6), 2.5, 2 / 255, 0.5, np.log(6)], rtol=1e-6)
    signals = {name: torch.tensor(float(getattr(frames[5], name))) for name in SIGNALS}
    np.testing.assert_allclose(observation_row(frames[5]), selector_input(torch.from_numpy(frames[5].features), **signals), rtol=1e-6)
    policy.start(CallBudget(1, 5))
    assert policy.wants(frames[0]) == scores[0]


@pytest.mark.parametrize(("layers", "sees"), [(1, True), (2, True), (1, False)])
def test_a_step_in_numpy_is_that_of_the_network(layers, sees):
    torch.manual_seed(layers)
    model = KeyFrameLSTM(SelectorConfig(features=7, units=6, layers=layers, sees_features=sees))
    rows = 30 * torch.randn(40, 12)
    model.fit_normalisation(rows[:20] / 30)  # so that many entries are cut off
    step, memory = SelectorStep(model), None
    found = []
    for row in rows:
        value, memory = step(row.numpy(), memory)
        found.append(value)
    with torch.no_grad():
        whole, after = model(rows[None])
    np.testing.assert_allclose(found, whole[0], atol=1e-5)
    for part, expected in zip(memory, after, strict=True):
        np.testing.assert_allclose(part, expected[:, 0], atol=1e-5)


def test_lstm_of_another_student():
    with pytest.raises(ConfigError, match="trained for 3 features of a student, this one has 2"):
        LstmSelector(selector(features=3)).wants(seen())


def test_policies_by_name(tmp_path):
    for name in ("fixed", "random", "random_scores", "frame_difference", "feature_difference", "uncertainty", "loss_adaptive", "stride"):
        assert isinstance(open_policy(name, seed=3), POLICIES[name])
    assert open_policy("random", seed=3).state() == RandomCalls(3).state() != RandomCalls(4).state()
    for name, message in (
        ("fixd", "(?s)unknown key-frame policy 'fixd'.*did you mean : fixed"),
        ("lstm", "(?s)unknown.*file of a trained selector"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_policy(name)
    with pytest.raises(CheckpointError, match="selector not found"):
        open_policy(str(tmp_path / "absent.pt"))
    (tmp_path / "coco.names").write_text("person\ncar\n")
    torch.save({"student": {}}, tmp_path / "other.pt")
    for name, message in (("coco.names", "cannot read"), ("other.pt", "is not a key-frame selector")):
        with pytest.raises(CheckpointError, match=message):
            open_policy(str(tmp_path / name))


def lively(index, key):
    """A frame of a stream in which everything changes."""
    rng = np.random.default_rng(index)
    return Observation(
        frame_index=index,
        grey=rng.integers(0, 256, (3, 4), np.uint8),
        features=rng.random(2, np.float32),
        detections=Detections.none(frame_index=index),
        frames_since=index - key.frame_index if key else index,
        last_loss=0.1 * index,
        key_grey=key and key.grey,
        key_features=key and key.features,
    )


def run(chooser, frames, key=None):
    called = []
    for index in frames:
        observation = lively(index, key)
        if chooser.choose(observation):
            called.append(index)
            key = observation
            chooser.update(Feedback(frame_index=index, disagreement=(index % 7) / 7, loss=float(index % 5)))
    return called, key


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_goes_on_where_it_was(name):
    arguments = {"hindsight": lambda: (np.random.default_rng(0).random(120),), "lstm": lambda: (selector(),)}.get(name, tuple)
    chooser = KeyFrameChooser(POLICIES[name](*arguments()), CallBudget(3, 20))
    first, key = run(chooser, range(53))
    file = io.BytesIO()
    torch.save(chooser.state(), file)
    file.seek(0)
    rest, _ = run(chooser, range(53, 120), key)
    again = KeyFrameChooser(POLICIES[name](*arguments()), CallBudget(3, 20))
    again.restore(torch.load(file, weights_only=True))
    assert run(again, range(53, 120), key)[0] == rest
    assert len(first) + len(rest) == 18
