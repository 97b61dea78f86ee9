"""A run's page of early recognition: the curve and its numbers, of which fraction the rest is, and who saw what."""

import csv
from pathlib import Path

import numpy as np
import pytest
from report_samples import make_observed_run, observed_study

from vidkd.base.errors import DataError
from vidkd.engine.evaluate import area
from vidkd.report.parts import Estimate
from vidkd.report.run import observation_notes, read_predictions, run_report
from vidkd.report.study import metric_words, study_report

FRACTIONS = (0.1, 0.2, 0.5, 1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_observed_run(tmp_path / "early", FRACTIONS)


def table(report, title: str):
    return next(table for table in report.tables if table.title == title)


def accuracies(folder: Path) -> dict[str, float]:
    with (folder / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"]]
    shares = dict.fromkeys(row["observed"] for row in rows)
    return {share: float(np.mean([row["correct"] == "1" for row in rows if row["observed"] == share])) for share in shares}


def test_top1_at_each_share_with_mean_and_area(folder: Path) -> None:
    expected = list(accuracies(folder).values())
    found = table(run_report(folder), "Top-1 by observed share")
    assert [row[0] for row in found.rows] == ["10 %", "20 %", "50 %", "100 %", "mean", "area"]
    assert [row[1].value for row in found.rows] == pytest.approx([*expected, np.mean(expected), area(FRACTIONS, expected)])
    assert all(row[1].ci95[0] < row[1].value < row[1].ci95[1] for row in found.rows)
    assert {row[2] for row in found.rows} == {149}


def test_the_rest_is_of_the_fullest_share(folder: Path) -> None:
    report, last = run_report(folder), accuracies(folder)["1"]
    judged = table(report, "Judged clips, 100 % observed")
    assert judged.rows[0][0].value == pytest.approx(last)
    assert table(report, "Classes, 100 % observed").rows
    titles = ["Accuracy by observed share", "Confusion matrix, 100 % observed", "Reliability, 100 % observed"]
    assert [figure.title for figure in report.figures][-3:] == titles
    assert report.notes["top-1, mean over observed shares"] == f"{100 * np.mean(list(accuracies(folder).values())):.1f} %"


def test_the_page_says_who_saw_what(folder: Path) -> None:
    notes = run_report(folder).notes
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
