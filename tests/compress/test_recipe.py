"""Recipes as they are written: kinds, settings, order, and prunings in several steps."""

from pathlib import Path
from typing import Any

import pytest

from vidkd.base.errors import ConfigError
from vidkd.compress.config import ExportConfig, FactoriseConfig, PruneConfig, QuantiseConfig, RepairConfig
from vidkd.compress.recipe import parse_steps, read_recipe


def test_steps_are_read_with_their_settings() -> None:
    written = [
        {"prune": {"ratio": 0.3, "exclude": ["fc"]}},
        {"repair": {"train.epochs": 2, "optim": {"lr": 0.1}}},
        {"factorise": {"macs": 0.7, "method": "any"}},
        {"quantise": None},
        {"export": {"formats": ["onnx", "xml"]}},
    ]
    steps = parse_steps(written, "r.yaml")
    assert [step.name for step in steps] == ["1_prune", "2_repair", "3_factorise", "4_quantise", "5_export"]
    assert [step.settings for step in steps] == [
        PruneConfig(ratio=0.3, exclude=("fc",)),
        RepairConfig(settings={"train": {"epochs": 2}, "optim": {"lr": 0.1}}),
        FactoriseConfig(macs=0.7, method="any"),
        QuantiseConfig(),
        ExportConfig(formats=("onnx", "xml")),
    ]


def test_a_pruning_in_several_steps_is_repaired_after_each() -> None:
    steps = parse_steps([{"prune": {"ratio": 0.6, "steps": 3}}, {"repair": {"train.epochs": 1}}, {"quantise": {}}], "r.yaml")
    parts = [("1_prune", 1), ("2_repair", 1), ("3_prune", 2), ("4_repair", 1), ("5_prune", 3), ("6_repair", 1), ("7_quantise", 1)]
    assert [(step.name, step.part) for step in steps] == parts
    config, left = PruneConfig(ratio=0.6, steps=3), 1.0
    for step in (1, 2, 3):
        left *= 1 - config.share(step)
        assert left == pytest.approx(1 - 0.2 * step)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ([], "a recipe needs at least one step"),
        ([{"prun": {}}], "unknown step 'prun'"),
        (["prune"], "a step is one kind with its settings"),
        ([{"prune": {}, "repair": {}}], "a step is one kind with its settings"),
        ([{"prune": {"ratoi": 0.5}}], "unknown setting 'ratoi'"),
        ([{"prune": {"ratio": 1.5}}], "expected : a number above 0 below 1"),
        ([{"prune": {"criterion": "l3"}}], "expected : one of l1, l2, norm_scale, taylor, random"),
        ([{"prune": 0.5}], "holds settings by name"),
        ([{"factorise": {"macs": 0.5, "energy": 0.9}}], "either energy or macs"),
        ([{"factorise": {"macs": 1}}], "macs"),
        ([{"prune": {"steps": 2}}], "no repair follows it"),
        ([{"prune": {"steps": 2}}, {"quantise": {}}], "no repair follows it"),
        ([{"quantise": {}}, {"repair": {}}], "after `quantise` a network can only be exported"),
        ([{"refit": {"ridge": 0}}], "expected : a number above 0"),
        ([{"distil": {"frames": 0}}], "expected : a whole number from 1 on"),
        ([{"export": {"tolerance": float("inf")}}], "tolerance"),
        ([{"export": {"formats": ["h5"]}}], "expected : a list of one of onnx, xml, pt2, darknet"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(written: list[Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as error:
        parse_steps(written, "r.yaml")
    assert "r.yaml" in str(error.value)


def test_the_command_line_stands_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("student: runs/a\nsteps: [{prune: {}}]\n")
    recipe = read_recipe(path)
    assert (recipe.student, recipe.name, recipe.folder, recipe.subset) == ("runs/a", "small", Path("runs/small"), "test")
    recipe = read_recipe(path, student="runs/b", name="c", runs=str(tmp_path))
    assert (recipe.student, recipe.folder) == ("runs/b", tmp_path / "c")
    path.write_text("steps: [{prune: {}}]\n")
    with pytest.raises(ConfigError, match="no student to compress"):
        read_recipe(path)


def test_a_seed_is_that_of_all_that_the_steps_draw(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    steps = "[{prune: {seed: 5}}, {repair: {train: {epochs: 2, seed: 1}}}, {distil: {}}, {factorise: {macs: 0.5}}, {quantise: {}}]"
    path.write_text(f"student: a\nsteps: {steps}\n")
    recipe = read_recipe(path, seed=3)
    assert recipe.folder == Path("runs/small-seed3")
    prune, repair, distil, factorise, quantise = (step.settings for step in recipe.steps)
    assert [each.seed for each in (prune, distil, quantise)] == [3, 3, 3]
    assert repair.settings == {"train": {"epochs": 2, "seed": 3}}
    assert factorise == read_recipe(path).steps[3].settings
    assert read_recipe(path).steps[0].settings.seed == 5
    assert read_recipe(path, seed=3, name="other").name == "other"


def test_files_are_found_below_the_roots_first(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("student: net.cfg\nsteps: [{prune: {}}]\n")
    (tmp_path / "net.cfg").touch()
    assert read_recipe(path, roots=[tmp_path]).found("net.cfg") == tmp_path / "net.cfg"
    with pytest.raises(ConfigError, match=rf"(?s)not there: none.cfg.*{path}.*--data.root DIR"):
        read_recipe(path, roots=[tmp_path]).found("none.cfg")
