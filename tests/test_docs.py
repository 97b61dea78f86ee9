"""Numbers of README and docs: tables are those of the committed results, and prose holds no interval of its own."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from vidkd.cli.main import VERBS

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
    assert generate.with_interval(-0.0004, None, sign=True) == "+0.0 [no interval]"
    assert [generate.verdict(interval) for interval in ([0.1, 0.2], [-0.2, -0.1], [-0.1, 0.1], None)] == [
        "**works**",
        "**harms**",
        "no significant difference",
        "not judged: one run",
    ]


def test_the_changelog_presents_no_verb_that_is_gone() -> None:
    features, _, removed = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8").partition("### Removed")
    gone = {"anticipate", "compare", "compare_streams", "check_videos", "extract_flow", "make_motion_shapes"}
    assert set(re.findall(r"`(?:vidkd )?(\w+)", features)) & gone == set()
    assert all(f"`{verb}`" in removed for verb in gone)
    assert gone.isdisjoint(VERBS)
