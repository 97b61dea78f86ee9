"""README and docs: tables are those of the committed results, prose holds no interval of its own, YAML is read by its reader."""

import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from vidkd.base.errors import VidkdError
from vidkd.base.settings import load_settings
from vidkd.bench.clip_spec import check_settings
from vidkd.bench.clip_study import read_clip_study as read_study
from vidkd.bench.speed.config import read_benchmark
from vidkd.cli.main import VERBS
from vidkd.cli.train import kind_of_run
from vidkd.compress.distil import learning_of
from vidkd.compress.recipe import DistilConfig, RepairConfig, read_recipe
from vidkd.engine.config import load_config
from vidkd.runtime.metadata import read_metadata
from vidkd.tasks import OWN

REPOSITORY = Path(__file__).parents[1]
INTERVAL = re.compile(r"\[[-+]?\d[\d.]*, [-+]?\d[\d.]*\]")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", REPOSITORY / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_results(generate: ModuleType) -> None:
    stale = [page.name for page in generate.PAGES if generate.generated(text := page.read_text(encoding="utf-8")) != text]
    stale += [page.name for page, text in generate.result_pages().items() if page.read_text(encoding="utf-8") != text]
    stale += ["performance.md"] * ((REPOSITORY / "docs" / "performance.md").read_text(encoding="utf-8") != generate.performance())
    assert stale == [], "fix: python docs/generate.py"


def test_no_interval_is_written_by_hand(generate: ModuleType) -> None:
    by_hand = {}
    for page in generate.PAGES:
        prose = generate.BLOCK.sub("", page.read_text(encoding="utf-8"))
        prose = re.sub(r"^```.*?^```", "", prose, flags=re.MULTILINE | re.DOTALL)
        if found := INTERVAL.findall(prose):
            by_hand[page.name] = found
    assert by_hand == {}


def test_points_and_verdicts(generate: ModuleType) -> None:
    assert generate.with_interval(0.7134, [0.682, 0.741]) == "71.3 [68.2, 74.1]"
    assert generate.with_interval(-0.0004, None, sign=True) == "0.0 [no interval]"
    assert [generate.verdict(interval) for interval in ([0.1, 0.2], [-0.2, -0.1], [-0.1, 0.1], None)] == [
        "**works**",
        "**harms**",
        "no significant difference",
        "not judged: one run",
    ]


@pytest.mark.parametrize("name", [*OWN, "tkd"])
def test_a_method_has_a_page_that_readme_index_and_navigation_link(name: str) -> None:
    assert (REPOSITORY / "docs" / "methods" / f"{name}.md").is_file()
    links = {
        "README.md": f"](docs/methods/{name}.md)",
        "docs/methods/index.md": f"| [`{name}`]({name}.md) |",
        "mkdocs.yml": f"- methods/{name}.md",
    }
    assert [page for page, link in links.items() if link not in (REPOSITORY / page).read_text(encoding="utf-8")] == []


def test_the_changelog_presents_no_verb_that_is_gone() -> None:
    features, _, removed = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8").partition("### Removed")
    gone = {"anticipate", "compare", "compare_streams", "check_videos", "extract_flow", "make_motion_shapes"}
    assert set(re.findall(r"`(?:vidkd )?(\w+)", features)) & gone == set()
    assert all(f"`{verb}`" in removed for verb in gone)
    assert gone.isdisjoint(VERBS)


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
