"""The command itself: verbs, help, exit codes, and errors without a traceback."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from started import run_to_end, started

from vidkd.base.cores import WAITING
from vidkd.base.errors import ConfigError
from vidkd.cli.main import VERBS, main, run_verb
from vidkd.cli.verb_parser import VerbParser, positional


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text and what in text for verb, what in VERBS.items())


def test_nothing_is_an_error_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: vidkd VERB")


def test_an_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detct", "x.mp4"]) == 2
    assert capsys.readouterr().err == "vidkd: unknown verb 'detct'\n  did you mean : vidkd detect\n  all verbs    : vidkd --help\n"
    assert main(["frobnicate"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vidkd: unknown verb 'frobnicate'\n\nusage: vidkd VERB")
    assert all(f"  {verb} " in error for verb in VERBS)


@pytest.mark.parametrize(
    ("words", "given", "meant"),
    [
        ("detect x.mp4 --modle x.onnx --out o", "--modle", "--model"),
        ("detect x.mp4 --model x.onnx --out o --scroe 0.3", "--scroe", "--score"),
        ("detect x.mp4 --model x.onnx --out o --scroe=0.3", "--scroe", "--score"),
        ("detect x.mp4 --model x.onnx --out o -score 0.3", "-score", "--score"),
        ("evaluate --modle x", "--modle", "--model"),
        ("tkd x.mp4 --modle a.cfg --oracle b.cfg --out o", "--modle", "--model"),
    ],
)
def test_an_unknown_flag(words: str, given: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    verb, *rest = words.split()
    assert run_verb(verb, rest) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"vidkd: unknown flag '{given}'",
        f"  did you mean : {meant}",
        f"  all flags    : vidkd {verb} --help",
    ]


def test_an_unknown_flag_that_is_like_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("export", ["--qqq"]) == 2
    assert capsys.readouterr().err == "vidkd: unknown flag '--qqq'\n  all flags : vidkd export --help\n"


@pytest.mark.parametrize(
    ("given", "meant"),
    [("--confg", "--config"), ("--epochs", "--train.epochs"), ("--optim.lrr", "--optim.lr"), ("--lr", "--optim.lr")],
)
def test_an_unknown_setting_may_be_a_flag_of_the_verb(given: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("train", [given, "3"]) == 2
    assert f"unknown setting '{given}'\n  did you mean : {meant}\n" in capsys.readouterr().err


def test_a_setting_is_no_unknown_flag_where_something_else_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("evaluate", ["--name", "x"]) == 2
    assert "missing: --model" in capsys.readouterr().err
    assert main(["evaluate", "runs/x"]) == 2
    assert "did you mean : vidkd evaluate --model runs/x" in capsys.readouterr().err


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_and_a_script(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: vidkd {verb} ")
    script = Path(__file__).parents[2] / "tools" / f"{verb}.py"
    assert f'run_verb("{verb}")' in script.read_text()


def test_a_verb_may_be_written_with_hyphens(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prepare-data", "--help"])
    assert capsys.readouterr().out.startswith("usage: vidkd prepare_data ")


def test_an_error_is_text_on_stderr_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("train", ["--config", "/nowhere/config.yaml"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "vidkd: config not found: /nowhere/config.yaml\n  found : the folder /nowhere is missing\n"
    assert captured.out == ""


def test_a_package_of_training_that_is_missing_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def without(_arguments: object) -> int:
        raise ModuleNotFoundError("No module named 'lightning_fabric.loggers'", name="lightning_fabric.loggers")

    monkeypatch.setattr("vidkd.cli.prepare_data_check.run", without)
    assert run_verb("prepare_data", ["check", "here"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "vidkd: `vidkd prepare_data check` needs the package lightning_fabric, which is not installed here",
        "  fix : install vidkd with what it depends on (without --no-deps), or lightning_fabric",
    ]


def test_a_module_that_is_missing_for_another_reason_is_no_word_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_arguments: object) -> int:
        raise ModuleNotFoundError("No module named 'vidkd.mistake'", name="vidkd.mistake")

    monkeypatch.setattr("vidkd.cli.prepare_data_check.run", broken)
    with pytest.raises(ModuleNotFoundError):
        run_verb("prepare_data", ["check", "here"])


@pytest.mark.parametrize("words", [["config.yaml"], ["--train.steps", "3", "4"], ["--train.steps=3", "4"]])
def test_a_stray_word_is_an_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("train", words) == 2
    assert f"unexpected argument: {words[-1]}" in capsys.readouterr().err


def test_the_script_and_the_command_are_one(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "tools" / "train.py"
    commands = ([str(script)], ["-m", "vidkd.cli.main", "train"])
    done = [run_to_end([sys.executable, *command, "--help"], cwd=tmp_path) for command in commands]
    assert [run.returncode for run in done] == [0, 0]
    assert done[0].stdout == done[1].stdout != ""


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = "import sys; from vidkd.cli import main, study; study.run = lambda _: print('x' * 10**6) or 0; sys.exit(main.main(['study']))"
    with started([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 141)


def test_threads_sleep_before_any_library_is_loaded() -> None:
    code = "import os, sys; from vidkd.cli.main import main; print('torch' in sys.modules, os.environ.get('OMP_WAIT_POLICY')); "
    code += "sys.exit(main(['prepare_data', 'check', '--nonsense']) - 2 or print(os.environ['OMP_WAIT_POLICY']))"
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = run_to_end([sys.executable, "-c", code], env=environment)
    assert (done.returncode, done.stdout.split()) == (0, ["False", "None", "PASSIVE"])


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A verb.

    Args:
        inputs: videos.
        seed: drawn from.
        names: kept.
    """

    inputs: tuple[str, ...] = positional("VIDEO")
    seed: int = 0
    names: tuple[Literal["cat", "dog", "cow"], ...] = ()
    settings: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("words", "videos", "settings"),
    [
        (["--data.root", "/data", "a.mp4"], ("a.mp4",), ("--data.root", "/data")),
        (["--update.lr", "-1", "a.mp4", "b.mp4", "--seed", "3"], ("a.mp4", "b.mp4"), ("--update.lr", "-1")),
        (["a.mp4", "--update.lr=1e-4", "--seed", "3"], ("a.mp4",), ("--update.lr=1e-4",)),
        (["--seed", "3", "--update.bounded", "--", "--odd.mp4"], ("--odd.mp4",), ("--update.bounded",)),
    ],
)
def test_the_value_of_a_setting_is_no_argument_of_the_verb(words: list[str], videos: tuple[str, ...], settings: tuple[str, ...]) -> None:
    found = VerbParser(Kind, prog="vidkd verb").read(words)
    assert (found.inputs, found.settings) == (videos, settings)


