"""Choosing each method's settings on validation groups, before the test split is read: for each fold from its own cells."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vidkd.base.errors import ConfigError
from vidkd.base.files import read_json, write_json
from vidkd.bench.cells import Places, run_cells
from vidkd.bench.observed import ACCURACY, clip_scores, mean_name, percents_of
from vidkd.bench.study import CellKey, Study, read_study, waves, with_teachers

log = logging.getLogger(__name__)


def tune(study: Study, places: Places, workers: int) -> dict[str, Any]:
    """Judge every trial of every method on the validation groups and write results/<study>/chosen.json.

    A fold's settings are the trial with the highest mean score over the tuning seeds on this fold alone, ties going to the lower mean
    negative log-likelihood: what another fold validates on may be what this one tests on. The score is top-1, or its mean over the observed
    fractions that the study shows. Teachers are chosen first; students then learn from the trial chosen for their fold. A teacher without
    trials is trained as it stands. The claim is the candidate whose chosen trials have the highest mean over folds, ties going to the lower
    mean negative log-likelihood. A file that chose the same settings from the same scores stands as it is, its claim too: test cells may
    have been looked at since it was written.
    """
    methods: dict[str, Any] = {}
    metric = _metric(study)
    needed = with_teachers(study.spec, [name for name, method in study.spec.methods.items() if method.trials])
    for wave in waves(study.spec):
        keys = [key for name in wave if name in needed for key in _trial_keys(study, name)]
        cells = dict(run_cells(study, "tune", keys, places, chosen_settings({"methods": methods}), workers))
        for name in (name for name in wave if study.spec.methods[name].trials):
            methods[name] = _choose(study, name, cells)
            for fold, choice in methods[name]["folds"].items():
                log.info("%s, %s: trial %d, %s %.3f", name, fold, choice["trial"], metric, choice["mean"])
    candidates = [name for name in methods if study.spec.methods[name].claim]
    content = {
        "study": study.spec.study,
        "metric": metric,
        "tuning": {
            "seeds": study.spec.tuning.seeds,
            "folds": study.spec.folds,
            "validation_fraction": study.spec.tuning.validation_fraction,
        },
        "claim": min(candidates, key=lambda name: _rank(methods[name])) if candidates else None,
        "methods": methods,
    }
    path = places.results / "chosen.json"
    written: dict[str, Any] | None = read_json(path) if path.exists() else None
    if written is not None and _settled(written) == _settled(content):
        return written
    write_json(path, content)
    return content


def _settled(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a choice rests on, without the claim that follows from it. Older files, whose ties went by order, have no "nll" of a fold."""
    methods = {
        name: {**method, "folds": {fold: {**choice, "nll": None} for fold, choice in method["folds"].items()}}
        for name, method in content["methods"].items()
    }
    return {**content, "methods": methods, "claim": None}


def _trial_keys(study: Study, name: str) -> list[CellKey]:
    spec = study.spec
    numbers = range(len(spec.methods[name].trials)) if spec.methods[name].trials else [-1]
    return [CellKey(name, number, seed, fold) for number in numbers for seed in spec.tuning.seeds for fold in spec.folds]


def _choose(study: Study, name: str, cells: Mapping[CellKey, Mapping[str, Any]]) -> dict[str, Any]:
    """The choice of each fold, and what all trials reached."""
    trials = study.spec.methods[name].trials
    metric = _metric(study)
    found = [
        {key: _scores(cell, metric) for key, cell in sorted(cells.items()) if (key.method, key.trial) == (name, n)}
        for n in range(len(trials))
    ]
    folds = {}
    for fold in study.spec.folds:
        scores = [_mean([of_cell for key, of_cell in of_trial.items() if key.fold == fold]) for of_trial in found]
        best = min(range(len(trials)), key=lambda number: (-scores[number]["mean"], scores[number]["nll"]))
        folds[fold] = {"trial": best, "settings": trials[best], **scores[best]}
    rows = [
        {
            "settings": settings,
            **_mean(list(of_trial.values())),
            "values": {f"{key.seed}/{key.fold}": of_cell["score"] for key, of_cell in of_trial.items()},
        }
        for settings, of_trial in zip(trials, found, strict=True)
    ]
    return {"folds": folds, "trials": rows}


def _metric(study: Study) -> str:
    """What trials are chosen by."""
    return mean_name(study.spec.fractions_shown) if study.spec.fractions_shown else ACCURACY


