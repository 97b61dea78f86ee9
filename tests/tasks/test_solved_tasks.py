"""Heads that are found without gradient steps: the solution itself, how it is chosen, and runs that end with it."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.nn import functional as F

from vidkd.base.errors import ConfigError, DataError
from vidkd.data.groups import group_folds
from vidkd.data.loaders import evaluation_loader
from vidkd.data.manifest import Clip
from vidkd.engine.clips import read_clips_of_run
from vidkd.engine.config import RunConfig
from vidkd.engine.evaluate import judge, judged_set
from vidkd.engine.fit import fit
from vidkd.engine.setup import build_run_task
from vidkd.engine.solve import pooled_rows, teacher_probabilities
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.models.changes import apply_changes
from vidkd.models.saved import load_classifier
from vidkd.report.examples import example_strips
from vidkd.tasks import build_task
from vidkd.tasks.distilled_probe import DistilledProbe
from vidkd.tasks.linear_probe import ABSENT, LogisticRegression, choose_strength, one_hot
from vidkd.tasks.task import Rows, Task

Config = Callable[..., RunConfig]
CPU = torch.device("cpu")
EARLY = {"data.observe.protocol": "early", "data.window.short_clip": "hold"}


def sample(clips: int, channels: int, classes: int = 3, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of unequal scales about means of their class, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(clips) % classes
    vectors = spread * rng.normal(size=(clips, channels)) + 0.8 * rng.normal(size=(classes, channels))[labels]
    return vectors * rng.uniform(0.1, 30, channels) + rng.uniform(-5, 5, channels), labels


@pytest.mark.parametrize(("clips", "channels"), [(40, 6), (12, 30)])
def test_the_probe_is_the_minimum_that_another_solver_finds(clips: int, channels: int) -> None:
    vectors, labels = sample(clips, channels)
    inputs, targets = torch.from_numpy((vectors - vectors.mean(0)) / vectors.std(0)), torch.from_numpy(labels)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        solution = torch.tensor(flat.reshape(3, -1), requires_grad=True)
        weight, bias = solution[:, :-1], solution[:, -1]
        value = F.cross_entropy(inputs @ weight.T + bias, targets) + 0.05 / 2 * weight.square().sum()
        value.backward()
        assert solution.grad is not None
        return float(value.detach()), solution.grad.numpy().ravel()

    other = minimize(loss, np.zeros(3 * (channels + 1)), jac=True, method="Newton-CG", options={"xtol": 1e-12})
    solution = other.x.reshape(3, -1)
    expected = inputs.numpy() @ solution[:, :-1].T + solution[:, -1]
    weight, bias = LogisticRegression(vectors, one_hot(labels, 3)).solve(0.05)
    logits = vectors @ weight.T + bias
    np.testing.assert_allclose(logits - logits.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), atol=1e-5)


def test_a_class_without_clips_is_never_named_and_a_constant_channel_says_nothing() -> None:
    vectors, labels = sample(20, 4, classes=2)
    vectors[:, 1] = 0.1
    weight, bias = LogisticRegression(vectors, one_hot(labels * 2, 3)).solve(0.1)
    assert not weight[1].any()
    assert bias[1] == ABSENT
    assert np.abs(weight[:, 1]).max() < 1e-12
    assert set((vectors @ weight.T + bias).argmax(1)) <= {0, 2}


def test_the_strength_is_the_one_that_names_most_clips_of_the_left_out_parts() -> None:
    vectors, labels = sample(60, 40, seed=3, spread=3.0)
    folds, strengths = np.arange(60) // 3 % 4, (1e-4, 0.3, 50.0)
    strength, tried = choose_strength(vectors, one_hot(labels, 3), folds, strengths)
    right = []
    for each in strengths:
        named = np.empty(60)
        for fold in range(4):
            weight, bias = LogisticRegression(vectors[folds != fold], one_hot(labels[folds != fold], 3)).solve(each)
            named[folds == fold] = (vectors[folds == fold] @ weight.T + bias).argmax(1)
        right.append((named == labels).mean())
    assert [row["agreement"] for row in tried] == pytest.approx(right, abs=1e-6)
    assert max(right) == right[strengths.index(strength)]
    assert len(set(right)) > 1


def test_of_one_group_the_strength_is_the_middle_one() -> None:
    vectors, labels = sample(9, 4)
    assert choose_strength(vectors, one_hot(labels, 3), np.zeros(9, np.int64), (0.1, 1.0, 10.0)) == (1.0, [])


def test_parts_are_whole_groups_and_hold_every_class() -> None:
    clips = [
        Clip(path=f"{label}/{group}/{n}.mp4", label=label, group=f"{label}{group}", subsets={})
        for label in range(5)
        for group in range(5)
        for n in (0, 1)
    ]
    parts = group_folds(clips, 5, 0)
    found = {clip.group: part for clip, part in zip(clips, parts, strict=True)}
    assert all(found[clip.group] == part for clip, part in zip(clips, parts, strict=True))
    for part in range(5):
        assert sorted({clip.label for clip, of in zip(clips, parts, strict=True) if of == part}) == [0, 1, 2, 3, 4]
    assert dict(zip([clip.path for clip in clips[::-1]], group_folds(clips[::-1], 5, 0), strict=True)) == dict(
        zip([clip.path for clip in clips], parts, strict=True)
    )


def frozen(classes: int, **targets: int) -> VideoClassifier:
    return VideoClassifier(ModelConfig(freeze="all", dropout=0.0), classes, "rgb", targets).eval()


def test_the_nearest_neighbour_names_the_class_of_the_most_similar_vector() -> None:
    draw = torch.Generator().manual_seed(0)
    student = frozen(4, verb=2)
    width = student.fc.in_features
    vectors, labels = torch.randn(30, width, generator=draw), torch.tensor([0, 2, 3] * 10)  # no clip of class 1
    verbs = torch.tensor([0, 1, -1] * 10)
    task = build_task("nearest_neighbour", None, student)
    with torch.no_grad():
        assert task.solve(Rows(vectors, {"": labels, "verb": verbs}, torch.zeros(30)))["examples"] == 30  # type: ignore[operator]
    asked = torch.randn(50, width, generator=draw)
    similarity = F.cosine_similarity(asked[:, None], vectors[None], dim=2)
    assert torch.equal(student.fc(asked).argmax(1), labels[similarity.argmax(1)])
    torch.testing.assert_close(student.fc(asked)[:, 2], similarity[:, labels == 2].amax(1) / 0.05)
    assert (student.fc(asked)[:, 1] == -1 / 0.05).all()
    assert torch.equal(student.target_fc["verb"](asked).argmax(1), verbs[verbs >= 0][similarity[:, verbs >= 0].argmax(1)])


def test_a_kind_of_label_that_no_clip_has_is_named() -> None:
    student = frozen(2, verb=3)
    rows = Rows(torch.randn(4, student.fc.in_features), {"": torch.tensor([0, 1, 0, 1]), "verb": torch.full((4,), -1)}, torch.zeros(4))
    with pytest.raises(DataError, match="no training clip has a label of the kind 'verb'"):
        build_task("linear_probe", None, student).solve(rows)  # type: ignore[operator]


def test_what_a_teacher_says_is_learned_like_labels_in_these_shares() -> None:
    """Probabilities of 1/4 and 3/4 are four rows of which one has the first label; a label alone is the probe."""
    vectors, labels = sample(12, 5)
    quarter = 0.25 * one_hot(labels, 3) + 0.75 * one_hot((labels + 1) % 3, 3)
    soft = LogisticRegression(vectors, quarter).solve(0.05)
    rows, repeated = np.repeat(vectors, 4, axis=0), np.repeat(labels, 4)
    repeated[np.arange(48) % 4 > 0] += 1
    for found, expected in zip(soft, LogisticRegression(rows, one_hot(repeated % 3, 3)).solve(0.05), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_distilled_probe_mixes_label_and_teacher_and_learns_the_rest_from_the_teacher() -> None:
    taught = torch.tensor([[0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])
    task = build_task("distilled_probe", DistilledProbe.Config(imitation=0.25), frozen(3), frozen(3))
    assert isinstance(task, DistilledProbe)
    rows = Rows(torch.zeros(2, 1), {"": torch.tensor([0, -1])}, torch.zeros(2), {"": taught})
    np.testing.assert_allclose(task.targets(rows, "", 3), [[0.8, 0.175, 0.025], [0.1, 0.1, 0.8]], atol=1e-6)
    sharper = build_task("distilled_probe", DistilledProbe.Config(imitation=0.25, temperature=0.5), frozen(3), frozen(3))
    squares = np.array([[0.04, 0.49, 0.01], [0.01, 0.01, 0.64]])
    expected = squares / squares.sum(1, keepdims=True) * [[0.25], [1]] + [[0.75, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(sharper.targets(rows, "", 3), expected, atol=1e-6)


def test_an_aligned_teacher_gives_classes_the_weight_that_they_have_among_labels() -> None:
    """A teacher that says the same of every clip is aligned to the shares of the labels; a class without a label gets nothing."""
    task = build_task("distilled_probe", DistilledProbe.Config(imitation=1.0, align=True), frozen(3), frozen(3))
    assert isinstance(task, DistilledProbe)
    labels = torch.tensor([0, 0, 0, 1, -1])
    same = torch.tensor([[0.2, 0.3, 0.5]]).repeat(5, 1)
    given = same.double()
    np.testing.assert_allclose(
        task.targets(Rows(torch.zeros(5, 1), {"": labels}, torch.zeros(5), {"": given}), "", 3), [[0.75, 0.25, 0]] * 5
    )
    np.testing.assert_array_equal(given, same.double())
    two = torch.tensor([[0.8, 0.2], [0.6, 0.4]])  # means 0.7 and 0.3, labels one of each: odds 0.8 / 0.7 to 0.2 / 0.3
    rows = Rows(torch.zeros(2, 1), {"": torch.tensor([0, 1])}, torch.zeros(2), {"": two})
    odds = np.array([[0.8 / 0.7, 0.2 / 0.3], [0.6 / 0.7, 0.4 / 0.3]])
    np.testing.assert_allclose(task.targets(rows, "", 2), odds / odds.sum(1, keepdims=True), atol=1e-6)


def test_a_head_of_examples_stands_where_the_linear_one_stood() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 3, device="meta"))
    apply_changes(net, [{"kind": "nearest", "layers": {"0": {"counts": [1, 2, 0], "temperature": 0.1}}}])
    assert (net[0].weight.device.type, tuple(net[0].weight.shape)) == ("meta", (3, 4))


# --- runs ---

SOLVED = {"model.freeze": "all", "model.attention.pooling": "mean", "model.temporal.pooling": "difference", "view": "flow"}


@pytest.fixture
def solved_config(tiny_config: Config, tiny_teacher: Path, tmp_path: Path) -> Config:
    """A run of a task that is solved on the flow backbone of the tiny data set's teacher."""

    def config(task: str, **over: Any) -> RunConfig:
        weights = tmp_path / "weights.pt"  # tensors alone, as of another data set: the teacher learned from the groups that are judged here
        torch.save(load_classifier(tiny_teacher).model.backbone.state_dict(), weights)
        return tiny_config(**{"task": task, "name": task, "model.weights": str(weights), **SOLVED, **over})

    return config


