"""What a recipe of compression found, in the schema of all studies and as a table: each step against the student before any."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidkd.bench.clip_study import COSTS
from vidkd.bench.clip_summary import as_cell
from vidkd.bench.intervals import Cell, bootstrap_ci, paired_difference
from vidkd.bench.speed.draws import frame_draws, metric_interval, recall_draws
from vidkd.bench.summary import Method, Metric, Paired, build_summary
from vidkd.bench.tables import Rows, interval, percent
from vidkd.compress.recipe import Recipe
from vidkd.compress.steps import ORIGINAL, Outcome
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.evaluate import DetectorJudgement, RecallJudgement

CELL = "0/all"
RECIPE_COSTS = (*COSTS, "original_bytes")
GROUPS_ALONE = "95 % intervals are over test groups; they do not hold the noise of training, which takes several seeds."


def compression_summary(recipe: Recipe, outcomes: Sequence[Outcome], main: str) -> dict[str, Any]:
    """summary.json of a recipe: metrics and costs of every step (of several files of each), paired differences with the original.

    Intervals are over the groups of clips or frames alone; a metric without rows of single clips or draws has none. Draws stand in `data`,
    and under `parity` how near each file of a step is to the network that it was exported from.
    """
    first = outcomes[0].content
    rows = {name: content for outcome in outcomes for name, content in outcome.rows.items()}
    cells = {name: _cell(content) for name, content in rows.items()}
    original = cells[ORIGINAL]
    paired = []
    for name, cell in cells.items():
        if name != ORIGINAL and cell is not None and original is not None:
            found = paired_difference([cell], [original], over=("groups",))
            paired.append(Paired(method=name, reference=ORIGINAL, metric=main, difference=found.mean, ci95=found.ci95, pairs=1))
    draws = {name: content["draws"] for name, content in rows.items() if content.get("draws")}
    parity = {outcome.name: near for outcome in outcomes if (near := outcome.content["notes"].get("parity"))}
    paired += _paired_draws({name: content["metrics"] for name, content in rows.items()}, draws, main)
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
        first["environment"],
        {name: _method(content, cells[name], main) for name, content in rows.items()},
        paired,
        round(sum(outcome.content["seconds"] for outcome in outcomes), 1),
    )


def _paired_draws(metrics: Mapping[str, Mapping[str, float]], draws: Mapping[str, Sequence[float]], main: str) -> list[Paired]:
    """Differences with the original, draw by draw."""
    paired = []
    for name, values in draws.items():
        if name != ORIGINAL and len(values) == len(draws.get(ORIGINAL, ())):
            bounds = metric_interval(main, np.subtract(values, draws[ORIGINAL]), signed=True)
            difference = metrics[name][main] - metrics[ORIGINAL][main]
            paired.append(Paired(method=name, reference=ORIGINAL, metric=main, difference=difference, ci95=bounds, pairs=1))
    return paired


def box_draws(judgement: DetectorJudgement | RecallJudgement, truth: BoxManifest) -> list[float]:
    """AP50, or the recall at IoU 0.5, in draws of groups of frames; none with one group."""
    if isinstance(judgement, RecallJudgement):
        return [float(value) for value in recall_draws(judgement, truth).get("recall50", ())]
    return [float(value) for value in frame_draws(judgement, truth).get("ap50", ())]


def _method(content: Mapping[str, Any], cell: Cell | None, main: str) -> Method:
    metrics = {name: Metric(values={CELL: value}) for name, value in content["metrics"].items()}
    if main in metrics:
        metrics[main] = Metric(values={CELL: content["metrics"][main] if cell is None else cell.mean}, ci95=interval_of(content))
    metrics |= {name: Metric(values={CELL: float(content[name])}) for name in RECIPE_COSTS if name in content}
    return Method(metrics=metrics, train_seconds=content["notes"].get("train_seconds"), parameters=content["parameters"])


def _cell(content: Mapping[str, Any]) -> Cell | None:
    """The clips that a step was judged on; None where only metrics are known."""
    if "label" not in (content.get("predictions") or {}):
        return None
    return as_cell({**content, "seed": 0, "place": "all"})


def interval_of(content: Mapping[str, Any]) -> tuple[float, float] | None:
    """The 95 % interval of a step's main metric over the groups of clips or frames; None where only metrics are known, or of one group."""
    if content.get("draws"):
        return metric_interval("share", np.asarray(content["draws"], np.float64))
    cell = _cell(content)
    return None if cell is None else bootstrap_ci([cell], over=("groups",)).ci95


def compression_rows(summary: Mapping[str, Any], main: str) -> Rows:
    """A row for each step: the main metric, its difference to the original, parameters, MACs, bytes and how many times less these are.

    Less than those of the original in the same form: weights, or a file in float; empty in results that do not tell it.
    """
    methods = summary["methods"]
    against = {pair["method"]: pair for pair in summary["paired"]}
    costs = {
        name: {cost: method["metrics"][cost]["mean"] for cost in RECIPE_COSTS if cost in method["metrics"]}
        for name, method in methods.items()
    }
    rows: Rows = [("step", main, "95 %", "- original", "95 %", "parameters", "MACs", "bytes", "smaller")]
    for name, method in methods.items():
        found, pair, cost = method["metrics"].get(main), against.get(name), costs[name]
        difference = (f"{100 * pair['difference']:+.1f}", interval(pair["ci95"], signed=True)) if pair else ("", "")
        size = cost["bytes"]
        rows.append(
            (
                name,
                percent(found["mean"]) if found else "",
                interval(found["ci95"]) if found else "",
                *difference,
                f"{method['parameters']:,}",
                f"{cost['macs'] / 1e6:,.1f} M",
                f"{size:,.0f}",
                f"{cost['original_bytes'] / size:.1f} x" if "original_bytes" in cost else "",
            )
        )
    return rows
