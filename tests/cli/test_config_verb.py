"""Shipped configurations are listed, copied, and read by their names, from a checkout and from an installed wheel."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidkd.base.errors import ConfigError
from vidkd.base.settings import read_yaml
from vidkd.base.yaml_files import find_config, shipped_config, shipped_names
from vidkd.bench.reading import read_study
from vidkd.cli.main import main
from vidkd.engine.config import load_config

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
