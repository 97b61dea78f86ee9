"""Choosing each method's settings by trials before the test places are read: for each fold from its own cells."""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidkd.base.errors import ConfigError
from vidkd.base.files import read_json, write_json
from vidkd.bench.study import CellKey, Chosen, Places, Study, run_cells

log = logging.getLogger(__name__)


def tune(study: Study, places: Places, workers: int) -> dict[str, Any]:
    """Judge every trial of every method and write chosen.json.

    The settings of a fold are the trial with the highest mean score over the tuning seeds on this fold only, ties going to the lower mean
    negative log-likelihood: what another fold validates on may be what this one tests on. The claim of a fold is the candidate whose chosen
    trial is best there, with the same ties. Teachers are chosen first; students then learn from the trial chosen for their fold. A teacher
    without trials is trained with its own settings. A file with the same choice from the same scores is left as it is.
    """
    methods: dict[str, Any] = {}
    for wave in study.trial_waves():
        cells = dict(run_cells(study, "tune", [wave], places, chosen_settings({"methods": methods}), workers))
        for name in (name for name in dict.fromkeys(key.method for key in wave) if study.methods[name].trials):
            methods[name] = _choose(study, name, cells)
            for fold, choice in methods[name]["folds"].items():
                log.info("%s, %s: trial %d, %s %.3f", name, fold, choice["trial"], study.metric, choice["mean"])
    candidates = [name for name in methods if study.methods[name].claim]
    content = {
        "study": study.name,
        "metric": study.metric,
        "tuning": {"seeds": list(study.tuning_seeds), "folds": {fold: list(judged) for fold, judged in study.choices.items()}},
        "claims": {fold: min(candidates, key=lambda name: _rank(methods[name]["folds"][fold])) for fold in study.choices if candidates},
        "methods": methods,
    }
    path = places.results / "chosen.json"
    if not path.exists() or read_json(path) != content:
        write_json(path, content)
    return content


def _rank(scores: Mapping[str, float]) -> tuple[float, float]:
    """Less is better."""
    return -scores["mean"], scores["nll"]


def _choose(study: Study, name: str, cells: Mapping[CellKey, Mapping[str, Any]]) -> dict[str, Any]:
    """The choice for each fold, and what all trials reached."""
    trials = study.methods[name].trials
    found = [{key: cell for key, cell in cells.items() if (key.method, key.trial) == (name, number)} for number in range(len(trials))]
    folds = {}
    for fold, judged in study.choices.items():
        scores = [_mean([cell for key, cell in of_trial.items() if key.place in judged]) for of_trial in found]
        best = min(range(len(trials)), key=lambda number: _rank(scores[number]))
        folds[fold] = {"trial": best, "settings": trials[best], **scores[best]}
    rows = [
        {
            "settings": settings,
            **_mean(list(of_trial.values())),
            "values": {f"{key.seed}/{key.place}": round(cell["score"], 6) for key, cell in sorted(of_trial.items())},
        }
        for settings, of_trial in zip(trials, found, strict=True)
    ]
    return {"folds": folds, "trials": rows}


def _mean(cells: list[Mapping[str, Any]]) -> dict[str, float]:
    score, nll = (float(np.mean([cell[name] for cell in cells])) for name in ("score", "nll"))
    return {"mean": round(score, 6), "nll": round(nll, 6)}


def read_chosen(study: Study, places: Places, chosen_from: Study | None = None) -> dict[str, Any]:
    """What tuning chose: here, or in another study, whose file lies in the folder of committed results; nothing without trials.

    Another study has other folds and other data: of each method that this one has too, all folds get the trial that was chosen there on
    most folds, ties going to the better mean over all of that study's folds, and the claim is the one of most folds.
    Raises ConfigError if tuning has not been done, or was done with other trials, seeds or folds than the tuned study has now.
    """
    tuned = study if chosen_from is None else chosen_from
    if not tuned.tuned:
        return {"methods": {}, "claims": {}}
    path = (places.results if chosen_from is None else places.committed / tuned.name) / "chosen.json"
    mend = f"vidkd study {tuned.path} --phase tune"
    if not path.exists():
        raise ConfigError(f"{path} is missing: settings are chosen from trials first", hint=mend)
    content: dict[str, Any] = read_json(path)
    for name, method in tuned.methods.items():
        problem = _stale(tuned, method.trials, content, name)
        if problem is not None:
            raise ConfigError(f"{path} is not the choice of this study: methods.{name}", problem=problem, study=tuned.path, hint=mend)
    if chosen_from is None:
        return content
    methods = {name: _carried(choice, study) for name, choice in content["methods"].items() if name in study.methods}
    most = Counter(claim for claim in content["claims"].values() if claim in methods).most_common(1)
    return {**content, "methods": methods, "claims": {fold: claim for claim, _ in most for fold in study.choices}}


def _stale(study: Study, trials: list[dict[str, Any]], content: Mapping[str, Any], name: str) -> str | None:
    """What is wrong with the choice of a method with these trials; None if nothing is."""
    choice = content["methods"].get(name)
    if choice is None:
        return "it has trials, but none was chosen" if trials else None
    if not trials:
        return "it has no trials, but one was chosen"
    tuning = {"seeds": list(study.tuning_seeds), "folds": {fold: list(judged) for fold, judged in study.choices.items()}}
    if content["tuning"] != tuning:
        return f"chosen for {content['tuning']}, the study has {tuning}"
    if [trial["settings"] for trial in choice["trials"]] != trials:
        return "chosen among other trials than it has now"
    return None


def _carried(choice: Mapping[str, Any], study: Study) -> dict[str, Any]:
    """Another study's choice with one setting for all folds of this study."""
    votes = [fold["trial"] for fold in choice["folds"].values()]
    trials = choice["trials"]
    best = min(set(votes), key=lambda number: (-votes.count(number), *_rank(trials[number]), number))
    carried = {"trial": best, "settings": trials[best]["settings"], "mean": trials[best]["mean"], "nll": trials[best]["nll"]}
    return {"folds": dict.fromkeys(study.choices, carried), "trials": trials}


def chosen_settings(content: Mapping[str, Any]) -> Chosen:
    """Chosen settings by method and fold."""
    return {
        name: {fold: dict(choice["settings"]) for fold, choice in method["folds"].items()} for name, method in content["methods"].items()
    }
