"""The cells of a study of streams: run where they are missing, kept as small JSON, read back and checked."""

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vidkd.base.errors import DataError
from vidkd.base.files import read_json
from vidkd.base.walk import map_files
from vidkd.bench.failed_cells import CellsFailedError
from vidkd.bench.streams.answers import oracle_boxes
from vidkd.bench.streams.contents import contents, truth_content
from vidkd.bench.streams.footage import stretches_of
from vidkd.bench.streams.places import StreamPlaces, different, oracle_files
from vidkd.bench.streams.run import VERSION, run_stream_cell
from vidkd.bench.streams.settings import ChosenTrials, StreamCellKey, StreamPhase, identity_of
from vidkd.bench.streams.spec import StreamStudy

log = logging.getLogger(__name__)
MOST_SHOWN = 6


def run_stream_cells(
    study: StreamStudy, phase: StreamPhase, keys: Sequence[StreamCellKey], places: StreamPlaces, chosen: ChosenTrials, workers: int
) -> Iterator[tuple[StreamCellKey, dict[str, Any]]]:
    """Run the cells that are not there yet; yields each with its content as it ends, kept ones first.

    The oracle sees every stream first, in this process. A cell that fails costs no other one: CellsFailedError comes
    after all have been tried. Raises DataError for a kept cell that was made with other settings or files.
    """
    missing = []
    truths = {stream: truth_content(study, stream, places) for stream in dict.fromkeys(key.stream for key in keys)}
    for key in keys:
        kept = read_cell(study, phase, key, places, chosen, truths=truths)
        if kept is None:
            missing.append(key)
        else:
            yield key, kept
    for stream in dict.fromkeys(key.stream for key in missing):
        oracle_boxes(stretches_of(study, stream, places), oracle_files(study, places), places.cache)
    by_name = {str(key): key for key in missing}
    work = functools.partial(_run_named, study=study, phase=phase, places=places, chosen=chosen, keys=by_name)
    failures: dict[str, str] = {}
    for result in map_files(work, list(by_name), workers=workers, fingerprint=str):
        if result.error is not None:
            failures[result.item] = result.error
            log.error("cell %s failed: %s", result.item, result.error)
        else:
            yield by_name[result.item], read_json(places.cell(phase, by_name[result.item]))
    if failures:
        raise CellsFailedError.of(failures)


def read_cell(
    study: StreamStudy,
    phase: StreamPhase,
    key: StreamCellKey,
    places: StreamPlaces,
    chosen: ChosenTrials,
    *,
    truths: Mapping[str, str | None] | None = None,
) -> dict[str, Any] | None:
    """A finished cell, or None. truths: `truth_content` by stream; with them, files are checked too, and must be there.

    Raises DataError for a cell that was made with other settings or files than the study has now, naming them, by another version, or with
    an oracle that failed.
    """
    path = places.cell(phase, key)
    if not path.exists():
        return None
    content: dict[str, Any] = read_json(path)
    if (version := content.get("version", 1)) != VERSION:
        raise DataError(f"{path} is a cell of version {version}, this is {VERSION}", hint="move the old results away")
    if content.get("failures"):
        mend = "move it away, and it is run again"
        raise DataError(f"the oracle failed while {path} was made", calls_without_an_answer=content["failures"], hint=mend)
    differs = different(content["settings"], _plain(identity_of(study.spec, key, chosen)))
    if truths is not None:
        differs += different(content["files"], contents(study, key, places, truths[key.stream]))
    if differs:
        raise DataError(
            f"{path} was made with other settings or files",
            differs="; ".join(differs[:MOST_SHOWN]),
            hint="move the old results away, or give the study another name",
        )
    return content


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _run_named(
    name: str,
    *,
    study: StreamStudy,
    phase: StreamPhase,
    places: StreamPlaces,
    chosen: ChosenTrials,
    keys: Mapping[str, StreamCellKey],
) -> str:
    run_stream_cell(study, phase, keys[name], places, chosen)
    return name
