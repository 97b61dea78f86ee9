"""The page of a benchmark: its tables, the front of its figures, and what is not known is said."""

import dataclasses

import numpy as np
import pytest
from speed_results import ENVIRONMENT, accuracy, detector, model, results

from vidkd.bench.speed.record import summary_of
from vidkd.report.benchmark import PARTS, Point, benchmark_report, pareto_figure, pareto_front, parts_figure
from vidkd.report.parts import Estimate, Report

COMMAND = "vidkd benchmark made_up.yaml --data.root somewhere"


@pytest.fixture(scope="module")
def report() -> Report:
    made = results(flow=model("flow", 0.020, right=35, flow=True))
    return benchmark_report(summary_of(made, "name: made_up"), command=COMMAND)


def table(report: Report, title: str) -> dict[str, tuple]:
    """A table's rows by their first cell (the first row of each)."""
    (found,) = [each for each in report.tables if each.title == title]
    return {str(row[0]): row for row in reversed(found.rows)}


def point(label: str, cost: float, gain: float) -> Point:
    return Point(label=label, cost=Estimate(value=cost, percent=False), gain=Estimate(value=gain))


def test_what_the_tables_say(report: Report) -> None:
    small = table(report, "Speed and accuracy")["small"]
    assert [cell.value for cell in small[2:5]] == pytest.approx([0.7, -0.05, 5.5])
    assert [cell.value for cell in small[5:7]] == pytest.approx([15.0, 20])
    assert small[7].value == pytest.approx(0.25)
    assert table(report, "Speed and accuracy")["original"][7] == Estimate(value=1.0, percent=False)
    assert table(report, "Speed and accuracy")["peer"][2] is None
    assert [table(report, "Speed and accuracy")[label][1] for label in ("original", "small")] == ["\N{EN DASH}", "original"]
    assert "Accuracy is that of one window and one crop of each clip" in report.tables[0].caption
    sizes = table(report, "Size, start and memory")
    assert sizes["small"][1:4] == (None, None, None)
    assert [sizes["original"][place].value for place in (1, 2, 4)] == [10**6, 100.0, 1.0]
    ways = table(report, "From file to answer")
    assert ways["flow"][6].value == pytest.approx(22.0)
    assert ways["original"][6] is None
    assert (ways["original"][8].value, ways["original"][8].percent) == (pytest.approx(1 / 3), True), "10 of 30 ms"
    assert len(next(each for each in report.tables if each.title == "Batches and threads").rows) == 16
    assert table(report, "Models")["small"][5] == "multiply-accumulates: not in the file"


def test_every_ratio_says_what_it_is_to() -> None:
    made = benchmark_report(summary_of(results(against={"peer": "small"})))
    assert "compared with original, or what the tables name instead" in made.subtitle
    for title, place in (("Speed and accuracy", 7), ("Batches and threads", 7), ("From file to answer", 10)):
        rows = table(made, title)
        assert [rows[label][1] for label in ("original", "small", "peer")] == ["\N{EN DASH}", "original", "small"]
        ratio = rows["peer"][place]
        assert ratio.value == pytest.approx(110 / 15 if title == "From file to answer" else 20.0)


def test_what_is_judged_at_several_shares_and_timed_at_one_is_said() -> None:
    early = dataclasses.replace(accuracy(30), fractions=(0.1, 0.2, 0.5))
    made = results(early=dataclasses.replace(model("early", 0.02, right=30), accuracy=early))
    found = benchmark_report(summary_of(made))
    text = "Accuracy of early is the mean over 10, 20, 50 % of a clip; the answer at 50 % is timed."
    assert text in found.tables[0].caption
    assert all(text in figure.caption for figure in found.figures if "top-1 against" in figure.title)
    assert "is the mean over" not in benchmark_report(summary_of(results())).tables[0].caption


def test_figures_show_accuracy_against_each_cost(report: Report) -> None:
    titles = [figure.title for figure in report.figures]
    costs = ("latency", "end-to-end latency", "size", "multiply-accumulates")
    assert titles == [
        *(f"top-1 against {cost}" for cost in costs),
        "Where the time goes",
        "Throughput on 1 thread",
        "Throughput on 2 threads",
    ]
    captions = {figure.title: figure.caption for figure in report.figures}
    assert "none beats in both: small, original, flow" not in captions["top-1 against latency"], "flow is as quick and better"
    assert "none beats in both: small, flow" in captions["top-1 against latency"]
    assert "none beats in both: small, original, flow" in captions["top-1 against end-to-end latency"]
    assert "Not known of small" in captions["top-1 against multiply-accumulates"]
    assert all("one window and one crop of each clip" in captions[title] for title in titles[:4])


def test_speed_alone_has_no_pareto_plot() -> None:
    made = results()
    bare = {label: model(label, 0.01, right=None) for label in made.models}
    found = benchmark_report(summary_of(results(**bare)))
    assert not [figure.title for figure in found.figures if "reference" in figure.title]
    assert "top-1 (%)" not in found.tables[0].columns


def test_detectors_are_held_against_the_baseline_draw_by_draw() -> None:
    draws = np.linspace(0.3, 0.5, 41)
    found = benchmark_report(summary_of(results(original=detector("original", 0.4, draws), small=detector("small", 0.3, draws - 0.1))))
    small = table(found, "Speed and accuracy")["small"]
    assert (small[3].value, small[3].ci95, small[3].signed) == (pytest.approx(-0.1), pytest.approx((-0.1, -0.1)), True)
    assert "paired on the same frames" in found.tables[0].caption
    assert found.tables[0].columns[1:4] == ("reference", "AP50 (%)", "difference")


def test_others_at_work_are_said() -> None:
    summary = summary_of(results())
    assert "others at work" not in benchmark_report(summary).notes
    busy = {**summary, "environment": {**ENVIRONMENT, "load before": "1.70"}}
    assert "load 1.7 before the first call" in benchmark_report(busy).notes["others at work"]


def test_the_front_holds_what_no_other_beats() -> None:
    points = [point("a", 1, 0.5), point("b", 2, 0.7), point("c", 2, 0.6), point("d", 3, 0.7), point("e", 0.5, 0.2), point("f", 4, 0.9)]
    assert [each.label for each in pareto_front(points)] == ["e", "a", "b", "f"]
    twins = [point("x", 1, 0.5), point("y", 1, 0.5)]
    assert pareto_front(twins) == twins, "neither beats the other"


def test_points_upon_each_other_share_their_names() -> None:
    points = [point("one", 1, 0.5), point("two", 1, 0.5), point("three", 100, 0.6)]
    figure = pareto_figure(points, title="t", cost="ms", gain="%", order=["one", "two", "three"])
    assert "one, two" in figure.svg
    assert "three" in figure.svg
    assert "none beats in both: one, two, three" in figure.caption


def test_parts_are_in_the_order_of_the_way() -> None:
    decoding, flow, model = PARTS.values()
    figure = parts_figure(
        {"rgb": {decoding: 2.0, model: 1.0}, "two streams": {model: 1.25, flow: 3.0, decoding: 2.0}}, title="t", unit="ms"
    )
    places = [figure.svg.index(f">{name}<") for name in (decoding, flow, model)]
    assert places == sorted(places)
    assert ">6.25<" in figure.svg
