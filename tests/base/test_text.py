"""Text of others is read within bounds: what would be a traceback, or fill the memory, is an error that says where."""

import pytest

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.text import check_yaml, parse_json

BOMB = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"label": ' + "9" * 5000 + "}", "more than 4300 digits"),
        (r'{"path": "a\ud800.mp4"}', "half a character"),
        ('{\n"a": }', "line 2: Expecting value"),
    ],
)
def test_json_that_cannot_be_read_says_where_and_why(text: str, reason: str) -> None:
    with pytest.raises(DataError, match=r"^not JSON: rows\.jsonl:3") as caught:
        parse_json(text, "rows.jsonl:3")
    assert reason in caught.value.lines["reason"]


def test_json_with_whole_surrogate_pairs_is_read() -> None:
    assert parse_json(r'{"path": "\ud83c\udfac.mp4", "n": [1, 2.5, null]}', "x") == {"path": "\N{CLAPPER BOARD}.mp4", "n": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: " + "[" * 5000 + "]" * 5000, "64 levels"),
        ("a: " + "[" * 5000, "64 levels"),
        (BOMB, "aliases"),
        ("data:\n" + BOMB.replace("a0", "  a0", 1).replace("\na", "\n  a"), "aliases"),
        (f"label: {'9' * 5000}", "5000 digits"),
        ("a: " + "x" * 2**20, "characters"),
    ],
    ids=["deep", "deep and open", "aliases", "aliases under a key", "digits", "long"],
)
def test_yaml_beyond_bounds_is_refused_at_once(text: str, found: str) -> None:
    with pytest.raises(ConfigError, match=r"too large or too deep: c\.yaml") as caught:
        check_yaml(text, "c.yaml")
    assert found in caught.value.lines["found"]


@pytest.mark.parametrize("text", ["", "a: 1", "base: &b {x: [1, 2]}\nc: *b\nd: *b", "a: '" + "9" * 5000 + "'", "a: [1", "a: *nowhere"])
def test_yaml_within_bounds_is_left_to_its_reader(text: str) -> None:
    check_yaml(text, "c.yaml")
