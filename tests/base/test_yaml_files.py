"""YAML of others is read within bounds: what would fill the memory is an error that says where."""

import pytest

from vidkd.base.errors import ConfigError
from vidkd.base.yaml_files import check_bounds

BOMB = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: " + "[" * 5000, "nesting"),
        (BOMB, "aliases"),
        ("data:\n  " + BOMB.replace("\n", "\n  "), "aliases"),
        ("x" * 2**21, "characters"),
    ],
    ids=["deep", "aliases", "aliases under a key", "long"],
)
def test_yaml_beyond_bounds_is_refused_at_once(text: str, found: str) -> None:
    with pytest.raises(ConfigError, match=r"too large or too deep: c\.yaml") as caught:
        check_bounds(text, "c.yaml")
    assert found in caught.value.lines["found"]


@pytest.mark.parametrize("text", ["", "a: 1", "base: &b {x: [1, 2]}\nc: *b\nd: *b", "a: [1", "a: *nowhere"])
def test_yaml_within_bounds_is_left_to_its_reader(text: str) -> None:
    check_bounds(text, "c.yaml")
