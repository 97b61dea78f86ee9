"""What a student says does not change by a bit when every frame after what it may see is replaced by noise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset, collate
from vidkd.data.manifest import Clip, Manifest
from vidkd.engine.clips import read_clips
from vidkd.engine.config import load_config
from vidkd.engine.evaluate import judge
from vidkd.inference.anticipate import Anticipator
from vidkd.inference.observation_window import observation_window
from vidkd.inference.sources import open_source
from vidkd.inference.torch_classifier import TorchClassifier
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.tasks import build_task
from vidkd.tasks.anticipation import Anticipation, AnticipationConfig
from vidkd.video import write_video

CPU = torch.device("cpu")
CLASSES = ("a", "b", "c")
FRAMES, FPS = 40, 10
FILES = ("a.mkv", "b.mkv")
EARLY = {"protocol": "early", "fractions": [0.3]}
ANTICIPATION = {"protocol": "anticipation", "gap_s": 0.5, "observe_s": 1.0}
ROW: dict[str, dict[str, float]] = {"early": {}, "anticipation": {"start_s": 2.5, "end_s": 3.5}}
FUTURE = {"early": 12, "anticipation": 21}
"""The first frame that must not be seen: 0.3 * 4 s, and the one after 2.5 s - 0.5 s, which is seen."""

protocols = pytest.mark.parametrize("observe", [EARLY, ANTICIPATION], ids=["early", "anticipation"])
views = pytest.mark.parametrize("view", ["rgb", "flow"])
caches = pytest.mark.parametrize("cached", [False, True], ids=["decoded", "cached"])


def data_set(root: Path, observe: dict[str, Any], first: int, seed: int, cache: Path | None) -> DataConfig:
    """Lossless files, every frame a key frame, whose frames from `first` on are noise of this seed; a row of each to be judged."""
    for number, name in enumerate(FILES):
        frames = np.random.default_rng(number).integers(0, 256, (FRAMES, 32, 40, 3), np.uint8)
        frames[first:] = np.random.default_rng([seed, number]).integers(0, 256, frames[first:].shape, np.uint8)
        write_video(root / name, iter(frames), fps=FPS, lossless=True)
    clips = tuple(
        Clip(path=name, label=number, group=name, subsets={"1": "test"}, **ROW[observe["protocol"]]) for number, name in enumerate(FILES)
    )
    Manifest(name="noise", root=root, classes=CLASSES, splits=("1",), clips=clips).write(root / "manifest.jsonl")
    settings = {
        "root": str(root),
        "observe": observe,
        "window": {"frames": 4, "rule": "uniform", "flow_step": 2, "short_clip": "hold"},
        "decode_short_side": None,
        "transform": {"short_side": 32, "crop": 32},
        "eval_clips": 3,  # of which one sees the very last frame
        "cache": {"enabled": cache is not None, "folder": str(cache or "")},
    }
    return load_config(settings={"data": settings}).data


def three(tmp_path: Path, observe: dict[str, Any], *, cached: bool = False) -> tuple[DataConfig, DataConfig, DataConfig]:
    """Two data sets that differ in the future alone, and one that differs from the first in the last frame that is seen too."""
    first, cache = FUTURE[observe["protocol"]], tmp_path / "cache" if cached else None
    one, two = (data_set(tmp_path / str(seed), observe, first, seed, cache) for seed in (1, 2))
    return one, two, data_set(tmp_path / "3", observe, first - 1, 3, cache)


def network(view: Any, seed: int = 0) -> VideoClassifier:
    torch.manual_seed(seed)
    model = VideoClassifier(ModelConfig(dropout=0.0), len(CLASSES), view)
    with torch.no_grad():
        model.fc.weight *= 50
    return model


@caches
@views
@protocols
def test_what_a_student_says_as_it_is_judged(observe: dict[str, Any], view: Any, cached: bool, tmp_path: Path) -> None:
    model = network(view)
    said: list[Tensor] = []
    model.fc.register_forward_hook(lambda _module, _given, logits: said.append(logits.clone()))
    logits, probabilities = [], []
    for data in three(tmp_path, observe, cached=cached):
        said.clear()
        (found,) = judge(model, read_clips(data), "test", data, CLASSES, device=CPU).at.values()
        logits.append(torch.cat(said))
        probabilities.append(found.probabilities)
    assert logits[0].shape == (len(FILES) * 3, len(CLASSES))
    assert torch.equal(logits[0], logits[1])
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    # one frame earlier it does, in every clip
    assert (probabilities[0] != probabilities[2]).any(1).all()


@caches
@views
@protocols
def test_what_a_student_says_as_it_learns_from_a_teacher_that_sees_the_future(
    observe: dict[str, Any], view: Any, cached: bool, tmp_path: Path
) -> None:
    """In training mode, whose normalisation mixes the clips of a batch: logits, features and the loss of the labels."""
    teacher_view: Any = {"rgb": "flow", "flow": "rgb"}[view]
    task = build_task("anticipation", AnticipationConfig(feature="attentive"), network(view), network(teacher_view, seed=1)).train()
    assert isinstance(task, Anticipation)
    assert task.views == (view, f"future_{teacher_view}")
    outputs, losses = [], []
    for data in three(tmp_path, observe, cached=cached):
        dataset = ClipDataset(Path(data.root), read_clips(data).subset("test", "1"), data, views=task.views, training=True)
        batch = collate([dataset[(epoch, number)] for epoch in range(3) for number in range(len(FILES))])
        assert not batch["bad"]
        outputs.append(task.predict(batch))
        losses.append(task(batch))
    assert task.training
    assert task.student.training
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    assert all(torch.equal(features, outputs[1].features[stage]) for stage, features in outputs[0].features.items())
    assert torch.equal(losses[0]["label"], losses[1]["label"])
    assert not torch.equal(losses[0]["attentive"], losses[1]["attentive"]), "the teacher does see it"
    assert not torch.equal(outputs[0].logits, outputs[2].logits)


@pytest.mark.parametrize("batch", [1, 4])
@views
@protocols
def test_what_is_said_along_a_video_until_then(observe: dict[str, Any], view: Any, batch: int, tmp_path: Path) -> None:
    """Ten times a second; from the very time on at which the first other frame is shown it is something else."""
    first = FUTURE[observe["protocol"]]
    said = []
    for data in three(tmp_path, observe)[:2]:
        anticipator = Anticipator(TorchClassifier(network(view)), observation_window(data, view), step_s=1 / FPS, batch=batch)
        with open_source(str(Path(data.root) / FILES[0])) as source:
            said.append([decision for moment in anticipator.along(source) for decision in moment.decisions])
    times = [decision.time_s for decision in said[0]]
    np.testing.assert_allclose(times, np.arange(FRAMES) / FPS)
    assert times == [decision.time_s for decision in said[1]]
    same = [np.array_equal(one.probabilities, two.probabilities) for one, two in zip(*said, strict=True)]
    assert same[:first] == [True] * first
    assert not any(same[first:])
    assert [decision.last for decision in said[0][first:]] == list(range(first, FRAMES)), "what is shown at that very time is seen"
