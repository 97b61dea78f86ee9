"""Errors say what, where and how to mend it, and arrive whole from another process."""

import importlib.metadata
import pickle
import sys

import pytest

from vidkd.base.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MissingExtraError,
    UnknownFlagError,
    VideoError,
    VidkdError,
    first_line,
    nearest,
    nearest_flag,
    require,
    unknown_name,
)


def test_labels_are_aligned_and_underscores_become_spaces() -> None:
    error = DataError("data set 'x' not found", looked_in="/data/x", hint="download it")
    assert str(error) == "data set 'x' not found\n  looked in : /data/x\n  fix       : download it"


def test_without_labels_it_is_one_line() -> None:
    assert str(VideoError("no frames")) == "no frames"


@pytest.mark.parametrize("kind", [VidkdError, ConfigError, DataError, VideoError, CheckpointError, MissingExtraError])
def test_pickling_keeps_kind_and_lines(kind: type[VidkdError]) -> None:
    error = pickle.loads(pickle.dumps(kind("what", looked_in="/there", value=3)))
    assert type(error) is kind
    assert isinstance(error, VidkdError)
    assert error.lines == {"looked in": "/there", "value": "3"}
    assert str(error) == str(kind("what", looked_in="/there", value=3))


def test_an_unknown_flag_is_known_among_more_flags_later() -> None:
    error = UnknownFlagError.of("setting", "--repaet", ["--rounds"], where="command line")
    assert str(error) == "unknown setting '--repaet'\n  where : command line"
    later = pickle.loads(pickle.dumps(error)).with_lines(study="a.yaml").among(["--repeat", "--root"])
    assert isinstance(later, UnknownFlagError)
    assert later.what == error.what
    assert later.lines == {"did you mean": "--repeat", "where": "command line", "study": "a.yaml"}
    assert error.lines == {"where": "command line"}


@pytest.mark.parametrize(
    ("flag", "meant"),
    [("--lr", "--optim.lr"), ("--optim.lrr", "--optim.lr"), ("-bugdet", "--budget"), ("--seconds", None), ("--epochs", "--train.epochs")],
)
def test_the_nearest_flag(flag: str, meant: str | None) -> None:
    assert nearest_flag(flag, ["--budget", "--optim.lr", "--train.epochs"]) == meant


def test_unknown_name_lists_the_known_ones_and_the_nearest() -> None:
    error = unknown_name("task", "atention", ["kd", "attention", "jacobian"], at="config.yaml:3")
    assert isinstance(error, ConfigError)
    assert str(error).splitlines() == [
        "unknown task 'atention'",
        "  at           : config.yaml:3",
        "  did you mean : attention",
        "  known        : attention, jacobian, kd",
    ]
    assert "did you mean" not in str(unknown_name("task", "zzz", ["attention"]))


def test_nearest() -> None:
    assert nearest("resnet81", ["resnet18", "x3d"]) == "resnet18"
    assert nearest("q", ["resnet18", "x3d"]) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one", "one"),
        ("\n  two words \nmore", "two words"),
        ("Exception from a.cpp:3:\nCheck 'x' failed at b.cpp\nthe reason", "the reason"),
        ("Exception from a.cpp:3:", "ValueError"),
        ("", "ValueError"),
        ("x" * 400, "x" * 300),
    ],
)
def test_the_first_line_that_tells_something(text: str, line: str) -> None:
    assert first_line(ValueError(text), leave_out=("Exception from", "Check ")) == line


def test_nothing_is_left_out_by_default() -> None:
    assert first_line(ValueError("Check 'x' failed")) == "Check 'x' failed"


def test_require_returns_the_module_or_names_the_extra() -> None:
    assert require("json", "report").dumps([]) == "[]"
    with pytest.raises(MissingExtraError, match=r"^'surely_not_a_module' is not installed\n.*pip install 'vidkd\[report\]'$"):
        require("surely_not_a_module.pyplot", "report")
    with pytest.raises(
        MissingExtraError, match=r"^'one-package' is not installed\n.*'vidkd\[report\]' +\(or pip install one-package, where "
    ):
        require("surely_not_a_module.pyplot", "report", package="one-package")


def test_a_checkout_that_is_not_installed_is_named_by_its_folder(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(MissingExtraError) as raised:
        require("no_such_package", "litert", package="ai-edge-litert")
    text = str(raised.value)
    assert f"{request.config.rootpath}[litert]" in text
    assert text.endswith("(or pip install ai-edge-litert, where vidkd is installed without torch)")


def test_require_does_not_hide_what_an_installed_package_lacks(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "installed_but_broken.py").write_text("import surely_not_a_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="surely_not_a_module"):
        require("installed_but_broken", "report")
    sys.modules.pop("installed_but_broken", None)
