"""summary.json of a benchmark: its figures by name, in the schema of all studies."""

import numpy as np
import pytest
from speed_results import FRAMES, PACES, detector, model, results

from vidkd.bench.intervals import paired_difference
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
