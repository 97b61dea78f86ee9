"""The YAML that pages show is read by the reader that it is for: runs, recipes, benchmarks, studies, and files next to a detector."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from vidkd.base.errors import VidkdError
from vidkd.base.settings import load_settings
from vidkd.bench.clip_spec import check_settings
from vidkd.bench.clip_study import read_clip_study as read_study
from vidkd.bench.speed.config import read_benchmark
from vidkd.cli.train import kind_of_run
from vidkd.compress.distil import learning_of
from vidkd.compress.recipe import DistilConfig, RepairConfig, read_recipe
from vidkd.engine.config import load_config
from vidkd.runtime.metadata import read_metadata

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *(page for page in sorted((REPOSITORY / "docs").rglob("*.md")) if page.parent.name != "results"),
]
PLAN = {"kind", "layers"}
"""Of each entry of a plan, which a page shows with parts left out."""


def blocks() -> Iterator[tuple[str, str]]:
    """Every block of YAML, with its page and line."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```ya?ml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield f"{page.name}:{text.count(chr(10), 0, match.start(1)) + 1}", match[1]


BLOCKS = dict(blocks())


def check_block(text: str, folder: Path) -> str:
    """Read a block by the reader that it is for, as far as the files that it names need not be there; returns which that is."""
    content = yaml.safe_load(text)
    path = folder / "shown.yaml"
    path.write_text(text, encoding="utf-8")
    if isinstance(content, list):
        assert all(set(entry) >= PLAN for entry in content)
        return "plan"
    assert isinstance(content, Mapping)
    if "models" in content:
        read_benchmark(path)
        return "benchmark"
    if "methods" in content:
        return check_study(content, path)
    if "steps" in content:
        for step in read_recipe(path, student=None if "student" in content else "runs/student").steps:
            if isinstance(step.settings, DistilConfig):
                learning_of(step.settings)
            if isinstance(step.settings, RepairConfig):
                load_config(settings=step.settings.settings)
        return "recipe"
    if "head" in content:
        (folder / "coco.names").write_text("person\nbicycle\n")
        read_metadata(path)
        return "side file"
    kind, _ = kind_of_run(path, [])
    load_settings(kind.config, path)
    return "run"


def check_study(content: Mapping[str, Any], path: Path) -> str:
    """A study, or the methods of one next to what every study says."""
    if "study" not in content:
        base = REPOSITORY / "configs" / "attention" / "motion_shapes.yaml"
        said = {"study": "shown", "base": str(base), "seeds": [0], "folds": ["1"], "reference": next(iter(content["methods"]))}
        others = {str(method["teacher"]): {} for method in content["methods"].values() if "teacher" in method}
        path.write_text(yaml.safe_dump({**said, **content, "methods": {**others, **content["methods"]}}), encoding="utf-8")
    check_settings(read_study(path))
    return "study"


@pytest.mark.parametrize("place", BLOCKS)
def test_a_block_is_read(place: str, tmp_path: Path) -> None:
    check_block(BLOCKS[place], tmp_path)


def test_there_are_blocks_of_every_kind(tmp_path: Path) -> None:
    assert {check_block(text, tmp_path) for text in BLOCKS.values()} >= {"benchmark", "recipe", "study", "side file", "plan"}


@pytest.mark.parametrize(
    "text",
    [
        "models: {a: {checkpont: x}}",
        "models: {a: {checkpoint: x}}\nround: 3",
        "steps: [{prune: {ratoi: 0.5}}]",
        "steps: [{repair: {train.epoch: 2}}]",
        "steps: [{distil: {update: {trains: added}}}]",
        "methods: {student: {settings: {task: mars, train.epoch: 3}}}",
        "methods: {student: {setings: {task: mars}}}",
        "methods: {small: {compresses: student, steps: [{prune: {ratoi: 0.5}}]}, student: {}}",
        "head: {style: yolox}",
        "data: {rot: x}",
        "- {kind: prune}",
        "a: [",
    ],
)
def test_a_block_that_cannot_be_read_is_found(text: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, VidkdError, yaml.YAMLError)):
        check_block(text, tmp_path)
