"""The page of a benchmark: its tables sort in a browser, its figures show the front, and what is not known is said."""

import dataclasses
import html
import re
from pathlib import Path

import numpy as np
import pytest
from browser import needs_chromium
from speed_results import ENVIRONMENT, accuracy, detector, model, results
from test_page import browse, console

from vidkd.bench.speed.record import summary_of
from vidkd.report.benchmark import benchmark_report
from vidkd.report.page import _resource, render_html, render_report, script_hash, sort_key
from vidkd.report.pareto import Point, pareto_figure, pareto_front, parts_figure
from vidkd.report.parts import Estimate, Report, Table

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
    assert small[5:7] == (pytest.approx(15.0), 20)
    assert small[7].value == pytest.approx(0.25)
    assert table(report, "Speed and accuracy")["original"][7] == Estimate(value=1.0, percent=False)
    assert table(report, "Speed and accuracy")["peer"][2] is None
    assert [table(report, "Speed and accuracy")[label][1] for label in ("original", "small")] == ["\N{EN DASH}", "original"]
    assert "Accuracy is that of one window and one crop of each clip" in report.tables[0].caption
    sizes = table(report, "Size, start and memory")
    assert sizes["small"][1:4] == (None, None, None)
    assert [sizes["original"][1], sizes["original"][2].value, sizes["original"][4].value] == [10**6, 100.0, 1.0]
    ways = table(report, "From file to answer")
    assert ways["flow"][6].value == pytest.approx(22.0)
    assert ways["original"][6] is None
    assert len(next(each for each in report.tables if each.title == "Batches and threads").rows) == 16
    assert table(report, "Models")["small"][5] == "multiply-accumulates: not in the file"


def test_every_ratio_says_what_it_is_to() -> None:
    made = benchmark_report(summary_of(results(against={"peer": "small"})))
    assert "compared with original, or what the tables name instead" in made.subtitle
    for title, place in (("Speed and accuracy", 7), ("Batches and threads", 7), ("From file to answer", 9)):
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
    figure = pareto_figure(points, title="t", cost="ms", gain="%", styles={"one": 0, "two": 1, "three": 2})
    assert "one, two" in figure.svg
    assert "three" in figure.svg
    assert "none beats in both: one, two, three" in figure.caption


def test_parts_stand_in_the_order_of_the_way() -> None:
    parts = {"rgb": {"decode": 2.0, "model": 1.0}, "two streams": {"decode": 2.0, "flow": 3.0, "model": 1.25}}
    figure = parts_figure(parts, order=("decode", "flow", "model", "nothing"), title="t", unit="ms")
    places = [figure.svg.index(f">{name}<") for name in ("decode", "flow", "model")]
    assert places == sorted(places)
    assert ">6.25<" in figure.svg
    assert "nothing" not in figure.svg


def test_cells_are_sorted_by_their_numbers() -> None:
    cells = ("b", 12, 1.5, Estimate(value=0.7134, ci95=(0.6, 0.8)), None)
    assert [sort_key(cell) for cell in cells] == ["b", "12.0", "1.5", "0.7134", ""]


def test_only_a_page_with_such_a_table_has_a_script(report: Report) -> None:
    plain = render_html(Report(title="t", tables=(Table(title="x", columns=("a",), rows=(("b",),)),)))
    assert "<script" not in plain
    assert "script-src" not in plain
    page = render_html(report)
    assert page.count("<script") == 1
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])  # type: ignore[index]
    assert f"script-src {script_hash(_resource('sort.js'))}" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert COMMAND in page


@needs_chromium
def test_the_browser_runs_the_script_and_no_other(report: Report, tmp_path: Path) -> None:
    page = render_report(tmp_path / "page.html", report)
    found = browse(tmp_path, page)
    assert console(found.stderr) == []
    assert '<button type="button">latency (ms)</button>' in found.stdout, "no longer disabled"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", "<script>document.title = 'other'</script></body>"), encoding="utf-8")
    found = browse(tmp_path, page)
    assert "<title>other" not in found.stdout
    assert any("Content Security Policy" in line for line in console(found.stderr))


CLICK = """<script>
const heads = [...document.querySelectorAll("table.sorts")[0].querySelectorAll("button")];
for (const place of %s) heads[place].click();
</script>"""


@needs_chromium
@pytest.mark.parametrize(
    ("clicks", "order"),
    [
        ([4], ["small", "original", "flow", "peer"]),
        ([4, 4], ["peer", "original", "flow", "small"]),
        ([2], ["small", "original", "flow", "peer"]),
        ([2, 2], ["flow", "original", "small", "peer"]),
        ([0], ["flow", "original", "peer", "small"]),
        ([4, 0, 0], ["small", "peer", "original", "flow"]),
    ],
)
def test_a_click_sorts_and_the_next_turns_it_round(report: Report, tmp_path: Path, clicks: list[int], order: list[str]) -> None:
    """By latency, by accuracy (what has none stays below) and by name."""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", render_html(report))
    (tmp_path / "page.html").write_text(page.replace("</body>", CLICK % clicks + "</body>"), encoding="utf-8")
    found = browse(tmp_path, tmp_path / "page.html").stdout
    first = re.search(r"<tbody>(.*?)</tbody>", found, re.DOTALL)
    assert first is not None
    assert re.findall(r"<tr><td[^>]*>(.*?)</td>", first[1]) == order
