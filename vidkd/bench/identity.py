"""What a cell's numbers depend on: its settings, its teacher's, its initial weights, and the data."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidkd.base.errors import DataError
from vidkd.base.settings import as_dict, merge
from vidkd.bench.study import CellKey, Chosen, Phase, Study, cell_config, settings_of_trial, source_cell
from vidkd.data.config import DataConfig
from vidkd.data.manifest import Manifest, manifest_identity
from vidkd.engine.config import RunConfig, load_config
from vidkd.engine.run_folder import flatten, settings_that_count

MOST_SHOWN = 6
HASH_LETTERS = 16


def identity(config: RunConfig) -> dict[str, Any]:
    """The settings that a cell's numbers depend on, flat; where it ran and where its files lie are left out.

    Teacher and initial weights are kept apart: the first is a cell of its own.
    """
    return {key: value for key, value in settings_that_count(as_dict(config)).items() if not key.startswith("teacher")}


def cell_identity(study: Study, key: CellKey, config: RunConfig, chosen: Chosen) -> dict[str, Any]:
    """`identity` of a cell's configuration; where it compresses a run, the steps and the settings of the repairs too."""
    method = study.spec.methods[key.method]
    if method.compresses is None:
        return identity(config)
    repairs = flatten(merge(merge({}, method.settings), settings_of_trial(study, key, chosen)), "compress.settings.")
    return {**identity(config), "compress.steps": json.loads(json.dumps(method.steps)), **repairs}


@functools.cache
def defaults(task: str) -> Mapping[str, Any]:
    """What a cell of this task had for settings that came after it: their defaults, which keeps what was done before."""
    return identity(load_config(settings={"task": task}))


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first settings that differ, as text; None if none does. A setting that is missing in `then` stood at its default."""
    known = defaults(now["task"])
    different = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name, known.get(name)))
    shown = (f"{name}: {then.get(name, known.get(name))} then, {now.get(name)} now" for name in different[:MOST_SHOWN])
    return "; ".join(shown) if different else None


def source_identity(study: Study, key: CellKey, phase: Phase, chosen: Chosen, runs: Path) -> str | None:
    """A short hash of the settings with which a cell's teacher, or what it compresses, is trained, and so on; None without either.

    The seed, which is the cell's own, is left out.
    Settings at their defaults are left out of the hash, so that one which is added later does not change it; a default that is changed is
    found in the teacher's own cell.
    """
    if study.spec.methods[key.method].source is None:
        return None
    teacher = source_cell(study, key, phase, chosen)
    config = cell_config(study, teacher, phase, chosen, runs)
    known = defaults(config.task)
    own = {name: value for name, value in identity(config).items() if name != "train.seed"}
    settings = {name: value for name, value in own.items() if name == "task" or name not in known or known[name] != value}
    return _hash([settings, config.init, source_identity(study, teacher, phase, chosen, runs)])[:HASH_LETTERS]


def manifest_at_hand(data: DataConfig) -> dict[str, str] | None:
    """The identity of a configuration's manifest; None if it is not on this machine."""
    path = Path(data.manifest) if data.manifest else Path(data.root) / "manifest.jsonl"
    if not (data.manifest or data.root) or not path.exists():
        return None
    return _read(path, data.root or None, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read(path: Path, root: str | None, _changed_ns: int) -> dict[str, str]:
    return manifest_identity(Manifest.read(path, root))


def check_teacher_run(study: Study, teacher: CellKey, phase: Phase, chosen: Chosen, runs: Path) -> None:
    """Raise DataError if the run folder of a teacher, or of its own teacher, was trained with other settings than the study has now."""
    config = cell_config(study, teacher, phase, chosen, runs)
    written = Path(config.runs) / str(config.name) / "config.yaml"
    there = load_config(written)
    differs = differences({**identity(there), "init": there.init}, {**identity(config), "init": config.init})
    if differs is not None:
        raise DataError(
            f"the teacher {written.parent} was trained with other settings",
            differs=differs,
            hint="move the run away, or give another --runs",
        )
    if study.spec.methods[teacher.method].source is not None:
        above = source_cell(study, teacher, phase, chosen)
        if (Path(config.runs) / str(above) / "config.yaml").exists():
            check_teacher_run(study, above, phase, chosen, runs)


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False, default=dict).encode()).hexdigest()
