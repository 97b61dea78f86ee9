"""vidkd evaluate as a user runs it."""

import csv
import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from vidkd.base.files import read_json
from vidkd.cli.main import run_verb
from vidkd.data.manifest import Manifest
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
    assert all(name in output for name in ("class_mean", "ece", "top5", "Right", "Down", "Grow", "recall", "precision"))


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
