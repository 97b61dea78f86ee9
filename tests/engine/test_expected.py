"""What a setting takes, in words."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from vidkd.engine.expected import Expected, as_yaml, expected_of, given_value, in_words


@dataclass(frozen=True, kw_only=True)
class Below:
    sizes: tuple[int, int] | None = (3, 4)
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Above:
    below: Below = field(default_factory=Below)
    rate: float = 1e-5
    needed: bool
    method: Any = None


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number"),
        (bool, "true or false"),
        (float | None, "a number, or none"),
        (Literal["a", "b"], "one of a, b"),
        (Literal["a"] | int, "one of a, or a whole number"),
        (tuple[float, ...], "a list of numbers"),
        (tuple[int, float], "a list of 2 values"),
        (list[str], "a list of texts"),
        (dict[str, int], None),
        (dict[str, int] | None, None),
        (Any, None),
    ],
)
def test_types_in_words(hint: Any, words: str | None) -> None:
    assert in_words(hint) == words


def test_what_a_setting_takes_and_its_default() -> None:
    assert expected_of(Above, "below.sizes", Below) == Expected("a list of 2 whole numbers, or none", "[3, 4]")
    assert expected_of(Above, "below.names", Below) == Expected("a list of texts", None)
    assert expected_of(Above, "method.sizes", Below) == expected_of(Above, "below.sizes", Below)
    assert expected_of(Above, "rate", Below) == Expected("a number", "1.0e-05")
    assert expected_of(Above, "needed", Below) == Expected("true or false", None)
    for key in ("below", "below.nothing", "nothing.at.all", "rate.below", "method"):
        assert expected_of(Above, key, Below) is None, key


def test_values_as_they_are_written() -> None:
    assert [as_yaml(value) for value in (None, True, 3, "rbg", (1, 2))] == ["null", "true", "3", "rbg", "[1, 2]"]
    assert given_value({"a": {"b": [1, 2]}}, "a.b") == "[1, 2]"
    assert given_value({"a": 3}, "a.b") == given_value({}, "a") == ""
