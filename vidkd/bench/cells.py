"""A study's cells: trained, judged, written as small JSON the moment they end, and read back."""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidkd.base.errors import DataError, VidkdError
from vidkd.base.files import read_json, write_json
from vidkd.base.walk import map_files
from vidkd.bench.localisation import measure_pointing
from vidkd.bench.study import CellKey, Chosen, Phase, Study, cell_config, teacher_cell, waves
from vidkd.engine.checkpoint import is_finished
from vidkd.engine.config import RunConfig, as_dict
from vidkd.engine.devices import pick_device
from vidkd.engine.environment import environment
from vidkd.engine.evaluate import evaluate, predictions_as_rows
from vidkd.engine.fit import InterruptedRunError, fit
from vidkd.engine.run_folder import FREE, flatten
from vidkd.engine.setup import evaluation_set, read_clips
from vidkd.models.saved import load_classifier

log = logging.getLogger(__name__)
MOST_SHOWN = 6


@dataclass(frozen=True)
class Places:
    """Where a study writes: `results` small JSON that is kept, `runs` checkpoints."""

    results: Path
    runs: Path

    def cell(self, phase: Phase, key: CellKey) -> Path:
        """File of a cell."""
        return self.results / phase / key.method / f"{key}.json"


def run_cells(
    study: Study, phase: Phase, keys: Sequence[CellKey], places: Places, chosen: Chosen, workers: int
) -> Iterator[tuple[CellKey, dict[str, Any]]]:
    """Train and judge the cells that are not there yet; yields each with its content as it ends, kept ones first.

    A cell that fails costs no other one: DataError tells the first after all have been tried. Raises InterruptedRunError after Ctrl-C (one
    worker; several are stopped by KeyboardInterrupt), and DataError for a kept cell that was made with other settings.
    """
    missing, cells = [], KeptCells(study, phase, places, chosen)
    for key in keys:
        kept = cells.read(key)
        if kept is None:
            missing.append(key)
        else:
            yield key, kept
    by_name = {str(key): key for key in missing}
    work = functools.partial(_run_named, study=study, phase=phase, places=places, chosen=chosen, keys=by_name, quiet=workers > 1)
    failures = _train_lost_teachers(study, phase, missing, places, chosen, workers)
    for name, error in _outcomes(work, list(by_name), workers):
        if error is not None:
            failures.append(f"{name}: {error}")
            log.error("cell %s failed: %s", name, error)
        else:
            yield by_name[name], read_json(places.cell(phase, by_name[name]))
    if failures:
        raise DataError(f"{len(failures)} cells failed", first=failures[0], to_mend="run the same command again: finished cells are kept")


def _train_lost_teachers(study: Study, phase: Phase, keys: Sequence[CellKey], places: Places, chosen: Chosen, workers: int) -> list[str]:
    """Train again the teachers whose cells are kept but whose runs are gone (another machine, a fresh clone); the failures among them."""
    taught = [key for key in keys if study.spec.methods[key.method].teacher is not None]
    teachers = {str(key): key for key in (teacher_cell(study, key, phase, chosen) for key in taught)}
    folder = places.runs / study.spec.study / phase
    lost = {name: key for name, key in teachers.items() if not is_finished(folder / name)}
    if lost:
        log.info("training %d teachers again: their runs are not in %s", len(lost), folder)
    work = functools.partial(_train_named, study=study, phase=phase, places=places, chosen=chosen, keys=lost, quiet=workers > 1)
    return [f"teacher {name}: {error}" for name, error in _outcomes(work, list(lost), workers) if error is not None]


def _train_named(name: str, *, study: Study, phase: Phase, places: Places, chosen: Chosen, keys: Mapping[str, CellKey], quiet: bool) -> str:
    fit(cell_config(study, keys[name], phase, chosen, places.runs), quiet=quiet)
    return name


def _outcomes(work: Callable[[str], str], names: Sequence[str], workers: int) -> Iterator[tuple[str, str | None]]:
    """Names as their cells end, with the error of those that failed."""
    if workers > 1:
        for result in map_files(work, names, workers=workers, fingerprint=str):
            yield result.item, result.error
        return
    for name in names:
        try:
            work(name)
            yield name, None
        except InterruptedRunError:  # Ctrl-C ends the study, not this cell alone
            raise
        except Exception as error:
            if not isinstance(error, VidkdError):
                log.exception("cell %s", name)
            yield name, f"{type(error).__name__}: {error}"


def _run_named(name: str, *, study: Study, phase: Phase, places: Places, chosen: Chosen, keys: Mapping[str, CellKey], quiet: bool) -> str:
    run_cell(study, phase, keys[name], places, chosen, quiet=quiet)
    return name


