"""The training loop: accumulation, clipping, averages, early stopping, and what it does about numbers and clips that are no good."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from vidkd.base.errors import VidkdError
from vidkd.base.files import read_jsonl
from vidkd.engine import fit, loop
from vidkd.engine.clips import read_clips
from vidkd.engine.config import RunConfig
from vidkd.engine.evaluate import evaluate
from vidkd.engine.setup import build_run_task, evaluation_set
from vidkd.models.saved import load_classifier, read_checkpoint
from vidkd.tasks import Supervised, Task

Config = Callable[..., RunConfig]
Weights = dict[str, Tensor]
CLASSES = ("Right", "Down", "Grow")
# nothing random and nothing that couples the clips of a batch
PLAIN = {"model.freeze_norm": True, "optim": {"optimiser": "sgd", "lr": 0.05, "warmup": 0.0, "clip_norm": 0.0}}


def trained(config: RunConfig) -> Weights:
    folder = fit.fit(config, quiet=True).folder
    weights: Weights = read_checkpoint(folder / "checkpoints" / "last.pt")["student"]["state"]
    return weights


def initial(config: RunConfig) -> Weights:
    return build_run_task(config, CLASSES).student.state_dict()


def distance(a: Weights, b: Weights) -> float:
    """Largest difference of two networks' weights."""
    return max(float((a[name] - b[name]).abs().max()) for name in a if a[name].is_floating_point())


def recorded(monkeypatch: pytest.MonkeyPatch, what: Callable[[Any], Any]) -> list[Any]:
    """What a look at the training shows after each step."""
    seen: list[Any] = []
    log = loop.Loop._log

    def log_and_look(training: Any, losses: dict[str, float]) -> None:
        seen.append(what(training))
        log(training, losses)

    monkeypatch.setattr(loop.Loop, "_log", log_and_look)
    return seen


def weights_of(training: Any) -> Weights:
    return {name: value.clone() for name, value in training.task.student.state_dict().items()}


def test_two_batches_of_two_are_one_of_four(tiny_config: Config) -> None:
    whole = tiny_config(**PLAIN, name="whole", **{"train.steps": 3})
    halves = tiny_config(**PLAIN, name="halves", **{"train.steps": 3, "data.batch_size": 2, "optim.accumulate": 2})
    assert distance(trained(whole), trained(halves)) < 1e-6
    assert distance(initial(whole), trained(halves)) > 1e-3


@pytest.mark.parametrize("bound", [0.01, 0.1])
def test_a_step_is_no_longer_than_the_bound_on_the_gradient(bound: float, tiny_config: Config) -> None:
    config = tiny_config(**PLAIN, **{"optim.clip_norm": bound, "optim.momentum": 0.0, "optim.weight_decay": 0.0, "train.steps": 1})
    after, before = trained(config), initial(config)
    step = torch.cat([(after[name] - before[name]).flatten() for name in before if before[name].is_floating_point()])
    assert float(step.norm()) == pytest.approx(0.05 * bound, rel=1e-3)


def test_slimming_presses_on_the_scales_of_normalisation_alone(tiny_config: Config) -> None:
    plain = {
        "optim": {"optimiser": "sgd", "lr": 0.05, "momentum": 0.0, "warmup": 0.0, "clip_norm": 0.0, "weight_decay": 0.0},
        "train.steps": 1,
    }
    without, with_it = trained(tiny_config(**plain, name="a")), trained(tiny_config(**{**plain, "optim.scale_l1": 0.1}, name="b"))
    scales = [name for name in without if f"{name.rpartition('.')[0]}.running_mean" in without and name.endswith("weight")]
    assert len(scales) == 5
    for name, value in without.items():
        wanted = value - 0.05 * 0.1 if name in scales else value  # the gradient of |gamma| is 1: all begin there
        torch.testing.assert_close(with_it[name], wanted, msg=name)
    rows = read_jsonl(tiny_config(name="b").runs + "/b/metrics.jsonl")
    assert rows[0]["scale_l1"] == pytest.approx(sum(len(without[name]) for name in scales))


# --- the moving average ---


