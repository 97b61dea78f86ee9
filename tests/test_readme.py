"""What README and docs tell a reader to type or open is there: verbs, flags, settings, files, and the Python that they show."""

import dataclasses
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from started import run_to_end

from vidkd.base.errors import VidkdError
from vidkd.base.files import read_json
from vidkd.base.settings import known_keys, load_settings, merge
from vidkd.base.yaml_files import find_config
from vidkd.bench.clip_spec import cell_config
from vidkd.bench.clip_study import ClipStudy
from vidkd.bench.reading import read_study
from vidkd.bench.study import CellKey
from vidkd.cli.main import VERBS, open_verb
from vidkd.cli.make_data import _configs
from vidkd.cli.train import KINDS
from vidkd.cli.verb_parser import VerbParser
from vidkd.compress.recipe import read_recipe
from vidkd.detection.online.update import LearningConfig, load_learning_config
from vidkd.engine.config import load_config

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *(page for page in sorted((REPOSITORY / "docs").rglob("*.md")) if page.parent.name != "results"),
]
CONFIGS = [kind.config for kind in KINDS]
SETTINGS = set().union(*(known_keys(config, task) for config in CONFIGS for task in config.tasks()))
FILES = (".yaml", ".onnx", ".tflite", ".cfg")
FOREIGN_FLAGS = {"--nproc-per-node", "--editable", "--subset"}
"""Of torchrun; of pip; and of evaluate, where `another --subset` stands alone."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command in the fenced bash of a page."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split("&&"):
                if words := shlex.split(command, comments=True):
                    yield words


def parsers() -> Iterator[VerbParser]:
    """Of all verbs and their parts."""
    for verb in VERBS:
        parser, module, _ = open_verb(verb)
        yield parser
        yield from (open_verb(verb, [part])[0] for part in getattr(module, "PARTS", ()))


def check_verb(verb: str, words: Sequence[str]) -> None:
    """The verb's own parser takes the words; settings behind them are known, and configurations named are there."""
    parser, _, words = open_verb(verb, words)
    arguments = parser.read(words)
    if verb == "train":
        load_config(find_config(arguments.config), overrides=arguments.settings) if arguments.config else load_config()
    elif verb == "study":
        if arguments.config is None:
            assert arguments.check
            return
        if not isinstance(read_study(REPOSITORY / arguments.config), ClipStudy):
            assert all(word.startswith("--data.root") for word in arguments.settings if word.startswith("--"))
            return
        study = read_study(REPOSITORY / arguments.config, arguments.settings)
        assert isinstance(study, ClipStudy)
        cell_config(study, CellKey(study.spec.reference, -1, study.spec.seeds[0], study.spec.folds[0]), "test", {}, Path("runs"))
    elif verb == "compress":
        read_recipe(REPOSITORY / arguments.config)
    elif verb == "evaluate":
        assert {word[2:].split("=")[0] for word in arguments.settings if word.startswith("--")} <= SETTINGS


def check_command(words: list[str]) -> str:
    """Check a command as far as it can be without running it; returns what it is."""
    program = words[0].removeprefix(".venv/bin/")
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
        return "make"
    if program == "vidkd":
        verb = words[1].replace("-", "_")
        assert verb in VERBS
        check_verb(verb, words[2:])
        return verb
    script = next((word for word in words if word.startswith("tools/")), None)
    if program in ("python", "torchrun") and script:
        assert (REPOSITORY / script).is_file()
        check_verb(Path(script).stem, words[words.index(script) + 1 :])
        return Path(script).stem
    if program == "pip":
        extras = re.findall(r"\[(.*)\]", words[-1])
        known = metadata.metadata("vidkd").get_all("Provides-Extra") or []
        assert {name for listed in extras for name in listed.split(",")} <= set(known)
        return "pip"
    assert words in (["python", "-m", "venv", ".venv"], [".", ".venv/bin/activate"]), f"a command that this test does not know: {words}"
    return "shell"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_with_their_flags(page: Path) -> None:
    found = [check_command(words) for words in commands(page)]
    if page.name == "README.md":
        assert {"make", "prepare_data", "train", "evaluate", "predict"} <= set(found)


