"""vidkd train as a user runs it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from vidkd.base import cores
from vidkd.base.errors import ConfigError
from vidkd.base.files import read_jsonl
from vidkd.base.settings import to_yaml
from vidkd.cli.main import run_verb
from vidkd.data.layouts import LAYOUTS
from vidkd.engine.config import RunConfig, load_config
from vidkd.engine.fit import fit
from vidkd.models.saved import load_classifier, read_checkpoint

Config = Callable[..., RunConfig]


def write(config: RunConfig, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_yaml(config), encoding="utf-8")
    return path


def train(*arguments: object) -> int:
    return run_verb("train", [str(argument) for argument in arguments])


def test_a_run_leaves_what_it_takes_to_judge_and_repeat_it(
    tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(**{"data.validation_fraction": 0.25})
    assert train("--config", write(config, tmp_path / "c.yaml"), "--train.steps", 3) == 0
    folder = Path(config.runs, "tiny")
    output = capsys.readouterr().out
    assert f"trained: {folder}  3 steps in" in output
    assert "best top-1 on val" in output
    assert f"vidkd evaluate --model {folder} --subset test" in output
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert {"config.yaml", "environment.txt", "metrics.jsonl", "checkpoints/last.pt", "checkpoints/best.pt"} <= names
    assert load_classifier(folder).classes == ("Right", "Down", "Grow")
    assert [row["split"] for row in read_jsonl(folder / "metrics.jsonl")] == ["train", "train", "train", "val"]
    environment = (folder / "environment.txt").read_text()
    assert all(f"{name}: " in environment for name in ("vidkd", "python", "torch", "numpy", "decord", "threads", "cores"))


def test_more_threads_than_cores_are_refused(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 2)
    config = tiny_config(**{"train.threads": 3})
    path = write(config, tmp_path / "c.yaml")
    line = path.read_text().splitlines().index("  threads: 3") + 1
    assert train("--config", path) == 2
    assert f"3 threads on 2 cores\n  where : train.threads in {path}:{line}\n  fix   : at most 2\n" in capsys.readouterr().err
    assert train("--config", path, "--train.threads", 4) == 2
    assert "4 threads on 2 cores\n  where : --train.threads on the command line\n" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"3 threads on 2 cores\n +where +: train\.threads\n"):
        fit(config, quiet=True)
    assert not Path(config.runs).exists()
    assert train("--config", path, "--train.threads", 1, "--train.steps", 1) == 0


def test_the_configuration_in_the_folder_is_replayable_as_it_is(tiny_config: Config, tmp_path: Path) -> None:
    config = tiny_config()
    train("--config", write(config, tmp_path / "c.yaml"), "--optim.lr", 0.01)
    written = Path(config.runs, "tiny", "config.yaml")
    assert written.read_text().startswith(f"# vidkd train --config {written}\n")
    assert load_config(written).optim.lr == 0.01
    moved = tmp_path / "moved.yaml"
    moved.write_text(written.read_text())
    assert train("--config", moved, "--runs", tmp_path / "elsewhere") == 0
    weights = [read_checkpoint(folder / "tiny")["student"]["state"] for folder in (Path(config.runs), tmp_path / "elsewhere")]
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])


def test_a_run_without_a_name_has_that_of_task_data_and_seed(tiny_config: Config, tmp_path: Path) -> None:
    config = tiny_config(name=None)
    assert train("--config", write(config, tmp_path / "c.yaml"), "--train.seed", 3) == 0
    assert [path.name for path in Path(config.runs).iterdir()] == ["supervised-tiny-s3"]


def test_the_same_command_again_finds_the_run_finished(tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tiny_config(), tmp_path / "c.yaml")
    train("--config", path)
    first = capsys.readouterr().out
    assert train("--config", path) == 0
    assert capsys.readouterr().out == first.replace("trained: ", "found finished: ", 1)
    assert train("--config", path, "--resume", "never") == 2
    assert "there is a run in" in capsys.readouterr().err


def test_distilling_from_the_folder_of_a_run(tiny_config: Config, tiny_teacher: Path, tmp_path: Path) -> None:
    path = write(tiny_config(task="attention_distillation"), tmp_path / "c.yaml")
    assert train("--config", path, "--teacher", tiny_teacher, "--method.weight=2.5") == 0
    rows = read_jsonl(Path(tiny_config().runs, "tiny", "metrics.jsonl"))
    assert all(row["loss"] == pytest.approx(row["label"] + 2.5 * row["attention"], rel=1e-5) for row in rows)


def test_a_teacher_that_is_described_is_trained_first(tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = tmp_path / "runs" / "the teacher"
    settings = {"task": "mars", "teacher": str(teacher), "teacher_settings": {"view": "flow", "train.steps": 1}}
    path = write(tiny_config(**settings), tmp_path / "c.yaml")
    assert train("--config", path) == 0
    saved = load_classifier(teacher)
    assert (saved.view, saved.run["task"], saved.run["train"]["steps"]) == ("flow", "supervised", 1)
    before = (teacher / "checkpoints" / "last.pt").read_bytes()
    assert train("--config", path, "--name", "second") == 0
    assert (teacher / "checkpoints" / "last.pt").read_bytes() == before


def test_a_finished_teacher_is_used_whatever_the_students_flags(
    tiny_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = tmp_path / "runs" / "teacher"
    settings = {"task": "mars", "teacher": str(teacher), "teacher_settings": {"view": "flow"}, "train.steps": 1}
    path = write(tiny_config(**settings), tmp_path / "c.yaml")
    assert train("--config", path) == 0
    before = {file: file.read_bytes() for file in teacher.rglob("*") if file.is_file()}
    caplog.clear()
    assert train("--config", path, "--name", "second", "--train.seed", 1, "--train.steps", 2, "--data.workers", 0, "--resume", "never") == 0
    assert {file: file.read_bytes() for file in teacher.rglob("*") if file.is_file()} == before
    notes = [record.getMessage() for record in caplog.records if "used unchanged" in record.getMessage()]
    assert notes == [
        f"{teacher} is finished and used unchanged: train.seed was 0 there, not 1",
        f"{teacher} is finished and used unchanged: train.steps was 1 there, not 2",
    ]
    assert read_checkpoint(Path(tiny_config().runs, "second"))["progress"]["step"] == 2


def test_a_finished_teacher_that_has_seen_more_labels_is_warned_of(
    tiny_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = tmp_path / "runs" / "teacher"
    settings = {"task": "mars", "teacher": str(teacher), "teacher_settings": {"view": "flow"}, "train.steps": 1}
    path = write(tiny_config(**settings), tmp_path / "c.yaml")
    assert train("--config", path) == 0
    caplog.clear()
    assert train("--config", path, "--name", "few", "--data.label_fraction", 0.5, "--data.unlabelled", "use") == 0
    warned = [record.getMessage() for record in caplog.records if "label_fraction" in record.getMessage()]
    seen = "learned from other labels than the student, by data.label_fraction 1.0"
    assert warned == [f"the teacher {teacher} {seen}; --teacher {teacher}-2 trains another"]
    assert "few: 6 training clips are learned with their label, 6 are seen without one (data.unlabelled: use)" in caplog.messages
    caplog.clear()
    assert train("--config", path, "--name", "few-2", "--teacher", f"{teacher}-2", "--data.label_fraction", 0.5) == 0
    assert "used unchanged" not in caplog.text
    assert load_classifier(Path(f"{teacher}-2")).run["data"]["label_fraction"] == 0.5
    caplog.clear()
    assert train("--config", path, "--name", "all", "--teacher", f"{teacher}-2") == 0
    assert f"the teacher {teacher}-2 learned from other labels than the student, by data.label_fraction 0.5" in caplog.text


def test_a_teacher_that_learned_from_clips_that_judge_its_student_is_refused(
    tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = tmp_path / "runs" / "teacher"
    settings = {"task": "mars", "teacher": str(teacher), "teacher_settings": {"view": "flow"}, "train.steps": 1}
    assert train("--config", write(tiny_config(**settings), tmp_path / "c.yaml")) == 0
    held_out = write(tiny_config(**settings, **{"data.validation_fraction": 0.3}, name="second"), tmp_path / "d.yaml")
    assert train("--config", held_out) == 2
    text = capsys.readouterr().err
    assert f"the teacher {teacher} learned from " in text
    assert "--data.validation_fraction 0.0" in text
    assert f"--teacher {teacher}-2 trains one for these groups" in text
    assert train("--config", held_out, "--teacher", f"{teacher}-2") == 0


def test_a_student_that_cannot_be_is_told_before_its_teacher_is_trained(
    tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = tmp_path / "runs" / "teacher"
    settings = {"teacher": str(teacher), "teacher_settings": {"data.observe.protocol": "whole"}, "train.steps": 1}
    settings |= {"task": "anticipation", "data.observe.protocol": "early", "data.window.short_clip": "hold"}
    for wrong, message in [({"method.stage": "nowhere"}, "nowhere"), ({"method.feature": "none"}, "nothing to learn from its teacher")]:
        assert train("--config", write(tiny_config(**settings, **wrong), tmp_path / "c.yaml")) == 2
        assert message in capsys.readouterr().err
        assert not teacher.exists()


@pytest.mark.parametrize(
    ("flag", "name", "message"),
    [
        ("--model.weights", "absent.pt", "weights not found"),
        ("--model.weights", "w.onnx", "cannot read"),
        ("--model.weights", "other.pt", "weights do not fit"),
        ("--init", "absent.pt", "checkpoint not found"),
    ],
)
def test_weights_of_a_student_are_looked_at_before_its_teacher_is_trained(
    flag: str, name: str, message: str, tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.onnx").touch()
    torch.save({"stem.weight": torch.zeros(2)}, tmp_path / "other.pt")
    teacher = tmp_path / "runs" / "teacher"
    settings = {"task": "mars", "teacher": str(teacher), "teacher_settings": {"view": "flow", "model.weights": None, "init": None}}
    path = write(tiny_config(**settings, **{"train.steps": 1}), tmp_path / "c.yaml")
    assert train("--config", path, flag, tmp_path / name) == 2
    error = capsys.readouterr().err
    assert f"vidkd: {message}" in error
    assert str(tmp_path / name) in error
    assert not teacher.exists()


def test_a_damaged_teacher_is_named(tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = tmp_path / "runs" / "teacher"
    settings = {"task": "mars", "teacher": str(teacher), "teacher_settings": {"view": "flow", "train.steps": 1}}
    path = write(tiny_config(**settings), tmp_path / "c.yaml")
    assert train("--config", path) == 0
    last = teacher / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    assert train("--config", path, "--name", "second") == 2
    assert f"cannot read {last}" in capsys.readouterr().err


def test_settings_are_listed_with_their_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--settings", "--task", "logits_kd") == 0
    output = capsys.readouterr().out
    assert "--method.temperature" in output
    assert "--data.window.stride" in output
    assert "seconds between checkpoints" in output


def test_device_is_short_for_the_setting(tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tiny_config(**{"train.device": "auto"}), tmp_path / "c.yaml")
    assert train("--config", path, "--device", "abacus") == 2
    assert (
        "cannot use device 'abacus'\n  reason : no device has this name; known: auto, cpu, cuda, mps\n  fix    : --train.device auto"
        in capsys.readouterr().err
    )
    assert train("--config", path, "--device", "cpu") == 0
    assert yaml.safe_load(Path(tiny_config().runs, "tiny", "config.yaml").read_text())["train"]["device"] == "cpu"


@pytest.mark.parametrize("stem", ["ucf101", "mine"])
def test_the_message_of_a_missing_data_set(stem: str, tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tiny_config(**{"data.root": "/nowhere"}), tmp_path / f"{stem}.yaml")
    line = path.read_text().splitlines().index("  root: /nowhere") + 1
    layout = {"ucf101": "ucf101 --data.root /nowhere", "mine": "LAYOUT --data.root /nowhere   (LAYOUT: csv, epic100, folder, "}[stem]
    assert train("--config", path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == [
        f"vidkd: data set '{'ucf101' if stem == 'ucf101' else 'nowhere'}' not found",
        f"  looked in : /nowhere   (data.root in {path}:{line})",
        "  expected  : manifest.jsonl, which prepare_data writes there",
        "  found     : /nowhere is missing",
    ]
    assert lines[4].startswith(f"  fix       : vidkd prepare_data {layout}")
    assert lines[5:] == [
        "  read only : add --out FILE to it, and train with --data.manifest FILE",
        "  no data?  : vidkd make_data --out DIR writes synthetic videos",
    ]
    assert train("--config", path, "--data.root", tmp_path) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path}   (--data.root on the command line)" in error
    assert f"found     : {tmp_path}/manifest.jsonl is missing" in error


def test_the_message_of_a_missing_manifest(tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may lie anywhere: its folder is not taken for that of the data set."""
    manifest = tmp_path / "lists" / "mine.jsonl"
    path = write(tiny_config(**{"data.root": ""}), tmp_path / "c.yaml")
    for root in ("", "/d"):
        assert train("--config", path, "--data.manifest", manifest, "--data.root", root) == 2
        assert capsys.readouterr().err.splitlines() == [
            f"vidkd: manifest not found: {manifest}",
            "  given    : --data.manifest on the command line",
            f"  found    : {manifest.parent} is missing",
            f"  fix      : vidkd prepare_data LAYOUT --data.root {root or 'DIR'} --out {manifest}   (LAYOUT: {', '.join(sorted(LAYOUTS))})",
            "  no data? : vidkd make_data --out DIR writes synthetic videos",
        ]
    manifest.parent.mkdir()
    assert train("--config", path, "--data.manifest", manifest) == 2
    assert f"found    : {manifest} is missing" in capsys.readouterr().err


