"""A study from its file, whatever kind it is; and the recomputation of the committed summaries."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vidkd.base.errors import ConfigError
from vidkd.base.yaml_files import find_config, read_yaml
from vidkd.bench.clip_study import ClipStudy, read_clip_study
from vidkd.bench.streams.study import read_stream_study
from vidkd.bench.study import Places, Study
from vidkd.bench.summary import read_summary
from vidkd.bench.tuning import read_chosen


def read_study(path: Path | str, overrides: Sequence[str] = ()) -> Study:
    """A study of classifiers, or of streams where the file has `streams`; a shipped name will do. Raises ConfigError as its reader does."""
    path = find_config(path)
    if "streams" not in read_yaml(path).content:
        return read_clip_study(path, overrides)
    if overrides:
        raise ConfigError(f"a study of streams takes no setting of a run: {overrides[0]}", study=path, hint="set it in the study's file")
    return read_stream_study(path)


def chosen_of(study: Study, places: Places) -> dict[str, Any]:
    """What was chosen for a study, here or by the study that it names (`chosen_from`). Raises ConfigError as `read_chosen` does."""
    other = study.spec.chosen_from if isinstance(study, ClipStudy) else None
    return read_chosen(study, places, None if other is None else read_clip_study(study.path.with_name(f"{other}.yaml")))


def check_summaries(studies: Path, results: Path) -> Iterator[tuple[str, list[str]]]:
    """The name of each study of a folder and its `streams` that has results, and where its summary is not what its cells give."""
    for path in (*sorted(studies.glob("*.yaml")), *sorted(studies.glob("streams/*.yaml"))):
        study = read_study(path)
        places = Places(results=results / study.name, committed=results)
        if (places.results / "cells.parquet").exists():
            written = {name: part for name, part in read_summary(places.results / "summary.json").items() if name != "chosen"}
            again = study.summarise(places.store(study.name).cells("test"), chosen_of(study, places)["claims"])
            yield study.name, unlike(written, json.loads(json.dumps(again)))


def unlike(written: Any, again: Any) -> list[str]:
    """Where two contents of JSON differ, numbers by more than rounding in the last digits."""
    one, other = dict(_leaves(written)), dict(_leaves(again))
    return [
        f"{at}: {one.get(at)} in the file, {other.get(at)} recomputed" for at in {**one, **other} if not _alike(one.get(at), other.get(at))
    ]


def _leaves(content: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict | list) and content:
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _leaves(value, f"{at}.{key}" if at else str(key))
    else:
        yield at, content


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-8)
    return bool(one == other)
