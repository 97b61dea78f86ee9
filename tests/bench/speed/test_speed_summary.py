"""summary.json of a benchmark: its figures by name, in the schema of all studies; and two of them compared."""

import copy
from typing import Any

import numpy as np
import pytest
from speed_results import ENVIRONMENT, FRAMES, PACES, detector, model, results

from vidkd.base.errors import DataError
from vidkd.bench.intervals import paired_difference
from vidkd.bench.speed.compare import compare, is_higher_better
from vidkd.bench.speed.record import pairs_of, summary_of


def figure(summary: dict, label: str, metric: str) -> float:
    row = summary["methods"][label]["metrics"][metric]
    assert row["values"] == {"0/1": row["mean"]}
    return float(row["mean"])


def test_figures_of_a_made_up_benchmark() -> None:
    """The median pace of the rounds is 1.1, and a model is as many times slower than the baseline in every round."""
    summary = summary_of(results())
    for label, one_ms in (("original", 20.0), ("small", 5.0), ("peer", 100.0)):
        assert figure(summary, label, "latency_ms@b1t1") == pytest.approx(1.1 * one_ms)
        assert figure(summary, label, "latency_ms@b4t2") == pytest.approx(1.1 * one_ms)
        assert figure(summary, label, "latency_ms@b1t2") == pytest.approx(0.55 * one_ms)
        assert figure(summary, label, "latency_p95_ms@b1t1") == pytest.approx(3.0 * one_ms)
        assert figure(summary, label, "latency_n@b1t1") == 4 * len(PACES)
        assert figure(summary, label, "throughput@b4t1") == pytest.approx(4 / (2.2e-3 * one_ms))
        assert figure(summary, label, "end_to_end_ms@b1t1") == pytest.approx(1.1 * (one_ms + 10))
        assert figure(summary, label, "end_to_end_decode_ms@b1t1") == pytest.approx(11.0)
        assert figure(summary, label, "end_to_end_decode_share@b1t1") == pytest.approx(10 / (one_ms + 10)), "whatever the pace of a round"
        assert figure(summary, label, "end_to_end_n@b1t1") == 2 * len(PACES)
        assert figure(summary, label, "cold_start_s") == pytest.approx(0.11 * one_ms)
        assert figure(summary, label, "memory_mib") == 256.0
        assert figure(summary, label, "file_bytes") == 2**20
    assert figure(summary, "small", "latency_ratio@b1t1") == pytest.approx(0.25)
    assert figure(summary, "peer", "end_to_end_ratio@b1t1") == pytest.approx(110 / 30)
    assert figure(summary, "peer", "cold_start_ratio") == pytest.approx(5.0)


def test_the_baseline_has_no_ratio_and_random_weights_no_accuracy() -> None:
    methods = summary_of(results())["methods"]
    assert not [name for name in methods["original"]["metrics"] if "ratio" in name]
    assert "top1" not in methods["peer"]["metrics"]
    assert methods["original"]["metrics"]["top1"]["ci95"] == pytest.approx([0.65, 0.85])


def test_what_is_not_known_is_left_out_and_said() -> None:
    summary = summary_of(results())
    small = summary["methods"]["small"]
    assert {"macs", "macs_torch", "parameters"} & set(small["metrics"]) == set()
    assert small["parameters"] is None
    assert summary["data"]["models"]["small"]["notes"] == ["multiply-accumulates: not in the file"]
    assert summary["methods"]["original"]["metrics"]["macs"]["mean"] == 10**8


def test_accuracy_is_compared_in_pairs_with_the_baseline_s() -> None:
    made = results()
    (pair,) = summary_of(made)["paired"]
    cells = [made.models[label].accuracy.cell for label in ("small", "original")]  # type: ignore[union-attr]
    wanted = paired_difference([cells[0]], [cells[1]], over=("groups",))  # type: ignore[list-item]
    assert (pair["method"], pair["reference"], pair["metric"]) == ("small", "original", "top1")
    assert pair["difference"] == wanted.mean == pytest.approx(-0.05)
    assert pair["ci95"] == wanted.ci95


def test_flow_has_its_part() -> None:
    summary = summary_of(results(flow=model("flow", 0.020, right=35, flow=True)))
    assert figure(summary, "flow", "end_to_end_flow_ms@b1t1") == pytest.approx(22.0)
    assert figure(summary, "flow", "end_to_end_ms@b1t1") == pytest.approx(55.0)
    assert "end_to_end_flow_ms@b1t1" not in summary["methods"]["original"]["metrics"]


def test_ratios_are_to_the_model_that_is_named() -> None:
    """`peer` takes 100 ms, 20 times as long as `small`; `small` itself stays with the baseline."""
    summary = summary_of(results(against={"peer": "small"}))
    assert figure(summary, "peer", "latency_ratio@b1t1") == pytest.approx(20.0)
    assert figure(summary, "peer", "end_to_end_ratio@b1t1") == pytest.approx(110 / 15)
    assert figure(summary, "peer", "cold_start_ratio") == pytest.approx(20.0)
    assert figure(summary, "small", "latency_ratio@b1t1") == pytest.approx(0.25)
    assert {label: text["reference"] for label, text in summary["data"]["models"].items()} == {
        "original": None,
        "small": "original",
        "peer": "small",
    }


# --- pairs ---

DRAWS = np.linspace(0.2, 0.8, 41)


def test_a_detector_against_itself_differs_by_nothing() -> None:
    made = results(original=detector("original", 0.5, DRAWS), small=detector("small", 0.5, DRAWS))
    (pair,) = pairs_of(made)
    assert (pair.method, pair.reference, pair.metric, pair.difference, pair.ci95) == ("small", "original", "ap50", 0.0, (0.0, 0.0))


def test_the_interval_is_that_of_differences_within_draws() -> None:
    """Of 41 even steps the percentiles 2.5 and 97.5 are the second and the last but one, however far the draws themselves spread."""
    steps = np.linspace(-0.2, 0.2, 41)
    made = results(
        original=detector("original", 0.5, DRAWS),
        small=detector("small", 0.4, DRAWS - 0.1),
        peer=detector("peer", 0.55, DRAWS + steps),
    )
    small, peer = summary_of(made)["paired"]
    assert (small["difference"], small["ci95"]) == (pytest.approx(-0.1), pytest.approx([-0.1, -0.1]))
    assert (peer["difference"], peer["ci95"]) == (pytest.approx(0.05), pytest.approx([-0.19, 0.19]))


@pytest.mark.parametrize("on", [("others", "person"), (*FRAMES, "car")])
def test_detectors_that_were_judged_on_other_frames_or_classes_are_no_pair(on: tuple[str, ...]) -> None:
    made = results(original=detector("original", 0.5, DRAWS), small=detector("small", 0.5, DRAWS, on))
    assert pairs_of(made) == []


def test_a_model_is_held_against_the_one_that_it_names() -> None:
    made = results(
        against={"peer": "small"},
        original=detector("original", 0.5, DRAWS),
        small=detector("small", 0.4, DRAWS - 0.1),
        peer=detector("peer", 0.3, DRAWS - 0.2),
    )
    found = {pair.method: (pair.reference, pair.difference) for pair in pairs_of(made)}
    assert found == {"small": ("original", pytest.approx(-0.1)), "peer": ("small", pytest.approx(-0.1))}


def test_what_is_not_judged_has_no_pair() -> None:
    assert [pair.method for pair in pairs_of(results())] == ["small"], "random weights are not judged"
    assert pairs_of(results(original=model("original", 0.02, right=None))) == []


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