def test_the_script_that_trains_selectors_has_their_flags(tmp_path: Path) -> None:
    """Run with a command in place of vidkd that writes down what it is given."""
    script = REPOSITORY / "configs" / "studies" / "streams" / "selectors.sh"
    (tmp_path / "vidkd").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/given\n')
    (tmp_path / "vidkd").chmod(0o755)
    run_to_end(["bash", script, "DIR"], env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}, check=True)
    given = [line.split() for line in (tmp_path / "given").read_text().splitlines()]
    assert len({words[words.index("--out") + 1] for words in given}) == 4 * 3
    for student in ("fastest", "tiny"):
        summary = read_json(REPOSITORY / "results" / f"pets_{student}" / "summary.json")
        chosen = summary["chosen"]["methods"]["fixed"]["folds"]["all"]["settings"]
        own = [words for words in given if Path(words[words.index("--out") + 1]).name.startswith(student)]
        assert len(own) == {"fastest": 9, "tiny": 3}[student]
        parser, _, left = open_verb(own[0][0], own[0][1:])
        settings = parser.read(left).settings
        learning = load_learning_config(LearningConfig, settings).update
        assert learning == load_settings(LearningConfig, settings=merge({}, chosen)).update, "it learns as it does in the studies"
    for verb, *words in given:
        check_verb(verb, words)
        assert not set(words[: words.index("--validate")]) & set(words[words.index("--validate") : words.index("--seed")])


@pytest.mark.parametrize(
    "words",
    [
        ["vidkd", "trian", "--config", "configs/attention/folder.yaml"],
        ["vidkd", "train", "--config", "configs/attention/folder.yaml", "--data.rot", "x"],
        ["vidkd", "train", "--config", "configs/attention/none.yaml"],
        ["vidkd", "predict", "clip.mp4", "--checkpont", "x"],
        ["vidkd", "study", "--config", "configs/studies/weizmann.yaml", "--phase", "tset"],
        ["python", "tools/trian.py"],
        ["make", "demmo"],
        ["rm", "-r", "runs"],
    ],
    ids=" ".join,
)
def test_a_command_that_does_not_exist_is_found(words: list[str]) -> None:
    with pytest.raises((AssertionError, SystemExit, VidkdError)):
        check_command(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_and_settings_in_the_text_exist(page: Path) -> None:
    """`--flag` of some verb or setting, `data.window.stride` of some task."""
    flags = {option for parser in parsers() for option in parser._option_string_actions} | {f"--{key}" for key in SETTINGS}
    flags |= {f"--{entry.name.replace('_', '-')}" for kind in _configs().values() for entry in dataclasses.fields(kind)}
    for code in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*", code):
            assert flag.rstrip(".") in flags | FOREIGN_FLAGS, f"{page.name}: `{code}`"
        setting = re.match(r"(?:data|model|optim|train|method)\.[a-z_.]*[a-z_](?=$|[ :=])", code)
        if setting and not setting[0].endswith(FILES) and not (REPOSITORY / "vidkd" / f"{setting[0].replace('.', '/')}.py").exists():
            assert setting[0] in SETTINGS, f"{page.name}: `{code}`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_files_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]
    missing = [link for link in links if link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_the_text_exist(page: Path) -> None:
    """`vidkd/tasks/`, `configs/attention/folder.yaml`: whole paths of the repository, without placeholders."""
    named = re.findall(r"`((?:vidkd|configs|tools|tests|docs)/[\w./-]*)`", page.read_text(encoding="utf-8"))
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles(page: Path) -> None:
    for number, block in enumerate(blocks(page, "python")):
        compile(block, f"{page.name}:{number}", "exec")


def test_the_python_of_the_readme_runs(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands, in a folder where its configuration is small, my_videos is the tiny data set and clip.mp4 one of its clips."""
    (block,) = blocks(REPOSITORY / "README.md", "python")
    path = "configs/attention/folder.yaml"
    assert path in block
    speed = {
        "data.window.frames": 4,
        "data.transform.short_side": 36,
        "data.transform.crop": 32,
        "data.batch_size": 2,
        "train.steps": 1,
        "train.threads": 1,
        "train.device": "cpu",
    }
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(yaml.safe_dump(merge(yaml.safe_load((REPOSITORY / path).read_text()), speed)))
    (tmp_path / "my_videos").symlink_to(tiny_root)
    shutil.copyfile(next((tiny_root / "videos" / "Down").iterdir()), tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["0.0"], "twelve frames are less than a window"
    assert lines[0].split()[1] in ("Right", "Down", "Grow")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir() if (path / "config.yaml").exists()) == [
        "folder-attention",
        "folder-flow",
    ]
