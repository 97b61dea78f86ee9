"""Flags that take a number: what is in the range, and what is said of what is not."""

import argparse

import pytest

from vidkd.base.errors import ConfigError
from vidkd.cli.main import run_verb
from vidkd.cli.number_flags import Number, add_count, add_number, add_share


@pytest.mark.parametrize(
    ("number", "inside", "outside", "range_"),
    [
        (Number("--x", least=0, most=1), ["0", "0.5", "1"], ["-0.1", "1.5", "nan", "inf"], "lie in [0, 1]"),
        (Number("--x", above=0, most=1), ["1e-9", "1"], ["0", "5"], "lie in (0, 1]"),
        (Number("--x", above=0), ["0.1", "1e9"], ["0", "-2", "inf", "nan"], "be above 0"),
        (Number("--x", least=0), ["0", "7"], ["-1"], "be at least 0"),
        (Number("--x", whole=True, least=1), ["1", "300"], ["0", "-4"], "be at least 1"),
    ],
)
def test_a_range(number: Number, inside: list[str], outside: list[str], range_: str) -> None:
    assert [number(text) for text in inside] == [float(text) for text in inside]
    for text in outside:
        with pytest.raises(ConfigError) as error:
            number(text)
        assert error.value.what == f"--x must {range_}, not {text}"


def test_a_whole_number_is_one() -> None:
    value = Number("--x", whole=True, least=1)("12")
    assert isinstance(value, int)
    with pytest.raises(ValueError, match=r"1\.5"):
        Number("--x", whole=True, least=1)("1.5")


def test_flags_of_a_parser(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_number(parser, "--seconds", above=0)
    add_count(parser, "--every", default=1)
    add_share(parser, "--score")
    assert vars(parser.parse_args(["--score", "1"])) == {"seconds": None, "every": 1, "score": 1.0}
    with pytest.raises(ConfigError, match=r"^--score must lie in \[0, 1\], not 30$"):
        parser.parse_args(["--score", "30"])
    with pytest.raises(SystemExit):
        parser.parse_args(["--every", "often"])
    assert "argument --every: invalid whole number value: 'often'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("study study.yaml --workers -1", "--workers must be at least 0, not -1"),
        ("benchmark compare a.json b.json --tolerance -1", "--tolerance must be at least 0, not -1"),
        ("compress --config x.yaml --seed -1", "--seed must be at least 0, not -1"),
        ("make_data --out shapes --workers -1", "--workers must be at least 0, not -1"),
        (
            "make_data --out shapes --contrast 7",
            "motion_shapes: contrast must lie in [0, 1], not 7\n  where : --contrast on the command line",
        ),
    ],
)
def test_a_number_out_of_range_is_told_by_its_flag(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    verb, *rest = words.split()
    assert run_verb(verb, rest) == 2
    assert capsys.readouterr().err == f"vidkd: {told}\n"
