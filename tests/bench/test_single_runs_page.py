"""Sections of the results page that are of single models: figures of the made-up benchmark, and of a recipe with one seed or two."""

from pathlib import Path
from typing import Any

import speed_results

from vidkd.base.files import write_json
from vidkd.bench.single_runs_page import benchmark_rows, single_runs_page
from vidkd.bench.speed.record import summary_of
from vidkd.bench.summary import Method, Metric, build_summary

BENCHMARK = "# vidkd benchmark made_up.yaml --data.root DIR\n# What the made-up models\n# cost.\nname: made_up\n"
RECIPE = "# vidkd compress --config small.yaml\nname: small\n"


def recipe_summary(name: str, pruned: float, config: str = RECIPE) -> dict[str, Any]:
    def method(ap50: float, macs: float) -> Method:
        values = {"ap50": ap50, "macs": macs, "bytes": macs / 10, "original_bytes": 4e5}
        return Method(metrics={key: Metric(values={"0/all": value}) for key, value in values.items()}, parameters=100)

    data = {"subset": "test", "student": "net.cfg", "main": "ap50", "config": config}
    methods = {"0_original": method(0.8, 4e6), "1_prune": method(pruned, 1e6)}
    return build_summary(name, data, {"processor": "An imaginary CPU", "torch": "2"}, methods, [], 90.0)


def test_nothing_is_said_without_a_kept_summary(tmp_path: Path) -> None:
    assert single_runs_page(tmp_path) == ""


def test_a_benchmark_has_a_row_for_each_model_the_baseline_first(tmp_path: Path) -> None:
    summary = summary_of(speed_results.results(), BENCHMARK)
    heads, original, *others = benchmark_rows(summary)
    assert heads[:6] == ("model", "against", "top1", "95 %", "difference", "95 %")
    assert original[:6] == ("original", "", "75.0", "[65.0, 85.0]", "", "")
    small = next(row for row in others if row[0] == "small")
    assert small[1:5] == ("original", "70.0", "[60.0, 80.0]", "-5.0")
    assert small[7:9] == ("0.250", "0.250 to 0.250")
    assert (original[6], original[7:9]) == ("22", ("", ""))  # 20 ms at the median pace of 1.1
    assert (original[-2:], small[-2:]) == (("100.0 M", "1,048,576"), ("", "1,048,576"))
    peer = next(row for row in others if row[0] == "peer")
    assert peer[1:6] == ("original", "", "", "", "")
    others = benchmark_rows(summary_of(speed_results.results(against={"peer": "small"})))
    assert [row[7] for row in others if row[:2] == ("peer", "small")] == ["20.000"]
    write_json(tmp_path / "benchmark" / "made_up.json", summary)
    page = single_runs_page(tmp_path)
    assert "`vidkd benchmark made_up.yaml --data.root DIR`\n\nWhat the made-up models cost.\n" in page
    assert "made_up_clips, 'test'; 5 rounds on An imaginary CPU, torch 2.13.0." in page
    assert "| original |  | 75.0 |" in page
    assert "# Recipes" not in page


def test_an_interval_that_is_not_known_is_left_empty() -> None:
    """As with fewer than five rounds."""
    summary = summary_of(speed_results.results(), BENCHMARK)
    for name in ("latency_ratio@b1t1", "end_to_end_ratio@b1t1"):
        summary["methods"]["small"]["metrics"][name]["ci95"] = None
    (small,) = [row for row in benchmark_rows(summary) if row[0] == "small"]
    assert small[7:9] == ("0.250", "")
    assert small[10:12] == ("0.500", "")


def test_seeds_of_a_recipe_stand_in_one_table(tmp_path: Path) -> None:
    for name, pruned in (("small", 0.5), ("small-seed1", 0.7)):
        write_json(tmp_path / "compress" / f"{name}.json", recipe_summary(name, pruned))
    write_json(tmp_path / "compress" / "other.json", recipe_summary("other", 0.6, RECIPE + "subset: test\n"))
    page = single_runs_page(tmp_path)
    assert page.count("\n## ") == 2
    assert "| 0_original | 80.0 | 80.0, 80.0 |  |  | 100 | 4.0 M | 400,000 | 1.0 x |" in page
    assert "| 1_prune | 60.0 | 50.0, 70.0 | -20.0 | - | 100 | 1.0 M | 100,000 | 4.0 x |" in page
    assert "| 1_prune | 60.0 | - |  |  | 100 | 1.0 M | 100,000 | 4.0 x |" in page
    assert "Seeds of the recipe, 1 (`--seed`). Student net.cfg, judged on 'test'; 3 min on An imaginary CPU." in page


def test_other_students_and_subsets_are_no_seeds_of_a_recipe(tmp_path: Path) -> None:
    for name, over in {"small": {}, "small-seed1": {}, "wide": {"student": "wide.cfg"}, "val": {"subset": "val"}}.items():
        summary = recipe_summary(name, 0.5)
        summary["data"] |= over
        write_json(tmp_path / "compress" / f"{name}.json", summary)
    page = single_runs_page(tmp_path)
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## small", "## val", "## wide"]
    assert page.count("80.0, 80.0") == 1
    assert "Student wide.cfg, judged on 'test'" in page


def test_an_interval_over_seeds_and_groups_needs_the_draws_of_every_seed(tmp_path: Path) -> None:
    """Two seeds lie .3 and .1 below the original in every draw: Student's interval of two values."""
    for name, pruned in (("small", 0.5), ("small-seed1", 0.7)):
        summary = recipe_summary(name, pruned)
        summary["data"]["draws"] = {"0_original": [0.8] * 400, "1_prune": [pruned] * 400}
        write_json(tmp_path / "compress" / f"{name}.json", summary)
    assert "| 1_prune | 60.0 | 50.0, 70.0 | -20.0 | [-147.1, +107.1] | 100" in single_runs_page(tmp_path)
    summary["data"]["draws"].pop("1_prune")
    write_json(tmp_path / "compress" / "small-seed1.json", summary)
    assert "| 1_prune | 60.0 | 50.0, 70.0 | -20.0 | - | 100" in single_runs_page(tmp_path)