def test_the_moving_average_has_its_closed_form(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    students = recorded(monkeypatch, weights_of)
    config = tiny_config(**{"optim.ema": 0.75, "optim.lr": 0.02, "train.steps": 4})
    folder = fit.fit(config, quiet=True).folder
    found = load_classifier(folder).model.state_dict()
    shares = [0.75**3, 0.25 * 0.75**2, 0.25 * 0.75, 0.25]
    for name in found:
        if found[name].is_floating_point():
            expected = sum(share * student[name] for share, student in zip(shares, students, strict=True))
            torch.testing.assert_close(found[name], expected)
        else:
            assert torch.equal(found[name], students[-1][name])
    assert distance(found, students[-1]) > 1e-4


def test_validation_judges_the_average(tiny_config: Config) -> None:
    config = tiny_config(**{"optim.ema": 0.99, "optim.lr": 0.05, "data.validation_fraction": 0.25, "train.steps": 4})
    result = fit.fit(config, quiet=True)
    saved = load_classifier(result.folder / "checkpoints" / "best.pt")
    dataset = evaluation_set(read_clips(config.data), "val", config.data, ["rgb"])
    metrics = evaluate(saved.model, dataset, CLASSES, device=torch.device("cpu"), batch_size=4)[0].metrics()
    row = read_jsonl(result.folder / "metrics.jsonl")[-1]
    assert {name: row[name] for name in metrics} == pytest.approx(metrics)
    assert row["split"] == "val"
    assert result.best == metrics["top1"]


# --- early stopping ---


def test_early_stopping_keeps_the_best_and_is_final(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.6, 0.6, 0.55, 0.9])
    monkeypatch.setattr(fit, "judge", lambda *_, **__: SimpleNamespace(metrics=lambda: {"top1": next(scores)}))
    students = recorded(monkeypatch, weights_of)
    settings = {"data.validation_fraction": 0.25, "data.batch_size": 3, "train": {"eval_every": 1 / 3, "patience": 2, "steps": 9}}
    config = tiny_config(**settings)
    result = fit.fit(config, quiet=True)
    assert (result.steps, result.best) == (4, 0.6)
    rows = read_jsonl(result.folder / "metrics.jsonl")
    assert [(row["step"], row["top1"]) for row in rows if row["split"] == "val"] == [(1, 0.5), (2, 0.6), (3, 0.6), (4, 0.55)]
    assert distance(load_classifier(result.folder).model.state_dict(), students[1]) == 0
    again = fit.fit(config, quiet=True)
    assert (again.steps, again.best) == (4, 0.6)


# --- numbers that are no good ---


