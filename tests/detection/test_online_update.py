import dataclasses
import math

import numpy as np
import pytest
import torch
from online_samples import CFG, NAMES, changed, detector, keys, oracle, stream, student, weights

from vidkd.base.errors import ConfigError
from vidkd.detection.online import HeadOracle, KeyFrame, Replay, Student, Trainer, Update
from vidkd.detection.online.key_frames import LOSSES, NEEDS_HEADS, oracle_heads, truths_of
from vidkd.detection.online.learner import OnlineTrainer
from vidkd.losses.teacher_bounded import bounded_box_regression, matched_heads, oracle_assigned
from vidkd.losses.yolo import YoloLossOptions
from vidkd.models.darknet import Darknet, parse_cfg
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.tasks.yolo import YoloDetection

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize(
    ("settings", "layers"),
    [({"trains": "heads"}, {4}), ({"trains": "blocks", "blocks": 2}, {3, 4}), ({"trains": "all"}, {0, 1, 2, 3, 4})],
)
def test_only_what_trains_changes_and_norm_statistics_never(settings, layers):
    light = student()
    before = weights(light)
    first, *rest = keys(light)
    assert Trainer(light, Update(lr=1e-3, steps=2, **settings)).learn(first, rest).outcome == "kept"
    moved = changed(before, weights(light))
    assert {int(name.split(".")[1]) for name in moved} == layers
    assert not any(name.endswith(STATISTICS) for name in moved)
    assert not light.net.training


def test_an_added_head_trains_with_the_last_convolutions():
    light, update = student(), Update(trains="added", lr=1e-3, steps=2)
    assert light.for_update(Update(trains="all")) is light
    grown = light.for_update(update)
    assert grown.for_update(update) is grown
    before = weights(grown)
    first, *rest = keys(light)
    assert Trainer(grown, update).learn(first, rest).outcome == "kept"
    assert {int(name.split(".")[1]) for name in changed(before, weights(grown))} == {4, 6}
    with pytest.raises(ConfigError, match="no added head"):
        Trainer(light, update)


def test_an_update_is_these_steps_of_the_optimiser():
    light, by_hand = student(), student()
    first, *rest = keys(light)
    update = Update(trains="all", optimiser="sgd", lr=1e-3, steps=3, keep_best=False, clip_norm=0.5, most_worse=None)
    record = Trainer(light, update).learn(first, rest)
    losses = []
    for step in range(4):
        heads = by_hand.net(by_hand.inputs([key.image for key in (first, *rest)]))
        truths = [truths_of(key, torch.device("cpu")) for key in (first, *rest)]
        now, past = (oracle_assigned([h[p] for h in heads], truths[p], by_hand.net.heads).total for p in (slice(1), slice(1, 3)))
        losses.append((now.item(), past.item()))
        if step == 3:
            break
        gradients = torch.autograd.grad((now + 2 * past) / 3, list(by_hand.net.parameters()))
        length = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        assert length > 0.5
        with torch.no_grad():
            for parameter, gradient in zip(by_hand.net.parameters(), gradients, strict=True):
                parameter -= 1e-3 * 0.5 / length * gradient
    for ours, expected in zip(light.net.parameters(), by_hand.net.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)
    assert (record.loss_before, record.replay_before) == pytest.approx(losses[0], rel=1e-5)
    assert (record.loss_after, record.replay_after) == pytest.approx(losses[3], rel=1e-4)
    assert (record.outcome, record.step) == ("kept", 3)


def test_the_best_step_is_kept_where_the_last_is_worse():
    light = student()
    (first,) = keys(light, 1)
    rough = {"trains": "all", "optimiser": "sgd", "lr": 0.05, "clip_norm": None, "steps": 8}
    last = Trainer(student(), Update(keep_best=False, **rough)).learn(first, [])
    trainer = Trainer(light, Update(**rough))
    best = trainer.learn(first, [])
    assert best.outcome == "kept"
    assert 0 < best.step < 8
    assert best.loss_after < best.loss_before
    assert best.loss_after < last.loss_after
    again = Trainer(light, Update(steps=0)).learn(first, [])
    assert again.loss_before == pytest.approx(best.loss_after, rel=1e-5)


def test_without_a_better_step_nothing_changes():
    light = student()
    before = weights(light)
    (first,) = keys(light, 1)
    record = Trainer(light, Update(trains="all", optimiser="sgd", lr=10.0, clip_norm=1.0, steps=1)).learn(first, [])
    assert record.outcome == "no_better"
    assert (record.step, record.loss_after) == (0, record.loss_before)
    assert changed(before, weights(light)) == set()


