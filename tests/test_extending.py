"""The worked example of docs/extending.md: its files, in a copy of the tree, pass their test and train."""

import os
import re
import shutil
import sys
from pathlib import Path

from started import run_to_end

REPOSITORY = Path(__file__).parents[1]
SMALL = {
    "data.window.frames": "4",
    "data.window.stride": "1",
    "data.transform.short_side": "36",
    "data.transform.crop": "32",
    "data.batch_size": "4",
    "data.cache.enabled": "false",
    "train.epochs": "1",
    "train.threads": "1",
}
BLOCK = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)


def test_the_example_of_a_method_trains(tmp_path: Path, tiny_root: Path) -> None:
    for folder in ("vidkd", "configs"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = dict(BLOCK.findall((REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")))
    line, entry = blocks.pop("vidkd/tasks/__init__.py (two lines)").splitlines()
    tasks = tmp_path / "vidkd" / "tasks" / "__init__.py"
    text = tasks.read_text(encoding="utf-8")
    text = text.replace("from vidkd.tasks.supervised", f"{line}\nfrom vidkd.tasks.supervised")
    tasks.write_text(text.replace('    "mars":', f'{entry}\n    "mars":'))
    assert len(blocks) == 4
    for name, content in blocks.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/losses/test_relational.py"]
    assert "3 passed" in run_to_end(tests, cwd=tmp_path, env=environment, check=True).stdout
    config = ["--config", "configs/attention/motion_shapes_relational.yaml", "--data.root", str(tiny_root)]
    command = [sys.executable, "-m", "vidkd", "train", *config, *(word for key, value in SMALL.items() for word in (f"--{key}", value))]
    run_to_end(command, cwd=tmp_path, env=environment, check=True)
    assert '"relational"' in (tmp_path / "runs" / "motion_shapes-relational" / "metrics.jsonl").read_text(encoding="utf-8")