def run_cell(study: Study, phase: Phase, key: CellKey, places: Places, chosen: Chosen, *, quiet: bool) -> dict[str, Any]:
    """Train (or go on with) one cell's run, judge it and write its file; quiet: without progress."""
    config = cell_config(study, key, phase, chosen, places.runs)
    result = fit(config, quiet=quiet)
    subset = _subset(study, phase)
    clips = read_clips(config.data)
    saved = load_classifier(result.folder)
    dataset = evaluation_set(clips, subset, config.data, [saved.view])
    device = pick_device(config.train.device)
    model = saved.model.to(device)
    predictions = evaluate(model, dataset, saved.classes, device=device, batch_size=config.data.batch_size)
    metrics = predictions.metrics()
    rows = predictions_as_rows(predictions)
    if phase == "test" and "pointing" in study.spec.measures and model.config.attention.pooling != "mean":
        pointing = measure_pointing(model, dataset, device)
        metrics |= {name: float(np.mean(values)) for name, values in vars(pointing).items()}
        rows |= {name: [round(value, 5) for value in values] for name, values in vars(pointing).items()}
    content = {
        "study": study.spec.study,
        "method": key.method,
        "seed": key.seed,
        "fold": key.fold,
        "teacher": study.spec.methods[key.method].teacher,
        "subset": subset,
        "settings": identity(config),
        "steps": result.steps,
        "parameters": result.parameters,
        "train_seconds": round(result.seconds, 2),
        "environment": environment(),
        "metrics": {name: round(value, 6) for name, value in metrics.items()},
        "predictions": rows,
    }
    write_json(places.cell(phase, key), content)
    return content


def _subset(study: Study, phase: Phase) -> str:
    return "val" if phase == "tune" else study.spec.subset


def identity(config: RunConfig) -> dict[str, Any]:
    """The settings that a cell's numbers depend on, flat; where it ran and where its files lie are left out."""
    left_out = (
        *(name for name in FREE if name not in ("train.epochs", "train.steps")),
        "teacher",
        "init",
    )  # the teacher is a cell of its own
    return {key: value for key, value in flatten(as_dict(config)).items() if not key.startswith(left_out)}


@functools.cache
def _defaults() -> Mapping[str, Any]:
    return identity(RunConfig())


def _default_of(name: str) -> Any:
    """What a cell had for a setting that came after it: the setting's default, which keeps what was done before."""
    return _defaults().get(name)


class KeptCells:
    """The finished cells of a phase, each checked against the settings that the study has now."""

    def __init__(self, study: Study, phase: Phase, places: Places, chosen: Chosen) -> None:
        self.study, self.phase, self.places, self.chosen = study, phase, places, chosen
        self._settings: dict[tuple[str, int, str], dict[str, Any]] = {}

    def read(self, key: CellKey) -> dict[str, Any] | None:
        """A finished cell, or None. Raises DataError if it was made with other settings than the study has now."""
        path = self.places.cell(self.phase, key)
        if not path.exists():
            return None
        content: dict[str, Any] = read_json(path)
        now = self._expected(key)
        then = {**content["settings"], "subset": content["subset"], "teacher": content.get("teacher", now["teacher"])}
        different = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name, _default_of(name)))
        if different:
            raise DataError(
                f"{path} was made with other settings",
                differs="; ".join(
                    f"{name}: {then.get(name, _default_of(name))} then, {now.get(name)} now" for name in different[:MOST_SHOWN]
                ),
                to_mend="move the old results away, or give the study another name",
            )
        return content

    def _expected(self, key: CellKey) -> dict[str, Any]:
        """What a cell's numbers depend on; of one method, trial and fold only the seed differs, so the rest is worked out once."""
        place = (key.method, key.trial, key.fold)
        if place not in self._settings:
            self._settings[place] = identity(cell_config(self.study, key, self.phase, self.chosen, self.places.runs))
        return {
            **self._settings[place],
            "train.seed": key.seed,
            "subset": _subset(self.study, self.phase),
            "teacher": self.study.spec.methods[key.method].teacher,
        }


def read_cell(study: Study, phase: Phase, key: CellKey, places: Places, chosen: Chosen) -> dict[str, Any] | None:
    """One finished cell, or None; see KeptCells."""
    return KeptCells(study, phase, places, chosen).read(key)


def cells_to_test(study: Study, methods: Sequence[str] | None = None) -> list[list[CellKey]]:
    """The cells of the test phase, in waves: teachers before those who learn from them."""
    spec = study.spec
    wanted = list(spec.methods) if methods is None else list(methods)
    return [
        [CellKey(name, -1, seed, fold) for seed in spec.seeds for fold in spec.folds for name in wave if name in wanted]
        for wave in waves(spec)
    ]
