"""What the flags of a processor say of products of eight-bit integers."""

from pathlib import Path

import pytest

from vidkd.base.processor import processor_flags, saturates


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
