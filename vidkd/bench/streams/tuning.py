"""Choosing how each method learns on streams that are used for nothing else, before the test streams are read."""

import hashlib
import json
import logging
from typing import Any

import numpy as np

from vidkd.base.errors import ConfigError
from vidkd.base.files import read_json, write_json
from vidkd.bench.streams.cells import run_stream_cells
from vidkd.bench.streams.collect import as_counts, condition_of_share
from vidkd.bench.streams.places import StreamPlaces
from vidkd.bench.streams.settings import ChosenTrials, identity_of, trial_cells
from vidkd.bench.streams.spec import StreamStudy, StreamStudySpec

log = logging.getLogger(__name__)


def tune_streams(study: StreamStudy, places: StreamPlaces, workers: int) -> dict[str, Any]:
    """Run every trial of every method on the tuning streams and write results/<study>/chosen.json.

    A method gets the trial with the highest mean F1 over tuning streams and seeds, the earlier of equals.
    """
    spec, methods = study.spec, {}
    for name in (name for name, method in spec.methods.items() if method.trials):
        keys = trial_cells(spec, name)
        cells = dict(run_stream_cells(study, "tune", keys, places, {}, workers))
        rows = []
        for number, settings in enumerate(spec.methods[name].trials):
            values = {f"{key.seed}/{key.stream}": round(as_counts(cells[key]).f1, 6) for key in keys if key.trial == number}
            rows.append({"settings": settings, "mean": round(float(np.mean(list(values.values()))), 6), "values": values})
        best = max(range(len(rows)), key=lambda number: (rows[number]["mean"], -number))
        methods[name] = {
            "trial": best,
            "settings": rows[best]["settings"],
            "mean": rows[best]["mean"],
            "made_with": _made_with(spec, name),
            "trials": rows,
        }
        log.info("%s: trial %d, F1 %.3f", name, best, rows[best]["mean"])
    content = {
        "study": spec.study,
        "metric": f"f1@{condition_of_share(spec.tuning.calls)}",
        "tuning": {"streams": spec.tuning.streams, "seeds": spec.tuning.seeds},
        "methods": methods,
    }
    write_json(places.results / "chosen.json", content)
    return content


def read_chosen_trials(study: StreamStudy, places: StreamPlaces) -> ChosenTrials:
    """Chosen settings by method; none where nothing is tuned.

    Raises ConfigError if tuning has not been done, or was done among other trials, with other settings or on other streams than the study
    has now.
    """
    if not study.spec.tuned:
        return {}
    path, mend = places.results / "chosen.json", f"vidkd compare_streams {study.path} --phase tune"
    if not path.exists():
        raise ConfigError(f"{path} is missing: settings are chosen from trials first", hint=mend)
    found = read_json(path)["methods"]
    for name, method in study.spec.methods.items():
        if method.trials and [row["settings"] for row in found.get(name, {}).get("trials", [])] != method.trials:
            raise ConfigError(f"{path} is not the choice of this study: methods.{name} has other trials now", hint=mend)
        if method.trials and found[name]["made_with"] != _made_with(study.spec, name):
            why = "was chosen with other settings, streams or seeds"
            raise ConfigError(f"{path} is not the choice of this study: methods.{name} {why}", hint=mend)
    return {name: choice["settings"] for name, choice in found.items()}


def _made_with(spec: StreamStudySpec, method: str) -> str:
    """Short hash of all settings that the trials of a method depend on."""
    cells = [{"key": str(key), **identity_of(spec, key, {})} for key in trial_cells(spec, method)]
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()[:16]
