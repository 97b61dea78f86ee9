"""Files that are named by a path below a folder that the user gives."""

from pathlib import Path

import pytest

from vidkd.base.errors import ConfigError
from vidkd.base.roots import find_below, roots_of


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
