"""One function over many files: local processes or a Dask cluster, results kept as they come, so that a walk can be interrupted."""

import contextlib
import json
import multiprocessing
import pickle
import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from vidkd.base.cores import available_cores
from vidkd.base.errors import ConfigError, require
from vidkd.base.files import append_jsonl, atomic_write, dump_json, read_jsonl

MOST_LOCAL_WORKERS = 64  # each local worker costs some eight file descriptors, and 1024 is a common limit
ANSWER_WITHIN_S = 10  # how long to try to reach a Dask scheduler
_DIED = "WorkerDied: the process at work on this file died (a crash inside a decoder, or killed for want of memory)"

_Attempt: TypeAlias = tuple[Any, str | None]
_Outcome: TypeAlias = tuple[str, Any, str | None]


@dataclass(frozen=True, kw_only=True)
class WalkResult:
    """What became of one item: its value, or the error that it met ("Type: message"); cached if an earlier walk had it."""

    item: str
    value: Any | None
    error: str | None
    cached: bool


def file_fingerprint(item: str) -> str:
    """Size and time of modification of the file `item`, or "missing"."""
    try:
        status = Path(item).stat()
    except OSError:
        return "missing"
    return f"{status.st_size}-{status.st_mtime_ns}"


def map_files(
    function: Callable[[str], Any],
    items: Sequence[str],
    *,
    out: Path | str | None = None,
    workers: int | None = None,
    dask: str | None = None,
    key: str = "",
    fingerprint: Callable[[str], str] = file_fingerprint,
) -> Iterator[WalkResult]:
    """Call `function(item)` for every item; yields kept results first, in the order of `items`, then new ones as they finish.

    function: importable by name (or a `functools.partial` of such), returns something JSON can hold (lists come back for tuples). An
        exception becomes the item's `.error`; a process that dies (a decoder's crash) costs the file it was reading and no other.
    items: distinct names, as a rule paths.
    out: JSON-lines file, one row an item, written as results come: a walk that was interrupted resumes. A kept row is used if
        it has no error and its fingerprint and `key` are today's. Rows of other items stay in the file.
    workers: local processes, started afresh (spawn); 0 or 1: in this process; None: one a CPU, at most MOST_LOCAL_WORKERS.
    dask: address of a Dask scheduler (tcp://host:port), used instead of local processes; a task whose worker is lost is run again there.
    key: names the settings of `function`, so that a change of settings is not answered from rows kept under the old ones.
    fingerprint: item -> str, run in this process; by default size and time of modification.

    Leaving the loop or Ctrl-C stops the processes; rows already yielded are in `out`.
    Raises ConfigError for items given twice, a function that cannot be sent to a process, or a scheduler that does not answer.
    """
    if len(set(items)) < len(items):
        twice = next(item for item in items if items.count(item) > 1)
        raise ConfigError("an item is given twice to a walk", item=twice)
    workers = _default_workers() if workers is None else workers
    if workers < 0:
        raise ConfigError("the number of workers is negative", workers=workers)
    if dask is not None or workers > 1:
        _check_can_be_sent(function)
    return _walk(function, items, Path(out) if out is not None else None, workers, dask, key, fingerprint)


def _walk(
    function: Callable[[str], Any],
    items: Sequence[str],
    out: Path | None,
    workers: int,
    dask: str | None,
    key: str,
    fingerprint: Callable[[str], str],
) -> Iterator[WalkResult]:
    marks = {item: fingerprint(item) for item in items}
    kept = _take_kept(out, marks, key) if out is not None else {}
    for item in items:
        if item in kept:
            yield WalkResult(item=item, value=kept[item], error=None, cached=True)
    todo = [item for item in items if item not in kept]
    with contextlib.closing(_outcomes(function, todo, workers, dask)) as outcomes:
        for item, value, error in outcomes:
            if out is not None:
                append_jsonl(out, {"item": item, "fingerprint": marks[item], "key": key, "value": value, "error": error})
            yield WalkResult(item=item, value=value, error=error, cached=False)


