"""A walk over many files: every item once, kept rows, errors, dead workers, a cluster that loses one."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from started import started

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import read_jsonl
from vidkd.base.walk import WalkResult, map_files


def size_of(item: str) -> dict[str, object]:
    return {"name": Path(item).name, "bytes": Path(item).stat().st_size}


def touchy(item: str) -> int:
    if "bad" in item:
        raise DataError("cannot be read", path=item)
    return len(item)


def deadly(item: str) -> str:
    """Dies as a segmentation fault would, after its neighbours had time to begin."""
    if "deadly" in item:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return item.upper()


def counted(item: str, folder: str) -> str:
    """Leaves one line a call, so that a test can count the calls."""
    with open(Path(folder) / "calls", "a") as file:
        file.write(f"{item}\n")
    return item


def slow(item: str) -> str:
    time.sleep(0.15)
    return item


def not_a_number(item: str) -> float:
    return float("nan") if item == "b" else 1.0


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().split() if path.exists() else []


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    folder = tmp_path / "files"
    folder.mkdir()
    for index in range(4):
        (folder / f"{index}.bin").write_bytes(b"x" * index)
    return sorted(str(path) for path in folder.iterdir())


@pytest.mark.parametrize("workers", [0, 2])
def test_every_item_once_with_its_value(files: list[str], workers: int) -> None:
    results = sorted(map_files(size_of, files, workers=workers), key=lambda result: result.item)
    assert results == [
        WalkResult(item=item, value={"name": f"{index}.bin", "bytes": index}, error=None, cached=False) for index, item in enumerate(files)
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_costs_only_its_item(workers: int) -> None:
    results = {result.item: result for result in map_files(touchy, ["a", "bad", "ccc"], workers=workers)}
    assert results["a"].value == 1
    assert results["ccc"].value == 3
    assert results["bad"].value is None
    assert results["bad"].error is not None
    assert results["bad"].error.startswith("DataError: cannot be read")
    assert "bad" in results["bad"].error.splitlines()[1]


def test_a_value_that_json_cannot_hold_is_an_error() -> None:
    results = {result.item: result for result in map_files(not_a_number, ["a", "b"], workers=0)}
    assert results["a"].value == 1.0
    assert results["b"].error is not None
    assert results["b"].error.startswith("ValueError")


def test_a_process_that_dies_costs_only_its_file(tmp_path: Path) -> None:
    items = ["a", "deadly-1", "b", "c", "deadly-2", "d", "e", "f"]
    results = list(map_files(deadly, items, workers=2, out=tmp_path / "rows.jsonl"))
    assert sorted(result.item for result in results) == sorted(items)
    assert {result.item for result in results if result.error} == {"deadly-1", "deadly-2"}
    assert all(result.error.startswith("WorkerDied") for result in results if result.error)
    assert {result.value for result in results if not result.error} == {"A", "B", "C", "D", "E", "F"}


def test_kept_rows_are_not_computed_again(tmp_path: Path, files: list[str]) -> None:
    function = functools.partial(counted, folder=str(tmp_path))
    first = list(map_files(function, files[:2], out=tmp_path / "rows.jsonl", workers=0))
    second = list(map_files(function, files, out=tmp_path / "rows.jsonl", workers=0))
    assert [result.cached for result in first] == [False, False]
    assert [(result.item, result.cached) for result in second] == list(zip(files, [True, True, False, False], strict=True))
    assert sorted(calls(tmp_path)) == files
    assert [row["item"] for row in read_jsonl(tmp_path / "rows.jsonl")] == files


def test_a_changed_file_is_computed_again_and_has_one_row(tmp_path: Path, files: list[str]) -> None:
    out = tmp_path / "rows.jsonl"
    list(map_files(size_of, files, out=out, workers=0))
    Path(files[1]).write_bytes(b"longer than it was")
    results = {result.item: result for result in map_files(size_of, files, out=out, workers=0)}
    assert [item for item in files if not results[item].cached] == [files[1]]
    assert results[files[1]].value["bytes"] == 18
    assert sorted(row["item"] for row in read_jsonl(out)) == files


def test_other_settings_or_another_fingerprint_are_computed_again(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    list(map_files(touchy, ["a"], out=out, workers=0, key="medium"))
    assert [result.cached for result in map_files(touchy, ["a"], out=out, workers=0, key="medium")] == [True]
    assert [result.cached for result in map_files(touchy, ["a"], out=out, workers=0, key="fast")] == [False]
    assert [result.cached for result in map_files(touchy, ["a"], out=out, workers=0, key="fast", fingerprint=str.upper)] == [False]
    assert [result.cached for result in map_files(touchy, ["a"], out=out, workers=0, key="fast", fingerprint=str.upper)] == [True]


def test_rows_with_an_error_are_tried_again_and_other_rows_stay(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    list(map_files(touchy, ["a", "bad", "other"], out=out, workers=0))
    results = list(map_files(len, ["a", "bad"], out=out, workers=0))
    assert [(result.item, result.value, result.cached) for result in results] == [("a", 1, True), ("bad", 3, False)]
    rows = read_jsonl(out)
    assert [(row["item"], row["error"]) for row in rows] == [("a", None), ("other", None), ("bad", None)]


@pytest.mark.parametrize(
    ("function", "items", "workers", "says"),
    [(len, ["a", "a"], 0, "twice"), (lambda item: item, ["a"], 2, "another process"), (len, ["a"], -1, "negative")],
)
def test_refusals_come_at_the_call(function: object, items: list[str], workers: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        map_files(function, items, workers=workers)  # type: ignore[arg-type]


def test_a_kept_result_is_equal_to_a_fresh_one(tmp_path: Path) -> None:
    function = functools.partial(tuple)
    fresh = next(map_files(function, ["ab"], workers=0, out=tmp_path / "rows.jsonl"))
    kept = next(map_files(function, ["ab"], workers=0, out=tmp_path / "rows.jsonl"))
    assert fresh.value == kept.value == ["a", "b"]


def test_leaving_the_loop_stops_the_processes(tmp_path: Path) -> None:
    began = time.monotonic()
    walk = map_files(deadly, ["a"] + [f"b{index}" for index in range(2000)], workers=2, out=tmp_path / "rows.jsonl")
    first = next(walk)
    walk.close()  # type: ignore[attr-defined]
    assert first.error is None
    assert len(read_jsonl(tmp_path / "rows.jsonl")) == 1
    assert time.monotonic() - began < 30  # the 2000 would take 50 s


INTERRUPTED = """
import sys
from tests.base.test_walk import slow
from vidkd.base.walk import map_files

