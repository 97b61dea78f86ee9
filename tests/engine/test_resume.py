"""A run that was killed, stopped or damaged goes on to the very weights of one that was not."""

import errno
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vidkd.base.errors import CheckpointError, ConfigError, VidkdError
from vidkd.base.files import read_jsonl
from vidkd.engine import checkpoint, fit, run_folder
from vidkd.engine.config import RunConfig, to_yaml
from vidkd.engine.fit import InterruptedRunError
from vidkd.engine.run_folder import RunFolder
from vidkd.models.saved import read_checkpoint
from vidkd.tasks import Supervised

Config = Callable[..., RunConfig]
# dropout, Gumbel noise, EMA, accumulation, validation: all that has a state or draws a random number
NOISY = {
    "task": "attention_distillation",
    "data.validation_fraction": 0.25,
    "model": {"dropout": 0.5, "attention": {"pooling": "probabilistic", "maps": "two"}},
    "optim": {"accumulate": 2, "ema": 0.9},
    "train.eval_every": 1,
}


def state(folder: Path, name: str = "last") -> dict[str, Any]:
    """A run's checkpoint and metrics, without what depends on the clock and the place."""
    content = read_checkpoint(folder / "checkpoints" / f"{name}.pt")
    del content["run"], content["progress"]["seconds"]
    rows = [{key: value for key, value in row.items() if key != "data_wait"} for row in read_jsonl(folder / "metrics.jsonl")]
    return {**content, "metrics": rows}


