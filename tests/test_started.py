"""Processes that tests start end in time, with all that they started."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from started import run_to_end

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


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("last", ["time.sleep(600)", "sys.exit()"], ids=["waits", "leaves its child, which holds the pipe"])
def test_a_process_out_of_time_is_ended_with_its_children(last: str, tmp_path: Path) -> None:
    out = tmp_path / "child"
    code = PARENT + f"open({str(out)!r}, 'w').write(str(child.pid))\n{last}\n"
    with pytest.raises(subprocess.TimeoutExpired):
        run_to_end([sys.executable, "-c", code], timeout_s=3)
    check_gone(out.read_text())


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