def poisoned(at_call: int, poison: Callable[[Task, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [0]
    step = Supervised.training_step

    def training_step(task: Supervised, batch: Any) -> dict[str, Tensor]:
        losses = step(task, batch)
        calls[0] += 1
        if calls[0] == at_call:
            losses["loss"] = poison(task, losses["loss"])
        return losses

    monkeypatch.setattr(Supervised, "training_step", training_step)


@pytest.mark.parametrize("clip_norm", [0.0, 5.0])
@pytest.mark.parametrize(
    ("what", "poison"),
    [
        ("loss", lambda task, loss: loss * float("nan")),
        ("loss", lambda task, loss: loss / 0),
        # finite itself, but the slope of a square root at zero is not
        ("gradient", lambda task, loss: loss + (task.student.fc.bias * 0).sum().sqrt()),
    ],
    ids=["nan", "infinite", "gradient"],
)
def test_a_number_that_is_not_finite_stops_the_run_before_it_spoils_the_weights(
    what: str, poison: Callable[[Task, Tensor], Tensor], clip_norm: float, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(3, poison, monkeypatch)
    config = tiny_config(**{"train.steps": 6, "train.save_every_s": 0, "optim.clip_norm": clip_norm})
    with pytest.raises(VidkdError, match=f"the {what} is not finite at step 2") as caught:
        fit.fit(config, quiet=True)
    folder = Path(config.runs, "tiny")
    batch = torch.load(folder / "bad_batch.pt", weights_only=True)["batch"]
    clips = read_clips(config.data).train
    assert caught.value.lines["samples"] == ", ".join(clips[number].path for number in batch["index"].tolist())
    assert batch["rgb"].shape == (4, 3, 4, 32, 32)
    content = read_checkpoint(folder / "checkpoints" / "last.pt")
    assert content["progress"]["step"] == 2
    assert all(bool(value.isfinite().all()) for value in content["student"]["state"].values())


@pytest.mark.parametrize("clip_norm", [0.0, 5.0])
def test_steps_that_a_scaler_skips_are_bounded(clip_norm: float, tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-in for a GPU's scaler: three steps in a row may be skipped, a good one in between counts anew, the fourth ends the run."""
    good = {3}
    calls = [0]
    step = Supervised.training_step

    def training_step(task: Supervised, batch: Any) -> dict[str, Tensor]:
        losses = step(task, batch)
        calls[0] += 1
        if calls[0] not in good:
            losses["loss"] = losses["loss"] + (task.student.fc.bias * 0).sum().sqrt()
        return losses

    restore = loop.Loop._restore

    def with_scaler(training: Any, resume: str) -> None:
        training.scales = True
        restore(training, resume)

    monkeypatch.setattr(Supervised, "training_step", training_step)
    monkeypatch.setattr(loop, "MOST_SKIPPED", 3)
    monkeypatch.setattr(loop.Loop, "_restore", with_scaler)
    monkeypatch.setattr(loop.Loop, "_update", lambda training: training.wrapped_optimizer.zero_grad(set_to_none=True))
    with pytest.raises(VidkdError, match="the gradient is not finite at step 6"):
        fit.fit(tiny_config(**{"train.steps": 20, "optim.clip_norm": clip_norm}), quiet=True)


# --- clips that are no good ---


@pytest.fixture
def damaged_root(tiny_root: Path, tmp_path: Path) -> Path:
    """The tiny data set with two training videos cut short."""
    root = tmp_path / "damaged"
    shutil.copytree(tiny_root, root)
    for name in ("Right/Right_g1.mp4", "Grow/Grow_g2.mp4"):
        path = root / "videos" / name
        path.write_bytes(path.read_bytes()[:200])
    return root


def test_broken_clips_are_skipped_up_to_the_cap_and_counted(
    damaged_root: Path, tiny_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(**{"data.root": str(damaged_root), "data.max_bad_clips": 2, "train.steps": 6})
    folder = fit.fit(config, quiet=True).folder
    bad = read_checkpoint(folder / "checkpoints" / "last.pt")["progress"]["bad_clips"]
    assert sorted(message.split(":")[0] for message in bad) == ["videos/Grow/Grow_g2.mp4", "videos/Right/Right_g1.mp4"]
    assert "skipped unreadable clip 1 of at most 2: videos/" in caplog.text
    assert "skipped unreadable clip 2 of at most 2: videos/" in caplog.text


def test_a_broken_clip_in_validation_is_never_skipped(tiny_root: Path, tmp_path: Path, tiny_config: Config) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(tiny_root, root)
    settings = {"data.root": str(root), "data.validation_fraction": 0.25, "data.max_bad_clips": 100}
    held_out = read_clips(tiny_config(**settings).data).val[0].path
    (root / held_out).write_bytes(b"no video")
    with pytest.raises(VidkdError, match=Path(held_out).name):
        fit.fit(tiny_config(**settings), quiet=True)


# --- precision, logs, teacher ---


@pytest.mark.parametrize("task", ["attention_distillation", "mars", "logits_kd"])
def test_the_teacher_is_the_same_to_the_bit_and_has_no_gradient(
    task: str, tiny_config: Config, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = recorded(monkeypatch, lambda training: training.task)
    config = tiny_config(task=task, teacher=str(tiny_teacher), **{"optim.lr": 0.1})
    fit.fit(config, quiet=True)
    teacher = tasks[-1].teacher
    saved = load_classifier(tiny_teacher).model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    assert distance(tasks[-1].student.state_dict(), initial(config)) > 1e-2
