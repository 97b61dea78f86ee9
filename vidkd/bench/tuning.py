"""Choosing each method's settings by trials before the test places are read: for each fold from its own cells."""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidkd.base.errors import ConfigError
from vidkd.bench.study import CellKey, Chosen, Places, Study, run_cells
from vidkd.bench.summary import build_summary, read_summary, write_summary

log = logging.getLogger(__name__)


def tune(study: Study, places: Places, workers: int) -> dict[str, Any]:
    """Judge every trial of every method and write the choice into summary.json, whose results are left unchanged.

    The settings of a fold are the trial with the highest mean score over the tuning seeds on this fold only, ties going to the lower mean
    negative log-likelihood: what another fold validates on may be what this one tests on. The claim of a fold is the candidate whose chosen
    trial is best there, with the same ties. Teachers are chosen first; students then learn from the trial chosen for their fold. A teacher
    without trials is trained with its own settings.
    """
    methods: dict[str, Any] = {}
    for wave in study.trial_waves():
        cells = dict(run_cells(study, "tune", [wave], places, chosen_settings({"methods": methods}), workers))
        for name in (name for name in dict.fromkeys(key.method for key in wave) if study.methods[name].trials):
            methods[name] = _choose(study, name, cells)
            for fold, choice in methods[name]["folds"].items():
                log.info("%s, %s: trial %d, %s %.3f", name, fold, choice["trial"], study.metric, choice["mean"])
    candidates = [name for name in methods if study.methods[name].claim]
    claims = {fold: min(candidates, key=lambda name: _rank(methods[name]["folds"][fold])) for fold in study.choices if candidates}
    chosen = {"metric": study.metric, "tuning": study.tuning, "claims": claims, "methods": methods}
    path = places.results / "summary.json"
    summary = read_summary(path) if path.exists() else build_summary(study.name, {}, {}, {}, [], 0.0)
    if summary.get("chosen") != chosen:
        write_summary(path, {**summary, "chosen": chosen})
    return chosen


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
    """What tuning chose: here, or in another study, whose summary lies in the folder of committed results; nothing without trials.

    Another study has other folds and other data: of each method that this one has too, all folds get the trial that was chosen there on
    most folds, ties going to the better mean over all of that study's folds, and the claim is the one of most folds.
    Raises ConfigError if tuning has not been done, or was done with other trials, seeds or folds than the tuned study has now.
    """
    tuned = study if chosen_from is None else chosen_from
    trials = {name: method.trials for name, method in tuned.methods.items() if method.trials}
    if not trials:
        return {"methods": {}, "claims": {}}
    path = (places.results if chosen_from is None else places.committed / tuned.name) / "summary.json"
    content: dict[str, Any] | None = read_summary(path).get("chosen") if path.exists() else None
    mend = f"vidkd study --config {tuned.path} --phase tune"
    if content is None:
        raise ConfigError(f"{path} has no choice of settings: they are chosen from trials first", hint=mend)
    chosen_among = {name: [trial["settings"] for trial in choice["trials"]] for name, choice in content["methods"].items()}
    differing = [name for name in {**trials, **chosen_among} if trials.get(name) != chosen_among.get(name)]
    if differing or content["tuning"] != tuned.tuning:
        names = ", ".join(differing)
        problem = f"chosen among other trials: {names}" if names else f"chosen for {content['tuning']}, not {tuned.tuning}"
        raise ConfigError(f"{path} holds the choice of another study", problem=problem, study=tuned.path, hint=mend)
    if chosen_from is None:
        return content
    methods = {name: _carried(choice, study) for name, choice in content["methods"].items() if name in study.methods}
    most = Counter(claim for claim in content["claims"].values() if claim in methods).most_common(1)
    return {**content, "methods": methods, "claims": {fold: claim for claim, _ in most for fold in study.choices}}


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
