"""Several processes: their shares, their teacher, what they count together."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from started import run_to_end

from vidkd.base.files import read_json, read_jsonl
from vidkd.base.settings import to_yaml
from vidkd.cli.main import run_verb
from vidkd.engine import fit
from vidkd.engine.clips import read_clips
from vidkd.engine.config import RunConfig
from vidkd.engine.setup import training_sampler
from vidkd.models.saved import load_classifier, read_checkpoint


def torchrun(*arguments: str, script: Sequence[str] = ("-m", "vidkd.cli.main")) -> str:
    """Run the vidkd command, or another script, in two processes on one machine; both end well. Returns their standard output."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *script, *arguments]
    done = run_to_end(command, timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# nothing random and nothing that couples the clips of a batch
SETTINGS = {
    "task": "attention_distillation",
    "model": {"freeze_norm": True, "dropout": 0.0, "attention": {"pooling": "soft"}},
    "optim": {"optimiser": "sgd", "lr": 0.1, "warmup": 0.0, "accumulate": 2},
    "data": {"validation_fraction": 0.25, "batch_size": 4},
    "train": {"steps": 4, "save_every_s": 0},
}


@pytest.mark.slow
def test_two_processes_learn_and_judge_what_one_does(
    tiny_config: Callable[..., RunConfig], tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(**SETTINGS, teacher=str(tiny_teacher), name="two")
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    torchrun("train", "--config", str(tmp_path / "config.yaml"))
    two = Path(config.runs, "two")
    one = fit.fit(tiny_config(**SETTINGS, teacher=str(tiny_teacher), name="one"), quiet=True).folder

    weights = [read_checkpoint(folder / "checkpoints" / "last.pt")["student"]["state"] for folder in (one, two)]
    for name in weights[0]:
        torch.testing.assert_close(weights[1][name], weights[0][name], rtol=1e-5, atol=1e-6, msg=name)
    rows = [read_jsonl(folder / "metrics.jsonl") for folder in (one, two)]
    assert [row.pop("split") for row in rows[0]] == [row.pop("split") for row in rows[1]] == ["train"] * 4 + ["val"]
    for alone, shared in zip(*rows, strict=True):
        assert shared | {"data_wait": 0} == pytest.approx(alone | {"data_wait": 0}, rel=1e-4, abs=1e-6)

    torchrun("evaluate", "--model", str(two), "--out", str(tmp_path / "shared"))
    assert run_verb("evaluate", ["--model", str(two), "--device", "cpu", "--out", str(tmp_path / "alone")]) == 0
    assert read_json(tmp_path / "shared" / "evaluation.json")["metrics"] == pytest.approx(
        read_json(tmp_path / "alone" / "evaluation.json")["metrics"], rel=1e-5
    )


@pytest.mark.slow
def test_two_processes_judge_the_student_that_is_kept(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """Running statistics are each process's own until then: the validation of both together is that of the checkpoint."""
    config = tiny_config(**{"data": {"validation_fraction": 0.5, "batch_size": 4}, "train": {"steps": 3}, "optim.lr": 0.05}, name="two")
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    torchrun("train", "--config", str(tmp_path / "config.yaml"))
    two = Path(config.runs, "two")
    text = next(row for row in read_jsonl(two / "metrics.jsonl") if row["split"] == "val")
    assert run_verb("evaluate", ["--model", str(two), "--subset", "val", "--device", "cpu", "--out", str(tmp_path / "alone")]) == 0
    found = read_json(tmp_path / "alone" / "evaluation.json")["metrics"]
    assert {name: text[name] for name in found} == pytest.approx(found, rel=1e-5)


@pytest.mark.slow
def test_the_unreadable_clips_of_all_processes_count_and_are_saved(
    tiny_config: Callable[..., RunConfig], tiny_root: Path, tmp_path: Path
) -> None:
    """Of the 12 training clips two are damaged, and each process reads one of them."""
    root = Path(shutil.copytree(tiny_root, tmp_path / "damaged"))
    settings = {"data": {"root": str(root), "batch_size": 12, "max_bad_clips": 2}, "train": {"steps": 1}, "name": "two"}
    config = tiny_config(**settings)
    clips = read_clips(config.data)
    order = training_sampler(clips, config, first_step=0, last_step=1).batch(0)  # type: ignore[attr-defined]
    paths = [clips.train[order[place][1]].path for place in (0, 1)]
    for path in paths:
        (root / path).write_bytes(b"no video")
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    torchrun("train", "--config", str(tmp_path / "config.yaml"))
    bad = read_checkpoint(Path(config.runs, "two", "checkpoints", "last.pt"))["progress"]["bad_clips"]
    assert [message.partition(":")[0] for message in bad] == sorted(paths)


ENDS = """
import atexit
import os
import torch
from vidkd.engine.loop_config import TrainConfig

# in one piece: the processes share what they write to
def tell(line):
    os.write(1, f"{line} {torch.distributed.is_initialized()}\\n".encode())

# what is registered first is called last
atexit.register(tell, "at the end")
from vidkd.engine.devices import start_fabric

fabric = start_fabric(TrainConfig(device="cpu"), batch_size=2)
start_fabric(TrainConfig(device="cpu"), batch_size=2)
tell(f"sum {float(fabric.all_reduce(torch.ones(1), reduce_op='sum'))}")
if fabric.global_rank:
    raise SystemExit(0)
"""


@pytest.mark.slow
def test_processes_part_before_python_ends(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(ENDS)
    lines = torchrun(script=[str(tmp_path / "ends.py")]).splitlines()
    assert sorted(lines) == ["at the end False"] * 2 + ["sum 2.0 True"] * 2


# nothing random and nothing that couples the clips of a batch
TAUGHT = {
    "task": "mars",
    "teacher_settings": {"view": "flow", "train.steps": 1},
    "model": {"freeze_norm": True, "dropout": 0.0},
    "optim": {"optimiser": "sgd", "lr": 0.1, "warmup": 0.0},
}


@pytest.mark.slow
def test_two_processes_train_the_teacher_and_then_the_student(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """Both weigh as those of one process do; a second call finds the teacher finished."""
    alone = fit.fit(tiny_config(**TAUGHT, teacher=str(tmp_path / "one" / "teacher"), name="alone"), quiet=True).folder
    teacher = tmp_path / "two" / "teacher"
    (tmp_path / "config.yaml").write_text(to_yaml(tiny_config(**TAUGHT, teacher=str(teacher))), encoding="utf-8")
    torchrun("train", "--config", str(tmp_path / "config.yaml"), "--name", "shared")
    trained = (teacher / "checkpoints" / "last.pt").stat().st_mtime_ns
    torchrun("train", "--config", str(tmp_path / "config.yaml"), "--name", "again")
    assert (teacher / "checkpoints" / "last.pt").stat().st_mtime_ns == trained

    assert (load_classifier(teacher).view, len(read_jsonl(teacher / "metrics.jsonl"))) == ("flow", 1)
    runs = alone.parent
    for one, two in ((tmp_path / "one" / "teacher", teacher), (alone, runs / "shared"), (alone, runs / "again")):
        weights = [read_checkpoint(folder / "checkpoints" / "last.pt")["student"]["state"] for folder in (one, two)]
        for name in weights[0]:
            torch.testing.assert_close(weights[1][name], weights[0][name], rtol=1e-5, atol=1e-6, msg=name)
