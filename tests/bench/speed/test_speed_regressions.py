"""Two runs held against each other."""

import copy
from typing import Any

import pytest
from speed_results import ENVIRONMENT, results

from vidkd.base.errors import DataError
from vidkd.bench.speed.record import measurements_of, summary_of
from vidkd.bench.speed.regressions import Change, asked_for, compare, is_better_higher


def row(value: float, ci95: tuple[float, float] | None = None) -> dict[str, Any]:
    return {"values": {"0/1": value}, "mean": value, "ci95": None if ci95 is None else list(ci95), "n": 1}


def summary(metrics: dict[str, dict[str, Any]], **over: Any) -> dict[str, Any]:
    found = {"study": "x", "data": {"baseline": "one"}, "environment": ENVIRONMENT, "methods": {"one": {"metrics": metrics}}}
    return {**found, **over}


def verdict(metric: str, before: dict[str, Any], after: dict[str, Any], **options: float) -> str:
    (change,) = compare(summary({metric: before}), summary({metric: after}), **options).changes
    return change.verdict


@pytest.mark.parametrize(
    ("metric", "before", "after", "told"),
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
    ],
)
def test_a_figure_differs_where_intervals_do_not_meet(metric: str, before: dict, after: dict, told: str) -> None:
    assert verdict(metric, before, after) == told


def test_a_tolerance_is_a_share_of_the_first_value() -> None:
    before, after = row(10, (9, 11)), row(12.5, (12, 13))
    assert verdict("latency_ms@b1t1", before, after, tolerance=0.09) == "worse"
    assert verdict("latency_ms@b1t1", before, after, tolerance=0.11) == "same"
    assert verdict("parameters", row(1000), row(1040), tolerance=0.05) == "same"


@pytest.mark.parametrize(
    ("metric", "before", "after", "told"),
    [
        ("top1", row(0.9), row(0.1), "worse"),
        ("class_mean", row(0.9), row(0.1), "worse"),
        ("ap50", row(0.8, (0.6, 0.95)), row(0.55, (0.4, 0.61)), "worse"),
        ("ap50", row(0.5, (0.4, 0.6)), row(0.51, (0.4, 0.6)), "same"),
        ("ap50", row(0.5, (0.4, 0.6)), row(0.52, (0.4, 0.6)), "better"),
        ("verb_top1", row(0.5), row(0.48), "worse"),
        ("ece", row(0.05), row(0.06), "same"),
        ("ece", row(0.05), row(0.07), "worse"),
        ("verb_nll", row(1.0), row(0.9), "better"),
    ],
)
def test_accuracies_without_pairs_differ_beyond_a_stated_tolerance(metric: str, before: dict, after: dict, told: str) -> None:
    """On the same clips both intervals hold the same luck of the draw: that they meet says nothing."""
    assert verdict(metric, before, after) == told
    found = compare(summary({metric: before}), summary({metric: after}))
    assert found.notes == ("accuracies are the same within 0.01 where not both runs keep what it takes to compare in pairs",)
    assert [change.verdict for change in found.regressions] == (["worse"] if told == "worse" else [])


def kept(correct: list[float], draws: dict[str, list[float]], groups: int = 4, samples: str = "hash") -> dict[str, Any]:
    """Measurements of a model with this rightness of its clips, evenly in so many groups, and these draws."""
    names = {"clip": [f"c{n}" for n in range(len(correct))], "group": [f"g{n % groups}" for n in range(len(correct))]}
    told = {"samples": samples, "classes": ["a", "b"], "correct": correct, "draws": draws}
    return {"samples": {samples: names}, "models": {"one": {"accuracy": told}}}


def paired(metric: str, before: float, after: float, *measured: dict[str, Any], **options: float) -> Any:
    first, second = summary({metric: row(before, (0.0, 1.0))}), summary({metric: row(after, (0.0, 1.0))})
    (change,) = compare(first, second, measurements=(measured[0], measured[1]), **options).changes
    return change


def test_top1_is_compared_clip_by_clip() -> None:
    """One clip of every group is lost: the difference is the same in every draw, whatever the two intervals say."""
    first, second = kept([1] * 16 + [0] * 4, {}), kept([1] * 12 + [0] * 8, {})
    change = paired("top1", 0.8, 0.6, first, second)
    assert change.verdict == "worse"
    assert change.moved.ci95 == pytest.approx((-0.2, -0.2))
    assert str(change) == "one  top1  0.8 [0, 1] -> 0.6 [0, 1] (in pairs [-0.2, -0.2])  worse"
    assert paired("top1", 0.6, 0.8, second, first).verdict == "better"
    assert paired("top1", 0.8, 0.8, first, first).verdict == "same"
    assert paired("top1", 0.8, 0.6, first, second, tolerance=0.3).verdict == "same"


