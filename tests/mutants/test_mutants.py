"""The arithmetic of the runner, on a toy library; and that every listed fault still fits the library."""

from pathlib import Path

import pytest
from faults_learning import LEARNING
from faults_streams import STREAMS
from faults_studies import STUDIES
from mutants import ROOT, Mutant, judge, mutated, run, verdict_of

ALL = (*LEARNING, *STREAMS, *STUDIES)
SUM = Mutant("minus", "vidkd/toy.py", "a + b", "a - b", ("tests/test_toy.py::test_sum",))
UNSEEN = Mutant("unseen", "vidkd/toy.py", "return a * b", "return b * a", ("tests/test_toy.py::test_product",))
ABSENT = Mutant("absent", "vidkd/toy.py", "a / b", "b / a", ("tests/test_toy.py",))


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "vidkd").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "vidkd/toy.py").write_text("def total(a, b):\n    return a + b\n\n\ndef product(a, b):\n    return a * b\n")
    test = "from vidkd.toy import total, product\ndef test_sum(): assert total(1, 2) == 3\ndef test_product(): assert product(2, 3) == 6\n"
    (tmp_path / "tests/test_toy.py").write_text(test)
    return tmp_path


def test_a_mutant_is_caught_and_the_tree_is_never_changed(toy, capsys):
    before = (toy / "vidkd/toy.py").read_text()
    assert run([SUM], toy, workers=1) == 0
    assert "caught  minus" in (printed := capsys.readouterr().out)
    assert "tests/test_toy.py::test_sum" in printed
    assert "1 mutants: 1 caught, 0 missed, 0 broken" in printed
    assert (toy / "vidkd/toy.py").read_text() == before


def test_a_missed_and_a_broken_one_fail_the_run(toy, capsys):
    assert run([UNSEEN, ABSENT], toy, workers=1) == 1
    printed = capsys.readouterr().out
    assert "missed  unseen" in printed
    assert "occurs 0 times" in printed
    assert "2 mutants: 0 caught, 1 missed, 1 broken" in printed


def test_a_judged_tree_is_put_back(toy):
    before = (toy / "vidkd/toy.py").read_text()
    assert judge(SUM, toy).outcome == "caught"
    assert (toy / "vidkd/toy.py").read_text() == before


def test_tests_that_fail_without_a_mutant_stop_the_run(toy, capsys):
    (toy / "tests/test_toy.py").write_text("def test_sum(): assert False\n")
    assert run([SUM], toy, workers=1) == 1
    assert "fail without any" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "output", "outcome"),
    [
        (0, "1 passed", "missed"),
        (1, "FAILED tests/a.py::b - assert 1 == 2", "caught"),
        (1, "ERROR tests/a.py::b - NameError: name 'x' is not defined", "broken"),
        (2, "ERROR tests/a.py - SyntaxError: bad", "broken"),
        (4, "ERROR: not found: a.py", "broken"),
        (5, "no tests ran", "broken"),
        (-1, "no end within 600 s", "broken"),
    ],
)
def test_outcome_by_exit_code(code, output, outcome):
    assert verdict_of(code, output)[0] == outcome


def test_names_are_unique():
    assert len({mutant.name for mutant in ALL}) == len(ALL)


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_every_mutant_applies(mutant):
    assert mutated((ROOT / mutant.file).read_text(encoding="utf-8"), mutant) != mutant.old
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert (ROOT / file).is_file()
        assert f"def {name.split('[')[0]}" in (ROOT / file).read_text(encoding="utf-8")