def test_a_manifest_that_was_written_elsewhere_is_trained_on_without_a_root(tiny_root: Path, tiny_config: Config, tmp_path: Path) -> None:
    """As docs/guides/data.md has it for a root in which nothing can be written."""
    manifest = tmp_path / "mine.jsonl"
    assert run_verb("prepare_data", ["folder", "--data.root", str(tiny_root / "videos"), "--out", str(manifest)]) == 0
    path = write(tiny_config(**{"data.root": "", "train.steps": 1}), tmp_path / "c.yaml")
    assert train("--config", path, "--data.manifest", manifest) == 0
    assert read_checkpoint(Path(tiny_config().runs, "tiny"))["progress"]["finished"]


@pytest.mark.parametrize(
    ("flag", "value"), [("--train.epochs", "0"), ("--data.window.frames", "0"), ("--data.label_fraction", "2"), ("--data.batch_size", "0")]
)
def test_a_value_out_of_range_on_the_command_line_names_its_flag(
    flag: str, value: str, tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tiny_config(), tmp_path / "c.yaml")
    assert train("--config", path, flag, value) == 2
    assert f": {flag} on the command line\n" in capsys.readouterr().err
    path.write_text("optim:\n  lr: -1\n")
    assert train("--config", path) == 2
    assert f": {path}:2\n" in capsys.readouterr().err
