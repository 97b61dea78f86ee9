"""A study from its file, whatever kind it is; the studies whose results are committed; and their recomputation."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vidkd.base.errors import ConfigError
from vidkd.base.settings import read_yaml
from vidkd.bench.clip_study import ClipStudy, read_clip_study
from vidkd.bench.streams.study import read_stream_study
from vidkd.bench.study import Places, Study, read_cells
from vidkd.bench.summary import read_summary
from vidkd.bench.tuning import read_chosen


def read_study(path: Path | str, overrides: Sequence[str] = ()) -> Study:
    """A study of classifiers, or of streams where the file has `streams`. Raises ConfigError as their readers do."""
    path = Path(path)
    if "streams" not in read_yaml(path).content:
        return read_clip_study(path, overrides)
    if overrides:
        raise ConfigError(f"a study of streams takes no setting of a run: {overrides[0]}", study=path, hint="set it in the study's file")
    return read_stream_study(path)


def chosen_of(study: Study, places: Places) -> dict[str, Any]:
    """What was chosen for a study, here or by the study that it names (`chosen_from`). Raises ConfigError as `read_chosen` does."""
    other = study.spec.chosen_from if isinstance(study, ClipStudy) else None
    return read_chosen(study, places, None if other is None else read_clip_study(study.path.with_name(f"{other}.yaml")))


def committed_studies(studies: Path, results: Path) -> Iterator[tuple[Study, Places]]:
    """The studies of a folder, and those below `streams`, that have a summary in `results`."""
    for path in (*sorted(studies.glob("*.yaml")), *sorted(studies.glob("streams/*.yaml"))):
        study = read_study(path)
        places = Places(results=results / study.name, committed=results)
        if (places.results / "summary.json").exists():
            yield study, places


def check_summaries(studies: Path, results: Path) -> Iterator[tuple[str, list[str]]]:
    """The name of each committed study, and where its summary.json is not what its cells give."""
    for study, places in committed_studies(studies, results):
        again = study.summarise(read_cells(study, places), chosen_of(study, places)["claims"])
        written = read_summary(places.results / "summary.json")
        yield study.name, list(unlike(written, json.loads(json.dumps(again))))


def unlike(one: Any, other: Any, at: str = "") -> Iterator[str]:
    """Where two contents of JSON differ, numbers by more than rounding in the last digits."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            if key in one and key in other:
                yield from unlike(one[key], other[key], f"{at}.{key}" if at else key)
            else:
                yield f"{at}.{key}: only in {'the file' if key in one else 'the recomputation'}"
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (first, second) in enumerate(zip(one, other, strict=True)):
            yield from unlike(first, second, f"{at}[{number}]")
    elif isinstance(one, float) and isinstance(other, int | float) and math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9):
        return
    elif one != other:
        yield f"{at}: {one} in the file, {other} recomputed"
