"""Evaluation: predictions of every clip, and judgements at every observed fraction."""

import csv
import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vidkd.base.errors import DataError
from vidkd.data.dataset import ClipDataset
from vidkd.data.manifest import Clip, Manifest
from vidkd.engine.clips import read_clips
from vidkd.engine.config import RunConfig
from vidkd.engine.evaluate import Judgement, Predictions, evaluate, judge, observed_name
from vidkd.engine.metrics import area
from vidkd.engine.setup import evaluation_set
from vidkd.models import ModelConfig, VideoClassifier

Config = Callable[..., RunConfig]
CPU = torch.device("cpu")
CLASSES = ("Right", "Down", "Grow")


@pytest.fixture
def model() -> VideoClassifier:
    torch.manual_seed(0)
    model = VideoClassifier(ModelConfig(), 3, "rgb")
    model.fc.weight.data *= 100  # so that the classes are told apart
    return model


@pytest.fixture
def dataset(tiny_config: Config) -> ClipDataset:
    data = tiny_config(**{"data.eval_clips": 3}).data
    return evaluation_set(read_clips(data), "test", data, ["rgb"])


def test_probabilities_are_the_mean_of_softmax_over_windows(model: VideoClassifier, dataset: ClipDataset) -> None:
    found = evaluate(model, dataset, CLASSES, device=CPU, batch_size=4)[0].probabilities
    model.eval()
    for clip in (0, 5):
        views = torch.stack([dataset[(0, clip * 3 + view)]["rgb"] for view in range(3)])
        with torch.no_grad():
            each = model(views).logits.softmax(1)
        assert each.std(0).max() > 1e-4  # the windows differ, so a mean of anything else is another number
        np.testing.assert_allclose(found[clip], each.mean(0).numpy(), atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_judged_in_eval_mode_and_put_back(model: VideoClassifier, dataset: ClipDataset, training: bool) -> None:
    model.train(training)
    first = evaluate(model, dataset, CLASSES, device=CPU, batch_size=4)[0].probabilities
    assert model.training is training
    np.testing.assert_array_equal(first, evaluate(model, dataset, CLASSES, device=CPU, batch_size=4)[0].probabilities)


def test_two_shares_add_up_to_the_whole(model: VideoClassifier, dataset: ClipDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(model, dataset, CLASSES, device=CPU, batch_size=4)[0].probabilities
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda sums: sums)
    shares = [evaluate(model, dataset, CLASSES, device=CPU, batch_size=2, rank=rank, world_size=2)[0].probabilities for rank in (0, 1)]
    np.testing.assert_allclose(shares[0] + shares[1], whole, atol=1e-6)
    assert not np.allclose(shares[0], shares[1], atol=1e-3)


def test_weights_that_are_not_finite_are_an_error_with_the_first_clip(model: VideoClassifier, dataset: ClipDataset) -> None:
    model.fc.weight.data[0, 0] = float("nan")
    with pytest.raises(DataError, match="not finite for 6 of 6 clips") as caught:
        evaluate(model, dataset, CLASSES, device=CPU, batch_size=4)
    assert caught.value.lines["first"] == dataset.clips[0].path


def predictions(dataset: ClipDataset) -> Predictions:
    clips = [replace(dataset.clips[0], start_s=0.1, end_s=0.3), dataset.clips[2], replace(dataset.clips[4], label=None)]
    return Predictions(np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.25, 0.25, 0.5]]), clips, CLASSES)


def test_the_table_of_predictions(dataset: ClipDataset, tmp_path: Path) -> None:
    Judgement({None: predictions(dataset)}).write_csv(tmp_path / "predictions.csv")
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["clip", "start_s", "end_s", "group", "label", "predicted", "correct", "p_Right", "p_Down", "p_Grow"],
        ["videos/Right/Right_g4.mp4", "0.1", "0.3", "g4", "Right", "Right", "1", "0.700000", "0.200000", "0.100000"],
        ["videos/Down/Down_g4.mp4", "0.0", "", "g4", "Down", "Right", "0", "0.500000", "0.300000", "0.200000"],
        ["videos/Grow/Grow_g4.mp4", "0.0", "", "g4", "", "Grow", "0", "0.250000", "0.250000", "0.500000"],
    ]


def test_a_table_without_a_clip_has_its_columns(dataset: ClipDataset, tmp_path: Path) -> None:
    Judgement({None: Predictions(np.zeros((0, 3)), [], CLASSES)}).write_csv(tmp_path / "predictions.csv")
    assert (tmp_path / "predictions.csv").read_text().split() == ["clip,start_s,end_s,group,label,predicted,correct"]