def test_the_head_of_a_network_whose_first_stages_are_kept_is_solved(solved_config: Config, tmp_path: Path) -> None:
    kept = {"model.freeze": "stage2", "data.features.views": 1, "data.features.folder": str(tmp_path / "features"), "train.steps": 1}
    tuned = fit(solved_config("supervised", **kept), quiet=True)
    ways: tuple[tuple[str, dict[str, int]], ...] = (("kept", {}), ("computed", {"data.features.views": 0}))
    found = [fit(solved_config("linear_probe", name=name, init=str(tuned.folder), **{**kept, **over}), quiet=True) for name, over in ways]
    one, other = (load_classifier(run.folder).model.fc.weight for run in found)
    assert (one - other).norm() < 0.05 * other.norm(), "half precision on disk"


@pytest.mark.parametrize("task", ["linear_probe", "nearest_neighbour"])
def test_a_run_is_solved_once_and_judged_as_any_other(task: str, solved_config: Config) -> None:
    config = solved_config(task, **{"data.validation_fraction": 0.25})
    found = fit(config, quiet=True)
    assert (found.steps, found.found_finished) == (1, False)
    assert json.loads((found.folder / "solution.json").read_text())
    again = fit(config, quiet=True)
    assert again.found_finished
    assert (again.best, again.parameters) == (found.best, found.parameters)
    clips, saved = read_clips_of_run(config), load_classifier(found.folder)
    assert judge(saved.model, clips, "val", config.data, saved.classes, device=CPU).metrics()["top1"] == found.best
    assert judge(saved.model, clips, "train", config.data, saved.classes, device=CPU).metrics()["top1"] == 1.0
    other = fit(solved_config(task, **{"data.validation_fraction": 0.25, "name": "other", "train.seed": 5}), quiet=True)
    for name, value in load_classifier(other.folder).model.state_dict().items():
        assert torch.equal(value, saved.model.state_dict()[name]), name
    with pytest.raises(ConfigError, match="there is a run"):
        fit(config, resume="never")


