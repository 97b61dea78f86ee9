"""Memory as the kernel tells it."""

from pathlib import Path

import pytest

from vidkd.base.memory import MACHINE, STATUS, available_bytes, resident_bytes


def test_the_kernel_s_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t  307200 kB\nVmRSS:\t  153600 kB\n")
    (tmp_path / "meminfo").write_text("MemTotal:       24000 kB\nMemAvailable:   2048 kB\n")
    assert resident_bytes(tmp_path / "status") == 150 * 2**20
    assert available_bytes(tmp_path / "meminfo") == 2 * 2**20
    assert available_bytes(tmp_path / "status") is None
    assert resident_bytes(tmp_path / "none") is None


def test_what_is_held_counts() -> None:
    if not STATUS.exists() or not MACHINE.exists():
        pytest.skip("this system has no /proc")
    before = resident_bytes()
    held = bytearray(2**27)
    held[::4096] = b"\x01" * len(held[::4096])
    after = resident_bytes()
    assert before is not None
    assert after is not None
    assert after - before > 2**26