def test_clips_without_a_label_are_predicted_but_not_judged(dataset: ClipDataset) -> None:
    found = predictions(dataset)
    assert found.metrics()["top1"] == 0.5
    assert found.labels.tolist() == [0, 1, -1]
    assert Judgement({None: found}).as_rows() == {
        "clip": ["videos/Right/Right_g4.mp4", "videos/Down/Down_g4.mp4", "videos/Grow/Grow_g4.mp4"],
        "group": ["g4", "g4", "g4"],
        "label": [0, 1, -1],
        "predicted": [0, 0, 2],
    }
    again = Predictions(found.probabilities, (*found.clips[:2], dataclasses.replace(found.clips[0], start_s=1.5)), CLASSES)
    assert Judgement({None: again}).as_rows()["start_s"] == [found.clips[0].start_s, 0.0, 1.5]
    unlabelled = Predictions(found.probabilities[2:], found.clips[2:], CLASSES)
    with pytest.raises(DataError, match="no clip has a label"):
        unlabelled.metrics()


AB = ("a", "b")


def predictions_of(*right: bool, held: int = 0) -> Predictions:
    """Of clips of class a, said to be so with 0.8 or not with 0.2."""
    clips = [Clip(path=f"{number}.mp4", label=0, group="g", subsets={}) for number in range(len(right))]
    first = np.where(right, 0.8, 0.2)
    return Predictions(np.stack([first, 1 - first], axis=1), clips, AB, held=held)


def test_metrics_are_means_over_fractions_and_top1_at_each() -> None:
    found = Judgement({0.1: predictions_of(False, False), 0.5: predictions_of(True, False), 1.0: predictions_of(True, True)}).metrics()
    assert found["top1"] == pytest.approx(0.5)
    assert [found[f"top1@obs{percent}"] for percent in (10, 50, 100)] == [0.0, 0.5, 1.0]
    # trapezoids of widths 0.4 and 0.5 over 0.9
    assert found["top1_area"] == pytest.approx((0.4 * 0.25 + 0.5 * 0.75) / 0.9)
    assert found["nll"] == pytest.approx(np.mean([-np.log(0.2), -(np.log(0.2) + np.log(0.8)) / 2, -np.log(0.8)]))


def test_area_of_a_constant_is_the_constant_and_of_one_point_its_value() -> None:
    assert area([0.1, 0.2, 0.7], [0.3, 0.3, 0.3]) == pytest.approx(0.3)
    assert area([0.2], [0.6]) == 0.6
    assert [observed_name(fraction) for fraction in (0.05, 0.2, 0.125, 1.0)] == ["obs5", "obs20", "obs12.5", "obs100"]


def test_rows_and_table_hold_every_fraction(tmp_path: Path) -> None:
    judgement = Judgement({0.1: predictions_of(False, True), 1.0: predictions_of(True, True)})
    rows = judgement.as_rows()
    assert rows["predicted@obs10"] == [1, 0]
    assert rows["predicted"] == rows["predicted@obs100"] == [0, 0]
    judgement.write_csv(tmp_path / "p.csv")
    with (tmp_path / "p.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["clip"], row["observed"], row["predicted"], row["p_a"]) for row in table] == [
        ("0.mp4", "0.1", "b", "0.200000"),
        ("1.mp4", "0.1", "a", "0.800000"),
        ("0.mp4", "1", "a", "0.800000"),
        ("1.mp4", "1", "a", "0.800000"),
    ]


def test_what_was_not_or_hardly_observed_is_said() -> None:
    unseen = [Clip(path=f"unseen{number}.mp4", label=0, group="g", subsets={}) for number in range(3)]
    judgement = Judgement({0.1: predictions_of(True, False, held=2), 1.0: predictions_of(True, False)}, unobservable=unseen)
    assert judgement.counts() == {"clips": 2, "unobservable": 3, "shortened": 0, "held@obs10": 2, "held@obs100": 0}
    assert judgement.remarks() == [
        "3 clips are not judged: nothing of them can be observed",
        "2 of 2 clips at 10 % observed have fewer frames than the window: frames repeat",
    ]
    once = Judgement({None: predictions_of(True, held=1)}, shortened=1)
    assert once.counts() == {"clips": 1, "unobservable": 0, "shortened": 1, "held": 1}
    assert once.remarks() == [
        "of 1 clips less than data.observe.observe_s was observed: their files begin later",
        "1 of 1 clips have fewer frames than the window: frames repeat",
    ]
    assert Judgement({None: predictions_of(True)}).remarks() == []