def differing(a: Any, b: Any, where: str = "") -> Iterator[str]:
    """Dotted names of the values that are not bit-equal."""
    if isinstance(a, torch.Tensor):
        if not (isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)):
            yield where
    elif isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from differing(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for number, pair in enumerate(zip(a, b, strict=True)):
            yield from differing(*pair, f"{where}[{number}]")
    elif a != b:
        yield f"{where}: {a} and {b}"


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    found = list(differing(a, b))
    assert not found, found[:5]
    return True


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a Ctrl-C while this step computes."""
    log = fit._Training._log

    def log_and_stop(training: Any, losses: dict[str, float]) -> None:
        log(training, losses)
        training.interrupt.asked = training.progress.step == step

    monkeypatch.setattr(fit._Training, "_log", log_and_stop)


# --- SIGKILL ---


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that fork from one that has imported the engine: each starts at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vidkd.engine.fit"])
    return context


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
    process.join()
    return bool(process.exitcode == -signal.SIGKILL)


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


def die_while_saving(folder: Path, operation: int) -> None:
    """Write two checkpoints, and be killed just before the given file operation of the second."""
    checkpoint.save_checkpoint(folder, {"student": {}, "optimizer": {}, "step": 1})
    left = [operation]

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return run

    for name in ("fsync", "replace", "link", "unlink", "chmod"):
        setattr(os, name, deadly(getattr(os, name)))
    checkpoint.save_checkpoint(folder, {"student": {}, "optimizer": {}, "step": 2})


def test_a_kill_at_any_moment_of_a_save_leaves_a_whole_checkpoint(processes: Any, tmp_path: Path) -> None:
    steps = []
    for operation in range(1, 20):
        folder = tmp_path / str(operation)
        folder.mkdir()
        process = processes.Process(target=die_while_saving, args=(folder, operation))
        process.start()
        process.join(30)
        steps.append(checkpoint.read_resume(folder / "last.pt")["step"])
        previous = checkpoint.resume_file(folder, "previous") if (folder / "previous.pt").exists() else None
        assert previous is None or checkpoint.read_resume(previous)["step"] == 1
        checkpoint.save_checkpoint(folder, {"student": {}, "optimizer": {}, "step": 3})
        assert checkpoint.read_resume(folder / "last.pt")["step"] == 3
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert process.exitcode == 0, "the save has more operations than the test kills it at"
    assert steps == sorted(steps)
    assert steps[0] == 1
    assert steps[-1] == 2
    assert len(steps) > 5


# --- Ctrl-C ---


def test_ctrl_c_ends_the_step_saves_and_says_how_to_go_on(tiny_config: Config, tmp_path: Path) -> None:
    config = tiny_config(**{"train.steps": 5000, "train.threads": 1})
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    folder = Path(config.runs, "tiny")
    command = [sys.executable, "-m", "vidkd.cli.main", "train", "--config", str(tmp_path / "config.yaml")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while time.monotonic() < end and not read_jsonl(folder / "metrics.jsonl") and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "press Ctrl-C again" in errors
    assert re.search(r"to go on *: run the same command again", errors), errors
    stopped = int(re.search(r"stopped after step (\d+) of 5000; saved", errors)[1])  # type: ignore[index]
    assert state(folder)["progress"]["step"] == stopped
    fit.fit(tiny_config(**{"train.steps": stopped + 2}), quiet=True)
    assert [row["step"] for row in read_jsonl(folder / "metrics.jsonl")] == list(range(1, stopped + 3))


@pytest.mark.parametrize(
    "settings",
    [
        {"task": "mars", "model.backbone": "tiny3d", "optim": {"optimiser": "sgd", "lr": 0.01}},
        {"task": "supervised", "train.precision": "bf16-mixed", "data.balanced": True, "optim.ema": 0.5},
    ],
    ids=["sgd", "bf16, balanced"],
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


@pytest.mark.slow
def test_loader_processes_change_nothing(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"train.steps": 4, "model.dropout": 0.5}
    whole = fit.fit(tiny_config(**settings, name="whole"), quiet=True)
    config = tiny_config(**settings, name="workers", **{"data.workers": 1})
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(InterruptedRunError):
            fit.fit(config, quiet=True)
    assert same(state(whole.folder), state(fit.fit(config, quiet=True).folder))


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
    assert caught.value.what == f"cannot read checkpoint {last}"
    assert "--resume previous" in caught.value.lines["to mend"]
    assert last.read_bytes() == damaged
    with monkeypatch.context() as patch:  # a write that fails must not put the damaged one over the last good one
        patch.setattr(checkpoint, "write_checkpoint", full_disk)
        with pytest.raises(CheckpointError):
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


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_previous_without_one_is_an_error(tiny_config: Config) -> None:
    with pytest.raises(CheckpointError, match=r"there is no .*previous\.pt"):
        fit.fit(tiny_config(), resume="previous", quiet=True)


def test_a_last_checkpoint_that_is_gone_is_no_reason_to_begin_anew(tiny_config: Config) -> None:
    settings = {"train.steps": 2, "train.save_every_s": 0}
    folder = fit.fit(tiny_config(**settings), quiet=True).folder / "checkpoints"
    (folder / "last.pt").unlink()
    before = (folder / "previous.pt").read_bytes()
    with pytest.raises(CheckpointError, match=r"last\.pt is missing, but previous\.pt is there") as caught:
        fit.fit(tiny_config(**settings), quiet=True)
    assert "--resume previous" in caught.value.lines["to mend"]
    assert (folder / "previous.pt").read_bytes() == before
    assert fit.fit(tiny_config(**settings), resume="previous", quiet=True).steps == 2


def test_ctrl_c_in_the_last_validation_loses_no_step(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"data.validation_fraction": 0.25, "train.steps": 3, "model.dropout": 0.5}
    whole = fit.fit(tiny_config(**settings, name="whole"), quiet=True)
    config = tiny_config(**settings, name="stopped")
    keep_best = fit._Training._keep_best

    def press_then_keep(training: Any) -> None:  # as late as can be: the row of the validation is written
        signal.raise_signal(signal.SIGINT)
        keep_best(training)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(fit._Training, "_keep_best", press_then_keep)
        with pytest.raises(InterruptedRunError, match="stopped in the last validation; all 3 steps are saved") as caught:
            fit.fit(config, quiet=True)
    assert "same command again" in caught.value.lines["to go on"]
    assert signal.getsignal(signal.SIGINT) is before
    folder = Path(config.runs, "stopped")
    assert read_checkpoint(folder / "checkpoints" / "last.pt")["progress"]["step"] == 3
    fit.fit(config, quiet=True)
    assert same(state(whole.folder), state(folder))
    assert same(state(whole.folder, "best"), state(folder, "best"))


def test_a_student_alone_is_no_state_to_resume_from(tiny_teacher: Path, tiny_config: Config) -> None:
    folder = Path(tiny_config().runs, "tiny", "checkpoints")
    folder.mkdir(parents=True)
    content = read_checkpoint(tiny_teacher)
    torch.save({"student": content["student"]}, folder / "last.pt")
    with pytest.raises(CheckpointError, match="holds a student, not the state of a training run"):
        fit.fit(tiny_config(), quiet=True)


# --- full disk ---


def content_of(step: int) -> dict[str, Any]:
    return {"student": {}, "optimizer": {"weights": torch.full((100_000,), float(step))}, "step": step}


def test_a_write_that_breaks_off_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    checkpoint.save_checkpoint(tmp_path, content_of(1))
    before = (tmp_path / "last.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the file is four times as long: the write fails in the middle
    try:
        with pytest.raises(CheckpointError) as caught:
            checkpoint.save_checkpoint(tmp_path, content_of(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.what == f"cannot write checkpoint {tmp_path / 'last.pt'}"
    assert caught.value.lines["reason"] == os.strerror(errno.EFBIG)
    assert "free some space" in caught.value.lines["to mend"]
    assert (tmp_path / "last.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system wants root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_checkpoint_before(small_disk: Path) -> None:
    checkpoint.save_checkpoint(small_disk, content_of(1))
    checkpoint.save_checkpoint(small_disk, content_of(2))
    with pytest.raises(CheckpointError) as caught:
        checkpoint.save_checkpoint(small_disk, content_of(3))
    assert caught.value.lines["reason"] == os.strerror(errno.ENOSPC)
    assert checkpoint.read_resume(small_disk / "last.pt")["step"] == 2
    assert checkpoint.read_resume(small_disk / "previous.pt")["step"] == 1


def test_a_file_system_without_hard_links_keeps_the_state_before_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links here")))
    for step in (1, 2, 3):
        checkpoint.save_checkpoint(tmp_path, content_of(step))
    assert checkpoint.read_resume(tmp_path / "last.pt")["step"] == 3
    assert checkpoint.read_resume(tmp_path / "previous.pt")["step"] == 2


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
        with pytest.raises(CheckpointError, match=os.strerror(errno.ENOSPC)):
            fit.fit(config, quiet=True)
    folder = Path(config.runs, "full")
    assert state(folder)["progress"]["step"] == 2
    fit.fit(config, quiet=True)
    assert same(state(whole.folder), state(folder))


@pytest.mark.parametrize("what", ["best.pt", "metrics.jsonl"])
def test_a_full_disk_beside_the_checkpoint_is_told_alike(what: str, tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*{"best.pt": (fit, "write_checkpoint"), "metrics.jsonl": (run_folder, "append_jsonl")}[what], full_disk)
    config = tiny_config(**{"data.validation_fraction": 0.25})
    with pytest.raises(CheckpointError) as caught:
        fit.fit(config, quiet=True)
    assert caught.value.what.startswith("cannot write ")
    assert caught.value.what.endswith(what)
    assert caught.value.lines["reason"] == os.strerror(errno.ENOSPC)
    assert "free some space" in caught.value.lines["to mend"]


def test_a_full_disk_does_not_hide_a_loss_that_is_not_finite(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Supervised.training_step
    monkeypatch.setattr(Supervised, "training_step", lambda *call: {"loss": step(*call)["loss"] * float("nan")})
    monkeypatch.setattr(fit, "write_checkpoint", full_disk)
    with pytest.raises(VidkdError, match="the loss is not finite at step 0") as caught:
        fit.fit(tiny_config(), quiet=True)
    assert caught.value.lines["batch"].endswith(f"bad_batch.pt: {os.strerror(errno.ENOSPC)}")


# --- two runs with one name ---


def test_another_run_with_the_name_is_refused_with_what_differs(tiny_config: Config) -> None:
    fit.fit(tiny_config(), quiet=True)
    folder = Path(tiny_config().runs, "tiny")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError) as caught:
        fit.fit(tiny_config(**{"optim.lr": 0.5, "model.dropout": 0.25}), quiet=True)
    assert caught.value.what == "another run has the name tiny: its settings differ"
    assert caught.value.lines == {
        "model.dropout": "0.0 there, 0.25 here",
        "optim.lr": "0.001 there, 0.5 here",
        "to mend": "another --name",
    }
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_start_that_failed_does_not_hold_the_name(tiny_config: Config, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="checkpoint not found"):
        fit.fit(tiny_config(task="mars", teacher=str(tmp_path / "typo")), quiet=True)
    assert fit.fit(tiny_config(), quiet=True).steps == 2


def test_where_and_how_fast_may_differ(tiny_config: Config, caplog: pytest.LogCaptureFixture) -> None:
    fit.fit(tiny_config(), quiet=True)
    result = fit.fit(
        tiny_config(**{"train.steps": 3, "train.log_every": 2, "data.cache.enabled": True, "train.save_every_s": 5}), quiet=True
    )
    assert result.steps == 3
    assert "train.steps was 2 when this run began and is 3 now" in caplog.text


def test_never_refuses_any_run_that_is_there(tiny_config: Config) -> None:
    fit.fit(tiny_config(), resume="never", quiet=True)
    with pytest.raises(ConfigError, match="there is a run in"):
        fit.fit(tiny_config(), resume="never", quiet=True)


def test_two_at_the_same_time_are_refused(tiny_config: Config) -> None:
    config = tiny_config()
    with RunFolder(Path(config.runs, "tiny")).lock(), pytest.raises(ConfigError, match="another process is training in"):
        fit.fit(config, quiet=True)
    assert fit.fit(config, quiet=True).steps == 2


def test_a_finished_run_is_found_and_not_trained_again(tiny_config: Config) -> None:
    first = fit.fit(tiny_config(), quiet=True)
    files = {path: path.stat().st_mtime_ns for path in (first.folder / "checkpoints").iterdir()}
    again = fit.fit(tiny_config(), quiet=True)
    assert (again.steps, again.seconds) == (first.steps, first.seconds)
    assert {path: path.stat().st_mtime_ns for path in (first.folder / "checkpoints").iterdir()} == files


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tiny_config: Config) -> None:
    config = tiny_config()
    folder = RunFolder(Path(config.runs, "tiny"))
    folder.claim(config, resume="auto")
    folder.add_metrics({"step": 1, "split": "train", "loss": 9.0})
    with folder.metrics_file.open("a") as file:
        file.write('{"step": 2, "spl')  # torn by the kill
    fit.fit(config, quiet=True)
    rows = [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["loss"] != 9.0
