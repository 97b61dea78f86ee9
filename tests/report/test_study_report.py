"""The report of a study: its numbers are those of the summary."""

import pytest
from report_samples import cells_of, make_study

from vidkd.base.errors import DataError
from vidkd.bench.summary import Method, Metric, build_summary
from vidkd.report.page import render_html
from vidkd.report.parts import Estimate, Strip
from vidkd.report.study import study_report


@pytest.fixture(scope="module")
def study():
    return make_study(seeds=3, folds=2)


def table(report, title: str):
    return next(table for table in report.tables if table.title == title)


def test_the_table_has_the_summarys_means_and_intervals(study) -> None:
    summary, cells = study
    methods = table(study_report(summary, cells=cells), "Methods")
    assert methods.columns == ("method", "top1 (%)", "latency_ms@b1t1", "cells", "parameters", "training")
    for row in methods.rows:
        top1 = summary["methods"][row[0]]["metrics"]["top1"]
        assert row[1:] == (
            Estimate(value=top1["mean"], ci95=tuple(top1["ci95"])),
            Estimate(value=8.25, percent=False),
            6,
            1_234_567,
            "6m52s",
        )


def test_paired_rows_keep_sign_and_pairs(study) -> None:
    summary, _ = study
    rows = table(study_report(summary), "Paired differences").rows
    assert rows == tuple(
        (pair["method"], Estimate(value=pair["difference"], ci95=tuple(pair["ci95"]), signed=True), "student alone", "top1", 6)
        for pair in summary["paired"]
    )


def test_conditions_get_a_table_and_a_figure_in_the_order_of_their_values(study) -> None:
    summary, _ = study
    report = study_report(summary)
    conditions = table(report, "top1 (%) by labels")
    assert conditions.columns == ("method", "10", "25", "50", "100")
    assert conditions.rows[0][2].value == summary["methods"]["student alone"]["metrics"]["top1@labels25"]["mean"]
    assert [figure.title for figure in report.figures] == ["top1 of every seed", "Paired differences in top1", "top1 by labels"]


def test_facts(study) -> None:
    summary, cells = study
    report = study_report(summary, cells=cells)
    assert report.notes == {"seeds": "3", "folds": "2", "time": "2h03m", "test clips": "144", "test groups": "24"}
    assert report.subtitle == "5 methods on motion_shapes, split test"


def test_what_is_to_be_known_of_the_judged_clips_is_a_note(study) -> None:
    summary, _ = study
    report = study_report({**summary, "data": {**summary["data"], "remarks": ["2 clips are not judged", "3 clips repeat"]}})
    assert report.notes["note"] == "2 clips are not judged; 3 clips repeat"


def test_the_page_tells_what_is_asked_and_whose_predictions_its_clips_show() -> None:
    summary = build_summary("cued_study", "ucf101", {}, {"student": Method(metrics={"top1": Metric(values={"0/1": 0.5})})}, [], 1.0)
    strip = Strip(title="true a", rows=(("observed", "data:,"), ("time", "data:,")))
    plain = render_html(study_report(summary, strips=[Strip(title="true a", rows=(("frames", "data:,"),))]))
    assert "<h1>cued study</h1>" in plain
    assert 'class="text"' not in plain
    page = render_html(study_report(summary, title="Named before", text="What <b> sees.", strips=[strip], strips_of="taught in place"))
    assert "<h1>Named before</h1>" in page
    assert '<p class="text">What &lt;b&gt; sees.</p>' in page
    assert "<h2>Clips, as named by: taught in place</h2>" in page
    assert page.index("red is the moment of decision") > page.index("Clips, as named by")


def test_a_missing_interval_says_why() -> None:
    cells = cells_of(0.5, 0, seeds=1, folds=2)
    methods = {"student": Method(metrics={"top1": Metric.of_cells(cells, draws=100)})}
    report = study_report(build_summary("s", "ucf101", {}, methods, [], 1.0), cells={"student": cells})
    assert report.tables[0].rows[0][1].ci95 is None
    assert report.tables[0].caption == "Means over cells. No interval: one seed only."
    assert len(report.tables) == 1


def test_a_foreign_summary_is_refused() -> None:
    with pytest.raises(DataError, match="lacks"):
        study_report({"schema_version": 1})


def test_labels_claim_and_reference_are_shown_by_name(study) -> None:
    summary, cells = study
    data = {"name": "ucf101", "subset": "val", "claim": "D3D", "reference": "student alone", "labels": {"D3D": "Distilled 3-D (Stroud)"}}
    report = study_report({**summary, "data": data}, cells=cells)
    assert report.subtitle == "5 methods on ucf101, subset val"
    assert (report.notes["claim"], report.notes["reference"]) == ("Distilled 3-D (Stroud)", "student alone")
    assert [row[0] for row in table(report, "Methods").rows][-1] == "Distilled 3-D (Stroud)"
    assert [row[0] for row in table(report, "Paired differences").rows][-1] == "Distilled 3-D (Stroud)"
    assert "Distilled 3-D (Stroud)" in report.figures[0].svg


def test_only_judged_metrics_get_a_figure() -> None:
    cells = cells_of(0.5, 0, seeds=2, folds=1)
    values = {cell.name: 0.9 for cell in cells}
    metrics = {"top1": Metric(values=values), "pointing": Metric.of_cells(cells, draws=100), "top5": Metric(values=values)}
    report = study_report(build_summary("s", "ucf101", {}, {"student": Method(metrics=metrics)}, [], 1.0))
    assert [figure.title for figure in report.figures] == ["top1 of every seed", "pointing of every seed"]
    assert table(report, "Methods").columns[1:4] == ("top1 (%)", "pointing (%)", "top5 (%)")


def test_what_a_condition_cost_is_a_table_and_no_figure() -> None:
    metrics = {f"{name}@labels{share}": Metric(values={"0/1": 0.5}) for name in ("top1", "train_s", "parameters") for share in (10, 25)}
    report = study_report(build_summary("s", "ucf101", {}, {"student": Method(metrics=metrics)}, [], 1.0))
    assert {"top1 (%) by labels", "train_s by labels", "parameters by labels"} < {table.title for table in report.tables}
    assert [figure.title for figure in report.figures] == ["top1 by labels"]
