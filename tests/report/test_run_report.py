"""The report of a run folder: its numbers are those of the files."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from report_samples import NASTY, make_run

from vidkd.base.errors import DataError
from vidkd.base.files import write_json
from vidkd.report.parts import Estimate
from vidkd.report.run import read_predictions, run_report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "demo")


def table(report, title: str):
    return next(table for table in report.tables if table.title == title)


def labelled(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["label"]]


def test_the_accuracy_is_that_of_the_labelled_rows(folder: Path) -> None:
    rows = labelled(folder)
    expected = sum(row["correct"] == "1" for row in rows) / len(rows)
    top1, class_mean, clips, groups = table(run_report(folder), "Judged clips").rows[0]
    assert (clips, groups) == (149, 10)
    assert top1.value == pytest.approx(expected)
    assert top1.ci95[0] < expected < top1.ci95[1]
    recalls = [np.mean([row["correct"] == "1" for row in rows if row["label"] == name]) for name in {row["label"] for row in rows}]
    assert class_mean.value == pytest.approx(np.mean(recalls))


@pytest.mark.parametrize(("split", "weights"), [("train", b"weights"), ("test", b"other weights"), (None, b"weights")])
def test_what_was_judged_with_other_weights_or_on_training_clips_is_left_out(folder: Path, split: str | None, weights: bytes) -> None:
    assert "top-1" in run_report(folder).notes
    if split is None:
        (folder / "evaluation.json").unlink()
    else:
        write_json(folder / "evaluation.json", {"split": split, "checkpoint": hashlib.sha256(weights).hexdigest()})
    report = run_report(folder)
    assert "top-1" not in report.notes
    assert {table.title for table in report.tables} <= {"During training"}
    assert "top-1" in run_report(folder, evaluated=True).notes


def test_classes_come_hardest_first_with_recall_and_precision(folder: Path) -> None:
    rows = labelled(folder)
    classes = table(run_report(folder), "Classes")
    recalls = [row[1].value for row in classes.rows]
    assert recalls == sorted(recalls)
    name, recall, precision, clips = next(row for row in classes.rows if row[0] == NASTY)
    hits = sum(row["label"] == row["predicted"] == name for row in rows)
    assert clips == sum(row["label"] == name for row in rows)
    assert recall == Estimate(value=hits / clips)
    assert precision == Estimate(value=hits / sum(row["predicted"] == name for row in rows))


def test_the_best_and_the_last_validation(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text(
        '{"step": 1, "split": "val", "top1": 0.5, "nll": 1.0}\n{"step": 2, "split": "val", "top1": 0.75, "nll": 0.5}\n'
        '{"step": 3, "split": "val", "top1": 0.25, "nll": 2.0}\n'
    )
    training = table(run_report(folder), "During training")
    assert training.columns == ("split", "step", "top1 (%)", "nll")
    assert training.rows == (
        ("val, best", 2, Estimate(value=0.75), Estimate(value=0.5, percent=False)),
        ("val, last", 3, Estimate(value=0.25), Estimate(value=2.0, percent=False)),
    )


def test_command_facts_and_environment_come_from_the_files(folder: Path) -> None:
    report = run_report(folder, notes={"device": "cpu"})
    assert report.title == "demo"
    assert report.command == "vidkd train --config runs/demo/config.yaml"
    assert report.notes["steps"] == "1200"
    assert report.notes["device"] == "cpu"
    assert report.environment == {"vidkd": "0.1.0", "torch": "2.13.0", "cores": "2"}
    assert [figure.title for figure in report.figures] == ["Training losses", "Validation", "Confusion matrix", "Reliability"]


def test_all_but_the_config_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("task: kd\n")
    report = run_report(tmp_path)
    assert (report.tables, report.figures, report.command, report.environment) == ((), (), "", {})
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(DataError, match=r"config\.yaml is missing"):
        run_report(tmp_path)


HEAD = "clip,start_s,end_s,group,label,predicted,correct,p_a,p_b\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clip,label\nx,a\n", "missing : start_s"),
        (HEAD.replace(",p_a,p_b", "") + "x,0,,g,a,a,1\n", "p_<class>"),
        (HEAD + "x,0,,g,a,a,1,0.5,0.5\nx,0,,g,c,a,1,0.5,0.5\n", "reason : 'c' is none of the classes: a, b"),
        (HEAD + "x,0,,g,a,a,1,0.5,many\n", "many"),
    ],
)
def test_a_damaged_table_of_predictions_is_an_error(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "predictions.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        read_predictions(tmp_path / "predictions.csv")


def test_one_group_has_no_interval_and_says_so(folder: Path) -> None:
    text = (folder / "predictions.csv").read_text()
    lines = list(csv.reader(text.splitlines()))
    for line in lines[1:]:
        line[3] = "only"
    with (folder / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    judged = table(run_report(folder), "Judged clips")
    assert judged.rows[0][0].ci95 is None
    assert "one test group" in judged.caption
