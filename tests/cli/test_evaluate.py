"""vidkd evaluate as a user runs it."""

import csv
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vidkd.base.files import read_json
from vidkd.cli.main import run_verb
from vidkd.data.manifest import Manifest
from vidkd.engine.config import load_config
from vidkd.engine.fit import fit
from vidkd.models.saved import read_checkpoint
from vidkd.report.run import run_report


@pytest.fixture
def run(tiny_teacher: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to write into."""
    return Path(shutil.copytree(tiny_teacher, tmp_path / "run"))


def evaluate(*arguments: object) -> int:
    return run_verb("evaluate", [str(argument) for argument in arguments])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_printed_and_written_is_one_and_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--checkpoint", run, "--device", "cpu") == 0
    output = capsys.readouterr().out
    found, rows = read_json(run / "evaluation.json"), rows_of(run / "predictions.csv")
    assert (found["split"], found["clips"], len(rows)) == ("test", 6, 6)
    assert {row["group"] for row in rows} == {"g4", "g5"}
    top1 = sum(row["label"] == row["predicted"] for row in rows) / 6
    assert found["metrics"]["top1"] == pytest.approx(top1)
    assert [row["correct"] for row in rows] == [str(int(row["label"] == row["predicted"])) for row in rows]
    for row in rows:
        chances = {name.removeprefix("p_"): float(value) for name, value in row.items() if name.startswith("p_")}
        assert max(chances, key=chances.__getitem__) == row["predicted"]
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
    names = [entry["class"] for entry in found["classes"]]
    counts = [[sum(row["label"] == a and row["predicted"] == b for row in rows) for b in names] for a in names]
    assert found["confusion"] == counts
    assert f"top1        {top1:.3f}" in output
    assert output.startswith("6 clips of 'test'\n")
    assert all(name in output for name in ("class_mean", "ece", "Right", "Down", "Grow", "recall", "precision"))
    assert "top5" not in output + (run / "evaluation.json").read_text() + (run / "report.html").read_text(), "there are three classes"


@pytest.fixture
def kitchen(tiny_root: Path, tiny_settings: Callable[..., dict[str, Any]], tmp_path: Path) -> Path:
    """A run on the tiny videos as if they were kitchens: 100 actions of 10 verbs and 10 nouns, and rows with narration ids."""
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    verbs, nouns = [tuple(f"{word}{n}" for n in range(10)) for word in ("verb", "noun")]
    clips = tuple(
        dataclasses.replace(clip, label=11 * (clip.label or 0), name=f"P01_{n}", targets={"verb": clip.label or 0, "noun": clip.label or 0})
        for n, clip in enumerate(manifest.clips)
    )
    classes = tuple(f"{verb} {noun}" for verb in verbs for noun in nouns)
    targets = {"verb": verbs, "noun": nouns}
    Manifest(name="kitchen", root=tiny_root, classes=classes, targets=targets, splits=("1",), clips=clips).write(tmp_path / "kitchen.jsonl")
    settings = tiny_settings(**{"train.steps": 1, "data.manifest": str(tmp_path / "kitchen.jsonl")})
    return fit(load_config(settings=settings), quiet=True).folder


def test_a_submission_holds_what_was_predicted(kitchen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scores.json"
    assert evaluate("--checkpoint", kitchen, "--device", "cpu", "--submission", file, "--supervision", "2,3,4") == 0
    assert f"written: {file}\n" in capsys.readouterr().out
    content, rows = read_json(file), rows_of(kitchen / "predictions.csv")
    assert (content["sls_pt"], content["sls_tl"], content["sls_td"]) == (2, 3, 4)
    assert len(content["results"]) == len(rows) == 6
    for scores, row in zip(content["results"].values(), rows, strict=True):
        verb, noun = max(scores["action"], key=scores["action"].__getitem__).split(",")
        assert f"verb{verb} noun{noun}" == row["predicted"]
        assert len(scores["action"]) == 100
        assert scores["action"]["0,0"] == pytest.approx(float(row["p_verb0 noun0"]), abs=1e-5)
        assert sum(scores["verb"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("given", [["--submission", "f.json"], ["--supervision", "2,3,3"], ["--submission", "f", "--supervision", "2,3,6"]])
def test_a_submission_declares_its_supervision(given: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--checkpoint", run, *given) == 2
    assert "three levels of supervision" in capsys.readouterr().err


def test_other_data_sets_have_no_submission(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--device", "cpu", "--submission", tmp_path / "f.json", "--supervision", "2,3,3"]
    assert evaluate("--checkpoint", run, *words) == 2
    assert "data set 'tiny' has no verbs and nouns" in capsys.readouterr().err


def test_clips_without_a_label_are_predicted_and_not_judged(
    run: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    clips = tuple(dataclasses.replace(clip, label=None) for clip in manifest.clips)
    Manifest(name="bare", root=tiny_root, classes=manifest.classes, splits=("1",), clips=clips).write(tmp_path / "bare.jsonl")
    assert evaluate("--checkpoint", run, "--data.manifest", tmp_path / "bare.jsonl", "--device", "cpu") == 0
    assert "6 clips of 'test', none with a label" in capsys.readouterr().out
    rows = rows_of(run / "predictions.csv")
    assert [row["label"] for row in rows] == [""] * 6
    assert {row["predicted"] for row in rows} <= set(manifest.classes)
    assert not (run / "evaluation.json").exists()
    assert not (run / "report.html").exists()
    assert not run_report(run).strips  # and the table without a judged clip spoils no later report


def test_another_subset_another_folder_and_other_settings(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "judged here"
    assert evaluate("--checkpoint", run, "--split", "train", "--out", out, "--device", "cpu", "--data.eval_clips", 2) == 0
    assert read_json(out / "evaluation.json")["clips"] == 12
    assert not (run / "predictions.csv").exists()


def test_a_checkpoint_file_is_judged_beside_its_run_and_a_loose_one_beside_itself(run: Path, tmp_path: Path) -> None:
    assert evaluate("--checkpoint", run / "checkpoints" / "last.pt", "--device", "cpu") == 0
    assert (run / "predictions.csv").exists()
    loose = tmp_path / "a" / "loose.pt"
    loose.parent.mkdir()
    shutil.copy(run / "checkpoints" / "last.pt", loose)
    assert evaluate("--checkpoint", loose, "--device", "cpu") == 0
    assert (loose.parent / "predictions.csv").read_text() == (run / "predictions.csv").read_text()


def test_a_run_that_is_not_finished_is_judged_with_a_warning(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert evaluate("--checkpoint", run, "--device", "cpu") == 0
    assert "is not finished" not in caplog.text
    content = read_checkpoint(run)
    content["progress"].update(finished=False, step=5)
    torch.save(content, run / "checkpoints" / "last.pt")
    assert evaluate("--checkpoint", run, "--device", "cpu") == 0
    assert f"{run} is not finished: its last checkpoint is from step 5" in caplog.text


def test_a_run_trained_elsewhere_is_judged_on_what_is_here(run: Path) -> None:
    content = read_checkpoint(run)
    content["run"]["train"].update(device="cuda", devices=8)
    torch.save(content, run / "checkpoints" / "last.pt")
    assert evaluate("--checkpoint", run, "--device", "cpu") == 0


def test_a_moved_data_set_is_named_by_a_flag(run: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = Path(shutil.copytree(tiny_root, tmp_path / "moved"))
    shutil.rmtree(moved / "videos" / "Right")
    assert evaluate("--checkpoint", run, "--data.root", moved, "--device", "cpu") == 2
    assert "Right_g4.mp4" in capsys.readouterr().err
    shutil.copytree(tiny_root / "videos" / "Right", moved / "videos" / "Right")
    assert evaluate("--checkpoint", run, "--data.root", moved, "--device", "cpu") == 0


def test_a_subset_that_is_not_there(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--checkpoint", run, "--split", "val", "--device", "cpu") == 2
    assert "split '1' has no 'val' clips" in capsys.readouterr().err


def test_a_data_set_of_other_classes_is_refused(run: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.read(tiny_root / "manifest.jsonl")
    other = Manifest(name="other", root=tiny_root, classes=("Down", "Grow", "Right"), splits=("1",), clips=manifest.clips)
    other.write(tmp_path / "other.jsonl")
    assert evaluate("--checkpoint", run, "--data.manifest", tmp_path / "other.jsonl", "--device", "cpu") == 2
    error = capsys.readouterr().err
    assert "was trained on other classes than other has" in error
    assert "Down, Grow, Right" in error


def test_a_missing_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--checkpoint", tmp_path / "nobody") == 2
    assert f"checkpoint not found: {tmp_path / 'nobody'}" in capsys.readouterr().err
