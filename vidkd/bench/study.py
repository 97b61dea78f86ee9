"""The engine of all studies: cells are run once, kept as they end, and refused when the study has changed."""

import abc
import functools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vidkd.base.errors import ConfigError, DataError, VidkdError, unknown_name
from vidkd.base.walk import map_files
from vidkd.bench.store import Store
from vidkd.engine.devices import environment
from vidkd.engine.loop import InterruptedRunError

log = logging.getLogger(__name__)

Phase = Literal["tune", "test"]
Chosen: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Chosen settings by method and fold; `EVERYWHERE` in place of the fold where one choice holds for all test places."""
EVERYWHERE = "all"
MOST_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class BaseMethodSpec:
    """What the methods of all studies have.

    Args:
        trials: settings among which tuning chooses.
        tuned_as: method whose choice is used in place of own trials (controls).
        claim: a candidate for the claim; the candidate that is best on the validation groups of a fold makes it there.
        label: name in tables; by default the method's own.
    """

    trials: list[dict[str, Any]] = field(default_factory=list)
    tuned_as: str | None = None
    claim: bool = False
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class BaseTuningSpec:
    """How trials are judged. seeds: of the tuning runs, unlike those of the study."""

    seeds: list[int] = field(default_factory=lambda: [100])


@dataclass(frozen=True, kw_only=True)
class BaseStudySpec:
    """What all studies have.

    Args:
        study: name; its results are written to results/<study>.
        seeds: seeds of the study.
        title: heading of tables and of the report.
        text: what the study asks and how, for its page.
    """

    study: str
    methods: Mapping[str, BaseMethodSpec]
    tuning: BaseTuningSpec
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    title: str | None = None
    text: str = ""

    def check(self) -> None:
        """Raise ConfigError for seeds that are there twice, and for methods that are tuned in two ways or as one that is not there."""
        tuned = [name for name, method in self.methods.items() if method.trials]
        seeds = [*self.seeds, *(self.tuning.seeds if tuned else ())]
        if not self.seeds or len(set(seeds)) < len(seeds):
            raise ConfigError(
                "seeds and tuning.seeds: none is there, or one twice",
                found=", ".join(map(str, seeds)),
                hint="seeds of tuning of their own, or settings are chosen by the luck of the test",
            )
        for name, method in self.methods.items():
            if method.tuned_as is not None:
                check_known(method.tuned_as, self.methods, "method", f"methods.{name}.tuned_as")
                if method.trials:
                    raise ConfigError(f"methods.{name} has both trials and tuned_as", hint="keep one")


def check_known(name: str, known: Any, kind: str, where: str) -> None:
    """Raise ConfigError with the nearest name for one that is unknown."""
    if name not in known:
        raise unknown_name(f"{kind} in {where}", name, known)


@dataclass(frozen=True, order=True)
class CellKey:
    """One run of a study. place: fold or stream. trial: -1 outside tuning. calls: share of frames sent to the oracle, 0 for none."""

    method: str
    trial: int
    seed: int
    place: str
    calls: float = 0.0

    def __str__(self) -> str:
        trial = f"-t{self.trial}" if self.trial >= 0 else ""
        calls = f"-calls{100 * self.calls:g}" if self.calls else ""
        return f"{self.method}{trial}{calls}-s{self.seed}-{self.place}"


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a study reads and writes.

    results: folder of its summary and finished cells. runs: folder of checkpoints and of the cells of a command under way.
    roots: folders of videos and weights. cache: the oracle's boxes, which can be computed again. device: of networks along a stream.
    committed: the folder of the results of other studies.
    """

    results: Path
    runs: Path = Path("runs")
    roots: tuple[Path, ...] = ()
    cache: Path = Path("runs/oracle")
    device: str = "cpu"
    committed: Path = Path("results")

    def store(self, study: str) -> Store:
        """The cells of a study."""
        return Store(self.results / "cells.parquet", self.runs / study / "cells.jsonl")


