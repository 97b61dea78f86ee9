"""The report of a study, of classifiers or along streams: its numbers are those of the summary, in percent where they are shares."""

import json
from typing import Any

import pytest
from report_samples import cells_of, make_study

from vidkd.bench.intervals import name_of
from vidkd.bench.summary import Method, Metric, build_summary
from vidkd.report.page import render_html, table_markdown, table_text
from vidkd.report.parts import Estimate, Table, format_number
from vidkd.report.study import study_notes, study_report, study_tables


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    return make_study(seeds=3, folds=2)[0]


def table(summary: dict[str, Any], title: str) -> Table:
    return next(table for table in study_tables(summary) if table.title == title)


def test_the_table_has_the_summarys_means_and_intervals(summary: dict[str, Any]) -> None:
    methods = table(summary, "Methods")
    assert methods.columns == ("method", "top1 (%)", "cells", "parameters", "training")
    for row in methods.rows:
        top1 = summary["methods"][row[0]]["metrics"]["top1"]
        assert row[1:] == (Estimate(value=top1["mean"], ci95=top1["ci95"]), 6, 1_234_567, "6m52s")


def test_paired_differences_keep_their_sign(summary: dict[str, Any]) -> None:
    assert table(summary, "Minus student alone").rows == tuple(
        (pair["method"], Estimate(value=pair["difference"], ci95=pair["ci95"], signed=True)) for pair in summary["paired"]
    )


def test_conditions_get_a_table_and_a_figure_in_the_order_of_their_values(summary: dict[str, Any]) -> None:
    conditions = table(summary, "top1 by labelled clips used (%)")
    assert conditions.columns == ("method", "10", "25", "50", "100")
    assert conditions.rows[0][2].value == summary["methods"]["student alone"]["metrics"]["top1@labels25"]["mean"]
    titles = [figure.title for figure in study_report(summary).figures]
    assert titles == ["top1 of every seed", "Paired differences in top1", "top1 by labelled clips used (%)"]


def test_labels_claim_and_remarks_are_shown(summary: dict[str, Any]) -> None:
    data = {
        "name": "ucf101",
        "subset": "val",
        "claim": "D3D",
        "reference": "student alone",
        "seeds": [0, 1],
        "remarks": ["2 clips", "more"],
    }
    labelled = {**summary, "data": {**data, "labels": {"D3D": "Distilled 3-D (Stroud)"}}}
    report = study_report(labelled, title="Named before", text="What <b> sees.", command="vidkd study x")
    assert report.subtitle == "5 methods on ucf101, subset val"
    text = {"seeds": "0, 1", "reference": "student alone", "claim": "Distilled 3-D (Stroud)", "note": "2 clips; more"}
    assert study_notes(labelled) == text
    assert report.notes == {**text, "time": "2h03m"}
    assert [row[0] for row in report.tables[0].rows][-1] == "Distilled 3-D (Stroud)"
    assert "Distilled 3-D (Stroud)" in report.figures[0].svg
    page = render_html(report)
    assert "<h1>Named before</h1>" in page
    assert '<p class="text">What &lt;b&gt; sees.</p>' in page


def test_only_judged_metrics_get_a_figure_and_a_single_seed_has_no_interval() -> None:
    cells = cells_of(0.5, 0, seeds=2, folds=1)
    values = {name_of(cell): 0.9 for cell in cells}
    metrics = {"top1": Metric(values=values), "pointing": Metric.of_cells(cells, draws=100), "top5": Metric(values=values)}
    report = study_report(build_summary("s", {"name": "ucf101"}, {}, {"student": Method(metrics=metrics)}, [], 1.0))
    assert [figure.title for figure in report.figures] == ["top1 of every seed", "pointing of every seed"]
    assert report.tables[0].columns[1:4] == ("top1 (%)", "pointing (%)", "top5 (%)")
    alone = {"student": Method(metrics={"top1": Metric.of_cells(cells[:1])})}
    (methods,) = study_tables(build_summary("s", {"name": "ucf101"}, {}, alone, [], 1.0))
    assert methods.rows[0][1].ci95 is None
    assert "without intervals" in methods.caption


def test_what_a_condition_cost_has_no_figure() -> None:
    metrics = {f"{name}@labels{share}": Metric(values={"0/1": 0.5}) for name in ("top1", "train_s", "parameters") for share in (10, 25)}
    report = study_report(build_summary("s", {"name": "ucf101"}, {}, {"student": Method(metrics=metrics)}, [], 1.0))
    assert [figure.title for figure in report.figures] == ["top1 by labelled clips used (%)"]


def stream_summary() -> dict[str, Any]:
    def method(gain: float) -> Method:
        at = {"f1": Metric(values={"0/street": 0.5 + gain}, ci95=(0.4, 0.6)), "oracle_calls": Metric(values={"0/street": 12.0})}
        at["student_ms"] = Metric(values={"0/street": 7.0})
        return Method(metrics={f"{name}@calls{share}": one for share in (5, 10) for name, one in at.items()})

    pair = {"method": "fixed", "reference": "student", "metric": "f1@calls5", "difference": -0.125, "ci95": [-0.25, 0.0625], "pairs": 2}
    data = {"frames": {"street": 80}, "block": 25, "reference": ["student"], "labels": {"student": "frozen", "fixed": "fixed interval"}}
    summary = build_summary("street", data, {}, {"student": method(0.0), "fixed": method(0.25)}, [], 90.0)
    return json.loads(json.dumps({**summary, "paired": [pair]}))


def test_tables_of_a_study_along_streams() -> None:
    quality, five, ten, minus = study_tables(stream_summary())
    assert (quality.title, quality.columns) == ("f1 by share of frames sent to the oracle (%)", ("method", "5", "10"))
    assert quality.rows[1] == ("fixed interval", *[Estimate(value=0.75, ci95=(0.4, 0.6))] * 2)
    assert (five.title, ten.title, minus.title) == ("At 5 % calls", "At 10 % calls", "Minus frozen, at 5 % calls")
    assert five.columns == ("method", "f1 (%)", "oracle_calls")
    assert minus.rows == (("fixed interval", Estimate(value=-0.125, ci95=(-0.25, 0.0625), signed=True)),)
    assert table_text(minus) == "method          f1\nfixed interval  \u221212.5 [\u221225.0, +6.2]\n"
    assert table_markdown(quality).splitlines()[3] == "| fixed interval | 75.0 [40.0, 60.0] | 75.0 [40.0, 60.0] |"
    assert study_notes(stream_summary()) == {"frames": "street 80", "reference": "frozen", "block": "25"}
    assert [figure.title for figure in study_report(stream_summary()).figures] == ["f1 by share of frames sent to the oracle (%)"]


@pytest.mark.parametrize(("value", "shown"), [(-0.0, "0"), (-0.0004, "\u22120.0004"), (0.0, "0")])
def test_zero_has_no_sign(value: float, shown: str) -> None:
    assert format_number(value) == shown
    assert format_number(value, percent=True, signed=True) == "0.0"
    assert format_number(-0.0006, percent=True) == "\u22120.1"
