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
from vidkd.base.settings import read_yaml
from vidkd.base.yaml_files import find_config, shipped_config, shipped_names
from vidkd.bench.clip_study import ClipStudy
from vidkd.bench.reading import read_study
from vidkd.cli.main import VERBS, main, run_verb
from vidkd.cli.verb_parser import VerbParser, positional
from vidkd.engine.config import load_config


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


@pytest.mark.parametrize(
    ("words", "what", "fix"),
    [
        (["--names", "a.mp4"], "missing: VIDEO", "vidkd verb a.mp4 --names A,B"),
        (["--names", "cat", "dog", "a.mp4"], "no file has the name dog", "--names cat,dog   (a list is one word, with commas)"),
    ],
)
def test_a_list_that_takes_too_much_or_too_little_is_told(
    words: list[str], what: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ConfigError) as error:
        VerbParser(Kind, prog="vidkd verb").read(words)
    assert (error.value.what, error.value.lines["fix"]) == (what, fix)


def test_words_after_a_list_where_none_belong_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--model", "m.pt", "--out", "a.onnx", "b.onnx"]) == 2
    assert "fix       : --out a.onnx,b.onnx   (a list is one word, with commas)" in capsys.readouterr().err


def test_the_file_of_a_verb_holds_its_settings_and_those_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text("inputs: [a.mp4]\nseed: 4\nupdate: {lr: 0.1, interpolate: []}\n")
    found = VerbParser(Kind, prog="vidkd verb").read(["--config", str(tmp_path / "v.yaml"), "--update.lr", "2"])
    assert (found.inputs, found.seed) == (("a.mp4",), 4)
    assert found.settings == ("--update.interpolate=[]", "--update.lr", "2")
    with pytest.raises(ConfigError) as error:
        VerbParser(Kind, prog="vidkd verb").read(["a.mp4", "--seed", "x"])
    assert str(error.value).splitlines()[0] == "'--seed' has a wrong value"


REPOSITORY = Path(__file__).parents[2]


def test_every_config_is_listed_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "ls"]) == 0
    rows = capsys.readouterr().out.splitlines()
    files = {path.relative_to(REPOSITORY / "configs").with_suffix("").as_posix() for path in (REPOSITORY / "configs").rglob("*.yaml")}
    assert {row.split()[0] for row in rows} == files == set(shipped_names())
    assert main(["config", "ls", "attention/fol"]) == 0
    assert capsys.readouterr().out.split()[:3] == ["attention/folder", "Your", "own"]
    assert main(["config", "ls", "nothing"]) == 2


def test_a_config_is_read_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("attention/folder") == load_config(REPOSITORY / "configs/attention/folder.yaml")
    assert find_config("configs/attention/folder.yaml") == shipped_config("attention/folder")
    (tmp_path / "mine.yaml").write_text("base: attention/folder\nname: mine\n")
    assert load_config("mine.yaml").name == "mine"
    assert find_config("none.yaml") == Path("none.yaml")
    with pytest.raises(ConfigError, match="did you mean : attention/folder"):
        shipped_config("attention/foldr")
    study = read_study("studies/demo")
    assert study.path == shipped_config("studies/demo")
    assert isinstance(study, ClipStudy)
    assert study.base.is_file()


@pytest.mark.parametrize(
    ("verb", "name", "meant"),
    [
        ("train", "attention/foldr.yaml", "attention/folder"),
        ("train", "foldr", "probe/folder"),
        ("study", "demo", "benchmark/demo or compress/demo or studies/demo"),
    ],
)
def test_a_misspelt_shipped_config_is_named_with_the_nearest(
    verb: str, name: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([verb, "--config", name]) == 2
    error = capsys.readouterr().err
    assert f"did you mean : {meant}\n" in error
    assert "all names    : vidkd config ls\n" in error


def test_an_unknown_task_is_blamed_on_who_named_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "attention/folder", "--task", "my_rdk"]) == 2
    assert "where : --task on the command line\n" in capsys.readouterr().err
    (tmp_path / "c.yaml").write_text("name: x\ntask: rdk\n", encoding="utf-8")
    assert main(["train", "--config", str(tmp_path / "c.yaml")]) == 2
    assert f"where : task in {tmp_path}/c.yaml:2\n" in capsys.readouterr().err


def test_a_copy_is_read_as_what_it_was_copied_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("attention/folder", "studies/demo"):
        copy = tmp_path / f"{Path(name).name}.yaml"
        assert main(["config", "cp", name, str(copy)]) == 0
        assert main(["config", "cp", name, str(copy)]) == 2
    assert "the file exists" in capsys.readouterr().err
    assert read_yaml(tmp_path / "folder.yaml").content == read_yaml(shipped_config("attention/folder")).content
    assert read_study(tmp_path / "demo.yaml").spec.methods == read_study(shipped_config("studies/demo")).spec.methods
    assert main(["config", "cp", "attention/folder", str(tmp_path / "none" / "x.yaml")]) in (0, 2)


@pytest.mark.slow
def test_an_installed_wheel_runs_the_steps_for_own_videos(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["git", "worktree", "list"], cwd=REPOSITORY, check=True, capture_output=True, timeout=60)
    files = subprocess.run(
        ["git", "ls-files", "vidkd", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    for name in files.stdout.splitlines():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((REPOSITORY / name).read_bytes())
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(tmp_path / "site"),
        str(source),
    ]
    subprocess.run(pip, check=True, cwd=tmp_path, timeout=600)
    assert (tmp_path / "site/vidkd/configs/attention/folder.yaml").is_file()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def vidkd(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "vidkd", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    vidkd(
        "make_data",
        "--out",
        "made",
        "--clips-per-class-train",
        "4",
        "--clips-per-class-test",
        "2",
        "--frames",
        "12",
        "--size",
        "64",
        "--workers",
        "1",
        "--classes",
        "Rising,Falling",
    )
    (tmp_path / "made/videos").rename(tmp_path / "mine")
    vidkd("prepare_data", "folder", "--data.root", "mine")
    small = [
        "--train.steps=2",
        "--data.workers=0",
        "--data.batch_size=2",
        "--train.device=cpu",
        "--train.precision=32-true",
        "--data.window.stride=1",
    ]
    vidkd("train", "--config", "attention/folder", "--data.root", "mine", *small)
    assert "4 clips of" in vidkd("evaluate", "--model", "runs/folder-attention", "--subset", "test", "--device", "cpu")
    video = next((tmp_path / "mine").rglob("*.mp4"))
    assert vidkd("predict", "--model", "runs/folder-attention", str(video))