def test_a_model_is_shown_each_fraction_and_told_it(tiny_root: Path, tiny_config: Config) -> None:
    observe = {"data.observe.protocol": "early", "data.observe.fractions": [0.2, 1.0], "data.window.rule": "uniform"}
    config = tiny_config(**observe, **{"data.window.short_clip": "hold", "data.eval_clips": 1})
    clips = read_clips(config.data)
    torch.manual_seed(0)
    model = VideoClassifier(ModelConfig(condition_on_observed=True), len(clips.manifest.classes), "rgb")
    text: list[float] = []
    assert model.observed is not None
    model.observed.register_forward_pre_hook(lambda _, given: text.extend(given[0].tolist()))
    judgement = judge(model, clips, "test", config.data, clips.manifest.classes, device=torch.device("cpu"))
    count = len(clips.subset("test", "1"))
    assert text == pytest.approx([0.2] * count + [1.0] * count)
    assert judgement.fractions == [0.2, 1.0]
    for fraction in (0.2, 1.0):
        dataset = evaluation_set(clips, "test", config.data, ["rgb"], fraction=fraction)
        alone = evaluate(model, dataset, clips.manifest.classes, device=torch.device("cpu"), batch_size=2)[0]
        np.testing.assert_allclose(judgement.at[fraction].probabilities, alone.probabilities, atol=1e-6)
    assert judgement.at[0.2].held == count > judgement.at[1.0].held == 0
    assert not np.allclose(judgement.at[0.2].probabilities, judgement.at[1.0].probabilities)
    whole = dataclasses.replace(config.data, observe=dataclasses.replace(config.data.observe, protocol="whole"))
    once = judge(model, clips, "test", whole, clips.manifest.classes, device=torch.device("cpu"))
    assert list(once.at) == [None]


BETWEEN = {  # protocol, a row that begins between two frames of 0.04 s, and how many fractions are judged
    "early": ({"fractions": [0.1, 0.5, 1.0]}, {"start_s": 0.05, "end_s": 0.25}),  # to 0.07 s nothing is shown, to 0.15 s two frames
    "anticipation": ({"gap_s": 0.1, "observe_s": 0.01}, {"start_s": 0.28, "end_s": 0.4}),  # nothing is shown in [0.17, 0.18]
}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("protocol", BETWEEN)
def test_clips_without_a_frame_in_the_observed_part_are_counted_and_change_no_other_s_result(
    tiny_root: Path, tiny_config: Config, tmp_path: Path, protocol: str, cached: bool
) -> None:
    observe, between = BETWEEN[protocol]
    config = tiny_config(
        **{"data.observe": {"protocol": protocol, **observe}, "data.window": {"frames": 4, "rule": "uniform", "short_clip": "hold"}},
        **{"data.cache": {"enabled": cached, "folder": str(tmp_path / "cache")}},
    )
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    rows = [dataclasses.replace(clip, **({} if protocol == "early" else {"start_s": 0.27})) for clip in manifest.select("1", "test")]
    blind = dataclasses.replace(rows[-1], **between)
    torch.manual_seed(0)
    model = VideoClassifier(ModelConfig(), len(manifest.classes), "rgb")

    def judged(clips: list[Clip]) -> Judgement:
        dataclasses.replace(manifest, clips=tuple(clips)).write(tmp_path / "rows.jsonl")
        data = dataclasses.replace(config.data, manifest=str(tmp_path / "rows.jsonl"))
        return judge(model, read_clips(data), "test", data, manifest.classes, device=torch.device("cpu"))

    alone, other = judged(rows[:-1]), judged([*rows[:-1], blind])
    assert (alone.unobservable, other.unobservable) == ([], [blind])
    assert other.counts() == {**alone.counts(), "unobservable": 1}
    assert "1 clips are not judged: nothing of them can be observed" in other.remarks()
    assert list(other.at) == list(alone.at)
    for fraction, predictions in other.at.items():
        assert predictions.clips == rows[:-1], "each fraction judges the same clips"
        np.testing.assert_array_equal(predictions.probabilities, alone.at[fraction].probabilities)
    with pytest.raises(DataError, match="of no 'test' clip anything can be observed"):
        judged([dataclasses.replace(row, **between) for row in rows])


def test_further_labels_are_predicted_and_judged_by_their_recall() -> None:
    clips = [Clip(path=f"{n}.mp4", label=n % 2, group="g", subsets={}, targets={"verb": n % 3}) for n in range(6)]
    scores = np.eye(2)[[0, 1, 0, 1, 1, 0]]
    found = Predictions(scores, clips, AB, targets={"verb": np.eye(3)[[0, 1, 2, 0, 1, 2]]}).metrics()
    assert found["top1"] == pytest.approx(4 / 6)
    assert found["verb_recall5"] == 1.0
    assert found["recall5"] == 1.0  # two classes: any is among the first five
    assert (found["verb_top1"], found["verb_class_mean"]) == (1.0, 1.0)
    assert "verb_top5" not in found, "there are three verbs"
    judgement = Judgement({None: Predictions(scores, clips, AB, targets={"verb": np.eye(3)[[0, 1, 2, 0, 1, 2]]})}, clips[:1])
    text = judgement.metrics()
    assert {name: text[name] for name in found} == found
    assert text["recall5_all"] == pytest.approx((3 / 4 + 1) / 2)
    assert text["verb_recall5_all"] == pytest.approx((2 / 3 + 1 + 1) / 3)
