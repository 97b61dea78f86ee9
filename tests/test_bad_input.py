"""What users get wrong, each through the command: exit code 2 and an error that says what, where and how to mend it."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidkd.base.files import read_json, read_jsonl
from vidkd.base.settings import to_yaml
from vidkd.cli.main import run_verb
from vidkd.data.manifest import Clip, Manifest
from vidkd.engine import checkpoint
from vidkd.engine.config import RunConfig
from vidkd.models.saved import load_classifier, read_checkpoint
from vidkd.video import write_video

Config = Callable[..., RunConfig]


class Vidkd:
    """The command on a written configuration, with what it says."""

    def __init__(self, config: Config, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._config, self._file, self._capsys = config, folder / "c.yaml", capsys

    def train(self, *arguments: object, **settings: Any) -> tuple[int, str]:
        self._file.write_text(to_yaml(self._config(**settings)), encoding="utf-8")
        return self.run("train", "--config", self._file, *arguments)

    def run(self, verb: str, *arguments: object) -> tuple[int, str]:
        code = run_verb(verb, [str(argument) for argument in arguments])
        error = self._capsys.readouterr().err
        assert "Traceback" not in error
        return code, error


@pytest.fixture
def vidkd(tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Vidkd:
    return Vidkd(tiny_config, tmp_path, capsys)


@pytest.fixture
def own_root(tiny_root: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set, to damage."""
    return Path(shutil.copytree(tiny_root, tmp_path / "own"))


def test_missing_data_set(vidkd: Vidkd, tmp_path: Path) -> None:
    code, error = vidkd.train(**{"data.root": str(tmp_path / "nowhere")})
    assert code == 2
    lines = [line.split(" : ") for line in error.splitlines()]
    assert lines[0] == ["vidkd: data set 'nowhere' not found"]
    assert [label.strip() for label, _ in lines[1:]] == ["looked in", "expected", "found", "fix", "read only", "no data?"]
    assert lines[4][1].startswith(f"vidkd prepare_data LAYOUT --data.root {tmp_path}/nowhere")


def test_unknown_flag(vidkd: Vidkd) -> None:
    code, error = vidkd.train("--train.epoch", 3)
    assert code == 2
    assert "unknown setting '--train.epoch'" in error
    assert "--train.epochs" in error


@pytest.mark.parametrize(
    ("flag", "value", "named"),
    [
        ("--train.steps", "many", "train.steps"),
        ("--view", "depth", "view"),
        ("--optim.lr", "-1", "optim.lr"),
        ("--data.split", "9", "split '9'"),
    ],
)
def test_wrong_value(flag: str, value: str, named: str, vidkd: Vidkd) -> None:
    code, error = vidkd.train(flag, value)
    assert code == 2
    assert named in error.splitlines()[0]
    assert value in error


@pytest.mark.parametrize(
    ("key", "value", "known"),
    [("task", "mras", "mars"), ("model.backbone", "tiny3", "tiny3d"), ("model.attention.from_stage", "stage9", "stage3")],
)
def test_unknown_name(key: str, value: str, known: str, vidkd: Vidkd) -> None:
    code, error = vidkd.train(f"--{key}", value)
    assert code == 2
    assert value in error.splitlines()[0]
    assert known in error


def test_untrusted_configuration(vidkd: Vidkd, tmp_path: Path) -> None:
    (tmp_path / "evil.yaml").write_text(f"name: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n")
    code, error = vidkd.run("train", "--config", tmp_path / "evil.yaml")
    assert code == 2
    assert f"cannot read {tmp_path}/evil.yaml" in error
    assert not (tmp_path / "ran").exists()


def test_clip_shorter_than_the_window_in_training(vidkd: Vidkd) -> None:
    code, error = vidkd.train(**{"data.window.stride": 4})
    assert code == 2
    assert "is shorter than the window" in error
    assert "window.short_clip=hold" in error
    assert vidkd.train(**{"data.window": {"stride": 4, "short_clip": "hold"}}, name="held")[0] == 0


def test_clip_shorter_than_the_window_in_evaluation(vidkd: Vidkd, tiny_teacher: Path, tmp_path: Path) -> None:
    judge = ("evaluate", "--model", tiny_teacher, "--out", tmp_path / "out", "--device", "cpu", "--data.window.stride", 4)
    code, error = vidkd.run(*judge)
    assert code == 2
    assert "is shorter than the window" in error
    assert "_g4.mp4" in error


def test_broken_file_in_training(vidkd: Vidkd, own_root: Path) -> None:
    broken = own_root / "videos" / "Down" / "Down_g0.mp4"
    broken.write_bytes(broken.read_bytes()[:300])
    settings = {"data.root": str(own_root), "train.steps": 3}
    code, error = vidkd.train(**settings)
    assert code == 2
    assert "training clips that cannot be read: 1" in error
    assert "videos/Down/Down_g0.mp4" in error
    assert "vidkd prepare_data check" in error
    assert vidkd.train(**settings, **{"data.max_bad_clips": 1}, name="capped")[0] == 0
    content = read_checkpoint(load_run(vidkd, "capped"))
    assert len(content["progress"]["bad_clips"]) == 1


