"""Threads that are asked for, and the processors that are there for them."""

import os
from pathlib import Path

import pytest

from vidkd.base import cores
from vidkd.base.cores import at_most_cores, available_cores, check_threads, processor_flags, saturates, sleep_while_waiting
from vidkd.base.errors import ConfigError


def test_what_cannot_run_side_by_side_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 2)
    check_threads(0, 1, 2, where="threads")
    with pytest.raises(ConfigError, match="3 threads on 2 cores") as error:
        check_threads(1, 3, where="--threads")
    assert error.value.lines == {"where": "--threads", "fix": "at most 2"}
    with pytest.raises(ConfigError, match="--threads must not be negative: -1"):
        check_threads(-1, where="--threads")
    monkeypatch.setattr(cores, "available_cores", lambda: 1)
    with pytest.raises(ConfigError, match=r"2 threads on 1 core\n"):
        check_threads(2, where="threads")


def test_a_number_from_another_machine_is_cut_to_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 2)
    assert [at_most_cores(threads) for threads in (0, 1, 2, 3, 64)] == [0, 1, 2, 2, 2]


def test_cores_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


def test_threads_sleep_unless_the_user_has_chosen() -> None:
    environment: dict[str, str] = {}
    sleep_while_waiting(environment)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE"}
    for chosen in ({"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "1000"}, {"KMP_BLOCKTIME": "200"}):
        environment = dict(chosen)
        sleep_while_waiting(environment)
        assert environment == chosen


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"sse2"}, False),
        ({"sse2", "sse4_1"}, True),
        ({"sse4_1", "avx2", "fma"}, True),
        ({"sse4_1", "avx2", "avx512f", "avx512bw"}, True),
        ({"sse4_1", "avx2", "avx512f", "avx512_vnni"}, False),
        ({"sse4_1", "avx2", "avx_vnni"}, False),
        ({"asimd", "asimddp", "i8mm"}, False),
        (set(), False),
    ],
)
def test_x86_without_vnni_saturates(flags: set[str], expected: bool) -> None:
    assert saturates(flags) == expected


@pytest.mark.parametrize("name", ["flags", "Features"])
def test_flags_are_those_of_the_first_core(name: str, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: some\n{name}\t\t: fpu avx2 other\n\nprocessor\t: 1\n{name}\t: fpu\n")
    assert processor_flags(cpuinfo) == {"fpu", "avx2", "other"}


def test_nothing_is_known_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert processor_flags(tmp_path / "none") == frozenset()
    (tmp_path / "empty").write_text("")
    assert processor_flags(tmp_path / "empty") == frozenset()
