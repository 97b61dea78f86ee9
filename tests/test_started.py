"""Processes that tests start end in time, with all that they started."""

import re
import subprocess
import sys
import time
from pathlib import Path

import browser
import pytest
from started import run_to_end, started

TESTS = Path(__file__).parent
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
"""


def is_alive(number: str) -> bool:
    """Whether a process is there, and is no zombie that its new parent has yet to look at."""
    status = Path(f"/proc/{number}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def check_gone(number: str) -> None:
    end = time.monotonic() + 20
    while is_alive(number):
        assert time.monotonic() < end, "a child has outlived what started it"
        time.sleep(0.01)


def test_what_a_process_wrote_and_how_it_ended() -> None:
    done = run_to_end([sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"])
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    with pytest.raises(subprocess.CalledProcessError):
        run_to_end([sys.executable, "-c", "raise SystemExit(3)"], check=True)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("last", ["time.sleep(600)", "sys.exit()"], ids=["waits", "leaves its child, which holds the pipe"])
def test_a_process_out_of_time_is_ended_with_its_children(last: str, tmp_path: Path) -> None:
    out = tmp_path / "child"
    code = PARENT + f"open({str(out)!r}, 'w').write(str(child.pid))\n{last}\n"
    with pytest.raises(subprocess.TimeoutExpired):
        run_to_end([sys.executable, "-c", code], timeout_s=3)
    check_gone(out.read_text())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_a_failed_test_leaves_no_process() -> None:
    def fail() -> None:
        with started([sys.executable, "-c", PARENT + "time.sleep(600)"], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            child.append(process.stdout.readline().strip())
            raise ValueError("a test that fails")

    child: list[str] = []
    with pytest.raises(ValueError, match="a test that fails"):
        fail()
    check_gone(child[0])


BROWSER = """#!/bin/sh
echo "$@"
case "$*" in *slow.html) sleep 600 & echo $! > "${0%/*}/child"; wait;; esac
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_a_browser_out_of_time_is_ended_with_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script stands for it."""
    (tmp_path / "chromium").write_text(BROWSER)
    (tmp_path / "chromium").chmod(0o755)
    monkeypatch.setattr(browser, "CHROMIUM", str(tmp_path / "chromium"))
    words = browser.dump(tmp_path, tmp_path / "quick.html", "--flag").stdout.split()
    assert words == [*browser.QUIET, "--flag", "--dump-dom", f"--user-data-dir={tmp_path}/profile", (tmp_path / "quick.html").as_uri()]
    with pytest.raises(subprocess.TimeoutExpired):
        browser.dump(tmp_path, tmp_path / "slow.html", timeout_s=2)
    check_gone((tmp_path / "child").read_text().strip())


def test_the_fast_tests_open_no_browser() -> None:
    @browser.needs_chromium
    def test() -> None: ...

    assert [mark.name for mark in test.pytestmark] == ["skipif", "slow", "browser"]  # type: ignore[attr-defined]


def test_nothing_waits_for_ever() -> None:
    """Tests start processes by `started` and `run_to_end`; what is the system's own has a timeout next to it."""
    bare = re.compile(r"subprocess\.(?:run|Popen|call|check_\w+)\((?:[^()]|\([^()]*\))*\)")
    found = [
        f"{path.relative_to(TESTS)}: {call}"
        for path in sorted(TESTS.rglob("*.py"))
        if path not in (TESTS / "started.py", Path(__file__))
        for call in bare.findall(path.read_text(encoding="utf-8"))
        if "timeout=" not in call
    ]
    assert found == []