if __name__ == "__main__":
    for result in map_files(slow, [str(index) for index in range(400)], workers=2, out=sys.argv[1]):
        sys.stdout.write("row\\n")
        sys.stdout.flush()
"""


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT to a process group")
def test_ctrl_c_keeps_the_finished_rows(tmp_path: Path) -> None:
    script = tmp_path / "walk_script.py"
    script.write_text(INTERRUPTED)
    root = Path(__file__).parents[2]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, script, tmp_path / "rows.jsonl"]
    with started(command, timeout_s=60, env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}, **pipes) as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and workers alike
        _, stderr = process.communicate(timeout=20)
    rows = read_jsonl(tmp_path / "rows.jsonl")
    assert process.returncode != 0
    assert stderr.count("KeyboardInterrupt") == 1  # the parent's; the workers stay quiet
    assert 3 <= len(rows) < 400
    assert all(row["error"] is None for row in rows)
    with pytest.raises(ProcessLookupError):
        _wait_for_group_to_end(process.pid)


def _wait_for_group_to_end(group: int) -> None:
    for _ in range(50):
        os.killpg(group, 0)
        time.sleep(0.1)


class TestCluster:
    """The same walk on Dask; a local cluster stands for a real one."""

    @pytest.fixture
    def cluster(self):
        distributed = pytest.importorskip("distributed", reason="needs the extra [cluster]")
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50, worker_dashboard_address=None
        ) as cluster:
            yield cluster

    @pytest.mark.slow
    def test_losing_a_worker_in_the_middle_loses_and_doubles_nothing(self, cluster, tmp_path: Path) -> None:
        items = [f"item-{index}" for index in range(30)]
        walk = map_files(slow, items, dask=cluster.scheduler_address, out=tmp_path / "rows.jsonl")
        results = [next(walk), next(walk)]
        lost = cluster.workers[0].pid
        os.kill(lost, signal.SIGKILL)
        results += list(walk)
        assert cluster.workers[0].pid != lost
        assert sorted(result.item for result in results) == sorted(items)
        assert all(result.error is None and result.value == result.item for result in results)
        assert sorted(row["item"] for row in read_jsonl(tmp_path / "rows.jsonl")) == sorted(items)
        again = list(map_files(slow, items, dask=cluster.scheduler_address, out=tmp_path / "rows.jsonl"))
        assert [result.cached for result in again] == [True] * 30

    def test_no_scheduler_is_a_plain_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("distributed", reason="needs the extra [cluster]")
        monkeypatch.setattr("vidkd.base.walk.ANSWER_WITHIN_S", 1)
        with pytest.raises(ConfigError, match="no Dask scheduler"):
            list(map_files(len, ["a"], dask="tcp://127.0.0.1:9"))