def load_run(vidkd: Vidkd, name: str) -> Path:
    return Path(vidkd._config().runs, name)


def test_broken_file_in_evaluation(vidkd: Vidkd, own_root: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    (own_root / "videos" / "Grow" / "Grow_g5.mp4").write_bytes(b"\0" * 500)
    judge = ("evaluate", "--model", tiny_teacher, "--data.root", own_root, "--out", tmp_path / "out", "--device", "cpu")
    code, error = vidkd.run(*judge)
    assert code == 2
    assert "Grow_g5.mp4" in error
    assert not (tmp_path / "out").exists()


def test_teacher_missing(vidkd: Vidkd, tmp_path: Path) -> None:
    code, error = vidkd.train("--teacher", tmp_path / "nobody", task="attention_distillation")
    assert code == 2
    assert f"checkpoint not found: {tmp_path}/nobody" in error
    code, error = vidkd.train(task="attention_distillation")
    assert code == 2
    assert "task 'attention_distillation' needs a teacher" in error


def test_teacher_of_another_architecture(vidkd: Vidkd, tiny_teacher: Path, tmp_path: Path) -> None:
    content = read_checkpoint(tiny_teacher)
    content["student"]["config"]["backbone"] = "r3d_18"
    torch.save(content, tmp_path / "mixed.pt")
    code, error = vidkd.train("--teacher", tmp_path / "mixed.pt", task="mars")
    assert code == 2
    assert f"the weights of {tmp_path}/mixed.pt do not fit the network that it names" in error


def test_teacher_without_an_attention_map(vidkd: Vidkd) -> None:
    assert vidkd.train(view="flow", name="blind", model={"attention": {"pooling": "mean"}})[0] == 0
    code, error = vidkd.train("--teacher", load_run(vidkd, "blind"), task="attention_distillation")
    assert code == 2
    assert "the teacher has no attention map" in error


def test_teacher_with_another_number_of_classes(vidkd: Vidkd, tiny_root: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    clips = tuple(clip for clip in manifest.clips if clip.label != 2)
    Manifest(name="two", root=tiny_root, classes=manifest.classes[:2], splits=("1",), clips=clips).write(tmp_path / "two.jsonl")
    code, error = vidkd.train("--teacher", tiny_teacher, "--data.manifest", tmp_path / "two.jsonl", task="d3d")
    assert code == 2
    assert "was trained on other classes" in error
    assert "3: Right, Down, Grow" in error
    assert "2: Right, Down" in error


def test_full_disk(vidkd: Vidkd, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"train.steps": 4, "train.save_every_s": 0}
    write, left = checkpoint.write_checkpoint, [2]

    def fills_up(path: Path, content: dict[str, Any]) -> None:
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= 1
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_checkpoint", fills_up)
        code, error = vidkd.train(**settings)
    assert code == 2
    assert "cannot write: " in error
    assert "No space left on device" in error
    assert "free disk space" in error
    assert read_checkpoint(load_run(vidkd, "tiny"))["progress"]["step"] == 2
    assert vidkd.train(**settings)[0] == 0


def test_damaged_checkpoint(vidkd: Vidkd) -> None:
    settings = {"train.steps": 2, "train.save_every_s": 0}
    vidkd.train(**settings)
    last = load_run(vidkd, "tiny") / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:-5000])
    for verb in (("evaluate", "--model", load_run(vidkd, "tiny")), ("export", "--out", "x.onnx", "--model", last)):
        code, error = vidkd.run(*verb)
        assert code == 2
        assert f"cannot read {last}" in error
    code, error = vidkd.train(**settings)
    assert code == 2
    assert f"cannot read {last}" in error


def test_names_that_no_shell_likes(vidkd: Vidkd, frames_of: Callable[..., np.ndarray], tmp_path: Path) -> None:
    root = tmp_path / "Daten & 'mehr' \"Vidéos\" 走る"
    clips = []
    for label, group, subset in [(0, 0, "train"), (1, 1, "train"), (0, 2, "test"), (1, 3, "test")]:
        path = f'ein Ordner/it\'s a "clip" #{group} %20 é.mp4'
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        write_video(root / path, frames_of(label, group), fps=25)
        clips.append(Clip(path=path, label=label, group=str(group), subsets={"1": subset}))
    classes = ("jump 'n' run", 'größer, "schneller"')
    Manifest(name="odd", root=root, classes=classes, splits=("1",), clips=tuple(clips)).write(root / "manifest.jsonl")
    name = "lauf nr. 1 'é'"
    code, error = vidkd.train("--name", name, "--runs", tmp_path / "meine läufe", **{"data.root": str(root), "data.batch_size": 2})
    assert code == 0, error
    run = tmp_path / "meine läufe" / name
    assert len(read_jsonl(run / "metrics.jsonl")) == 2
    assert load_classifier(run).classes == classes
    assert vidkd.run("evaluate", "--model", run, "--device", "cpu")[0] == 0
    assert read_json(run / "evaluation.json")["clips"] == 2
    overlay = run / "über 'lay'.mp4"
    assert vidkd.run("predict", root / clips[0].path, "--model", run, "--overlay", overlay, "--device", "cpu")[0] == 0
    assert overlay.stat().st_size > 0
