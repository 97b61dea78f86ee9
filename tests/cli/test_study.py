"""vidkd study from the command line: a whole study on the tiny data set, given twice, changed, cut short, tuned, by two workers."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from vidkd.base.errors import VideoError
from vidkd.base.files import read_json
from vidkd.bench import clip_study
from vidkd.bench.store import Store
from vidkd.bench.summary import read_summary
from vidkd.cli.main import run_verb
from vidkd.engine.fit import fit
from vidkd.engine.loop import InterruptedRunError

METHODS = {
    "flow": {"label": "flow teacher", "settings": {"view": "flow", "model.attention.pooling": "soft"}},
    "attention": {
        "label": "distilled",
        "teacher": "flow",
        "settings": {"task": "attention_distillation", "model.attention.pooling": "soft"},
    },
}
Write = Callable[..., Path]
Compare = Callable[..., int]


@pytest.fixture
def write(tmp_path: Path, tiny_settings: Callable[..., dict[str, Any]]) -> Write:
    """Write a study of two methods on two seeds, one step a cell."""

    def written(**over: Any) -> Path:
        base = tiny_settings(**{"train.steps": 1, "model.attention.pooling": "mean", "data.window.frames": 2})
        (tmp_path / "base.yaml").write_text(yaml.safe_dump({key: value for key, value in base.items() if key not in ("name", "runs")}))
        study = {"study": "small", "base": "base.yaml", "seeds": [0, 1], "reference": "flow", "methods": METHODS, **over}
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
        return tmp_path / "small.yaml"

    return written


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    def run(study: Path, *words: object, out: str = "out") -> int:
        return run_verb(
            "study", ["--config", str(study), "--out", str(tmp_path / out), "--runs", str(tmp_path / f"runs-{out}"), *map(str, words)]
        )

    return run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs that were asked for."""
    names: list[str] = []

    def counted(config: Any, **settings: Any) -> Any:
        names.append(config.name)
        return fit(config, **settings)

    monkeypatch.setattr(clip_study, "fit", counted)
    return names


def cells_in(folder: Path, phase: str = "test") -> dict[str, dict[str, Any]]:
    return Store(folder / "cells.parquet", folder / "no lines").cells(phase)


CELLS = ["flow-s0-1", "flow-s1-1", "attention-s0-1", "attention-s1-1"]


