"""The cell of a study whose method makes the run of another smaller."""

from pathlib import Path
from typing import Any, Literal

from vidkd.base.settings import merge
from vidkd.bench.study import CellKey, Chosen, Phase, Study, settings_of_trial, source_cell
from vidkd.compress.classifier import ClassifierSubject
from vidkd.compress.recipe import Recipe, parse_steps
from vidkd.compress.steps import run_recipe

COSTS = ("macs", "bytes")
"""What a compressed cell's metrics tell beside how well it does."""


def compressed_cell(
    study: Study, phase: Phase, key: CellKey, runs: Path, chosen: Chosen, *, subset: Literal["val", "test"], quiet: bool
) -> dict[str, Any]:
    """Do the method's steps to the run of the same seed and fold; what the last of them came to, and the training of all repairs.

    What the steps draw (filters at random, clips for ranges, batches of repairs) they draw by the cell's seed, whatever the steps say.
    Finished steps are found in the folder of the cell. Raises ConfigError as `parse_steps` does, and what the steps raise.
    """
    method, folder = study.spec.methods[key.method], runs / study.spec.study / phase
    recipe = Recipe(
        student=str(folder / str(source_cell(study, key, phase, chosen))),
        steps=parse_steps(method.steps, f"{study.path}: methods.{key.method}") if method.steps else (),
        name=str(key),
        runs=str(folder),
        subset=subset,
        settings=merge(merge({}, method.settings), settings_of_trial(study, key, chosen)),
    ).seeded(key.seed)
    outcomes = list(run_recipe(recipe, ClassifierSubject(recipe, study.overrides, quiet=quiet)))
    last, notes = outcomes[-1].content, [outcome.content["notes"] for outcome in outcomes]
    return {
        "steps": sum(note.get("steps", 0) for note in notes),
        "parameters": last["parameters"],
        "train_seconds": round(sum(note.get("train_seconds", 0.0) for note in notes), 2),
        "counts": last["counts"],
        "metrics": {**last["metrics"], **{name: last[name] for name in COSTS if name in last}},
        "predictions": last["predictions"],
    }