@dataclass(frozen=True)
class Study(abc.ABC):
    """What the engine asks of a kind of study: its axes, and a callable that runs a cell. path: its file. overrides: flags over it."""

    path: Path
    overrides: tuple[str, ...]
    spec: Any

    @property
    def name(self) -> str:
        """Its results are written to results/<name>."""
        return str(self.spec.study)

    @property
    def methods(self) -> Mapping[str, BaseMethodSpec]:
        """The methods by name."""
        found: Mapping[str, BaseMethodSpec] = self.spec.methods
        return found

    @property
    def tuned(self) -> bool:
        """Whether any method has trials."""
        return any(method.trials for method in self.methods.values())

    @property
    def tuning(self) -> dict[str, Any]:
        """How trials are judged; kept with the choice."""
        return {"seeds": list(self.spec.tuning.seeds), "folds": {fold: list(judged) for fold, judged in self.choices.items()}}

    @property
    @abc.abstractmethod
    def choices(self) -> Mapping[str, Sequence[str]]:
        """Where one choice of settings holds, with the places on which its trials are judged."""

    @property
    @abc.abstractmethod
    def metric(self) -> str:
        """What trials are chosen by."""

    @abc.abstractmethod
    def trial_waves(self) -> list[list[CellKey]]:
        """The cells of the tuning phase, those that teach before those that learn from them."""

    @abc.abstractmethod
    def test_waves(self, methods: Sequence[str] | None = None, seeds: Sequence[int] | None = None) -> list[list[CellKey]]:
        """The cells of the test phase in the same order, of these methods and seeds only."""

    @abc.abstractmethod
    def settings(self, key: CellKey, phase: Phase, places: Places, chosen: Chosen) -> dict[str, Any]:
        """All settings that the numbers of a cell depend on, flat and as JSON returns them."""

    @abc.abstractmethod
    def defaults(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """What these settings are by default, for cells that are older than one of them."""

    @abc.abstractmethod
    def inputs(self, key: CellKey, places: Places) -> dict[str, str]:
        """Hashes by name of the data that a cell depends on; empty where they are not at hand."""

    @abc.abstractmethod
    def run(self, key: CellKey, phase: Phase, places: Places, chosen: Chosen, *, quiet: bool) -> dict[str, Any]:
        """Run a cell; returns what it found. quiet: without progress."""

    @abc.abstractmethod
    def score(self, cell: Mapping[str, Any]) -> dict[str, float]:
        """`score` of a trial, higher is better, and `nll`, which breaks ties, lower is better."""

    @abc.abstractmethod
    def line(self, cell: Mapping[str, Any]) -> str:
        """What a finished cell found, for the line that is printed."""

    @abc.abstractmethod
    def summarise(self, cells: Mapping[str, Mapping[str, Any]], claims: Mapping[str, str]) -> dict[str, Any]:
        """summary.json from the finished test cells by name. claims: the method that makes the claim, by fold."""

    def sources(self, key: CellKey, phase: Phase, chosen: Chosen) -> list[CellKey]:  # noqa: ARG002
        """The cells whose runs must be there first."""
        return []

    def has_run(self, key: CellKey, phase: Phase, places: Places) -> bool:  # noqa: ARG002
        """Whether the run of a cell is on this machine, finished."""
        return True

    def prepare(self, keys: Sequence[CellKey], places: Places) -> None:  # noqa: B027
        """Make ready what several of these cells need."""


class CellsFailedError(DataError):
    """Some cells failed, after all others have been tried. failures: why, by cell."""

    failures: Mapping[str, str] = {}

    @classmethod
    def of(cls, failures: Mapping[str, str]) -> "CellsFailedError":
        """The error for these; it shows the first whole, and of the others the first line."""
        first, *others = (f"{name}: {error}" for name, error in failures.items())
        more = {"others": "; ".join(other.splitlines()[0] for other in others)} if others else {}
        error = cls(f"{len(failures)} cells failed", first=first, **more, hint="run the same command again: finished cells are kept")
        error.failures = failures
        return error


def run_cells(
    study: Study, phase: Phase, waves: Sequence[Sequence[CellKey]], places: Places, chosen: Chosen, workers: int
) -> Iterator[tuple[CellKey, dict[str, Any]]]:
    """Run the cells that are not finished, wave after wave; yields each with its content as it ends, in a wave the kept ones first.

    A source whose cell is kept but whose run is gone (another machine, a fresh clone) is run again. A cell that fails costs only those that
    need it: CellsFailedError comes after all others have been tried. Raises InterruptedRunError after Ctrl-C (one worker; several are
    stopped by KeyboardInterrupt), and DataError for a kept cell of other settings or data. Finished cells move into the table in the end,
    unless the command is stopped.
    """
    store = places.store(study.name)
    there = store.cells(phase)
    failures: dict[str, str] = {}
    work = functools.partial(run_cell, study=study, phase=phase, places=places, chosen=chosen, quiet=workers > 1)

    def attempt(keys: Sequence[CellKey]) -> Iterator[tuple[CellKey, dict[str, Any]]]:
        sources = {key: study.sources(key, phase, chosen) for key in keys}
        wanted = dict.fromkeys(source for of_key in sources.values() for source in of_key)
        lost = [source for source in wanted if str(source) not in failures and not study.has_run(source, phase, places)]
        if lost:
            log.info("run again, for their runs are not in %s: %s", places.runs, ", ".join(map(str, lost)))
            for _ in attempt(lost):
                pass
        for key, of_key in sources.items():
            if missing := [str(source) for source in of_key if str(source) in failures]:
                failures[str(key)] = f"needs {missing[0]}"
        able = [key for key in keys if str(key) not in failures]
        study.prepare(able, places)
        for key, cell, error in _outcomes(work, able, workers):
            if cell is None:
                failures[str(key)] = error
                log.error("cell %s failed: %s", key, error)
            else:
                yield key, cell

    for wave in waves:
        kept = {key: there[str(key)] for key in wave if str(key) in there}
        for key, cell in kept.items():
            _check_kept(study, key, cell, phase, places, chosen)
            yield key, cell
        for key, cell in attempt([key for key in wave if key not in kept]):
            store.append(cell)
            yield key, cell
    store.fold()
    if failures:
        raise CellsFailedError.of(failures)


def run_cell(key: CellKey, *, study: Study, phase: Phase, places: Places, chosen: Chosen, quiet: bool) -> dict[str, Any]:
    """Run one cell; its content with what it depends on."""
    made_with = {"settings": study.settings(key, phase, places, chosen), "inputs": study.inputs(key, places)}
    named = {"phase": phase, "cell": str(key), **vars(key)}
    cell = {**named, **study.run(key, phase, places, chosen, quiet=quiet), **made_with, "environment": environment()}
    if phase == "tune":
        cell |= study.score(cell)
    found: dict[str, Any] = json.loads(json.dumps(cell, allow_nan=False))
    return found


def _check_kept(study: Study, key: CellKey, cell: Mapping[str, Any], phase: Phase, places: Places, chosen: Chosen) -> None:
    """Raise DataError for a finished cell that was made with other settings or data than the study has now."""
    inputs = study.inputs(key, places)
    differs = differences(cell["settings"], study.settings(key, phase, places, chosen), study.defaults)
    known = {name: value for name, value in inputs.items() if name in cell["inputs"]}  # weights that were downloaded have no hash
    differs += differences(cell["inputs"], known, lambda _: {})
    if differs:
        mend = f"give the study another name, or move {places.results} away"
        raise DataError(f"cell {key} was made with other settings or data", differs="; ".join(differs[:MOST_SHOWN]), hint=mend)


def differences(then: Mapping[str, Any], now: Mapping[str, Any], defaults: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> list[str]:
    """Settings that differ, as text. One that `then` does not have was at its default; one that is gone since says nothing."""
    known = defaults(now) if now.keys() - then.keys() else {}
    before = {name: then.get(name, known.get(name)) for name in now}
    return [f"{name}: {before[name]} then, {now[name]} now" for name in sorted(now) if before[name] != now[name]]


def _outcomes(
    work: Callable[[CellKey], dict[str, Any]], keys: Sequence[CellKey], workers: int
) -> Iterator[tuple[CellKey, dict[str, Any] | None, str]]:
    """Cells as they end, with the content, or None and the error."""
    if workers > 1:
        by_name = {str(key): key for key in keys}
        for result in map_files(functools.partial(_named, work=work, keys=by_name), list(by_name), workers=workers, fingerprint=str):
            yield by_name[result.item], result.value, result.error or ""
        return
    for key in keys:
        try:
            yield key, work(key), ""
        except InterruptedRunError:  # Ctrl-C ends the study, not only this cell
            raise
        except Exception as error:
            if not isinstance(error, VidkdError):
                log.exception("cell %s", key)
            yield key, None, f"{type(error).__name__}: {error}"


def _named(name: str, *, work: Callable[[CellKey], dict[str, Any]], keys: Mapping[str, CellKey]) -> dict[str, Any]:
    return work(keys[name])
