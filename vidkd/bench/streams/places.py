"""Where a study of streams finds its files and leaves its own, and what those that it finds hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidkd.base.errors import unknown_name
from vidkd.base.roots import find_below
from vidkd.bench.streams.settings import HINDSIGHT, PER_SEED, StreamCellKey, StreamPhase
from vidkd.bench.streams.spec import OracleSpec, StreamStudy
from vidkd.detection.opening import ModelFiles
from vidkd.detection.policies import BARE


@dataclass(frozen=True, kw_only=True)
class StreamPlaces:
    """roots: folders of videos and weights. results: kept cells. cache: the oracle's boxes, which can be made again.

    device: that networks run on.
    """

    roots: tuple[Path, ...]
    results: Path
    cache: Path
    device: str = "cpu"

    def cell(self, phase: StreamPhase, key: StreamCellKey) -> Path:
        """File of a cell."""
        return self.results / phase / key.method / f"{key}.json"

    def find(self, name: str, study: StreamStudy) -> Path:
        """The file or folder that a study names: below a root, beside the study's file, or from here. Raises ConfigError for none."""
        return find_below(name, (*self.roots, study.path.parent, Path()), named_by=study.path)


def oracle_files(study: StreamStudy, places: StreamPlaces) -> ModelFiles:
    """The oracle's files, found."""
    spec: OracleSpec = study.spec.oracle
    weights, names, metadata = (str(places.find(name, study)) if name else None for name in (spec.weights, spec.names, spec.metadata))
    return ModelFiles(
        model=str(places.find(spec.model, study)),
        weights=weights,
        names=names,
        metadata=metadata,
        score=spec.score,
        nms_iou=spec.nms_iou,
        resize=spec.resize,
        device=places.device,
        threads=study.spec.threads,
    )


def selector_name(study: StreamStudy, key: StreamCellKey) -> str | None:
    """The file of a cell's selector as the study names it; None for a policy that has a name of its own."""
    policy = study.spec.methods[key.method].policy
    return None if policy in (*BARE, HINDSIGHT) else policy.replace("{stream}", key.stream).replace(PER_SEED, str(key.seed))


def different(then: Mapping[str, object], now: Mapping[str, object], at: str = "") -> list[str]:
    """Settings, by dotted name, that are not the same in both."""
    found: list[str] = []
    for name in [*then, *(name for name in now if name not in then)]:
        first, second = then.get(name), now.get(name)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            found += different(first, second, f"{at}{name}.")
        elif first != second:
            found.append(f"{at}{name}: {first} then, {second} now")
    return found


def named(names: str | None, known: Sequence[str], kind: str, where: Path) -> list[str]:
    """The names of a comma-separated list, all for None. Raises ConfigError for one that is unknown."""
    wanted = list(known) if names is None else [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise unknown_name(kind, name, known, where=where)
    return wanted
