"""Ranges of activations that are kept: taken where all is the same, found anew and told where anything is not."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from street_runs import street_config, write_streets
from test_quantise import ThreeLayers, feeds, graph_of
from test_steps import recipe_of

from vidkd.base.files import read_json, write_json
from vidkd.compress import quantise as quantise_module
from vidkd.compress.classifier_subject import ClassifierSubject
from vidkd.compress.config import QuantiseConfig
from vidkd.compress.detector_subject import DetectorSubject
from vidkd.compress.quantise import quantise
from vidkd.compress.recipe import Recipe
from vidkd.compress.steps import run_recipe
from vidkd.detection.fit import fit_detector

MINMAX = QuantiseConfig(clips=3)
WRITTEN: list[dict[str, Any]] = [{"quantise": {"clips": 3}}, {"export": {"formats": ["onnx"]}}]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that ranges are looked for on samples."""
    looked: list[int] = []
    reader = quantise_module.Reader

    def counted(*arguments: Any, **settings: Any) -> Any:
        looked.append(1)
        return reader(*arguments, **settings)

    monkeypatch.setattr(quantise_module, "Reader", counted)
    return looked


@pytest.fixture(scope="module")
def graph() -> bytes:
    return graph_of(ThreeLayers(), torch.zeros(2, 3, 4, 8, 8))


@pytest.mark.parametrize("ranges", ["minmax", "percentile"])
def test_ranges_are_found_once(graph: bytes, tmp_path: Path, found: list[int], ranges: str) -> None:
    config = QuantiseConfig(clips=3, ranges=ranges)  # type: ignore[arg-type]
    first = quantise(graph, feeds(), config, ranges=tmp_path / "ranges.json")
    again = quantise(graph, feeds(), config, ranges=tmp_path / "ranges.json")
    assert again == first == quantise(graph, feeds(), config)
    assert len(found) == 2, "the last time they were not kept"


def damaged(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8")[:40], encoding="utf-8")


def changed(path: Path) -> None:
    content = read_json(path)
    write_json(path, {**content, "ranges": content["ranges"].replace("0", "1", 1)})


def emptied(path: Path) -> None:
    path.write_text("[]", encoding="utf-8")


@pytest.mark.parametrize(("harm", "told"), [(damaged, "not a JSON file"), (changed, "it is damaged"), (emptied, "it is no file of ranges")])
def test_a_damaged_file_is_told_and_found_anew(
    graph: bytes, tmp_path: Path, found: list[int], caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None], told: str
) -> None:
    path = tmp_path / "ranges.json"
    first = quantise(graph, feeds(), MINMAX, ranges=path)
    harm(path)
    with caplog.at_level(logging.WARNING, logger="vidkd"):
        assert quantise(graph, feeds(), MINMAX, ranges=path) == first
    said = [record.message for record in caplog.records if record.name.startswith("vidkd")]
    assert [text.startswith(f"ranges are found anew, not read from {path}: {told}") for text in said] == [True]
    assert len(found) == 2
    assert quantise(graph, feeds(), MINMAX, ranges=path) == first
    assert len(found) == 2, "it was replaced"


def test_ranges_of_anything_else_are_not_taken(graph: bytes, tmp_path: Path, found: list[int], caplog: pytest.LogCaptureFixture) -> None:
    path, net = tmp_path / "ranges.json", ThreeLayers()
    with torch.no_grad():
        net.fc.bias.add_(1)
    others = [
        (graph, feeds(), MINMAX),
        (graph, feeds(seed=1), MINMAX),
        (graph, feeds(), QuantiseConfig(clips=3, ranges="percentile")),
        (graph_of(net, torch.zeros(2, 3, 4, 8, 8)), feeds(), MINMAX),
    ]
    for count, other in enumerate(others, 1):
        quantise(*other, ranges=path)
        assert len(found) == count
    said = [record.message for record in caplog.records if record.name.startswith("vidkd")]
    assert [text.endswith("of another network, other samples or settings") for text in said] == [True] * 3


def test_dynamic_ranges_are_not_kept(graph: bytes, tmp_path: Path) -> None:
    quantise(graph, [], QuantiseConfig(kind="dynamic"), ranges=tmp_path / "ranges.json")
    assert not (tmp_path / "ranges.json").exists()


def stopped_and_resumed(recipe: Recipe, subject: Callable[[Recipe], Any], found: list[int]) -> None:
    """Do a recipe up to its export in one subject, and the rest in another."""
    outcomes = run_recipe(recipe, subject(recipe))
    assert [next(outcomes).name, next(outcomes).name] == ["0_original", "1_quantise"]
    outcomes.close()  # type: ignore[attr-defined]
    assert len(found) == 1
    _, integers, exported = run_recipe(recipe, subject(recipe))
    assert len(found) == 1
    assert integers.found_finished
    assert exported.content["metrics"] == integers.content["metrics"]


@pytest.mark.slow
def test_a_recipe_that_goes_on_behind_integers_finds_no_ranges(tiny_teacher: Path, tmp_path: Path, found: list[int]) -> None:
    stopped_and_resumed(recipe_of(tiny_teacher, tmp_path, WRITTEN), ClassifierSubject, found)


def test_a_recipe_of_a_detector_that_goes_on_behind_integers_finds_no_ranges(tmp_path: Path, found: list[int]) -> None:
    student = fit_detector(street_config(write_streets(tmp_path / "streets"), tmp_path / "runs"), quiet=True).folder
    stopped_and_resumed(recipe_of(student, tmp_path, WRITTEN, subset="val"), DetectorSubject, found)
