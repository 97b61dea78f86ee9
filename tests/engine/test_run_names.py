"""Folders of runs: names, settings that differ, who owns them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vidkd.base.errors import ConfigError
from vidkd.base.settings import as_dict, merge
from vidkd.engine import fit
from vidkd.engine.config import RunConfig, load_config
from vidkd.engine.run_folder import RunFolder, differences

Config = Callable[..., RunConfig]


def test_another_run_with_the_name_is_refused_with_what_differs(tiny_config: Config) -> None:
    fit.fit(tiny_config(), quiet=True)
    folder = Path(tiny_config().runs, "tiny")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError) as caught:
        fit.fit(tiny_config(**{"optim.lr": 0.5, "model.dropout": 0.25}), quiet=True)
    assert caught.value.what == "another run has the name tiny: its settings differ"
    assert caught.value.lines == {
        "model.dropout": "0.0 there, 0.25 here",
        "optim.lr": "0.001 there, 0.5 here",
        "fix": "another --name",
    }
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_where_and_how_fast_may_differ(tiny_config: Config, caplog: pytest.LogCaptureFixture) -> None:
    fit.fit(tiny_config(), quiet=True)
    result = fit.fit(
        tiny_config(**{"train.steps": 3, "train.log_every": 2, "data.cache.enabled": True, "train.save_every_s": 5}), quiet=True
    )
    assert (result.steps, result.found_finished) == (3, False)
    assert "train.steps was 2 when this run began and is 3 now" in caplog.text


@pytest.mark.parametrize("steps", [2, 4], ids=["finished", "half-way"])
def test_other_data_under_the_name_are_refused(steps: int, tiny_config: Config, tiny_root: Path, tmp_path: Path) -> None:
    """The same settings, and a folder in which the classes have other names: neither found finished nor gone on with."""
    folder = fit.fit(tiny_config(), quiet=True).folder
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = shutil.copytree(tiny_root, tmp_path / "other")
    manifest = other / "manifest.jsonl"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("Grow", "Shrink"), encoding="utf-8")
    with pytest.raises(ConfigError, match="was trained on other data") as caught:
        fit.fit(tiny_config(**{"data.root": str(other), "train.steps": steps}), quiet=True)
    assert caught.value.lines["fix"] == "another --name, or move the run away"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_finished_teacher_of_other_data_is_refused(tiny_config: Config, tiny_root: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_root, tmp_path / "other")
    manifest = other / "manifest.jsonl"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"g1"', '"g9"'), encoding="utf-8")
    settings = {"task": "mars", "teacher": str(tiny_teacher), "teacher_settings": {"view": "flow"}, "data.root": str(other)}
    with pytest.raises(ConfigError, match=f"the run {tiny_teacher} was trained on other data") as caught:
        fit.fit(tiny_config(**settings), quiet=True)
    assert caught.value.lines["fix"] == f"--teacher {tiny_teacher}-2 and another --name, or move the run away"


def test_two_at_the_same_time_are_refused(tiny_config: Config) -> None:
    config = tiny_config()
    with RunFolder(Path(config.runs, "tiny")).lock(), pytest.raises(ConfigError, match="another process is training in"):
        fit.fit(config, quiet=True)
    assert fit.fit(config, quiet=True).steps == 2


def test_a_finished_run_is_found_and_not_trained_again(tiny_config: Config) -> None:
    first = fit.fit(tiny_config(), quiet=True)
    files = {path: path.stat().st_mtime_ns for path in (first.folder / "checkpoints").iterdir()}
    again = fit.fit(tiny_config(), quiet=True)
    assert (again.steps, again.seconds) == (first.steps, first.seconds)
    assert {path: path.stat().st_mtime_ns for path in (first.folder / "checkpoints").iterdir()} == files


def test_a_run_older_than_a_setting_had_its_default() -> None:
    """A setting that was added since a run began does not keep it from going on, as long as it stands at its default."""
    new = load_config(settings={"task": "mars"})
    old = merge(as_dict(new), {"optim.lr": 5.0})
    old["data"] = {key: value for key, value in old["data"].items() if key != "decoder"}
    assert differences(new, old) == {"optim.lr": (1e-3, 5.0)}
    assert differences(load_config(settings={"task": "mars", "data.decoder": "pyav"}), old)["data.decoder"] == ("pyav", "auto")
