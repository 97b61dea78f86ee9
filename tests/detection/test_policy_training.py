"""Selectors: the records that they learn from, their training, and what their files say of it."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from online_samples import NAMES, Painter, detector, stream, student
from scipy.stats import spearmanr

from vidkd.base.errors import DataError
from vidkd.detection.metrics import SCORE, expected_disagreement
from vidkd.detection.online import BoxOracle, SynchronousLearner, Update
from vidkd.detection.online.learner import agreement_of
from vidkd.detection.policies import CallBudget, FixedInterval
from vidkd.detection.policies.lstm import objections, other_learning, provenance
from vidkd.detection.policies.train import (
    SelectorRecord,
    SelectorTraining,
    _chunks,
    about,
    cached_record,
    record_stream,
    train_selector,
)
from vidkd.models.darknet import load_weights, save_weights
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


def test_a_damaged_record_is_made_again(tmp_path, caplog):
    cached_record(tmp_path, {"student": "a"}, lambda: made(4))
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:200])
    assert len(cached_record(tmp_path, {"student": "a"}, lambda: made(5))) == 5
    assert f"made again, for it is damaged: {path}" in caplog.text
    assert len(cached_record(tmp_path, {"student": "a"}, lambda: made(6))) == 5


SMALL = SelectorTraining(target="disagreement", units=12, epochs=25, patience=25, chunk=20, batch=4, lr=1e-2)


def record(seed, frames=60, features=3):
    """Disagreement follows one feature of the frame before and the frames since the last call; the errors another; the rest is noise."""
    rng = np.random.default_rng(seed)
    seen = rng.random((frames, features), np.float32)
    since = (np.arange(frames) % 10).astype(np.float32)
    before = np.concatenate([[0], seen[:-1, 1]])
    return SelectorRecord(
        features=seen,
        frames_since=since,
        last_loss=rng.random(frames, np.float32),
        motion=rng.random(frames, np.float32),
        doubt=rng.random(frames, np.float32),
        boxes=rng.integers(0, 9, frames).astype(np.float32),
        disagreement=(0.7 * before + 0.03 * since).astype(np.float32),
        errors=np.round(9 * seen[:, 2]),
        called=since == 0,
    )


JUDGED = [record(7), record(8, frames=41)]


@pytest.fixture(scope="module")
def trained():
    return train_selector([record(seed) for seed in range(6)], JUDGED, SMALL)


def test_it_learns_what_other_videos_show(trained):
    assert trained.validation[-1] < 0.3 * trained.validation[0]
    assert trained.rank_correlation > 0.8
    predicted = torch.cat([trained.selector(one.inputs[None])[0][0] for one in JUDGED]).detach().numpy()
    true = np.concatenate([one.disagreement for one in JUDGED])
    assert trained.rank_correlation == pytest.approx(spearmanr(predicted, true).statistic)
    assert not trained.selector.training


def test_the_weights_are_those_of_the_best_epoch_and_the_loss_is_over_the_frames_alone(trained):
    assert trained.best_epoch == 1 + int(np.argmin(trained.validation))
    errors = []
    for one in JUDGED:
        with torch.no_grad():
            errors.append(trained.selector(one.inputs[None])[0][0].numpy() - one.disagreement)
    d = np.abs(np.concatenate(errors))
    huber = np.where(d <= 0.1, d**2 / 2, 0.1 * (d - 0.05))
    assert len(d) == 101
    assert huber.mean() == pytest.approx(trained.validation[trained.best_epoch - 1], rel=1e-4)


def test_equal_seeds_give_equal_weights_and_the_global_generator_is_left_alone():
    settings = dataclasses.replace(SMALL, epochs=2)
    records = [record(0), record(1)]
    torch.manual_seed(5)
    first = train_selector(records, [record(2)], settings)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)
    again = train_selector(records, [record(2)], settings)
    other = train_selector(records, [record(2)], dataclasses.replace(settings, seed=1))
    assert first.validation == again.validation != other.validation
    for ours, theirs in zip(first.selector.parameters(), again.selector.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_training_ends_when_other_videos_gain_nothing_more():
    backwards = record(3)
    backwards = dataclasses.replace(backwards, disagreement=1 - backwards.disagreement)
    result = train_selector([record(0)], [backwards], dataclasses.replace(SMALL, patience=3))
    assert len(result.validation) == result.best_epoch + 3 < 25
    assert result.validation[result.best_epoch - 1] == min(result.validation)


def test_an_epoch_whose_loss_is_no_number_is_never_the_best_one(monkeypatch):
    rising = iter([0.5, 0.4, math.nan, 0.1])
    monkeypatch.setattr("vidkd.detection.policies.train._judge", lambda *_: next(rising))
    result = train_selector([record(0)], [record(1)], dataclasses.replace(SMALL, features="use"))
    assert (result.best_epoch, result.validation[:2], len(result.validation)) == (2, (0.5, 0.4), 3)
    assert all(torch.isfinite(weight).all() for weight in result.selector.parameters())


def test_a_training_of_which_no_epoch_can_be_judged_is_told():
    unknown = dataclasses.replace(record(1), last_loss=np.full(60, np.nan, np.float32))
    with pytest.raises(DataError, match="was never finite"):
        train_selector([record(0)], [unknown], dataclasses.replace(SMALL, epochs=4))


def test_features_that_only_mislead_are_left_out_where_either_way_may_be():
    def noisy(seed):
        one = record(seed, frames=40, features=60)
        return dataclasses.replace(one, doubt=one.disagreement * 0.9)

    training, others = [noisy(0)], [noisy(1), noisy(2)]
    ways = {name: train_selector(training, others, dataclasses.replace(SMALL, features=name)) for name in ("use", "leave_out", "either")}
    assert min(ways["leave_out"].validation) < min(ways["use"].validation)
    assert ways["either"].validation == ways["leave_out"].validation
    assert [ways[name].selector.config.sees_features for name in ways] == [True, False, False]
    assert about(ways["either"], SMALL)["sees_features"] is False
    kept = train_selector([record(seed) for seed in range(4)], [record(7)], dataclasses.replace(SMALL, epochs=10))
    assert kept.selector.config.sees_features, "the disagreement follows a feature"


@pytest.mark.parametrize("loss", ["above_threshold_bce", "order_in_window"])
def test_the_other_losses_rank_the_frames_too(loss):
    settings = dataclasses.replace(SMALL, loss=loss, threshold=0.5, window=8)
    assert train_selector([record(seed) for seed in range(4)], [record(9)], settings).rank_correlation > 0.7


def test_the_number_of_errors_is_what_a_selector_foresees_unless_it_is_told_otherwise():
    settings = dataclasses.replace(SMALL, target=SelectorTraining().target)
    assert settings.target == "errors"
    trained = train_selector([record(seed) for seed in range(6)], [record(7)], settings)
    one = record(8)
    with torch.no_grad():
        expected = trained.selector(one.inputs[None])[0][0].numpy()
    assert trained.rank_correlation > 0.8
    assert np.abs(expected - np.log1p(one.errors)).mean() < 0.3
    assert abs(np.corrcoef(expected, one.disagreement)[0, 1]) < 0.5
    assert about(trained, settings)["target"] == "errors"


def test_chunks_hold_each_frame_once():
    records = [record(0, frames=53), record(1, frames=5), record(2, frames=1)]
    generator = torch.Generator().manual_seed(0)
    starts = set()
    for _ in range(20):
        chunks = _chunks(records, SMALL, generator)
        assert max(len(true) for _, true in chunks) <= 20
        np.testing.assert_array_equal(torch.cat([true for _, true in chunks]), np.concatenate([one.disagreement for one in records]))
        np.testing.assert_array_equal(torch.cat([inputs for inputs, _ in chunks]), torch.cat([one.inputs for one in records]))
        starts.add(len(chunks[0][1]))
    assert len(starts) > 5


def test_records_that_do_not_serve():
    with pytest.raises(DataError, match="records to train on and others"):
        train_selector([record(0)], [])
    with pytest.raises(DataError, match=r"unlike students: \[3, 4\] features"):
        train_selector([record(0)], [record(1, features=4)])


def test_a_student_is_known_by_its_weights_and_how_frames_meet_it(tmp_path: Path) -> None:
    net = detector(0).net
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.num_batches_tracked.fill_(70)
    about = provenance([], [], net, "darknet")
    save_weights(net, tmp_path / "student.weights")
    again = detector(1).net
    assert objections(about, again, "darknet", {}) == ["was trained with another student: its weights differ"]
    load_weights(again, tmp_path / "student.weights")
    assert objections(about, again, "darknet", {}) == [], "a checkpoint and the file of weights made of it"
    assert objections(about, again, "stretch", {}) == ["was trained with another student: its resize differ"]


def test_videos_are_known_by_their_content_on_both_sides() -> None:
    net = detector(0).net
    about = provenance(["aa", "bb"], ["cc"], net, "darknet")
    contents = {"one.mp4": "dd", "two.mp4": "cc", "three.mp4": "aa"}
    assert objections(about, net, "darknet", contents) == ["has seen two.mp4, three.mp4 in its training"]
    assert objections({"train": ["one.mp4"]}, net, "darknet", contents) == ["does not say which videos and which student it has seen"]


@pytest.mark.parametrize(
    ("now", "other"),
    [
        ({"budget": 0.05, "update": {"lr": 0.1, "betas": (0.9, 0.99)}}, []),
        ({"budget": 0.1, "window": 100}, ["budget: 0.05 then, 0.1 now", "window: 200 then, 100 now"]),
        (
            {"update": {"lr": 0.2, "options": {"iou_loss": "giou"}}},
            ["update.lr: 0.1 then, 0.2 now", "update.options.iou_loss: ciou then, giou now"],
        ),
        ({"replay": {"frames": 8, "seed": 3}, "seed": 7}, []),
    ],
)
def test_learning_is_compared_in_what_both_sides_name_but_not_in_seeds(now: dict, other: list[str]) -> None:
    update = {"lr": 0.1, "betas": [0.9, 0.99], "options": {"iou_loss": "ciou"}}
    made_from = {"budget": 0.05, "window": 200, "seed": 0, "update": update, "replay": {"frames": 8, "seed": 0}}
    assert other_learning({"made_from": made_from}, now) == other
    assert other_learning({}, now) == []