def test_the_rows_are_every_clip_at_every_share_from_kept_activations_too(solved_config: Config, tmp_path: Path) -> None:
    early = {**EARLY, "data.observe.fractions": [0.5, 1.0]}
    config = solved_config("linear_probe", **early)
    clips, model = read_clips_of_run(config), VideoClassifier(config.model, 3, "flow").eval()
    with torch.no_grad():
        rows = pooled_rows(model, clips, config.data, CPU)
        kept = solved_config("linear_probe", **early, **{"data.features": {"views": 1, "folder": str(tmp_path / "kept")}})
        from_kept = pooled_rows(model, clips, kept.data, CPU)
    assert rows.vectors.shape == (2 * len(clips.train), 2 * model.backbone.channels[model.to_stage])
    assert rows.labels[""].tolist() == 2 * [clip.label for clip in clips.train]
    assert not torch.equal(rows.vectors[:12], rows.vectors[12:])
    torch.testing.assert_close(from_kept.vectors, rows.vectors, atol=2e-3, rtol=2e-3)


def test_the_rows_are_conditioned_on_the_observed_share_as_an_evaluation_is(solved_config: Config) -> None:
    early = {**EARLY, "data.observe.fractions": [0.5], "model.condition_on_observed": True}
    config = solved_config("linear_probe", **early)
    clips, model = read_clips_of_run(config), VideoClassifier(config.model, 3, "flow").eval()
    model.observed.net[-1].weight.data.normal_()
    batch = next(iter(evaluation_loader(judged_set(model, clips, "train", config.data, 0.5), 4, 0)))
    with torch.no_grad():
        expected = model(batch["flow"], batch["observed"]).pooled
        torch.testing.assert_close(pooled_rows(model, clips, config.data, CPU).vectors[:4], expected)
        assert not torch.allclose(expected, model(batch["flow"]).pooled)