def _scores(cell: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Score and negative log-likelihood of a cell. A method that sees whole clips has no observed fractions: its score is plain top-1."""
    observed = metric != ACCURACY and percents_of(cell["predictions"])
    score = float(clip_scores(cell["predictions"], metric).mean()) if observed else cell["metrics"][ACCURACY]
    return {"score": score, "nll": cell["metrics"]["nll"]}


def _mean(cells: list[Mapping[str, float]]) -> dict[str, float]:
    return {
        "mean": round(float(np.mean([cell["score"] for cell in cells])), 6),
        "nll": round(float(np.mean([cell["nll"] for cell in cells])), 6),
    }


def _rank(choice: Mapping[str, Any]) -> tuple[float, float]:
    """Less is better: means over folds of the score, negated, and of the negative log-likelihood, to the six digits that are kept."""
    mean, nll = (float(np.mean([fold[key] for fold in choice["folds"].values()])) for key in ("mean", "nll"))
    return -round(mean, 6), round(nll, 6)


def read_chosen(study: Study, places: Places) -> dict[str, Any]:
    """What tuning chose, here or in the study of `chosen_from`; without trials nothing needs choosing.

    Another study has other folds: of each method that this one has too, all folds get the trial that was chosen there on most folds, ties
    going to the better mean over all of that study's folds. Raises ConfigError if tuning has not been done, or was done with other trials
    or folds than the study (that of `chosen_from`, where its file lies beside this one) has now.
    """
    origin = study.spec.chosen_from
    path = (places.results if origin is None else places.results.parent / origin) / "chosen.json"
    if path.exists():
        content: dict[str, Any] = read_json(path)
        tuned_by = study if origin is None else _study_beside(study, origin)
        if tuned_by is not None:
            _check_choice(tuned_by, content["methods"], path)
        methods = {name: choice for name, choice in content["methods"].items() if name in study.spec.methods}
        if origin is not None:
            methods = {name: _carried(choice, study.spec.folds) for name, choice in methods.items()}
        return {**content, "methods": methods, "claim": content["claim"] if content["claim"] in methods else None}
    if study.spec.tuned or origin is not None:
        tuned = study.path if origin is None else study.path.with_name(f"{origin}.yaml")
        raise ConfigError(f"{path} is missing: settings are chosen from trials first", hint=f"vidkd compare {tuned} --phase tune")
    return {"methods": {}, "claim": None}


def _study_beside(study: Study, name: str) -> Study | None:
    path = study.path.with_name(f"{name}.yaml")
    return read_study(path) if path.exists() else None


def _check_choice(study: Study, methods: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigError, with the method, for a choice that is not one of the study's present trials on each of its folds."""
    for name, method in study.spec.methods.items():
        problem = _stale(method.trials, study.spec.folds, methods.get(name))
        if problem is not None:
            mend = f"vidkd compare {study.path} --phase tune"
            raise ConfigError(f"{path} is not the choice of this study: methods.{name}", problem=problem, study=study.path, hint=mend)


def _stale(trials: list[dict[str, Any]], folds: list[str], choice: Mapping[str, Any] | None) -> str | None:
    """What is wrong with the choice of a method with these trials; None if nothing is."""
    if choice is None:
        return "it has trials, but none was chosen" if trials else None
    if not trials:
        return "it has no trials, but one was chosen"
    if set(choice.get("folds", ())) != set(folds):
        return f"chosen for the folds {', '.join(choice.get('folds', ())) or '(none)'}, the study has {', '.join(folds)}"
    if [trial["settings"] for trial in choice["trials"]] != trials:
        return "chosen among other trials than it has now"
    for fold, found in choice["folds"].items():
        if trials[found["trial"]] != found["settings"]:
            return f"trial {found['trial']}, chosen for {fold}, has other settings now"
    return None


def _carried(choice: Mapping[str, Any], folds: list[str]) -> dict[str, Any]:
    """Another study's choice with one setting for all of these folds."""
    votes = [fold["trial"] for fold in choice["folds"].values()]
    trials = choice["trials"]
    best = min(set(votes), key=lambda number: (-votes.count(number), -trials[number]["mean"], trials[number]["nll"], number))
    carried = {"trial": best, "settings": trials[best]["settings"], "mean": trials[best]["mean"]}
    return {"folds": dict.fromkeys(folds, carried), "trials": trials}


def chosen_settings(content: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Chosen settings by method and fold."""
    return {
        name: {fold: dict(choice["settings"]) for fold, choice in method["folds"].items()} for name, method in content["methods"].items()
    }