def test_below_the_least_loss_nothing_is_trained():
    light = student()
    before = weights(light)
    (first,) = keys(light, 1)
    loss = Trainer(light, Update(steps=0)).learn(first, []).loss_before
    assert Trainer(light, Update(min_loss=loss * 1.01)).learn(first, []).outcome == "below_minimum"
    assert changed(before, weights(light)) == set()
    assert Trainer(light, Update(min_loss=loss * 0.99, lr=1e-4, steps=1)).learn(first, []).outcome == "kept"


@pytest.fixture(scope="module")
def experienced():
    """A student that has learned four key frames well, and those; tests take a copy of it."""
    light = student()
    known = keys(light, 4)
    Trainer(light, Update(trains="all", lr=1e-2, steps=50)).learn(known[0], known[1:])
    return light, known


POISON = {"trains": "all", "lr": 1e-2, "steps": 3}


def poisoned(key):
    """The oracle calls the square a bar, finds no bar, and finds two squares where nothing is."""
    boxes = np.array([key.boxes[0], [2, 40, 16, 54], [44, 2, 58, 16]], np.float32)
    return KeyFrame(frame_index=99, image=key.image, boxes=boxes, scores=np.full(3, 0.9, np.float32), labels=np.array([1, 0, 0], np.int64))


def test_the_guard_undoes_an_update_from_poisoned_boxes(experienced):
    light, known = experienced[0].copy(), experienced[1]
    before = weights(light)
    record = Trainer(light, Update(most_worse=0.1, **POISON)).learn(poisoned(known[-1]), known[:2])
    assert record.outcome == "rolled_back"
    assert record.replay_after > 1.1 * record.replay_before
    assert record.loss_after < record.loss_before
    assert changed(before, weights(light)) == set()
    without = Trainer(light, Update(most_worse=None, **POISON)).learn(poisoned(known[-1]), known[:2])
    assert without.outcome == "kept"
    assert without.replay_after == pytest.approx(record.replay_after, rel=1e-4)


@pytest.mark.parametrize("spoilt", ["weights", "gradient"])
def test_what_is_not_finite_is_undone(spoilt):
    light = student()
    first, second = keys(light, 2)
    if spoilt == "weights":
        with torch.no_grad():
            light.net.layers[4].conv.weight[0] = math.nan
    else:
        light.net.layers[4].conv.weight.register_hook(lambda gradient: gradient * math.inf)
    before = weights(light)
    assert Trainer(light, Update(trains="all")).learn(first, [second]).outcome == "not_finite"
    after = weights(light)
    assert all(torch.equal(before[name].nan_to_num(7), after[name].nan_to_num(7)) for name in before)


def test_what_an_exception_interrupts_is_undone():
    light = student()
    first, second = keys(light, 2)
    before, calls = weights(light), []

    def run_out(module, inputs):
        calls.append(module)
        if len(calls) == 3:
            raise MemoryError

    light.net.layers[4].register_forward_pre_hook(run_out)
    trainer = Trainer(light, Update(trains="all", lr=1e-2, steps=5, keep_optimiser=True))
    with pytest.raises(MemoryError):
        trainer.learn(first, [second])
    assert changed(before, weights(light)) == set()
    assert trainer.state()["optimiser"]["state"] == {}


def test_each_loss_is_the_one_of_its_name():
    light, heavy = student(), HeadOracle(detector(seed=3, score_threshold=0.012), detector())
    two = keys(light, 2, heavy)
    assert all(len(key.boxes) for key in two)
    heads = [head.detach() for head in light.net(light.inputs([key.image for key in two]))]
    theirs = oracle_heads(two, heads)
    truths = [truths_of(key, torch.device("cpu")) for key in two]
    mean_square = (heads[0] - theirs[0]).square().mean()
    matched = matched_heads(heads, theirs, light.net.heads)
    bounded = bounded_box_regression(heads, theirs, truths, light.net.heads)

    def loss(name, **settings):
        return LOSSES[name](heads, two, light.net.heads, Update(loss=name, **settings))

    torch.testing.assert_close(loss("matched_heads"), matched.total)
    torch.testing.assert_close(loss("bounded_box_regression"), matched.objectness + matched.classes + bounded)
    torch.testing.assert_close(loss("confidence_bounded_mix", mix_share=1.0), mean_square)
    torch.testing.assert_close(loss("confidence_bounded_mix", mix_threshold=1.0), 0.4**2 * mean_square)
    options = YoloLossOptions(box_iou_bound=0.3)
    wanted = oracle_assigned(heads, truths, light.net.heads, scores_as="objectness", options=options)
    torch.testing.assert_close(loss("oracle_assigned", scores_as="objectness", options=options), wanted.total)
    surer = oracle_assigned(heads, truths, light.net.heads, scores_as="objectness", score_power=0.25, options=options)
    torch.testing.assert_close(loss("oracle_assigned", scores_as="objectness", score_power=0.25, options=options), surer.total)
    assert loss("oracle_assigned", certain=1.0) < loss("oracle_assigned")


