"""Evaluation: the mean over windows, what is written, and the same result from one process or two."""

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
from vidkd.engine.clips import read_clips
from vidkd.engine.config import RunConfig
from vidkd.engine.evaluate import Judgement, Predictions, evaluate
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
    found = evaluate(model, dataset, CLASSES, device=CPU, batch_size=4).probabilities
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
    first = evaluate(model, dataset, CLASSES, device=CPU, batch_size=4).probabilities
    assert model.training is training
    np.testing.assert_array_equal(first, evaluate(model, dataset, CLASSES, device=CPU, batch_size=4).probabilities)


def test_two_shares_add_up_to_the_whole(model: VideoClassifier, dataset: ClipDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(model, dataset, CLASSES, device=CPU, batch_size=4).probabilities
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda sums: sums)
    shares = [evaluate(model, dataset, CLASSES, device=CPU, batch_size=2, rank=rank, world_size=2).probabilities for rank in (0, 1)]
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
