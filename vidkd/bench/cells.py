"""A study's cells: trained, judged, written as small JSON the moment they end, and read back."""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vidkd.base.errors import DataError, VidkdError
from vidkd.base.files import read_json, write_json
from vidkd.base.walk import map_files
from vidkd.bench.compressed import compressed_cell
from vidkd.bench.failed_cells import CellsFailedError
from vidkd.bench.identity import cell_identity, check_teacher_run, differences, manifest_at_hand, source_identity
from vidkd.bench.localisation import measure_pointing
from vidkd.bench.study import CellKey, Chosen, Phase, Study, cell_config, source_cell, waves
from vidkd.data.manifest import manifest_identity
from vidkd.engine.checkpoint import is_finished
from vidkd.engine.clips import Clips, read_clips_of_run
from vidkd.engine.config import RunConfig
from vidkd.engine.devices import pick_device
from vidkd.engine.environment import environment
from vidkd.engine.evaluate import judge
from vidkd.engine.fit import fit
from vidkd.engine.loop import InterruptedRunError
from vidkd.engine.setup import evaluation_set
from vidkd.models.saved import load_classifier

log = logging.getLogger(__name__)

ORIGIN = ("teacher", "teacher_identity", "init", "manifest")
"""What a cell says beside its settings of where its numbers come from."""
TEACHER_SETTINGS = "settings of the teacher"


@dataclass(frozen=True)
class Places:
    """Where a study writes: `results` small JSON that is kept, `runs` checkpoints."""

    results: Path
    runs: Path

    def cell(self, phase: Phase, key: CellKey) -> Path:
        """File of a cell."""
        return self.results / phase / key.method / f"{key}.json"


def run_waves(
    study: Study, phase: Phase, waves: Sequence[Sequence[CellKey]], places: Places, chosen: Chosen, workers: int
) -> Iterator[tuple[CellKey, dict[str, Any]]]:
    """`run_cells` of one wave after the other, without what needs a cell that failed; CellsFailedError tells all failures in the end."""
    failures: dict[str, str] = {}
    waiting: list[str] = []
    kept = KeptCells(study, phase, places, chosen)
    for wave in waves:
        lost = {*failures, *waiting}
        stopped = [key for key in wave if _teacher_name(study, key, phase, chosen) in lost and kept.read(key) is None]
        waiting += map(str, stopped)
        try:
            yield from run_cells(study, phase, [key for key in wave if key not in stopped], places, chosen, workers)
        except CellsFailedError as error:
            failures |= error.failures
            waiting += error.waiting
    if failures:
        raise CellsFailedError.of(failures, waiting)


def run_cells(
    study: Study, phase: Phase, keys: Sequence[CellKey], places: Places, chosen: Chosen, workers: int
) -> Iterator[tuple[CellKey, dict[str, Any]]]:
    """Train and judge the cells that are not there yet; yields each with its content as it ends, kept ones first.

    A cell that fails costs no other one: CellsFailedError comes after all have been tried. Raises InterruptedRunError after Ctrl-C (one
    worker; several are stopped by KeyboardInterrupt), and DataError for a kept cell, or the run of a kept teacher, that was made with other
    settings or on other data.
    """
    missing, cells = [], KeptCells(study, phase, places, chosen, with_data=True)
    for key in keys:
        kept = cells.read(key)
        if kept is None:
            missing.append(key)
        else:
            yield key, kept
    untaught = _train_lost_teachers(study, phase, missing, places, chosen, workers)
    failures = {f"teacher {name}": error for name, error in untaught.items()}
    by_name = {str(key): key for key in missing if _teacher_name(study, key, phase, chosen) not in untaught}
    work = functools.partial(_run_named, study=study, phase=phase, places=places, chosen=chosen, keys=by_name, quiet=workers > 1)
    for name, error in _outcomes(work, list(by_name), workers):
        if error is not None:
            failures[name] = error
            log.error("cell %s failed: %s", name, error)
        else:
            yield by_name[name], read_json(places.cell(phase, by_name[name]))
    if failures:
        raise CellsFailedError.of(failures, [str(key) for key in missing if str(key) not in by_name])


