"""A run that was killed, stopped or damaged, or whose disk was full, resumes to the very weights of one that was not."""

import contextlib
import errno
import math
import multiprocessing
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_states import full_disk, same, state
from started import started

from vidkd.base.errors import CheckpointError, WriteError
from vidkd.base.files import read_jsonl
from vidkd.base.settings import to_yaml
from vidkd.engine import checkpoint, fit, loop
from vidkd.engine.config import RunConfig
from vidkd.engine.loop import InterruptedRunError
from vidkd.models.saved import read_checkpoint

Config = Callable[..., RunConfig]
# dropout, Gumbel noise, EMA, accumulation, validation: all that has a state or draws a random number
NOISY = {
    "task": "attention_distillation",
    "data.validation_fraction": 0.25,
    "model": {"dropout": 0.5, "attention": {"pooling": "probabilistic", "maps": "two"}},
    "optim": {"accumulate": 2, "ema": 0.9},
    "train.eval_every": 1,
}


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a Ctrl-C while this step computes."""
    log = loop.Loop._log

    def log_and_stop(training: Any, losses: dict[str, float]) -> None:
        log(training, losses)
        training.interrupt.asked = training.progress.step == step

    monkeypatch.setattr(loop.Loop, "_log", log_and_stop)


# --- SIGKILL ---


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that fork from one that has imported the engine: each starts at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vidkd.engine.fit"])
    return context


def _join(process: Any) -> None:
    """Wait for the end of a process; one that does not come to it is killed."""
    process.join(60)
    if process.is_alive():
        process.kill()
        process.join()
        pytest.fail("a process that should have ended was killed")


def killed_after(process: Any, metrics: Path, rows: int, delay_s: float) -> bool:
    """SIGKILL the process a moment after metrics.jsonl has this many rows; false if it ended before."""
    process.start()
    end = time.monotonic() + 60
    while process.is_alive() and time.monotonic() < end:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= rows:
            time.sleep(delay_s)
            process.kill()
            break
        time.sleep(0.002)
    _join(process)
    return bool(process.exitcode == -signal.SIGKILL)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_bits(processes: Any, tiny_config: Config, tiny_teacher: Path) -> None:
    settings = {**NOISY, "teacher": str(tiny_teacher), "train.steps": 10, "train.save_every_s": 0}
    whole = fit.fit(tiny_config(**settings, name="whole"), quiet=True)
    config = tiny_config(**settings, name="killed")
    folder = Path(config.runs, "killed")
    rng = random.Random(3)
    kills = 0
    for rows in (1, 2, 4, 7, 9):  # of training and validation
        kills += killed_after(
            processes.Process(target=fit.fit, args=(config,), kwargs={"quiet": True}), folder / "metrics.jsonl", rows, rng.random() * 0.1
        )
    assert kills >= 3
    fit.fit(config, quiet=True)
    assert same(state(whole.folder), state(folder))
    assert same(state(whole.folder, "best"), state(folder, "best"))
    assert state(folder)["metrics"][-1]["step"] == 10


class Killed(BaseException):
    """A process that ends: whatever it still tries to do to files has no effect."""


def test_a_kill_at_any_moment_of_a_save_leaves_a_whole_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def deadly(function: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] <= 0:
                raise Killed
            return function(*arguments, **named)

        return run

    steps: list[int] = []
    for operation in range(1, 20):
        folder = tmp_path / str(operation)
        folder.mkdir()
        checkpoint.save_checkpoint(folder, {"student": {}, "optimizer": {}, "step": 1})
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            left = [operation]
            for name in ("fsync", "replace", "link", "unlink", "chmod"):
                patch.setattr(os, name, deadly(getattr(os, name), left))
            checkpoint.save_checkpoint(folder, {"student": {}, "optimizer": {}, "step": 2})
        steps.append(checkpoint.read_resume(folder / "last.pt")["step"])
        previous = checkpoint.resume_file(folder, "previous") if (folder / "previous.pt").exists() else None
        assert previous is None or checkpoint.read_resume(previous)["step"] == 1
        checkpoint.save_checkpoint(folder, {"student": {}, "optimizer": {}, "step": 3})
        assert checkpoint.read_resume(folder / "last.pt")["step"] == 3
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (1, 2)
    assert steps.count(1) > 3


# --- Ctrl-C ---


def test_ctrl_c_ends_the_step_saves_and_says_how_to_resume(tiny_config: Config, tmp_path: Path) -> None:
    config = tiny_config(**{"train.steps": 5000, "train.threads": 1})
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    folder = Path(config.runs, "tiny")
    command = [sys.executable, "-m", "vidkd.cli.main", "train", "--config", str(tmp_path / "config.yaml")]
    with started(command, timeout_s=180, stderr=subprocess.PIPE) as process:
        while not read_jsonl(folder / "metrics.jsonl") and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "press Ctrl-C again" in errors
    assert re.search(r"resume *: run the same command again", errors), errors
    stopped = int(re.search(r"stopped after step (\d+) of 5000; saved", errors)[1])  # type: ignore[index]
    assert state(folder)["progress"]["step"] == stopped
    fit.fit(tiny_config(**{"train.steps": stopped + 2}), quiet=True)
    assert [row["step"] for row in read_jsonl(folder / "metrics.jsonl")] == list(range(1, stopped + 3))


@pytest.mark.parametrize(
    "settings",
    [
        {"task": "mars", "model.backbone": "tiny3d", "optim": {"optimiser": "sgd", "lr": 0.01}},
        {"task": "supervised", "train.precision": "bf16-mixed", "data.balanced": True, "optim.ema": 0.5},
        {"task": "supervised", "model.attention.pooling": "probabilistic"},
    ],
    ids=["sgd", "bf16, balanced", "noise"],
)
def test_a_stopped_run_goes_on_exactly(
    settings: dict[str, Any], tiny_config: Config, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**settings, "train.steps": 5, "teacher": str(tiny_teacher) if settings["task"] == "mars" else None}
    whole = fit.fit(tiny_config(**settings, name="whole"), quiet=True)
    config = tiny_config(**settings, name="stopped")
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(InterruptedRunError, match="stopped after step 2 of 5; saved"):
            fit.fit(config, quiet=True)
    result = fit.fit(config, quiet=True)
    assert same(state(whole.folder), state(result.folder))


def test_a_run_that_is_made_longer_has_the_rates_of_its_new_length(tiny_config: Config) -> None:
    """Not the zero with which the cosine of the shorter run ended."""
    fit.fit(tiny_config(**{"train.steps": 4}), quiet=True)
    folder = fit.fit(tiny_config(**{"train.steps": 10}), quiet=True).folder
    rates = {row["step"]: row["lr"] for row in read_jsonl(folder / "metrics.jsonl") if row["split"] == "train"}
    warmup = 1  # a tenth of the steps
    expected = {step: 1e-3 * 0.5 * (1 + math.cos(math.pi * (step - 1 - warmup) / (10 - warmup))) for step in range(5, 11)}
    assert {step: rates[step] for step in range(5, 11)} == pytest.approx(expected)


def test_going_back_to_the_previous_checkpoint_forgets_the_best_of_a_later_step(
    tiny_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """The validations of an epoch (a step of all 9 clips) and the checkpoint of each step: previous.pt is of the step before the last."""
    settings = {"data.validation_fraction": 0.25, "data.batch_size": 9, "train.eval_every": 1, "train.save_every_s": 0}
    folder = fit.fit(tiny_config(**settings, **{"train.steps": 3}), quiet=True).folder
    best, previous = folder / "checkpoints" / "best.pt", read_checkpoint(folder / "checkpoints" / "previous.pt")["progress"]
    content = torch.load(best, weights_only=True)
    content["progress"]["step"] = previous["step"] + 1
    torch.save(content, best)
    caplog.clear()
    fit.fit(tiny_config(**settings, **{"train.steps": 4}), resume="previous", quiet=True)
    assert f"{best} was of a later step than {previous['step']}, from which this run resumes, and is removed" in caplog.messages
    assert read_checkpoint(best)["progress"]["best_step"] > previous["step"]


def test_a_judgement_of_the_weights_of_before_is_set_aside_where_training_goes_on(
    tiny_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    folder = fit.fit(tiny_config(**{"train.steps": 1}), quiet=True).folder
    judged = {"evaluation.json": "{}", "predictions.csv": "path", "classes.csv": "class"}
    for name, text in judged.items():
        (folder / name).write_text(text)
    assert fit.fit(tiny_config(**{"train.steps": 1}), quiet=True).found_finished
    assert {name: (folder / name).read_text() for name in judged} == judged
    assert not list(folder.glob("*.before_*"))
    caplog.clear()
    fit.fit(tiny_config(**{"train.steps": 2}), quiet=True)
    assert not any((folder / name).exists() for name in judged)
    aside = {name: folder / name.replace(".", ".before_resume_at_step1.") for name in judged}
    assert {name: path.read_text() for name, path in aside.items()} == judged
    for name, path in aside.items():
        line = f"{folder / name} judges the weights of before, and is now {path.name}; `vidkd evaluate` judges the new ones"
        assert caplog.messages.count(line) == 1


# --- damage ---


def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"train.steps": 5, "train.save_every_s": 0, "model.dropout": 0.5}
    whole = fit.fit(tiny_config(**settings, name="whole"), quiet=True)
    config = tiny_config(**settings, name="damaged")
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(InterruptedRunError):
            fit.fit(config, quiet=True)
    folder = Path(config.runs, "damaged")
    last = folder / "checkpoints" / "last.pt"
    damaged = last.read_bytes()[:-1000]
    last.write_bytes(damaged)
    with pytest.raises(CheckpointError) as caught:
        fit.fit(config, quiet=True)
    assert caught.value.what == f"cannot read {last}"
    assert "--resume previous" in caught.value.lines["fix"]
    assert last.read_bytes() == damaged
    with monkeypatch.context() as patch:  # a write that fails must not put the damaged one over the last good one
        patch.setattr(checkpoint, "write_checkpoint", full_disk)
        with pytest.raises(WriteError):
            fit.fit(config, resume="previous", quiet=True)
    assert read_checkpoint(folder / "checkpoints" / "previous.pt")["progress"]["step"] == 2
    with monkeypatch.context() as patch:  # and one that succeeds must not keep the damaged one
        stop_after(3, patch)
        with pytest.raises(InterruptedRunError):
            fit.fit(config, resume="previous", quiet=True)
    kept = [read_checkpoint(folder / "checkpoints" / f"{name}.pt")["progress"]["step"] for name in ("previous", "last")]
    assert kept == [2, 3]
    fit.fit(config, resume="previous", quiet=True)
    assert same(state(whole.folder), state(folder))


def test_a_last_checkpoint_that_is_gone_is_no_reason_to_begin_anew(tiny_config: Config) -> None:
    settings = {"train.steps": 2, "train.save_every_s": 0}
    folder = fit.fit(tiny_config(**settings), quiet=True).folder / "checkpoints"
    (folder / "last.pt").unlink()
    before = (folder / "previous.pt").read_bytes()
    with pytest.raises(CheckpointError, match=r"last\.pt is missing, but previous\.pt is there") as caught:
        fit.fit(tiny_config(**settings), quiet=True)
    assert "--resume previous" in caught.value.lines["fix"]
    assert (folder / "previous.pt").read_bytes() == before
    assert fit.fit(tiny_config(**settings), resume="previous", quiet=True).steps == 2


def test_ctrl_c_in_the_last_validation_loses_no_step(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"data.validation_fraction": 0.25, "train.steps": 3, "model.dropout": 0.5}
    whole = fit.fit(tiny_config(**settings, name="whole"), quiet=True)
    config = tiny_config(**settings, name="stopped")
    keep_best = loop.Loop._keep_best

    def press_then_keep(training: Any) -> None:  # as late as can be: the row of the validation is written
        signal.raise_signal(signal.SIGINT)
        keep_best(training)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_keep_best", press_then_keep)
        with pytest.raises(InterruptedRunError, match="stopped in the last validation; all 3 steps are saved") as caught:
            fit.fit(config, quiet=True)
    assert "same command again" in caught.value.lines["resume"]
    assert signal.getsignal(signal.SIGINT) is before
    folder = Path(config.runs, "stopped")
    assert read_checkpoint(folder / "checkpoints" / "last.pt")["progress"]["step"] == 3
    fit.fit(config, quiet=True)
    assert same(state(whole.folder), state(folder))
    assert same(state(whole.folder, "best"), state(folder, "best"))


def content_of(step: int) -> dict[str, Any]:
    return {"student": {}, "optimizer": {"weights": torch.full((100_000,), float(step))}, "step": step}


def test_a_write_that_breaks_off_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    checkpoint.save_checkpoint(tmp_path, content_of(1))
    before = (tmp_path / "last.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the file is four times as long: the write fails in the middle
    try:
        with pytest.raises(WriteError) as caught:
            checkpoint.save_checkpoint(tmp_path, content_of(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.what == f"cannot write: {tmp_path / '.new.pt'}"
    assert caught.value.lines["reason"] == os.strerror(errno.EFBIG)
    assert "free disk space" in caught.value.lines["fix"]
    assert (tmp_path / "last.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_run_goes_on_when_the_disk_has_room_again(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"train.steps": 4, "train.save_every_s": 0}
    whole = fit.fit(tiny_config(**settings, name="whole"), quiet=True)
    config = tiny_config(**settings, name="full")
    write, calls = checkpoint.write_checkpoint, []

    def fills_up(path: Path, content: dict[str, Any]) -> None:
        calls.append(path)
        full_disk() if len(calls) > 2 else write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_checkpoint", fills_up)
        with pytest.raises(WriteError, match=os.strerror(errno.ENOSPC)):
            fit.fit(config, quiet=True)
    folder = Path(config.runs, "full")
    assert state(folder)["progress"]["step"] == 2
    fit.fit(config, quiet=True)
    assert same(state(whole.folder), state(folder))
