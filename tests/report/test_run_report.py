"""The report of a run, whole clips or observed shares: its numbers are those of its files."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from report_samples import NASTY, make_observed_run, make_run, observed_study

from vidkd.base.errors import DataError
from vidkd.base.files import write_json
from vidkd.engine.metrics import area
from vidkd.report.parts import Estimate
from vidkd.report.run import observation_notes, read_predictions, run_report
from vidkd.report.study import metric_words, study_report


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


FRACTIONS = (0.1, 0.2, 0.5, 1.0)


@pytest.fixture
def observed(tmp_path: Path) -> Path:
    return make_observed_run(tmp_path / "early", FRACTIONS)


def accuracies(folder: Path) -> dict[str, float]:
    with (folder / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"]]
    shares = dict.fromkeys(row["observed"] for row in rows)
    return {share: float(np.mean([row["correct"] == "1" for row in rows if row["observed"] == share])) for share in shares}


def test_top1_at_each_share_with_mean_and_area(observed: Path) -> None:
    expected = list(accuracies(observed).values())
    found = table(run_report(observed), "Top-1 by observed share")
    assert [row[0] for row in found.rows] == ["10 %", "20 %", "50 %", "100 %", "mean", "area"]
    assert [row[1].value for row in found.rows] == pytest.approx([*expected, np.mean(expected), area(FRACTIONS, expected)])
    assert all(row[1].ci95[0] < row[1].value < row[1].ci95[1] for row in found.rows)
    assert {row[2] for row in found.rows} == {149}


def test_the_rest_is_of_the_fullest_share(observed: Path) -> None:
    report, last = run_report(observed), accuracies(observed)["1"]
    judged = table(report, "Judged clips, 100 % observed")
    assert judged.rows[0][0].value == pytest.approx(last)
    assert table(report, "Classes, 100 % observed").rows
    titles = ["Accuracy by observed share", "Confusion matrix, 100 % observed", "Reliability, 100 % observed"]
    assert [figure.title for figure in report.figures][-3:] == titles
    assert report.notes["top-1, mean over observed shares"] == f"{100 * np.mean(list(accuracies(observed).values())):.1f} %"


def test_the_page_says_who_saw_what(observed: Path) -> None:
    notes = run_report(observed).notes
    assert notes["protocol"] == "early recognition at 10, 20, 50, 100 %"
    assert notes["student sees"] == "the clip's first part, 8 frames"
    assert notes["teacher sees"] == "the whole clip, 16 frames"


@pytest.mark.parametrize(
    ("config", "notes"),
    [
        ({}, {}),
        ({"data": {"window": {"frames": 8}, "observe": {"protocol": "whole"}}}, {}),
        (
            {
                "data": {"window": {"frames": 8}, "observe": {"protocol": "anticipation", "gap_s": 1.5, "observe_s": 2.0}},
                "teacher": "runs/t",
            },
            {
                "protocol": "anticipation, 1.5 s before the action",
                "student sees": "2 s before the gap, 8 frames",
                "teacher sees": "the action, 8 frames",
            },
        ),
        (
            {"data": {"window": {"frames": 4}, "observe": {"protocol": "early", "fractions": [0.2], "teacher_sees": "rest"}}},
            {"protocol": "early recognition at 20 %", "student sees": "the clip's first part, 4 frames"},
        ),
        (
            {
                "data": {"window": {"frames": 4}, "observe": {"protocol": "early", "fractions": [0.2], "teacher_sees": "same"}},
                "teacher": "runs/flow",
            },
            {
                "protocol": "early recognition at 20 %",
                "student sees": "the clip's first part, 4 frames",
                "teacher sees": "the same part, 4 frames",
            },
        ),
    ],
)
def test_notes_of_a_configuration(config: dict, notes: dict[str, str]) -> None:
    assert observation_notes(config) == notes


def test_a_single_share_has_no_curve(tmp_path: Path) -> None:
    report = run_report(make_observed_run(tmp_path / "one", (0.2,)))
    assert "Judged clips, 20 % observed" in [table.title for table in report.tables]
    assert "Accuracy by observed share" not in [figure.title for figure in report.figures]


def test_both_forms_are_read(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("clip,start_s,end_s,group,label,predicted,correct,p_a,p_b\nx,0,,g,a,a,1,0.5,0.5\n")
    assert list(read_predictions(path)) == [None]
    head = "clip,start_s,end_s,group,label,predicted,correct,observed,p_a,p_b\n"
    path.write_text(head + "x,0,,g,a,a,1,0.5,0.5,0.5\nx,0,,g,a,b,0,0.2,0.5,0.5\n")
    found = read_predictions(path)
    assert list(found) == [0.2, 0.5], "the fractions rise"
    assert [found[fraction].correct.tolist() for fraction in found] == [[0.0], [1.0]]
    path.write_text(head + "x,0,,g,a,a,1,half,0.5,0.5\n")
    with pytest.raises(DataError, match="could not convert string to float: 'half'"):
        read_predictions(path)


def test_a_study_has_the_curve_its_means_and_its_differences() -> None:
    summary = observed_study(("none", "position", "attentive", "transport", "window"))
    report = study_report(summary)
    means = table(report, "top1 by share of the clip observed (%)")
    assert means.columns[:8] == ("method", "10", "20", "30", "50", "70", "90", "100")
    one = summary["methods"]["position"]["metrics"]["top1@obs20"]["mean"]
    assert means.rows[1][2] == Estimate(value=one), "seven columns of intervals would hide the means"
    differences = table(report, "Minus none")
    pair = next(pair for pair in summary["paired"] if (pair["method"], pair["metric"]) == ("transport", "top1@obs20-50"))
    row = dict(zip(differences.columns, differences.rows[2], strict=True))
    assert row["top1, 20-50 %"] == Estimate(value=pair["difference"], ci95=pair["ci95"], signed=True)
    assert [figure.title for figure in report.figures] == [
        "top1 by share of the clip observed (%)",
        "top1 of every seed",
        "top1, 20-50 % observed of every seed",
        "Paired differences in top1",
        "Paired differences in top1, 20-50 % observed",
    ]
    assert report.figures[0].wide, "five bands would hide each other"


def test_words_of_a_metric() -> None:
    assert metric_words("top1@obs20-50.labels25") == "top1, 20-50 % observed, labels25"
    assert metric_words("top1@labels25") == "top1@labels25"
