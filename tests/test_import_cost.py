"""What starting up costs: a command that only prints help imports nothing heavy."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from started import run_to_end

from vidkd.cli.main import VERBS

NETWORKS = ("torch", "torchvision", "pytorchvideo", "timm", "lightning_fabric")
CONFIGS = Path(__file__).parents[1] / "configs"
HEAVY = (*NETWORKS, "cv2", "decord", "av", "jsonargparse", "matplotlib")


def python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return run_to_end([sys.executable, *options, "-c", code], check=True)


def cpu_seconds(code: str) -> float:
    """Processor time of a fresh interpreter that runs `code`: unlike the clock it does not see what else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    python(code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_importing_vidkd_is_almost_free() -> None:
    lines = python("import vidkd", "-X", "importtime").stderr.splitlines()
    rows = {name.strip(): int(cumulative) for _, cumulative, name in (line.split("|") for line in lines[1:])}
    assert rows["vidkd"] <= 100_000  # microseconds


@pytest.mark.parametrize("code", ["import vidkd", "from vidkd.cli.main import main; main(['--help'])", "import vidkd.base.errors"])
def test_nothing_heavy_is_imported(code: str) -> None:
    loaded = python(f"{code}\nimport sys; print('loaded', *sys.modules)").stdout.rpartition("loaded")[2].split()
    assert "vidkd" in loaded
    assert set(HEAVY) & set(loaded) == set()


def test_the_help_of_no_verb_imports_a_network_library() -> None:
    code = f"""
import contextlib, io, sys
from vidkd.cli.main import main
for verb in {sorted(VERBS)}:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main([verb, "--help"])
    print(verb, *({set(NETWORKS)} & set(sys.modules)))
"""
    rows = dict(line.partition(" ")[::2] for line in python(code).stdout.splitlines())
    assert rows == dict.fromkeys(sorted(VERBS), "")


@pytest.mark.parametrize("config", ["attention/motion_shapes", "detection/shapes_student"])
def test_a_misspelt_setting_is_found_before_what_trains_is_imported(config: str) -> None:
    code = f"""
import sys
from vidkd.cli.main import main
print("code", main(["train", "--config", {str(CONFIGS / f"{config}.yaml")!r}, "--data.rooot", "X"]))
print("loaded", *sys.modules)
"""
    result = python(code)
    loaded = result.stdout.rpartition("loaded")[2].split()
    assert "unknown setting '--data.rooot'" in result.stderr
    assert "code 2" in result.stdout
    assert {"lightning_fabric", "matplotlib", "vidkd.engine.loop"} & set(loaded) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_costs_less_than_importing_torch(arguments: list[str]) -> None:
    code = f"import contextlib\nfrom vidkd.cli.main import main\nwith contextlib.suppress(SystemExit): main({arguments})"
    assert cpu_seconds(code) < 0.5 * cpu_seconds("import torch")
