"""How far an exported file may be from its network in a recipe: a key of the step, which the error names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from street_runs import street_config, write_streets
from test_steps import do, recipe_of

from vidkd.base.errors import ConfigError
from vidkd.compress.detector import DetectorSubject
from vidkd.compress.recipe import Recipe
from vidkd.compress.steps import Outcome, run_recipe
from vidkd.detection.fit import fit_detector

NONE = 1e-12
"""Less than any file of float32 is from its network."""


def do_detector(recipe: Recipe) -> list[Outcome]:
    return list(run_recipe(recipe, DetectorSubject(recipe)))


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    streets = write_streets(tmp_path_factory.mktemp("streets"))
    return fit_detector(street_config(streets, tmp_path_factory.mktemp("runs")), quiet=True).folder


def goes_on(do: Callable[[Recipe], list[Outcome]], student: Path, runs: Path) -> None:
    """A file beyond the tolerance is refused and none is left; with a larger one the same recipe goes on behind its finished steps."""

    def recipe(tolerance: float) -> Recipe:
        steps: list[dict[str, Any]] = [{"factorise": {"ratio": 0.6}}, {"export": {"formats": ["onnx"], "tolerance": tolerance}}]
        return recipe_of(student, runs, steps, subset="val")

    with pytest.raises(ConfigError, match=r"does not say what the network says: model\.onnx") as told:
        do(recipe(NONE))
    assert told.value.lines["allowed"].startswith("1e-12 of ")
    assert told.value.lines["fix"] == "tolerance: X in the step `export`, if so much does not matter"
    assert [path.name for path in (runs / "small" / "2_export").iterdir()] == ["chain.json"]
    assert [outcome.found_finished for outcome in do(recipe(1e-2))] == [True, True, False]


@pytest.mark.slow
def test_a_classifier_beyond_the_tolerance_is_no_dead_end(tiny_teacher: Path, tmp_path: Path) -> None:
    goes_on(do, tiny_teacher, tmp_path)


def test_a_detector_beyond_the_tolerance_is_no_dead_end(detector: Path, tmp_path: Path) -> None:
    goes_on(do_detector, detector, tmp_path)


def test_files_in_integers_are_held_to_no_tolerance(tiny_teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"2_export: files in integers are held to no tolerance(.|\n)*leave out tolerance"):
        do(recipe_of(tiny_teacher, tmp_path, [{"quantise": {}}, {"export": {"tolerance": 1e-3}}]))
    assert not (tmp_path / "small").exists()