def _outcomes(function: Callable[[str], Any], todo: Sequence[str], workers: int, dask: str | None) -> Generator[_Outcome, None, None]:
    if not todo:
        return
    if dask is not None:
        yield from _on_cluster(function, todo, dask)
    elif workers > 1:
        yield from _in_processes(function, todo, workers)
    else:
        for item in todo:
            yield (item, *_attempt(function, item))


def _attempt(function: Callable[[str], Any], item: str) -> _Attempt:
    """The value as JSON gives it back, so that a fresh result and a kept one are the same thing; or the error as text."""
    try:
        return json.loads(json.dumps(function(item), allow_nan=False)), None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def _take_kept(out: Path, marks: Mapping[str, str], key: str) -> dict[str, Any]:
    """Values of the rows that still hold; rows that will be written again are taken out of the file."""
    if not out.exists():
        return {}
    rows = read_jsonl(out)
    newest = {row["item"]: row for row in rows}
    kept = {item: row["value"] for item, row in newest.items() if item in marks and _holds(row, marks[item], key)}
    staying = [row for item, row in newest.items() if item in kept or item not in marks]
    if len(staying) < len(rows):
        with atomic_write(out) as file:
            file.writelines(dump_json(row) + "\n" for row in staying)
    return kept


def _holds(row: Mapping[str, Any], mark: str, key: str) -> bool:
    return row["error"] is None and row["fingerprint"] == mark and row["key"] == key


def _in_processes(function: Callable[[str], Any], items: Sequence[str], workers: int) -> Generator[_Outcome, None, None]:
    """Pools of one process each, one item at a time: if a process dies, it is known whose fault it was and nothing else is lost."""
    pools = [_pool() for _ in range(min(workers, len(items)))]
    idle, busy = list(range(len(pools))), dict[Future[_Attempt], tuple[str, int]]()
    waiting = iter(items)
    try:
        while True:
            while idle and (item := next(waiting, None)) is not None:
                place = idle.pop()
                busy[_submit(pools, place, function, item)] = (item, place)
            if not busy:
                return
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                item, place = busy.pop(future)
                idle.append(place)
                yield (item, *_result(future))
    finally:
        for pool in pools:
            _stop(pool)


def _submit(pools: list[ProcessPoolExecutor], place: int, function: Callable[[str], Any], item: str) -> "Future[_Attempt]":
    try:
        return pools[place].submit(_attempt, function, item)
    except BrokenProcessPool:
        pools[place] = _pool()
        return pools[place].submit(_attempt, function, item)


def _pool() -> ProcessPoolExecutor:
    """One spawned process (a forked one would inherit open decoders) that leaves Ctrl-C to its parent."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_ignore_interrupts)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stop(pool: ProcessPoolExecutor) -> None:
    """Stop a pool without waiting for what it is doing; an idle process has nothing to lose either."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    for process in processes:
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


def _result(future: "Future[_Attempt]") -> _Attempt:
    try:
        return future.result()
    except BrokenProcessPool:
        return None, _DIED
    except CancelledError:
        return None, "CancelledError: the cluster dropped this task"
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def _on_cluster(function: Callable[[str], Any], items: Sequence[str], address: str) -> Generator[_Outcome, None, None]:
    """All items at once: the scheduler spreads them, runs those of a lost worker again, and an adaptive cluster sees how many wait."""
    distributed = require("distributed", "cluster")
    try:
        client = distributed.Client(address, set_as_default=False, timeout=ANSWER_WITHIN_S)
    except (OSError, ValueError) as error:
        raise ConfigError("no Dask scheduler answers", address=address, reason=error) from error
    with client:
        executor = client.get_executor(pure=False)
        futures = {executor.submit(_attempt, function, item): item for item in items}
        for future in as_completed(list(futures)):
            yield (futures.pop(future), *_result(future))


def _default_workers() -> int:
    return min(available_cores(), MOST_LOCAL_WORKERS)


def _check_can_be_sent(function: Callable[[str], Any]) -> None:
    try:
        pickle.dumps(function)
    except Exception as error:
        raise ConfigError(
            "a walk's function cannot be sent to another process", function=function, hint="define it at the top level of a module"
        ) from error
