"""Two summaries compared."""

import copy
from typing import Any

import pytest
from speed_results import ENVIRONMENT, results

from vidkd.base.errors import DataError
from vidkd.bench.speed.compare import compare, is_higher_better
from vidkd.bench.speed.record import summary_of


def row(value: float, ci95: tuple[float, float] | None = None) -> dict[str, Any]:
    return {"values": {"0/1": value}, "mean": value, "ci95": None if ci95 is None else list(ci95), "n": 1}


def summary(metrics: dict[str, dict[str, Any]], **over: Any) -> dict[str, Any]:
    found = {"study": "x", "data": {"baseline": "one", "models": {}}, "environment": ENVIRONMENT, "methods": {"one": {"metrics": metrics}}}
    return {**found, **over}


def verdict(metric: str, before: dict[str, Any], after: dict[str, Any], **options: float) -> str:
    (change,) = compare(summary({metric: before}), summary({metric: after}), **options)
    return change.verdict


@pytest.mark.parametrize(
    ("metric", "before", "after", "text"),
    [
        ("latency_ms@b1t1", row(10, (9, 11)), row(12, (11.5, 13)), "worse"),
        ("latency_ms@b1t1", row(10, (9, 11)), row(8, (7, 8.9)), "better"),
        ("latency_ms@b1t1", row(10, (9, 11)), row(12, (10.9, 13)), "same"),
        ("throughput@b8t1", row(10, (9, 11)), row(12, (11.5, 13)), "better"),
        ("throughput@b8t1", row(10, (9, 11)), row(8, (7, 8.9)), "worse"),
        ("end_to_end_ratio@b1t1", row(1.0, (0.9, 1.1)), row(1.2, (1.15, 1.3)), "worse"),
        ("memory_mib", row(100, (99, 101)), row(150, (149, 151)), "worse"),
        ("parameters", row(1000), row(1001), "worse"),
        ("macs", row(1000), row(999), "better"),
        ("file_bytes", row(1000), row(1000), "same"),
        ("latency_ms@b1t1", row(10), row(12, (11.5, 13)), "unknown"),
        ("latency_ms@b1t1", row(10), row(10), "same"),
        ("memory_mib", row(100), row(100.4), "same"),
        ("memory_mib", row(100), row(100.6), "unknown"),
        ("top1", row(0.9, (0.8, 1.0)), row(0.88, (0.78, 0.98)), "worse"),
        ("ap50", row(0.5), row(0.509), "same"),
        ("verb_nll", row(1.0), row(0.9), "better"),
    ],
)
def test_a_figure_differs_where_intervals_do_not_meet(metric: str, before: dict, after: dict, text: str) -> None:
    assert verdict(metric, before, after) == text


def test_a_tolerance_is_a_share_of_the_first_value() -> None:
    before, after = row(10, (9, 11)), row(12.5, (12, 13))
    assert verdict("latency_ms@b1t1", before, after, tolerance=0.09) == "worse"
    assert verdict("latency_ms@b1t1", before, after, tolerance=0.11) == "same"
    assert verdict("parameters", row(1000), row(1040), tolerance=0.05) == "same"


def test_what_moved_in_the_wrong_direction_without_an_interval_is_a_regression() -> None:
    slower = compare(summary({"latency_ms@b1t1": row(10)}), summary({"latency_ms@b1t1": row(11)}))
    assert [(change.verdict, change.is_regression) for change in slower] == [("unknown", True)]
    faster = compare(summary({"throughput@b1t1": row(10)}), summary({"throughput@b1t1": row(11)}))
    assert [(change.verdict, change.is_regression) for change in faster] == [("unknown", False)]


def test_a_model_compared_with_another_one_is_refused() -> None:
    with pytest.raises(DataError, match="compare 'peer' with different models"):
        compare(summary_of(results()), summary_of(results(against={"peer": "small"})))


def test_what_one_run_lacks_is_told() -> None:
    found = compare(summary({"top1": row(0.9)}), summary({"ap50": row(0.5)}))
    assert {change.metric: change.verdict for change in found} == {"top1": "gone", "ap50": "new"}
    other = summary({}, methods={"two": {"metrics": {"macs": row(5)}}})
    assert [str(change) for change in compare(summary({"macs": row(7)}), other)] == [
        "one  macs  7 -> none  gone",
        "two  macs  none -> 5  new",
    ]


def test_on_another_machine_ratios_alone_are_compared() -> None:
    slow = {
        "latency_ms@b1t1": row(90, (89, 91)),
        "latency_ratio@b1t1": row(0.5, (0.4, 0.6)),
        "cold_start_s": row(9, (8, 10)),
        "macs": row(1),
    }
    fast = {
        "latency_ms@b1t1": row(10, (9, 11)),
        "latency_ratio@b1t1": row(0.8, (0.7, 0.9)),
        "cold_start_s": row(1, (0.8, 1.2)),
        "macs": row(1),
    }
    here, there = summary(fast), summary(slow, environment={**ENVIRONMENT, "processor": "Another"})
    assert {change.metric for change in compare(here, summary(slow))} == set(fast)
    found = compare(here, there)
    assert {change.metric: change.verdict for change in found} == {"latency_ratio@b1t1": "better", "macs": "same"}


def test_a_run_is_the_same_as_itself_and_a_slower_one_is_worse() -> None:
    first = summary_of(results())
    assert {change.verdict for change in compare(first, first)} == {"same"}
    second = copy.deepcopy(first)
    second["methods"]["small"]["metrics"]["latency_ratio@b1t1"] = row(0.3, (0.28, 0.31))
    (change,) = [change for change in compare(first, second) if change.verdict == "worse"]
    assert str(change) == "small  latency_ratio@b1t1  0.25 [0.25, 0.25] -> 0.3 [0.28, 0.31]  worse"


def test_how_often_something_was_measured_is_no_figure() -> None:
    assert compare(summary({"latency_n@b1t1": row(10)}), summary({"latency_n@b1t1": row(20)})) == []


def test_studies_and_other_data_are_refused() -> None:
    with pytest.raises(DataError, match="not the summary of a benchmark"):
        compare(summary({}), summary({}, data={"name": "a study"}))
    for name in ("baseline", "manifest", "split", "subset"):
        text = {"baseline": "one", "manifest": "a", "split": "1", "subset": "test", "models": {}}
        with pytest.raises(DataError, match=f"differ in {name}\n  first  : {text[name]}\n  second : other"):
            compare(summary({}, data=text), summary({}, data={**text, name: "other"}))


@pytest.mark.parametrize(
    ("metric", "higher"),
    [
        ("top1@obs20", True),
        ("class_mean", True),
        ("verb_top1", True),
        ("map", True),
        ("throughput@b1t1", True),
        ("verb_nll", False),
        ("macs", False),
        ("memory_mib", False),
        ("ece", False),
        ("nll", False),
    ],
)
def test_which_way_is_better(metric: str, higher: bool) -> None:
    assert is_higher_better(metric) == higher