def test_what_one_group_alone_lost_may_be_chance() -> None:
    first = kept([1] * 20, {})
    change = paired("top1", 1.0, 0.95, first, kept([0] + [1] * 19, {}))
    assert change.verdict == "same"
    low, high = change.moved.ci95
    assert low < 0 < high


def test_other_accuracies_are_compared_draw_by_draw() -> None:
    """Draws that move far, but both alike: a dropped mean over classes or AP50 is found."""
    far = [0.1, 0.9, 0.3, 0.7, 0.5] * 40
    first = kept([1] * 20, {"class_mean": far, "ap50": far, "ece": far})
    second = kept([1] * 20, {name: [value - 0.05 for value in far] for name in ("class_mean", "ap50", "ece")})
    for metric, told in (("class_mean", "worse"), ("ap50", "worse"), ("ece", "better")):
        change = paired(metric, 0.5, 0.45, first, second)
        assert (change.verdict, change.moved.ci95) == (told, pytest.approx((-0.05, -0.05)))
    noisy = kept([1] * 20, {"class_mean": far[::-1]})
    assert paired("class_mean", 0.5, 0.45, first, noisy).verdict == "same"


def test_what_moved_the_wrong_way_without_an_interval_is_a_regression() -> None:
    one_group = kept([1] * 20, {}, groups=1), kept([1] * 19 + [0], {}, groups=1)
    for metric in ("top1", "class_mean"):
        first, second = summary({metric: row(1.0)}), summary({metric: row(0.95)})
        found = compare(first, second, measurements=one_group)
        (change,) = found.regressions
        assert (change.verdict, change.is_doubtful) == ("unknown", True)
        assert str(change).endswith("unknown: it moved the wrong way, and without an interval nothing tells whether by chance")
        back = compare(second, first, measurements=one_group[::-1])
        assert [change.verdict for change in back.changes] == ["unknown"]
        assert not back.regressions
        assert not compare(first, second, tolerance=0.06, measurements=one_group).regressions
    slower = compare(summary({"latency_ms@b1t1": row(10)}), summary({"latency_ms@b1t1": row(11)}))
    assert [change.metric for change in slower.regressions] == ["latency_ms@b1t1"]
    assert not compare(summary({"throughput@b1t1": row(10)}), summary({"throughput@b1t1": row(11)})).regressions


def test_other_clips_or_classes_are_no_pair() -> None:
    first = kept([1] * 20, {})
    other = kept([1] * 20, {}, samples="another hash")
    with pytest.raises(DataError, match="'one' was judged on other clips"):
        paired("top1", 1.0, 1.0, first, other)
    other = copy.deepcopy(first)
    other["models"]["one"]["accuracy"]["classes"] = ["a"]
    with pytest.raises(DataError, match="other clips, frames or classes"):
        paired("top1", 1.0, 1.0, first, other)


def test_ways_of_judging_that_differ_are_told() -> None:
    first, second = summary_of(results()), summary_of(results())
    second["data"]["models"]["small"]["judged_on"] = "40 clips of 'test', 10 groups"
    notes = compare(first, second, measurements=(measurements_of(results()),) * 2).notes
    assert notes == (
        "small was judged in unlike ways: on 40 clips of 'test', one window and crop of each, 10 groups; on 40 clips of 'test', 10 groups",
    )


def test_ways_of_running_that_differ_are_told() -> None:
    first, second = summary_of(results()), summary_of(results())
    second["data"]["models"]["small"]["way"] = {"amp": "bfloat16"}
    second["data"]["shape"]["frames"] = 8
    second["environment"] = {**second["environment"], "torch": "1.0"}
    first["environment"] = {**first["environment"], "torch": "2.0"}
    notes = compare(first, second, measurements=(measurements_of(results()),) * 2).notes
    assert notes[0] == "small was run in unlike ways: as it is by default; amp bfloat16"
    assert notes[1].startswith("backbones, and detectors without data, were shown unlike shapes: classes 10")
    assert notes[1].endswith("; frames 8, classes 10, height 480, width 640")
    assert notes[2] == "libraries differ: torch 2.0 and 1.0"


