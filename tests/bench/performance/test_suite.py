"""A suite from its file: settings read strictly, parts measured in turn, what it leaves."""

import json
from pathlib import Path

import pytest

from vidkd.base.errors import ConfigError
from vidkd.bench.performance.suite import read_suite
from vidkd.cli.main import main

SHIPPED = Path(__file__).parents[3] / "configs" / "performance.yaml"


def test_the_shipped_suite_has_every_part() -> None:
    config = read_suite(SHIPPED)
    assert config.parts == ["loader", "training", "distillation", "losses", "start", "flow", "along_video", "streams", "integers"]
    assert read_suite(SHIPPED, ["--rounds", "3", "--parts", "[flow]"]).parts == ["flow"]


@pytest.mark.parametrize(
    ("text", "told"), [("parts: [lodaer]", "lodaer"), ("parts: []", "needs parts"), ("parts: [flow]\nruonds: 3", "ruonds")]
)
def test_what_a_suite_may_not_say(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        read_suite(tmp_path / "suite.yaml")


def test_what_a_suite_leaves(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text("parts: [flow, distillation]\nquick: true\n")
    out = tmp_path / "out"
    assert main(["benchmark", str(tmp_path / "suite.yaml"), "--out", str(out)]) == 0
    found = json.loads((out / "performance.json").read_text(encoding="utf-8"))
    assert list(found["parts"]) == ["flow", "distillation"]
    page = (out / "performance.md").read_text(encoding="utf-8")
    assert "## Optical flow" in page
    assert "| vidkd / two networks, by hand |" in page
    assert main(["benchmark", str(tmp_path / "suite.yaml"), "--out", str(out)]) == 2