def _train_lost_teachers(
    study: Study, phase: Phase, keys: Sequence[CellKey], places: Places, chosen: Chosen, workers: int
) -> dict[str, str]:
    """Train again the teachers whose cells are kept but whose runs are gone (another machine, a fresh clone), and before them their own
    teachers; errors of those that failed, or that wait for one that did.

    Raises DataError for a teacher whose run is there but was trained with other settings.
    """
    folder = places.runs / study.spec.study / phase
    finished = functools.cache(lambda key: is_finished(folder / str(key)))
    teachers = {str(one): one for key in keys for one in _teachers_needed(study, key, phase, chosen, finished)}
    lost = {name: key for name, key in teachers.items() if not finished(key)}
    for name, key in teachers.items():
        if name not in lost:
            check_teacher_run(study, key, phase, chosen, places.runs)
    if lost:
        log.info("training %d teachers again: their runs are not in %s", len(lost), folder)
    work = functools.partial(_train_named, study=study, phase=phase, places=places, chosen=chosen, keys=lost, quiet=workers > 1)
    errors: dict[str, str] = {}
    for wave in waves(study.spec):
        names = [name for name, key in lost.items() if key.method in wave]
        above = {name: _teacher_name(study, lost[name], phase, chosen) for name in names}
        errors |= {name: f"waits for teacher {other}: {errors[other]}" for name, other in above.items() if other in errors}
        able = [name for name in names if name not in errors]
        errors |= {name: error for name, error in _outcomes(work, able, workers) if error is not None}
    return errors


def _teachers_needed(study: Study, key: CellKey, phase: Phase, chosen: Chosen, finished: Callable[[CellKey], bool]) -> list[CellKey]:
    """The cells whose runs must be there before this one: its teacher, or what it compresses, behind the teachers that these need.

    A teacher that is finished needs nobody any more; a run that is compressed does, for its repairs learn from its teacher.
    """
    method = study.spec.methods[key.method]
    if method.source is None:
        return []
    source = source_cell(study, key, phase, chosen)
    above = [] if method.compresses is None and finished(source) else _teachers_needed(study, source, phase, chosen, finished)
    return [*above, source]


def _teacher_name(study: Study, key: CellKey, phase: Phase, chosen: Chosen) -> str | None:
    return None if study.spec.methods[key.method].source is None else str(source_cell(study, key, phase, chosen))


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
    """Train (or go on with) one cell's run, or compress the run of another, judge it and write its file; quiet: without progress."""
    config = cell_config(study, key, phase, chosen, places.runs)
    clips = read_clips_of_run(config)
    if study.spec.methods[key.method].compresses is not None:
        found = compressed_cell(study, phase, key, places.runs, chosen, subset=_subset(study, phase), quiet=quiet)
    else:
        found = _trained_cell(study, phase, config, clips, quiet=quiet)
    content = {
        "study": study.spec.study,
        "method": key.method,
        "seed": key.seed,
        "fold": key.fold,
        "teacher": study.spec.methods[key.method].source,
        "teacher_identity": source_identity(study, key, phase, chosen, places.runs),
        "init": config.init,
        "manifest": manifest_identity(clips.manifest),
        "subset": _subset(study, phase),
        "settings": cell_identity(study, key, config, chosen),
        **found,
        "environment": environment(),
    }
    write_json(places.cell(phase, key), content)
    return content


def _trained_cell(study: Study, phase: Phase, config: RunConfig, clips: Clips, *, quiet: bool) -> dict[str, Any]:
    """What a cell's run came to."""
    result = fit(config, quiet=quiet)
    saved = load_classifier(result.folder)
    device, subset = pick_device(config.train.device, flag="--train.device"), _subset(study, phase)
    model = saved.model.to(device)
    judgement = judge(model, clips, subset, config.data, saved.classes, device=device)
    metrics, rows = judgement.metrics(), judgement.as_rows()
    if phase == "test" and "pointing" in study.spec.measures and model.config.attention.pooling != "mean":
        judged = clips.without(subset, judgement.unobservable)
        pointing = measure_pointing(model, evaluation_set(judged, subset, config.data, [saved.view]), device)
        metrics |= {name: float(np.mean(values)) for name, values in vars(pointing).items()}
        rows |= {name: [round(value, 5) for value in values] for name, values in vars(pointing).items()}
    return {
        "steps": result.steps,
        "parameters": result.parameters,
        "train_seconds": round(result.seconds, 2),
        "counts": judgement.counts(),
        "metrics": {name: round(value, 6) for name, value in metrics.items()},
        "predictions": rows,
    }