def test_clips_of_which_nothing_can_be_observed_are_left_out_with_kept_activations_too(solved_config: Config, tmp_path: Path) -> None:
    kept = {"data.features": {"views": 1, "folder": str(tmp_path / "kept")}, "data.observe.fractions": [0.1]}
    config = solved_config("linear_probe", **EARLY, **kept)
    clips, model = read_clips_of_run(config), VideoClassifier(config.model, 3, "flow").eval()
    clips.train[0] = dataclasses.replace(clips.train[0], start_s=0.041, end_s=0.4)
    with torch.no_grad():
        assert len(pooled_rows(model, clips, config.data, CPU).vectors) == len(clips.train) - 1


def test_an_init_without_a_linear_head_is_refused(solved_config: Config) -> None:
    nearest = fit(solved_config("nearest_neighbour"), quiet=True)
    with pytest.raises(ConfigError, match="finds a linear head, and that of `init` is a NearestExample"):
        fit(solved_config("linear_probe", name="probe", init=str(nearest.folder)), quiet=True)


@pytest.mark.parametrize("strengths", [[], [0.0], [-1.0]])
def test_strengths_are_positive_and_at_least_one(strengths: list[float], solved_config: Config) -> None:
    with pytest.raises(ConfigError, match=r"method\.strengths"):
        fit(solved_config("linear_probe", **{"method.strengths": strengths}))


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"model.freeze": None}, "backbone must be frozen"),
        ({"model.weights": None}, "needs a trained backbone"),
        ({"model.temporal.pooling": "gru"}, "cannot train what pools"),
        ({"model.attention.pooling": "soft"}, "cannot train what pools"),
        ({"data.unlabelled": "use"}, "learns nothing from clips without a label"),
    ],
)
def test_settings_that_would_need_training_are_refused(over: dict[str, Any], said: str, solved_config: Config) -> None:
    with pytest.raises(ConfigError, match=said):
        fit(solved_config("linear_probe", **over))


