"""The numbers of a study, worked out again from its cells."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_samples import cell_content, cells_of, keys_of, make_study, pointed, summarise

from vidkd.base.errors import DataError
from vidkd.bench.clip_study import ClipStudy as Study
from vidkd.bench.clip_summary import SELECTED, as_cell, confusion, shared_rows
from vidkd.bench.intervals import bootstrap_ci, paired_difference

ACCURACIES = {"flow": 0.9, "rgb": 0.5, "attention": 0.7}
Found = dict[str, list[dict[str, Any]]]


def all_cells(study: Study, accuracies: dict[str, float] = ACCURACIES) -> Found:
    return {name: cells_of(study, name, share) for name, share in accuracies.items()}


def accuracy(cell: dict[str, Any]) -> float:
    rows = cell["predictions"]
    return float(np.mean([predicted == label for predicted, label in zip(rows["predicted"], rows["label"], strict=True)]))


def pairs_of(summary: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    found = {(pair["method"], pair["reference"], pair["metric"]): pair for pair in summary["paired"]}
    assert len(found) == len(summary["paired"]), "no comparison is there twice"
    return found


def test_means_and_differences_are_those_of_the_cells(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    found = all_cells(study)
    summary = summarise(study, found, "attention")
    means = {name: [accuracy(cell) for cell in cells] for name, cells in found.items()}
    for name, values in means.items():
        top1 = summary["methods"][name]["metrics"]["top1"]
        assert top1["mean"] == pytest.approx(np.mean(values))
        assert top1["values"] == pytest.approx(
            {f"{key.seed}/{key.place}": value for key, value in zip(keys_of(study, name), values, strict=True)}
        )
        assert top1["ci95"] == bootstrap_ci([as_cell(cell) for cell in found[name]]).ci95
        nll = summary["methods"][name]["metrics"]["nll"]
        assert (nll["mean"], nll["ci95"]) == (pytest.approx(np.mean([cell["metrics"]["nll"] for cell in found[name]])), None)
    pairs = pairs_of(summary)
    assert set(pairs) == {("flow", "rgb", "top1"), ("attention", "rgb", "top1"), ("attention", "flow", "top1")}
    for (method, against, _), pair in pairs.items():
        assert pair["difference"] == pytest.approx(np.mean(means[method]) - np.mean(means[against]))
        expected = paired_difference([as_cell(cell) for cell in found[method]], [as_cell(cell) for cell in found[against]])
        assert (pair["ci95"], pair["pairs"]) == (expected.ci95, 4)
    assert summary["seconds"] == 12 * 7.5
    assert summary["methods"]["rgb"]["train_seconds"] == 7.5
    assert summary["data"]["claim"] == "attention"
    assert summary["data"]["manifest"] == {"name": "sample", "sha256": "ab12"}
    found["rgb"][1]["inputs"] = {"manifest": "sample cd34"}
    with pytest.raises(DataError, match="different data"):
        summarise(study, found, "attention")
    assert summary["data"]["labels"] == {"flow": "flow teacher", "rgb": "plain RGB", "attention": "distilled"}


def test_an_unfinished_study_compares_the_cells_that_both_have(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    found = all_cells(study)
    found["attention"] = found["attention"][:3]
    found["rgb"] = found["rgb"][1:]
    pair = pairs_of(summarise(study, found, None))["attention", "rgb", "top1"]
    assert pair["pairs"] == 2
    both = [(found["attention"][place], found["rgb"][place - 1]) for place in (1, 2)]
    assert pair["difference"] == pytest.approx(np.mean([accuracy(here) - accuracy(there) for here, there in both]))
    found["rgb"] = found["rgb"][2:]
    assert set(pairs_of(summarise(study, found, None))) == {("flow", "rgb", "top1")}


def without_clips(cell: dict[str, Any], count: int) -> dict[str, Any]:
    """The cell of a model that cannot observe the first clips."""
    return {**cell, "predictions": {name: column[count:] for name, column in cell["predictions"].items()}}


def test_methods_that_observe_unlike_clips_are_compared_on_those_of_both(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    found = all_cells(study)
    whole = {name: list(cells) for name, cells in found.items()}
    found["rgb"] = [without_clips(cell, 3 if cell["place"] == "a" else 1) for cell in whole["rgb"]]
    found["attention"] = [without_clips(cell, 2) for cell in whole["attention"]]
    summary = summarise(study, found, None)
    pair = pairs_of(summary)["attention", "rgb", "top1"]
    apart = [max(2, 3 if cell["place"] == "a" else 1) for cell in whole["rgb"]]
    both = [
        accuracy(without_clips(here, count)) - accuracy(without_clips(there, count))
        for here, there, count in zip(whole["attention"], whole["rgb"], apart, strict=True)
    ]
    assert (pair["pairs"], pair["difference"]) == (4, pytest.approx(np.mean(both)))
    assert pair["ci95"][0] <= pair["difference"] <= pair["ci95"][1]
    own = summary["methods"]["rgb"]["metrics"]["top1"]["mean"]
    assert own == pytest.approx(np.mean([accuracy(cell) for cell in found["rgb"]])), "its own accuracy is of all that it observes"
    assert summary["data"]["remarks"] == [
        "flow teacher minus plain RGB: on the clips that both were judged on; 4 of 24 are left out",
        "distilled minus plain RGB: on the clips that both were judged on; 2 of 21 are left out",
    ]
    found["flow"] = [
        {**cell, "predictions": {**cell["predictions"], "clip": [f"of another {name}" for name in cell["predictions"]["clip"]]}}
        for cell in whole["flow"]
    ]
    with pytest.raises(DataError, match="no clip was judged by both sides of a comparison") as text:
        summarise(study, found, None)
    assert text.value.lines["methods"] == "flow, rgb"


def test_clips_of_one_file_are_paired_by_their_start_or_not_at_all() -> None:
    first = {"clip": ["a", "a", "a", "b"], "group": ["g"] * 4, "label": [0, 0, 1, 0], "start_s": [0.0, 2.0, 4.0, 0.0]}
    second = {name: column[1:] for name, column in first.items()}
    assert shared_rows(first, second) == ([1, 2, 3], [0, 1, 2])
    assert shared_rows(second, first) == ([0, 1, 2], [1, 2, 3])
    del second["start_s"]
    assert shared_rows(first, second) == ([2, 3], [1, 2]), "which of the two with label 0 is there is not known"
    assert shared_rows(first, {**first, "group": ["h"] * 4}) == ([], [])


SEEN = {"clips": 10, "unobservable": 0, "shortened": 0, "held": 0}


def count(cells: list[dict[str, Any]], **by_fold: dict[str, int]) -> None:
    for cell in cells:
        if cell["place"] in by_fold:
            cell["judged"] = {**SEEN, **by_fold[cell["place"]]}


def test_what_was_not_observed_is_said_once_for_all_folds_and_seeds(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    found = all_cells(study)
    assert "remarks" not in summarise(study, found, None)["data"], "older cells do not count"
    for cells in found.values():
        count(cells, a={"unobservable": 2}, b={"unobservable": 1, "shortened": 3})
    said = [
        "3 clips are not judged: nothing of them can be observed",
        "of 3 clips less than data.observe.observe_s was observed: their files begin later",
    ]
    summary = summarise(study, found, None)
    assert summary["data"]["remarks"] == said
    for cells in found.values():
        count(cells, a={}, b={})
    assert "remarks" not in summarise(study, found, None)["data"]


def test_remarks_name_the_methods_and_the_folds_that_they_are_of(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    found = all_cells(study)
    count(found["flow"], a={}, b={})
    count(found["rgb"], a={"held@obs10": 4, "held@obs100": 0}, b={"held@obs10": 1, "held@obs100": 1})
    count(found["attention"], a={"held@obs10": 4, "held@obs100": 0})
    repeat = "have fewer frames than the window: frames repeat"
    assert summarise(study, found, None)["data"]["remarks"] == [
        f"plain RGB: 5 of 20 clips at 10 % observed {repeat}",
        f"plain RGB: 1 of 20 clips at 100 % observed {repeat}",
        f"distilled: 4 of 10 clips at 10 % observed {repeat} (known of 1 of 2 folds)",
    ]


def test_top5_is_shown_where_all_cells_of_a_method_hold_it(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    found = all_cells(study)
    for name, cells in found.items():
        for number, cell in enumerate(cells):
            cell["metrics"] |= {"top5": 0.25 * number} if name == "flow" or (name == "rgb" and number != 1) else {}
    methods = summarise(study, found, None)["methods"]
    assert {name: "top5" in method["metrics"] for name, method in methods.items()} == {"flow": True, "rgb": False, "attention": False}
    assert methods["flow"]["metrics"]["top5"]["mean"] == pytest.approx(0.375)


def test_unlabelled_clips_are_not_judged(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    content = cell_content(study, keys_of(study, "rgb")[0], accuracy=0.5)
    content["predictions"] |= {"label": [-1, *content["predictions"]["label"][1:]]}
    cell = as_cell(content)
    assert len(cell.correct) == len(cell.group) == 11
    assert cell.value == pytest.approx(np.mean(np.equal(content["predictions"]["predicted"], content["predictions"]["label"])[1:]))


def test_confusions_of_all_cells_together(tmp_path: Path) -> None:
    """Who is wrong in `cell_content` takes the next class for the true one."""
    study = make_study(tmp_path)
    cells = [cell_content(study, key, accuracy=0.5) for key in keys_of(study, "rgb")[:2]]
    cells[0]["predictions"] |= {"label": [-1, *cells[0]["predictions"]["label"][1:]]}
    labels, predicted = (np.concatenate([cell["predictions"][name] for cell in cells])[1:] for name in ("label", "predicted"))
    counts = confusion(cells, 3)
    assert np.diag(counts).sum() == (labels == predicted).sum()
    assert [counts[k, (k + 1) % 3] for k in range(3)] == [((labels == k) & (predicted != k)).sum() for k in range(3)]
    assert counts.sum() == 23


def test_measures_of_each_clip_have_intervals_and_are_paired(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    found = all_cells(study)
    for name in ("flow", "attention"):
        for cell in found[name]:
            pointed(cell)
    summary = summarise(study, found, "attention")
    means = {name: np.mean([np.mean(cell["predictions"]["mass"]) for cell in found[name]]) for name in ("flow", "attention")}
    mass = summary["methods"]["flow"]["metrics"]["mass"]
    assert mass["mean"] == pytest.approx(means["flow"])
    assert mass["ci95"][0] < mass["mean"] < mass["ci95"][1]
    pairs = pairs_of(summary)
    assert pairs["attention", "flow", "mass"]["difference"] == pytest.approx(means["attention"] - means["flow"])
    assert ("attention", "rgb", "mass") not in pairs, "the reference has no map"


CONDITIONS = {
    f"{name}{share}": {"shown_as": name, "condition": f"labels{share}", "label": label, "settings": {"data.label_fraction": share / 100}}
    for name, label in (("rgb", "plain RGB"), ("kd", "taught"), ("other", "control"))
    for share in (10, 50)
}


def test_conditions_are_compared_with_the_same_condition(tmp_path: Path) -> None:
    study = make_study(tmp_path, methods=CONDITIONS)
    shares = {"rgb10": 0.2, "rgb50": 0.5, "kd10": 0.4, "kd50": 0.9, "other10": 0.1, "other50": 0.6}
    found = all_cells(study, shares)
    summary = summarise(study, found, "kd10")
    assert set(summary["methods"]) == {"rgb", "kd", "other"}
    assert {metric for metric in summary["methods"]["kd"]["metrics"] if "top1" in metric} == {"top1@labels10", "top1@labels50"}
    pairs = pairs_of(summary)
    expected = {(name, "rgb") for name in ("kd", "other")} | {("kd", "other")}
    assert set(pairs) == {(*names, f"top1@labels{share}") for names in expected for share in (10, 50)}
    for (method, against, metric), pair in pairs.items():
        share = metric.removeprefix("top1@labels")
        mean, other = (np.mean([accuracy(cell) for cell in found[f"{name}{share}"]]) for name in (method, against))
        assert pair["difference"] == pytest.approx(mean - other)
    assert summary["data"]["claim"] == "kd"


def test_conditions_have_seconds_and_parameters_of_their_own(tmp_path: Path) -> None:
    """The method tells the mean over all of them, and no number of parameters that is not the same under all."""
    study = make_study(tmp_path, methods=CONDITIONS)
    found = all_cells(study, {"rgb10": 0.2, "rgb50": 0.5, "kd10": 0.4, "kd50": 0.9})
    for name, cells in found.items():
        for number, cell in enumerate(cells):
            cell["train_seconds"] = (10.0 if name.endswith("10") else 50.0) + number
            cell["parameters"] = 600 if name == "kd50" else 1000
    summary = summarise(study, found, None)
    kd, rgb = summary["methods"]["kd"], summary["methods"]["rgb"]
    assert [kd["metrics"][f"train_s@labels{share}"]["mean"] for share in (10, 50)] == [11.5, 51.5]
    assert kd["metrics"]["train_s@labels50"]["values"] == {"0/a": 50.0, "0/b": 51.0, "1/a": 52.0, "1/b": 53.0}
    assert [kd["metrics"][f"parameters@labels{share}"]["mean"] for share in (10, 50)] == [1000, 600]
    assert (kd["train_seconds"], kd["parameters"], rgb["parameters"]) == (31.5, None, 1000)
    assert "train_s" not in summarise(make_study(tmp_path), all_cells(make_study(tmp_path)), None)["methods"]["rgb"]["metrics"]


def test_where_folds_chose_unlike_claims_each_is_judged_by_its_own(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    found = all_cells(study)
    cells = {cell["cell"]: cell for of_method in found.values() for cell in of_method}
    summary = study.summarise(cells, {"a": "attention", "b": "flow"})
    assert summary["data"]["claim"] == SELECTED
    values = {
        f"{cell['seed']}/{cell['place']}": accuracy(cell)
        for cell in cells.values()
        if (cell["method"], cell["place"]) in {("attention", "a"), ("flow", "b")}
    }
    assert summary["methods"][SELECTED]["metrics"]["top1"]["values"] == pytest.approx(values)
    assert {("selected", "rgb", "top1"), ("selected", "flow", "top1"), ("selected", "attention", "top1")} <= set(pairs_of(summary))
    assert summary["seconds"] == 12 * 7.5, "no cell is counted twice"