def _subset(study: Study, phase: Phase) -> Literal["val", "test"]:
    return "val" if phase == "tune" else study.spec.subset


class KeptCells:
    """The finished cells of a phase, each checked against the settings that the study has now.

    with_data: check the manifest too, where it is on this machine.
    """

    def __init__(self, study: Study, phase: Phase, places: Places, chosen: Chosen, *, with_data: bool = False) -> None:
        self.study, self.phase, self.places, self.chosen, self.with_data = study, phase, places, chosen, with_data
        self._known: dict[tuple[str, int, str], tuple[dict[str, Any], dict[str, str] | None]] = {}

    def read(self, key: CellKey) -> dict[str, Any] | None:
        """A finished cell, or None.

        Raises DataError if it was made with other settings, another teacher, other initial weights or other data than the study has now,
        or does not say with which.
        """
        path = self.places.cell(self.phase, key)
        if not path.exists():
            return None
        content: dict[str, Any] = read_json(path)
        now, manifest = self._expected(key)
        then = {**content["settings"], "subset": content["subset"], **self._origin(content, path)}
        differs = differences(then, now)
        if differs is not None:
            raise DataError(
                f"{path} was made with other settings", differs=differs, hint="move the old results away, or give the study another name"
            )
        if manifest is not None and content.get("manifest", manifest) != manifest:
            raise DataError(
                f"{path} was made with other data",
                then=f"{content['manifest']['name']}, {content['manifest']['sha256']}",
                now=f"{manifest['name']}, {manifest['sha256']}",
                hint="the manifest of then, or move the old results away",
            )
        return content

    def _origin(self, content: Mapping[str, Any], path: Path) -> dict[str, Any]:
        """Teacher and initial weights of a cell; one that does not say them is refused."""
        if all(name in content for name in ORIGIN):
            return {"teacher": content["teacher"], TEACHER_SETTINGS: content["teacher_identity"], "init": content["init"]}
        raise DataError(
            f"{path} does not say from which teacher, initial weights and data it was made",
            missing=", ".join(name for name in ORIGIN if name not in content),
            hint="move it away and run the study again; where its run is still there, it is judged again without training",
        )

    def _expected(self, key: CellKey) -> tuple[dict[str, Any], dict[str, str] | None]:
        """What a cell's numbers depend on; of one method, trial and fold only the seed differs, so the rest is worked out once."""
        place = (key.method, key.trial, key.fold)
        if place not in self._known:
            config = cell_config(self.study, key, self.phase, self.chosen, self.places.runs)
            taught = source_identity(self.study, key, self.phase, self.chosen, self.places.runs)
            settings = {**cell_identity(self.study, key, config, self.chosen), "init": config.init, TEACHER_SETTINGS: taught}
            self._known[place] = settings, manifest_at_hand(config.data) if self.with_data else None
        settings, manifest = self._known[place]
        now = {
            **settings,
            "train.seed": key.seed,
            "subset": _subset(self.study, self.phase),
            "teacher": self.study.spec.methods[key.method].source,
        }
        return now, manifest


def cells_to_test(study: Study, methods: Sequence[str] | None = None) -> list[list[CellKey]]:
    """The cells of the test phase, in waves: teachers before those who learn from them. methods: those of the shortlist by default."""
    spec = study.spec
    wanted = spec.tested if methods is None else list(methods)
    return [
        [CellKey(name, -1, seed, fold) for seed in spec.seeds for fold in spec.folds for name in wave if name in wanted]
        for wave in waves(spec)
    ]