def test_a_model_that_is_held_against_another_one_has_other_ratios() -> None:
    with pytest.raises(DataError, match="hold 'peer' against unlike models"):
        compare(summary_of(results()), summary_of(results(against={"peer": "small"})))
    older = summary_of(results())
    for told in older["data"]["models"].values():
        del told["against"]
    assert not compare(older, summary_of(results())).regressions


def test_what_one_run_lacks_is_told() -> None:
    found = compare(summary({"top1": row(0.9)}), summary({"ap50": row(0.5)}))
    assert {change.metric: change.verdict for change in found.changes} == {"top1": "gone", "ap50": "new"}
    other = summary({}, methods={"two": {"metrics": {"macs": row(5)}}})
    assert [str(change) for change in compare(summary({"macs": row(7)}), other).changes] == [
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
    assert {change.metric for change in compare(here, summary(slow)).changes} == set(fast)
    found = compare(here, there)
    assert not found.same_machine
    assert {change.metric: change.verdict for change in found.changes} == {"latency_ratio@b1t1": "better", "macs": "same"}


def test_a_run_is_the_same_as_itself_and_a_slower_one_is_worse() -> None:
    first, kept_of = summary_of(results()), measurements_of(results())
    for measured in ((None, None), (kept_of, kept_of)):
        assert {change.verdict for change in compare(first, first, measurements=measured).changes} == {"same"}
    second = copy.deepcopy(first)
    second["methods"]["small"]["metrics"]["latency_ratio@b1t1"] = row(0.3, (0.28, 0.31))
    (change,) = compare(first, second).of("worse")
    assert (change.model, change.metric) == ("small", "latency_ratio@b1t1")
    assert str(change) == "small  latency_ratio@b1t1  0.25 [0.25, 0.25] -> 0.3 [0.28, 0.31]  worse"


def test_how_often_something_was_measured_is_no_figure() -> None:
    assert compare(summary({"latency_n@b1t1": row(10)}), summary({"latency_n@b1t1": row(20)})).changes == ()


def test_studies_and_other_baselines_are_refused() -> None:
    with pytest.raises(DataError, match="not of a benchmark"):
        compare(summary({}), summary({}, data={"name": "a study"}))
    with pytest.raises(DataError, match="unlike baselines"):
        compare(summary({}), summary({}, data={"baseline": "two"}))
    one, other, unknown = ({"baseline": "one", "manifest": manifest} for manifest in ("a", "b", None))
    with pytest.raises(DataError, match="judged on other clips"):
        compare(summary({}, data=one), summary({}, data=other))
    assert compare(summary({}, data=one), summary({}, data=unknown)).changes == ()
    told = {"baseline": "one", "split": "1", "subset": "test"}
    for over, message in (({"split": "2"}, "unlike splits\n  first  : 1\n  second : 2"), ({"subset": "val"}, "unlike subsets")):
        with pytest.raises(DataError, match=message):
            compare(summary({}, data=told), summary({}, data={**told, **over}))
    assert compare(summary({}, data=told), summary({})).changes == (), "older summaries say neither"


def test_what_a_benchmark_asks_for_is_what_its_summary_tells() -> None:
    made = results(against={"peer": "small"})
    told, asked = summary_of(made)["data"], asked_for(made.config)
    assert asked == {"models": asked["models"], **{name: told[name] for name in ("baseline", "split", "subset")}}
    assert {label: model["against"] for label, model in told["models"].items()} == {
        label: model["against"] for label, model in asked["models"].items()
    }


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
    assert is_better_higher(metric) == higher


@pytest.mark.parametrize(("groups", "verdict"), [(1, "same"), (6, "worse")])
def test_kept_summaries_without_measurements_are_compared_in_pairs_by_the_main_metric(groups: int, verdict: str) -> None:
    """A clip less in one of ten groups may be chance, in six of them it is not; by the two numbers alone both are worse."""
    first, second = summary_of(results()), summary_of(results())
    told = second["data"]["models"]["small"]["accuracy"]
    told["right"] = [right - (place < groups) for place, right in enumerate(told["right"])]
    second["methods"]["small"]["metrics"]["top1"] |= {"values": {"0/1": 0.7 - groups / 40}, "mean": 0.7 - groups / 40}

    def top1() -> Change:
        (change,) = [each for each in compare(first, second).changes if (each.model, each.metric) == ("small", "top1")]
        return change

    assert top1().verdict == verdict
    assert top1().moved is not None
    for summary in (first, second):
        del summary["data"]["models"]["small"]["accuracy"]
    assert (top1().verdict, top1().moved) == ("worse", None)
    assert "0.01 where not both runs keep" in " ".join(compare(first, second).notes)