def test_maps_that_another_run_has_learned_are_kept_and_the_head_is_found_anew(solved_config: Config) -> None:
    soft = {"model.attention.pooling": "soft"}
    first = fit(solved_config("supervised", **soft, **{"name": "maps", "train.steps": 2}), quiet=True)
    found = fit(solved_config("linear_probe", **soft, **{"init": str(first.folder)}), quiet=True)
    before, after = (load_classifier(run.folder).model.state_dict() for run in (first, found))
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"fc.weight", "fc.bias"}


def test_a_window_without_two_frames_of_features_has_no_differences(solved_config: Config) -> None:
    with pytest.raises(DataError, match="pooled vectors are not finite"):
        fit(solved_config("linear_probe", **{"data.window.frames": 2}))


def test_a_distilled_probe_asks_the_teacher_as_its_evaluation_does(solved_config: Config) -> None:
    """The teacher sees frames of its own, of clips without a label too; imitation 0 on labelled clips alone is the probe."""
    few = {"data.labels_per_class": 2, "data.validation_fraction": 0.25}
    teacher = fit(solved_config("linear_probe", **few, **{"name": "teacher", "data.window.frames": 5}), quiet=True).folder
    probe = fit(solved_config("linear_probe", **few), quiet=True)
    config = solved_config("distilled_probe", teacher=str(teacher), **few, **{"method.imitation": 0.0})
    same = fit(config, quiet=True)
    states = [load_classifier(run.folder).model.state_dict() for run in (probe, same)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

    config = solved_config("distilled_probe", teacher=str(teacher), **few, **{"name": "more", "data.unlabelled": "use"})
    clips, saved = read_clips_of_run(config), load_classifier(teacher)

    def task_of(config: RunConfig) -> Task:
        return build_run_task(config, clips.manifest.classes, clips=clips)

    every = dataclasses.replace(clips, train=[*clips.train, *clips.unlabelled])
    assert (len(clips.train), len(clips.unlabelled)) == (6, 3)
    said = teacher_probabilities(task_of(config), config, every, CPU)[""]
    window = dataclasses.replace(config.data.window, frames=5)
    alone = judge(saved.model, every, "train", dataclasses.replace(config.data, window=window), saved.classes, device=CPU)
    np.testing.assert_array_equal(said, alone.fullest.probabilities)
    found = load_classifier(fit(config, quiet=True).folder).model
    assert not torch.equal(found.fc.weight, states[0]["fc.weight"])
    other = dataclasses.replace(config, more_teachers=[str(probe.folder)])
    both = judge(load_classifier(probe.folder).model, every, "train", config.data, saved.classes, device=CPU)
    np.testing.assert_allclose(
        teacher_probabilities(task_of(other), other, every, CPU)[""].numpy(), (said.numpy() + both.fullest.probabilities) / 2
    )


def test_a_teacher_of_stacked_flow_is_in_no_strip_of_its_student(solved_config: Config) -> None:
    """It has no map to show, and what the student's configuration reads is not what it sees."""
    stacked = {"name": "stacked", "data.flow.stack": 2, "model.weights": None, "model.freeze": None, "train.steps": 1}
    teacher = fit(solved_config("supervised", **stacked), quiet=True).folder
    config = solved_config("distilled_probe", teacher=str(teacher))
    folder = fit(config, quiet=True).folder
    strips = example_strips(folder, read_clips_of_run(config), "test", config.data, teacher=teacher, count=2)
    assert len(strips) == 2
