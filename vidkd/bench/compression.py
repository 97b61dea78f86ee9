"""What a recipe of compression found, in the schema of all studies: each step compared with the student before any."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidkd.bench.clip_study import COSTS
from vidkd.bench.clip_summary import as_cell
from vidkd.bench.draws import frame_draws, metric_interval
from vidkd.bench.intervals import Cell, bootstrap_ci, paired_difference
from vidkd.bench.summary import Bounds, Method, Metric, Paired, build_summary
from vidkd.compress.recipe import Recipe
from vidkd.compress.steps import ORIGINAL, Outcome
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.evaluate import BoxJudgement

CELL = "0/all"
RECIPE_COSTS = (*COSTS, "original_bytes")
GROUPS_ALONE = "95 % intervals are over test groups; they do not hold the noise of training, which takes several seeds."


def compression_summary(recipe: Recipe, outcomes: Sequence[Outcome], main: str) -> dict[str, Any]:
    """summary.json of a recipe: metrics and costs of every step (of several files of each), paired differences with the original.

    Intervals are over the groups of clips or frames only; a metric without rows of single clips or draws has none. Draws are in `data`,
    and under `parity` how near each file of a step is to the network that it was exported from.
    """
    rows = {name: content for outcome in outcomes for name, content in outcome.rows.items()}
    paired = []
    for name in rows:
        if name != ORIGINAL and (found := _difference(rows[name], rows[ORIGINAL], main)):
            difference, bounds = found
            paired.append(Paired(method=name, reference=ORIGINAL, metric=main, difference=difference, ci95=bounds, pairs=1))
    draws = {name: content["draws"] for name, content in rows.items() if content.get("draws")}
    parity = {outcome.name: near for outcome in outcomes if (near := outcome.content["notes"].get("parity"))}
    return build_summary(
        recipe.name,
        {
            "subset": recipe.subset,
            "student": recipe.student,
            "reference": ORIGINAL,
            "main": main,
            "note": GROUPS_ALONE,
            "config": recipe.path.read_text(encoding="utf-8") if recipe.path is not None else "",
            **({"draws": draws} if draws else {}),
            **({"parity": parity} if parity else {}),
        },
        outcomes[0].content["environment"],
        {name: _method(content, main) for name, content in rows.items()},
        paired,
        round(sum(outcome.content["seconds"] for outcome in outcomes), 1),
    )


def _difference(content: Mapping[str, Any], original: Mapping[str, Any], main: str) -> tuple[float, Bounds] | None:
    """A step minus the original, by clips or draw by draw; None where neither is known of both."""
    cell, base = _cell(content), _cell(original)
    if cell is not None and base is not None:
        found = paired_difference([cell], [base], over=("groups",))
        return found.mean, found.ci95
    drawn, of_base = content.get("draws", ()), original.get("draws", ())
    if not drawn or len(drawn) != len(of_base):
        return None
    bounds = metric_interval(main, np.subtract(drawn, of_base), signed=True)
    return content["metrics"][main] - original["metrics"][main], bounds


def box_draws(judgement: BoxJudgement, truth: BoxManifest) -> list[float]:
    """AP50, or the recall at IoU 0.5, in draws of groups of frames; none with one group."""
    return [float(value) for value in next(iter(frame_draws(judgement, truth).values()), ())]


def _method(content: Mapping[str, Any], main: str) -> Method:
    metrics = {name: Metric(values={CELL: value}) for name, value in content["metrics"].items()}
    if main in metrics:
        cell = _cell(content)
        metrics[main] = Metric(values={CELL: content["metrics"][main] if cell is None else cell.value}, ci95=interval_of(content))
    metrics |= {name: Metric(values={CELL: float(content[name])}) for name in RECIPE_COSTS if name in content}
    return Method(metrics=metrics, train_seconds=content["notes"].get("train_seconds"), parameters=content["parameters"])


def _cell(content: Mapping[str, Any]) -> Cell | None:
    """The clips that a step was judged on; None where only metrics are known."""
    if "label" not in (content.get("predictions") or {}):
        return None
    return as_cell({**content, "seed": 0, "place": "all"})


def interval_of(content: Mapping[str, Any]) -> Bounds:
    """The 95 % interval of a step's main metric over the groups of clips or frames; None where only metrics are known, or of one group."""
    if content.get("draws"):
        return metric_interval("share", np.asarray(content["draws"], np.float64))
    cell = _cell(content)
    return None if cell is None else bootstrap_ci([cell], over=("groups",)).ci95
