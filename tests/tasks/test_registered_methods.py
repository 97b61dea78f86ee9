"""Methods of other packages, and what the engine may import of this one's."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vidkd.base.errors import ConfigError
from vidkd.engine.config import load_config
from vidkd.engine.fit import fit
from vidkd.tasks import OWN, TASKS, _registered
from vidkd.tasks.supervised import SupervisedConfig


@pytest.mark.parametrize(("imported", "kept"), [("vidkd.tasks.task", True), ("vidkd.tasks.brand_new", False)])
def test_the_engine_may_import_the_interface_but_no_task_not_even_a_new_one(imported: str, kept: bool, tmp_path: Path) -> None:
    contracts = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8").split("[[tool.importlinter.contracts]]")
    (contract,) = (text for text in contracts if 'source_modules = ["vidkd.engine"]' in text)
    files = {"__init__": "", "engine.__init__": "", "engine.loop": f"import {imported}\nimport vidkd.tasks.task\n"}
    for name, text in {**files, "tasks.__init__": "import vidkd.tasks.brand_new\n", "tasks.task": "", "tasks.brand_new": ""}.items():
        path = tmp_path / "vidkd" / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.importlinter]\nroot_package = "vidkd"\n\n[[tool.importlinter.contracts]]{contract.split("[[")[0]}'
    )
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode == 0) == kept, done.stdout


PLUGIN = """
from dataclasses import dataclass
from vidkd.tasks.supervised import Supervised, SupervisedConfig

class Doubled(Supervised):
    Config = SupervisedConfig

    def training_step(self, batch):
        losses = super().training_step(batch)
        return {**losses, "loss": 2 * losses["loss"]}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution of another author, as pip installs it: three methods, of which one cannot be imported and one is no task."""
    site = tmp_path / "site"
    (site / "their_methods-1.0.dist-info").mkdir(parents=True)
    (site / "their_methods-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: their-methods\nVersion: 1.0\n")
    entries = (
        "doubled = their_methods:Doubled\nbroken = their_missing:Broken\nother = their_methods:dataclass\nmars = their_methods:Doubled"
    )
    (site / "their_methods-1.0.dist-info" / "entry_points.txt").write_text(f"[vidkd.tasks]\n{entries}\n")
    (site / "their_methods.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(site)
    _registered.cache_clear()
    yield site
    _registered.cache_clear()
    sys.modules.pop("their_methods", None)


def test_a_method_of_another_package_trains(package: Path, tiny_config: Callable[..., Any]) -> None:
    assert list(TASKS) == [*OWN, "doubled", "broken", "other"]
    assert len(TASKS) == len(OWN) + 3
    assert "their_methods" not in sys.modules, "imported when it is asked for"
    assert TASKS["mars"] is OWN["mars"]
    config = load_config(settings={"task": "doubled", "method": {"prior_weight": 0.5}})
    assert config.method == SupervisedConfig(prior_weight=0.5)
    assert fit(tiny_config(task="doubled"), quiet=True).steps == 2


@pytest.mark.parametrize(("name", "message"), [("broken", "cannot be imported"), ("other", r"is no subclass of vidkd.tasks.Task")])
def test_a_registered_method_that_cannot_be_used_is_named(package: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"task '{name}' of the package their-methods {message}") as caught:
        load_config(settings={"task": name})
    assert caught.value.lines["entry point"].startswith("their_m")
    if name == "broken":
        assert "No module named 'their_missing'" in caught.value.lines["reason"]
        assert load_config(settings={"task": "d3d"}).task == "d3d", "the others work"