@pytest.mark.parametrize(
    "words", [["--names", "cat,dog", "a.mp4"], ["--names=cat", "a,b.mp4", "--names", "dog,"], ["--names", "[cat, dog]", "x"]]
)
def test_a_list_is_one_word_with_commas_and_its_flag_may_be_repeated(words: list[str]) -> None:
    found = VerbParser(Kind, prog="vidkd verb").read(words)
    assert (found.names, len(found.inputs)) == (("cat", "dog"), 1)


def test_how_a_wrong_list_is_mended_is_given_as_a_flag() -> None:
    with pytest.raises(ConfigError) as error:
        VerbParser(Kind, prog="vidkd verb").read(["a.mp4", "--names", "cat,dgo"])
    assert error.value.lines["fix"] == "leave out --names   (the default)"


def test_the_file_of_a_verb_holds_its_settings_and_those_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text("inputs: [a.mp4]\nseed: 4\nupdate: {lr: 0.1, interpolate: []}\n")
    found = VerbParser(Kind, prog="vidkd verb").read(["--config", str(tmp_path / "v.yaml"), "--update.lr", "2"])
    assert (found.inputs, found.seed) == (("a.mp4",), 4)
    assert found.settings == ("--update.interpolate=[]", "--update.lr", "2")
    with pytest.raises(ConfigError) as error:
        VerbParser(Kind, prog="vidkd verb").read(["a.mp4", "--seed", "x"])
    assert str(error.value).splitlines()[0] == "'--seed' has a wrong value"