@pytest.mark.parametrize("name", sorted(NEEDS_HEADS))
def test_raw_heads_teach_and_the_oracle_stays_as_it_was(name):
    light, teacher = student(), detector(seed=3)
    before = {key: value.clone() for key, value in teacher.net.state_dict().items()}
    heavy = HeadOracle(teacher, light.detector)
    first, *rest = keys(light, 3, heavy)
    record = Trainer(light, Update(loss=name, trains="all", lr=1e-3, steps=3)).learn(first, rest)
    assert record.outcome == "kept"
    assert record.loss_after < record.loss_before
    assert changed(before, teacher.net.state_dict()) == set()
    assert not teacher.net.training


def test_spare_anchors_count_along_a_stream_as_in_training():
    """A box that best fits an anchor without a head teaches no cell, on a key frame as on an annotated frame."""
    text = CFG.replace("anchors=14,14, 28,10", "anchors=14,14, 28,10, 60,60").replace("num=2", "num=3")
    assert text != CFG
    light = Student(DarknetDetector(Darknet(parse_cfg(text)), NAMES))
    large = {"boxes": np.array([[2, 2, 62, 62]], np.float32), "scores": np.ones(1, np.float32), "labels": np.zeros(1, int)}
    key = dataclasses.replace(keys(light, 1)[0], **large)
    heads = light.net(light.inputs([key.image]))
    learned = LOSSES["oracle_assigned"](heads, [key], light.net.heads, Update())
    frame = {"boxes": [torch.from_numpy(key.boxes)], "labels": [torch.from_numpy(key.labels)], "ignore": [torch.zeros(1, dtype=torch.bool)]}
    trained = YoloDetection(None, light.net).training_step({"image": torch.from_numpy(key.image.transpose(2, 0, 1)[None].copy()), **frame})
    assert trained["box"] == 0
    torch.testing.assert_close(learned, trained["loss"])


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
    assert trainer._interpolate(key, trainer._weights()) == (best, pytest.approx(losses[1.0], rel=1e-5))
    assert len(set(losses.values())) == len(SHARES)
    for name, value in weights(trainer.student).items():
        torch.testing.assert_close(value, began[name] + best * (here[name] - began[name]) if value.is_floating_point() else here[name])


def test_weights_stay_where_no_share_has_a_finite_loss():
    trainer, key = learned_and_unseen(interpolate=(0.0, 0.5))
    before = weights(trainer.student)
    broken = dataclasses.replace(key, scores=np.full_like(key.scores, np.nan))
    assert len(broken.scores)
    assert trainer._interpolate(broken, trainer._weights())[0] == 1.0
    assert changed(before, weights(trainer.student)) == set()


def test_an_update_that_throws_leaves_the_weights_that_were_there_before_the_share_was_chosen(monkeypatch):
    light, asked = student(), oracle()
    online = OnlineTrainer(light, asked, Update(trains="all", lr=1e-2, steps=5, interpolate=(0.0,)), Replay())
    first, second = (*stream(1, 0), *stream(1, 5))
    online.learn(light.detect(first, frame_index=0), asked(first))
    before, state = weights(light), online.trainer.mean_share
    monkeypatch.setattr(online.trainer, "_run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        online.learn(light.detect(second, frame_index=1), asked(second))
    assert changed(before, weights(light)) == set()
    assert online.trainer.mean_share == state
    assert changed(before, weights(student())), "the share of nothing would have put the weights of the beginning back"


def test_what_is_learned_next_is_pulled_back_by_the_mean_of_the_shares_that_served():
    light = student()
    trainer = Trainer(light, Update(trains="all", lr=1e-2, steps=3, retain=0.9, interpolate=(0.5,)))
    plain = Update(trains="all", lr=1e-2, steps=3)
    began, mean = weights(light), None
    for key in (*keys(light, 2), *keys(light, 2, oracle(), seed=5)):
        assert trainer._interpolate(key, trainer._weights())[0] == 0.5
        mean = None if mean is None else 0.8 * mean + 0.2 * 0.5
        copy = light.copy()
        assert Trainer(copy, plain).learn(key, []).outcome == "kept"
        assert trainer.learn(key, [], interpolate=False).outcome == "kept"
        mean = 1.0 if mean is None else mean  # nothing had been learned before the first
        far = weights(copy)
        for name, value in weights(light).items():
            expected = began[name] + 0.9 * mean * (far[name] - began[name]) if value.is_floating_point() else far[name]
            torch.testing.assert_close(value, expected)
    assert mean == pytest.approx(0.8**3 + 0.5 * (1 - 0.8**3))