def test_a_study_from_its_file_to_its_report(
    write: Write, compare: Compare, trained: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two methods on two seeds; the second call trains nothing and says the same."""
    study, out = write(), tmp_path / "out"
    assert compare(study) == 0
    first = capsys.readouterr().out
    assert trained == CELLS
    assert re.findall(r"^\[(\d/4)\] (\S+)  top-1 \d\.\d{3}  \d+ s$", first, re.MULTILINE) == [
        (f"{n}/4", name) for n, name in enumerate(CELLS, 1)
    ]
    assert f"written: {out / 'summary.json'}, {out / 'report.html'}\n" in first
    assert all((out / name).stat().st_size > 1000 for name in ("summary.json", "report.html"))
    summary = read_summary(out / "summary.json")
    assert list(summary["methods"]) == ["flow", "attention"]
    assert set(summary["methods"]["flow"]["metrics"]["top1"]["values"]) == {"0/1", "1/1"}
    assert [(pair["method"], pair["reference"], pair["pairs"]) for pair in summary["paired"]] == [("attention", "flow", 2)]
    assert "flow teacher" in first
    assert "distilled" in (out / "report.html").read_text(encoding="utf-8")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") >= 4, "example clips: frames, flow, teacher, student"
    assert f"vidkd study --config={study} --out={out} --runs={tmp_path / 'runs-out'}" in page
    assert all(title in page for title in ("Training losses, distilled, first seed", "Confusion matrix, distilled"))

    before = cells_in(out)
    assert sorted(before) == sorted(CELLS)
    assert compare(study) == 0
    second = capsys.readouterr().out
    assert (second, len(trained), cells_in(out)) == (first, 4, before)


def test_the_run_of_a_cell_gets_its_own_page_from_evaluate(
    write: Write, compare: Compare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As docs/evaluation.md says: the same numbers as the cell, and nothing of the study is changed by it."""
    study = write(seeds=[0])
    assert compare(study) == 0
    first, before = capsys.readouterr().out, cells_in(tmp_path / "out")
    run = tmp_path / "runs-out" / "small" / "test" / "attention-s0-1"
    assert not (run / "report.html").exists()
    assert run_verb("evaluate", ["--model", str(run), "--subset", "test", "--device", "cpu"]) == 0
    cell = cells_in(tmp_path / "out")["attention-s0-1"]
    assert read_json(run / "evaluation.json")["metrics"] == pytest.approx(cell["metrics"], abs=1e-5)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") >= 4, "example clips: frames, flow, teacher, student"
    assert "Reliability" in page
    capsys.readouterr()
    assert compare(study) == 0
    assert (capsys.readouterr().out, cells_in(tmp_path / "out")) == (first, before)


def test_only_some_methods_and_seeds(
    write: Write, compare: Compare, trained: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write()
    assert compare(study, "--methods", "attention", "--seeds", "1") == 0
    assert trained == ["flow-s1-1", "attention-s1-1"], "and the teacher"
    for words, message in (
        (["--methods", "atention"], "unknown method in .*'atention'\n  did you mean : attention"),
        (["--seeds", "0,7"], "unknown seed in .* '7'"),
        (["--seeds", "x"], "unknown seed in .* 'x'"),
        (["--train.seed", "3"], "'--train.seed' is decided by the study"),
        (["--train.sed", "3"], "unknown setting '--train.sed'\n  did you mean : --train.seed"),
    ):
        assert compare(study, *words) == 2
        assert re.search(message, capsys.readouterr().err)
    assert len(trained) == 2
    assert compare(study) == 0
    assert trained[2:] == ["flow-s0-1", "attention-s0-1"]
    assert compare(study, "--seeds", "1") == 0
    summary = read_summary(tmp_path / "out" / "summary.json")
    assert summary["data"]["seeds"] == [0, 1], "fewer seeds are run, not shown"
    assert set(summary["methods"]["flow"]["metrics"]["top1"]["values"]) == {"0/1", "1/1"}


def test_ctrl_c_and_on_again(
    write: Write, compare: Compare, trained: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, go_on = write(methods={"flow": METHODS["flow"]}), clip_study.fit

    def stopped(config: Any, **settings: Any) -> Any:
        if config.name == "flow-s1-1":
            raise InterruptedRunError("stopped after step 1 of 2; saved", resume="run the same command again")
        return go_on(config, **settings)

    monkeypatch.setattr(clip_study, "fit", stopped)
    assert compare(study) == 130
    assert "run the same command again" in capsys.readouterr().err
    monkeypatch.setattr(clip_study, "fit", go_on)
    assert compare(study) == 0
    assert trained == ["flow-s0-1", "flow-s1-1"]


def test_a_failed_cell_stops_neither_the_others_nor_the_summary(
    write: Write, compare: Compare, trained: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, go_on = write(), clip_study.fit

    def failing(config: Any, **settings: Any) -> Any:
        if config.name == "flow-s0-1":
            raise VideoError("cannot decode it")
        return go_on(config, **settings)

    monkeypatch.setattr(clip_study, "fit", failing)
    assert compare(study) == 2
    text = capsys.readouterr()
    assert trained == ["flow-s1-1", "attention-s1-1"]
    for line in ("2 cells failed", "first  : flow-s0-1: VideoError: cannot decode it", "others : attention-s0-1: needs flow-s0-1"):
        assert line in text.err
    methods = read_summary(tmp_path / "out" / "summary.json")["methods"]
    assert {name: list(method["metrics"]["top1"]["values"]) for name, method in methods.items()} == {"flow": ["1/1"], "attention": ["1/1"]}
    assert compare(study, "--methods", "flow", "--seeds", "0", out="none") == 2
    assert "no report : no finished cell" in " ".join(capsys.readouterr().err.split())


TUNED = {
    "flow": {**METHODS["flow"], "trials": [{"optim.lr": 1e-3}, {"optim.lr": 1e-2}]},
    "attention": {**METHODS["attention"], "claim": True, "trials": [{"method.weight": 1.5}]},
    "control": {**METHODS["attention"], "label": "control", "tuned_as": "attention"},
}


def test_tuning_then_the_test(
    write: Write, compare: Compare, trained: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write(methods=TUNED, seeds=[0], tuning={"seeds": [100], "validation_fraction": 0.5})
    assert compare(study, "--phase", "test") == 2
    assert "has no choice of settings" in capsys.readouterr().err
    assert trained == []

    assert compare(study, "--phase", "tune") == 0
    assert trained == ["flow-t0-s100-1", "flow-t1-s100-1", "attention-t0-s100-1"]
    chosen = read_summary(tmp_path / "out" / "summary.json")["chosen"]
    tuned = [cells_in(tmp_path / "out", "tune")[f"flow-t{trial}-s100-1"] for trial in (0, 1)]
    assert [cell["subset"] for cell in tuned] == ["val", "val"]
    assert "predictions" not in tuned[0], "their scores are enough"
    best = min((0, 1), key=lambda trial: (-tuned[trial]["metrics"]["top1"], tuned[trial]["metrics"]["nll"]))
    assert chosen["methods"]["flow"]["folds"]["1"]["trial"] == best
    assert chosen["claims"] == {"1": "attention"}
    teacher = cells_in(tmp_path / "out", "tune")["attention-t0-s100-1"]
    assert teacher["settings"]["method.weight"] == 1.5

    del trained[:]
    assert compare(study, "--phase", "test") == 0
    assert trained == ["flow-s0-1", "attention-s0-1", "control-s0-1"]
    cells_of = {name: cells_in(tmp_path / "out")[f"{name}-s0-1"] for name in TUNED}
    assert cells_of["flow"]["settings"]["optim.lr"] == TUNED["flow"]["trials"][best]["optim.lr"]
    assert [cells_of[name]["settings"]["method.weight"] for name in ("attention", "control")] == [1.5, 1.5]
    assert all(cell["settings"]["data.validation_fraction"] == 0 for cell in cells_of.values())
    assert "claim: distilled" in capsys.readouterr().out


def test_the_report_needs_neither_videos_nor_training(
    write: Write, compare: Compare, trained: list[str], tmp_path: Path, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write(seeds=[0])
    assert compare(study, "--phase", "report") == 2
    assert "no finished cell" in capsys.readouterr().err
    assert compare(study) == 0
    (tmp_path / "out" / "summary.json").unlink()
    assert compare(study, "--phase", "report", "--data.root", "") == 0
    assert len(trained) == 2
    assert read_summary(tmp_path / "out" / "summary.json")["methods"]["flow"]["metrics"]["top1"]["n"] == 1


def test_a_base_that_is_not_there_is_told(write: Write, compare: Compare, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(write(base="bse.yaml")) == 2
    error = capsys.readouterr().err
    assert f"config not found: {tmp_path}/bse.yaml\n  where        : base in {tmp_path}/small.yaml:2\n" in error
    assert f"did you mean : {tmp_path}/base.yaml" in error


def test_a_data_set_that_is_not_there_is_told_with_the_line_that_names_it(
    write: Write, compare: Compare, trained: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a cell is trained, and by the report, which shows clips of the runs that it finds."""
    study, base = write(seeds=[0]), tmp_path / "base.yaml"
    kept = base.read_text()
    lines = [line.replace(line.split("root: ")[1], "/nowhere") if "root: " in line else line for line in kept.splitlines()]
    number = 1 + next(n for n, line in enumerate(lines) if "root: /nowhere" in line)
    text = f"looked in : /nowhere   (data.root in {base}:{number})"
    base.write_text("\n".join(lines))
    assert compare(study) == 2
    assert text in capsys.readouterr().err
    base.write_text(kept)
    assert compare(study) == 0
    base.write_text("\n".join(lines))
    capsys.readouterr()
    assert compare(study, "--phase", "report") == 2
    assert text in capsys.readouterr().err


def test_the_report_has_no_examples_of_runs_without_checkpoints(
    write: Write, compare: Compare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders of runs that hold no weights any more, the student's or the teacher's, are as good as none."""
    study = write(seeds=[0])
    assert compare(study) == 0
    for name in ("attention-s0-1", "flow-s0-1"):
        checkpoints = tmp_path / "runs-out" / "small" / "test" / name / "checkpoints"
        kept = {file: file.read_bytes() for file in checkpoints.iterdir()}
        for file in kept:
            file.unlink()
        capsys.readouterr()
        assert compare(study, "--phase", "report") == 0
        assert "data:image/png" not in page_of(capsys.readouterr().out)
        for file, content in kept.items():
            file.write_bytes(content)
    assert compare(study, "--phase", "report") == 0
    assert "data:image/png" in page_of(capsys.readouterr().out)


def page_of(out: str) -> str:
    """The page whose path the verb prints last."""
    return Path(out.rpartition(", ")[2].strip()).read_text(encoding="utf-8")


def without_clocks(folder: Path) -> list[dict[str, Any]]:
    """The cells' content but for times and threads."""
    contents = [cell for _, cell in sorted(cells_in(folder).items())]
    return [{key: value for key, value in content.items() if key not in ("train_seconds", "environment")} for content in contents]


@pytest.mark.slow
def test_two_workers_find_what_one_does(write: Write, compare: Compare, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write()
    assert compare(study, "--workers", 1) == 0
    assert compare(study, "--workers", 2, out="two") == 0
    one, two = without_clocks(tmp_path / "out"), without_clocks(tmp_path / "two")
    assert len(two) == 4
    assert two == one
    names: Sequence[str] = re.findall(r"^\[\d/4\] (\S+)", capsys.readouterr().out, re.MULTILINE)
    assert set(names[4:6]) == {"flow-s0-1", "flow-s1-1"}, "teachers first"
    before = cells_in(tmp_path / "two")
    assert compare(study, "--workers", 2, out="two") == 0
    assert cells_in(tmp_path / "two") == before


@pytest.mark.slow
def test_a_cell_that_fails_in_a_worker_is_named(write: Write, compare: Compare, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of other settings lies where one cell would be trained."""
    study = write(methods={"flow": METHODS["flow"]})
    run = tmp_path / "runs-out" / "small" / "test" / "flow-s0-1"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.pt").write_bytes(b"its weights")
    (run / "config.yaml").write_text("view: rgb\n")
    assert compare(study, "--workers", 2) == 2
    error = capsys.readouterr().err
    assert "1 cells failed" in error
    assert "flow-s0-1: ConfigError: another run has the name flow-s0-1" in error
    assert list(cells_in(tmp_path / "out")) == ["flow-s1-1"]
