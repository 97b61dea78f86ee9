"""Every method's loss against its formula, worked out from the outputs of student and teacher."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidkd.base.errors import CheckpointError, ConfigError
from vidkd.models import AttentionConfig, ClassifierOutput, ModelConfig, VideoClassifier
from vidkd.tasks import TASKS, Task, build_task
from vidkd.tasks.motion_attention import MotionMap
from vidkd.tasks.task import SolvedTask, teacher_output

CLASSES = 3
DISTILLING = sorted(name for name, kind in TASKS.items() if kind.needs_teacher and not issubclass(kind, SolvedTask))
TRAINED = sorted(name for name, kind in TASKS.items() if not issubclass(kind, SolvedTask))
Batch = dict[str, Tensor]


def classifier(view: Any = "rgb", *, seed: int = 0, backbone: str = "tiny3d", classes: int = CLASSES, **attention: Any) -> VideoClassifier:
    torch.manual_seed(seed)
    config = ModelConfig(backbone=backbone, dropout=0.0, attention=AttentionConfig(**{"pooling": "soft", **attention}))
    model = VideoClassifier(config, classes, view)
    with torch.no_grad():  # fresh weights give hardly a logit and a flat map
        model.fc.weight *= 50
        for module in model.pooling.maps.values():
            module.conv.weight *= 20
    return model


def teacher(seed: int = 1, **settings: Any) -> VideoClassifier:
    return classifier("flow", seed=seed, **settings)


def task_of(name: str, student: VideoClassifier | None = None, teacher_: VideoClassifier | None = None, **settings: Any) -> Task:
    kind = TASKS[name]
    if kind.needs_teacher and teacher_ is None:
        teacher_ = teacher()
    return build_task(name, kind.Config(**settings), student or classifier(), teacher_).train()


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(7)
    return {
        "rgb": torch.randint(0, 256, (4, 3, 4, 32, 32), generator=generator, dtype=torch.uint8),
        "flow": (3 * torch.randn(4, 2, 4, 32, 32, generator=generator)).half(),
        "future_flow": (3 * torch.randn(4, 2, 4, 32, 32, generator=generator)).half(),
        "label": torch.tensor([0, 2, 1, 2]),
        "index": torch.arange(4),
        "weight": torch.ones(4),
    }


def unlabelled(batch: Batch, *clips: int) -> Batch:
    label, weight = batch["label"].clone(), batch["weight"].clone()
    label[list(clips)], weight[list(clips)] = -1, 0
    return {**batch, "label": label, "weight": weight}


def outputs(task: Task, batch: Batch) -> tuple[ClassifierOutput, ClassifierOutput]:
    assert task.teacher is not None
    with torch.no_grad():
        return task.student(batch["rgb"]), task.teacher(batch["flow"])


def kl(p: Tensor, q: Tensor) -> Tensor:
    """Mean over clips and frames of KL(p || q) / log(HW) of log-probabilities (B, T, H, W)."""
    return (p.exp() * (p - q)).sum((2, 3)).mean() / math.log(p.shape[2] * p.shape[3])


def cross_entropy(output: ClassifierOutput, batch: Batch) -> Tensor:
    return F.cross_entropy(output.logits, batch["label"])


# --- formulas ---


def test_supervised(batch: Batch) -> None:
    task = task_of("supervised")
    losses = task(batch)
    torch.testing.assert_close(losses["loss"], cross_entropy(task.predict(batch), batch))


def test_label_smoothing_is_the_cross_entropy_to_smoothed_labels(batch: Batch) -> None:
    task = task_of("supervised", label_smoothing=0.3)
    target = 0.7 * F.one_hot(batch["label"], CLASSES) + 0.3 / CLASSES
    expected = -(target * task.predict(batch).logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(task(batch)["loss"], expected)


@pytest.mark.parametrize("direction", ["student||teacher", "teacher||student"])
def test_attention_distillation_with_one_map(direction: Any, batch: Batch) -> None:
    task = task_of("attention_distillation", direction=direction)
    student, shown = outputs(task, batch)
    pair = (student.attention["motion"], shown.attention["motion"])
    expected = kl(*pair) if direction == "student||teacher" else kl(*reversed(pair))
    losses = task(batch)
    torch.testing.assert_close(losses["attention"], expected)
    torch.testing.assert_close(losses["loss"], cross_entropy(student, batch) + math.log(CLASSES) * expected)
    assert float(kl(*pair)) != pytest.approx(float(kl(*reversed(pair))), rel=1e-3)


def test_attention_distillation_with_two_maps_has_twice_the_weight_and_a_prior(batch: Batch) -> None:
    task = task_of("attention_distillation", classifier(maps="two"))
    student, shown = outputs(task, batch)
    motion, appearance = student.attention["motion"], student.attention["appearance"]
    prior = kl(appearance, torch.full_like(appearance, -math.log(16)))
    weight = 2 * math.log(CLASSES)
    losses = task(batch)
    torch.testing.assert_close(losses["prior"], prior)
    torch.testing.assert_close(losses["loss"], cross_entropy(student, batch) + weight * (kl(motion, shown.attention["motion"]) + prior))


def test_the_control_shows_the_map_of_another_clip(batch: Batch) -> None:
    task = task_of("attention_distillation", teacher_map="other")
    student, shown = outputs(task, batch)
    target = shown.attention["motion"][[3, 0, 1, 2]]
    torch.testing.assert_close(task(batch)["attention"], kl(student.attention["motion"], target))
    own = kl(student.attention["motion"], shown.attention["motion"])
    assert task(batch)["attention"].item() != pytest.approx(own.item(), rel=1e-3)


def test_attention_and_logits_together(batch: Batch) -> None:
    alone = task_of("attention_distillation", weight=0.7)
    both = task_of("attention_distillation", weight=0.7, logits_weight=0.5, temperature=2.0)
    student, shown = outputs(both, batch)
    p, q = (F.log_softmax(output.logits / 2, 1) for output in (shown, student))
    torch.testing.assert_close(both(batch)["loss"], alone(batch)["loss"] + 0.5 * 4 * (p.exp() * (p - q)).sum(1).mean())


@pytest.mark.parametrize("teacher_map", ["same", "other"])
def test_motion_attention(teacher_map: Any, batch: Batch) -> None:
    task = task_of("motion_attention", classifier(maps="two"), weight=0.7, teacher_map=teacher_map)
    with torch.no_grad():
        student = task.student(batch["rgb"])
    moved = (batch["flow"].float() ** 2).sum(1).sqrt()
    cells = torch.stack([moved[:, :, y : y + 8, x : x + 8].mean((2, 3)) for y in range(0, 32, 8) for x in range(0, 32, 8)], 2) + 0.02
    target = (cells / cells.sum(2, keepdim=True)).view(4, 4, 4, 4)
    time = student.attention["motion"].shape[1]
    target = target.view(4, time, -1, 4, 4).mean(2)
    target = target[[3, 0, 1, 2]] if teacher_map == "other" else target
    motion, appearance = student.attention["motion"], student.attention["appearance"]
    expected = kl(target.log(), motion)
    prior = kl(appearance, torch.full_like(appearance, -math.log(16)))
    losses = task(batch)
    torch.testing.assert_close(losses["attention"], expected)
    torch.testing.assert_close(losses["loss"], cross_entropy(student, batch) + 0.7 * (expected + prior))
    alone = task_of("motion_attention", classifier(maps="two"), weight=0.7, teacher_map=teacher_map, label_weight=0.0)
    torch.testing.assert_close(alone(batch)["loss"], 0.7 * (expected + prior))
    few = task(unlabelled(batch, 0, 1, 2, 3))
    torch.testing.assert_close(few["loss"], 0.7 * (expected + prior))


def test_where_nothing_moves_the_motion_map_is_even() -> None:
    flow = torch.zeros(1, 2, 2, 16, 16)
    flow[0, :, 1, :8, 8:] = torch.tensor([3.0, 4.0])[:, None, None]
    motion = MotionMap()
    torch.testing.assert_close(
        motion(motion.kept_maps(flow)["motion"]).exp()[0],
        torch.tensor([[[1, 1], [1, 1]], [[0.02, 5.02], [0.02, 0.02]]]) / torch.tensor([4.0, 5.08])[:, None, None],
    )


@pytest.mark.parametrize(("settings", "match"), [({"pooling": "mean"}, "no attention map"), ({"softmax": "spatiotemporal"}, "each frame")])
def test_motion_attention_needs_a_map_for_each_frame(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        task_of("motion_attention", classifier(**settings))


def test_logits_kd(batch: Batch) -> None:
    task = task_of("logits_kd", temperature=2.0, alpha=0.25)
    student, shown = outputs(task, batch)
    log_q, log_p = (student.logits / 2).log_softmax(1), (shown.logits / 2).log_softmax(1)
    soft = 4 * (log_p.exp() * (log_p - log_q)).sum(1).mean()
    losses = task(batch)
    torch.testing.assert_close(losses["soft"], soft)
    torch.testing.assert_close(losses["loss"], 0.75 * cross_entropy(student, batch) + 0.25 * soft)


@pytest.mark.parametrize(("mode", "factor"), [("paper", 1), ("code", 9)])
def test_generalized_distillation(mode: Any, factor: int, batch: Batch) -> None:
    task = task_of("generalized_distillation", temperature=3.0, imitation=0.4, mode=mode)
    student, shown = outputs(task, batch)
    soft = -((shown.logits / 3).softmax(1) * student.logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(task(batch)["loss"], 0.6 * cross_entropy(student, batch) + 0.4 * factor * soft)


def test_mars(batch: Batch) -> None:
    task = task_of("mars", weight=5.0)
    student, shown = outputs(task, batch)
    features = (student.features["stage4"].mean((2, 3, 4)) - shown.features["stage4"].mean((2, 3, 4))).square().mean()
    torch.testing.assert_close(task(batch)["loss"], cross_entropy(student, batch) + 5 * features)
    assert task.saved_state() == {}


def test_mars_projects_where_the_widths_differ(batch: Batch) -> None:
    other = teacher(backbone="mobilenet_v3_small")
    task: Any = task_of("mars", teacher_=other)
    student, shown = outputs(task, batch)
    pooled, target = student.features["stage4"].mean((2, 3, 4)), shown.features[other.to_stage].mean((2, 3, 4))
    features = (pooled @ task.projector.weight.T + task.projector.bias - target).square().mean()
    torch.testing.assert_close(task(batch)["features"], features)
    assert set(task.saved_state()) == {"projector.weight", "projector.bias"}
    task(batch)["loss"].backward()
    assert float(task.projector.weight.grad.abs().max()) > 0


def test_d3d(batch: Batch) -> None:
    task = task_of("d3d", weight=0.3)
    student, shown = outputs(task, batch)
    expected = cross_entropy(student, batch) + 0.3 * (student.logits - shown.logits).square().mean()
    torch.testing.assert_close(task(batch)["loss"], expected)


@pytest.mark.parametrize(("stages", "used"), [((), ("stage3", "stage4")), (("stage2",), ("stage2",))])
def test_attention_transfer(stages: tuple[str, ...], used: tuple[str, ...], batch: Batch) -> None:
    task = task_of("attention_transfer", beta=10.0, stages=stages)
    student, shown = outputs(task, batch)
    transfer = torch.zeros(())
    for stage in used:
        maps = [F.normalize(output.features[stage].square().mean(1).flatten(1)) for output in (student, shown)]
        transfer = transfer + (maps[0] - maps[1]).square().mean()
    losses = task(batch)
    torch.testing.assert_close(losses["transfer"], transfer)
    torch.testing.assert_close(losses["loss"], cross_entropy(student, batch) + 10 * transfer)


# --- what holds for every task ---


@pytest.mark.parametrize("name", TRAINED)
def test_the_gradient_reaches_the_student_alone(name: str, batch: Batch) -> None:
    task = task_of(name)
    losses = task(batch)
    assert all(value.ndim == 0 for value in losses.values())
    losses["loss"].backward()
    missing = [key for key, value in task.student.named_parameters() if value.grad is None or not value.grad.abs().max() > 0]
    assert missing == []
    if task.teacher is not None:
        assert all(value.grad is None for value in task.teacher.parameters())


@pytest.mark.parametrize("name", DISTILLING)
def test_the_teacher_stays_in_eval_mode_and_unchanged(name: str, batch: Batch) -> None:
    task = task_of(name)
    assert task.teacher is not None
    before = {key: value.clone() for key, value in task.teacher.state_dict().items()}
    task.train()(batch)
    assert not any(module.training for module in task.teacher.modules())
    assert task.student.training
    assert all(torch.equal(value, before[key]) for key, value in task.teacher.state_dict().items())


def test_a_clip_without_a_label_of_one_kind_counts_in_the_others(batch: Batch) -> None:
    task, draw = task_of("supervised"), torch.Generator().manual_seed(3)
    logits, nouns = torch.randn(4, CLASSES, generator=draw), torch.randn(4, 5, generator=draw)
    output = task.predict(batch)._replace(logits=logits, targets={"noun": nouns})
    labels = torch.tensor([4, -1, 0, -1])
    found = task.label_loss(output, {**batch, "label_noun": labels})
    known = labels >= 0
    torch.testing.assert_close(found, F.cross_entropy(logits, batch["label"]) + F.cross_entropy(nouns[known], labels[known]))
    none = torch.full_like(labels, -1)
    torch.testing.assert_close(
        task.label_loss(output, {**batch, "label": none, "label_noun": labels}), F.cross_entropy(nouns[known], labels[known])
    )


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_saved_state_has_no_teacher(name: str) -> None:
    assert not any(key.startswith(("teacher", "student")) for key in task_of(name).saved_state())


# --- what does not fit ---


@pytest.mark.parametrize("name", DISTILLING)
def test_a_teacher_with_other_classes_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="the teacher knows 5 classes, the data set has 3"):
        task_of(name, teacher_=teacher(classes=5))


# --- several kinds of labels ---

KINDS = {"": CLASSES, "noun": 5, "verb": 2}


def several(seed: int, view: Any = "rgb", **kinds: int) -> VideoClassifier:
    torch.manual_seed(seed)
    model = VideoClassifier(ModelConfig(dropout=0.0), CLASSES, view, kinds)
    for layer in (model.fc, *model.target_fc.values()):
        nn.init.normal_(layer.weight)  # type: ignore[arg-type]
    return model


@pytest.mark.parametrize("name", ["logits_kd", "d3d", "generalized_distillation", "anticipation"])
def test_every_kind_of_label_is_matched(name: str, batch: Batch) -> None:
    student, shown = several(0, noun=5, verb=2), several(1, "flow", noun=5, verb=2)
    settings = {"feature": "none", "logits_weight": 1.0} if name == "anticipation" else {}
    whole = task_of(name, student, shown, **settings)
    labels = {"": batch["label"], "noun": torch.tensor([4, 0, -1, 3]), "verb": torch.tensor([1, 1, 0, -1])}
    found = whole({**batch, "label_noun": labels["noun"], "label_verb": labels["verb"]})["loss"]
    expected = torch.zeros(())
    for kind, classes in KINDS.items():  # the same networks with that head only
        alone = []
        for model, view in ((student, "rgb"), (shown, "flow")):
            one = VideoClassifier(ModelConfig(dropout=0.0), classes, view)
            one.load_state_dict(
                {key: value for key, value in model.state_dict().items() if not key.startswith(("fc.", "target_fc."))}, strict=False
            )
            one.fc.load_state_dict((model.target_fc[kind] if kind else model.fc).state_dict())
            alone.append(one)
        expected = expected + task_of(name, *alone, **settings)({**batch, "label": labels[kind]})["loss"]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", DISTILLING)
@pytest.mark.parametrize("kinds", [{}, {"verb": 2}, {"verb": 3, "noun": 5}])
def test_a_teacher_without_a_kind_of_label_is_refused_by_who_matches_logits(name: str, kinds: dict[str, int], batch: Batch) -> None:
    """It matches logits if its loss changes with those of the teacher."""
    settings = {"logits_weight": 1.0} if name == "anticipation" else {}
    other = teacher()
    nn.init.zeros_(other.fc.weight)
    matches_logits = task_of(name, **settings)(batch)["loss"] != task_of(name, teacher_=other, **settings)(batch)["loss"]
    student, shown = classifier(), teacher()
    student.targets, shown.targets = {"noun": 5, "verb": 2}, kinds
    if not matches_logits:
        task_of(name, student, shown, **settings)
        return
    with pytest.raises(CheckpointError, match=r"the teacher was not trained on noun|noun, verb|verb of this data set") as caught:
        task_of(name, student, shown, **settings)
    assert caught.value.lines["student"] == "noun: 5 classes, verb: 2 classes"
    assert "same manifest" in caught.value.lines["fix"]


# --- several teachers ---


@pytest.mark.parametrize("name", ["logits_kd", "generalized_distillation", "anticipation"])
def test_several_teachers_teach_the_mean_of_their_probabilities(name: str, batch: Batch) -> None:
    settings = {"feature": "none", "logits_weight": 1.0} if name == "anticipation" else {}
    first, second = teacher(1), classifier("rgb", seed=2)
    task = build_task(name, TASKS[name].Config(**settings), classifier(), first, [second]).train()
    assert not first.training
    assert not second.training
    batch |= {"future_rgb": batch["rgb"]}
    views = [task.view_of(model) for model in (first, second)]
    assert task.views == (("rgb", *views) if name == "anticipation" else ("rgb", "flow"))
    with torch.no_grad():
        mean = sum(model(batch[view]).logits.softmax(1) for model, view in zip((first, second), views, strict=True)) / 2
    output = teacher_output(task, batch)
    torch.testing.assert_close(output.logits.softmax(1), mean)
    assert not output.features
    task(batch)["loss"].backward()
    assert all(parameter.grad is None for model in (first, second) for parameter in model.parameters())
    assert any(parameter.grad is not None for parameter in task.student.parameters())
    assert not [key for key in task.saved_state() if "teacher" in key]


@pytest.mark.parametrize("name", ["attention_distillation", "attention_transfer", "mars", "d3d"])
def test_a_task_that_matches_more_than_probabilities_has_one_teacher(name: str) -> None:
    with pytest.raises(ConfigError, match=r"one teacher(.|\n)*logits_kd"):
        build_task(name, None, classifier(), teacher(), [classifier()])
