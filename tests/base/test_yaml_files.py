"""YAML of others is read within bounds: what would fill the memory is an error that says where."""

from pathlib import Path

import pytest

from vidkd.base.errors import ConfigError
from vidkd.base.roots import find_below, roots_of
from vidkd.base.settings import load_settings
from vidkd.base.yaml_files import check_bounds, read_yaml
from vidkd.bench.speed.config import BenchmarkConfig

BOMB = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: " + "[" * 5000, "nesting"),
        (BOMB, "aliases"),
        ("data:\n  " + BOMB.replace("\n", "\n  "), "aliases"),
        ("x" * 2**21, "characters"),
        ("a: &a {x: *a}", "an alias within what it names"),
    ],
    ids=["deep", "aliases", "aliases under a key", "long", "an alias of itself"],
)
def test_yaml_beyond_bounds_is_refused_at_once(text: str, found: str) -> None:
    with pytest.raises(ConfigError, match=r"too large or too deep: c\.yaml") as caught:
        check_bounds(text, "c.yaml")
    assert found in caught.value.lines["found"]


@pytest.mark.parametrize("text", ["", "a: 1", "base: &b {x: [1, 2]}\nc: *b\nd: *b", "a: [1", "a: *nowhere"])
def test_yaml_within_bounds_is_left_to_its_reader(text: str) -> None:
    check_bounds(text, "c.yaml")


def test_text_that_is_no_yaml_is_told_with_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: 1\nb: task: y\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "c.yaml")
    assert caught.value.lines == {"reason": "mapping values are not allowed here", "where": f"{tmp_path}/c.yaml:2, column 8"}


@pytest.mark.parametrize(("key", "named"), [("1", "1"), ("on", "on"), ("null", "null"), ("2020-01-01", "2020-01-01")])
@pytest.mark.parametrize("start", ["", "data:\n  "])
def test_a_key_that_is_no_text_is_unknown_at_its_line(key: str, named: str, start: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("rounds: 3\n", encoding="utf-8")
    path = tmp_path / "benchmark.yaml"
    path.write_text(f"base: base.yaml\n{start}{key}: 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"unknown setting '{'data.' * bool(start)}{named}'") as caught:
        load_settings(BenchmarkConfig, path)
    assert caught.value.lines["where"] == f"{path}:{3 if start else 2}"


def test_a_key_that_is_no_text_in_a_flag_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'data\.1'") as caught:
        load_settings(BenchmarkConfig, overrides=["--data", "{1: 2}"])
    assert caught.value.lines["where"] == "--data on the command line"


def test_given_folders_stand_before_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIDKD_DATA", raising=False)
    assert roots_of(["--rounds", "5"]) == ()
    monkeypatch.setenv("VIDKD_DATA", "/data")
    assert roots_of([]) == (Path("/data"),)
    assert roots_of(["--data.root", "a", "--rounds", "5", "--data.root=b"]) == (Path("a"), Path("b"))


def test_the_first_folder_that_has_the_file_is_taken(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        (folder / "weights").mkdir(parents=True)
    (second / "weights" / "net.cfg").touch()
    assert find_below("weights/net.cfg", (first, second), named_by="study.yaml") == second / "weights" / "net.cfg"
    (first / "weights" / "net.cfg").touch()
    assert find_below("weights/net.cfg", (first, second), named_by="study.yaml") == first / "weights" / "net.cfg"
    absolute = str(second / "weights" / "net.cfg")
    assert find_below(absolute, (first,), named_by="study.yaml") == Path(absolute)


def test_a_file_that_is_nowhere_is_told_with_who_named_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)not there: net.cfg.*study.yaml.*--data.root DIR"):
        find_below("net.cfg", (tmp_path,), named_by="study.yaml")
