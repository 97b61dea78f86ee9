"""Choosing each method's settings on validation groups, before the test split is read."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidkd.base.errors import ConfigError
from vidkd.base.files import read_json, write_json
from vidkd.bench.cells import Places, run_cells
from vidkd.bench.study import CellKey, MethodSpec, Study, waves, with_teachers

log = logging.getLogger(__name__)
METRIC = "top1"


def tune(study: Study, places: Places, workers: int) -> dict[str, Any]:
    """Judge every trial of every method on the validation groups and write results/<study>/chosen.json.

    The best trial has the highest mean top-1 over tuning seeds and folds, ties going to the lower mean negative log-likelihood.
    Teachers are chosen first; students then learn from the chosen trial of the same seed and fold. A teacher without trials is trained as
    it stands.
    """
    chosen: dict[str, dict[str, Any]] = {}
    methods: dict[str, Any] = {}
    needed = with_teachers(study.spec, [name for name, method in study.spec.methods.items() if method.trials])
    for wave in waves(study.spec):
        keys = [key for name in wave if name in needed for key in _trial_keys(study, name)]
        cells = dict(run_cells(study, "tune", keys, places, chosen, workers))
        for name in (name for name in wave if study.spec.methods[name].trials):
            methods[name] = _choose(study.spec.methods[name], {key: cell for key, cell in cells.items() if key.method == name})
            chosen[name] = methods[name]["settings"]
            log.info(
                "%s: trial %d of %d, %s %.3f",
                name,
                methods[name]["trial"],
                len(study.spec.methods[name].trials),
                METRIC,
                methods[name]["mean"],
            )
    candidates = [name for name in methods if study.spec.methods[name].claim]
    content = {
        "study": study.spec.study,
        "metric": METRIC,
        "tuning": {
            "seeds": study.spec.tuning.seeds,
            "folds": study.spec.folds,
            "validation_fraction": study.spec.tuning.validation_fraction,
        },
        "claim": max(candidates, key=lambda name: methods[name]["mean"]) if candidates else None,
        "methods": methods,
    }
    write_json(places.results / "chosen.json", content)
    return content


def _trial_keys(study: Study, name: str) -> list[CellKey]:
    spec = study.spec
    numbers = range(len(spec.methods[name].trials)) if spec.methods[name].trials else [-1]
    return [CellKey(name, number, seed, fold) for number in numbers for seed in spec.tuning.seeds for fold in spec.folds]


def _choose(method: MethodSpec, cells: Mapping[CellKey, Mapping[str, Any]]) -> dict[str, Any]:
    trials: list[dict[str, Any]] = []
    for number, settings in enumerate(method.trials):
        of_trial = {key: cell["metrics"] for key, cell in cells.items() if key.trial == number}
        mean = float(np.mean([metrics[METRIC] for metrics in of_trial.values()]))
        nll = float(np.mean([metrics["nll"] for metrics in of_trial.values()]))
        values = {f"{key.seed}/{key.fold}": metrics[METRIC] for key, metrics in sorted(of_trial.items())}
        trials.append({"settings": settings, "mean": round(mean, 6), "nll": round(nll, 6), "values": values})
    best = min(range(len(trials)), key=lambda number: (-trials[number]["mean"], trials[number]["nll"]))
    return {"trial": best, "settings": trials[best]["settings"], "mean": trials[best]["mean"], "trials": trials}


def read_chosen(study: Study, places: Places) -> dict[str, Any]:
    """What tuning chose, here or in the study of `chosen_from`; without trials nothing needs choosing.

    Of another study's choice only the methods that this one has are taken. Raises ConfigError if tuning has not been done.
    """
    origin = study.spec.chosen_from
    path = (places.results if origin is None else places.results.parent / origin) / "chosen.json"
    if path.exists():
        content: dict[str, Any] = read_json(path)
        methods = {name: choice for name, choice in content["methods"].items() if name in study.spec.methods}
        return {**content, "methods": methods, "claim": content["claim"] if content["claim"] in methods else None}
    if study.spec.tuned or origin is not None:
        tuned = study.path if origin is None else study.path.with_name(f"{origin}.yaml")
        raise ConfigError(f"{path} is missing: settings are chosen from trials first", to_mend=f"vidkd compare {tuned} --phase tune")
    return {"methods": {}, "claim": None}


def chosen_settings(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Chosen settings by method."""
    return {name: dict(method["settings"]) for name, method in content["methods"].items()}
