"""What the deployment guide shows on exported files runs unchanged where torch cannot be imported."""

import re
import shlex
from pathlib import Path

import pytest
from picture_model import picture_model
from speed_models import tiny_export
from test_export import without_torch

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "deployment.md"


def shown() -> list[list[str]]:
    """The words of the commands on exported files in the guide's first section."""
    section = GUIDE.read_text(encoding="utf-8").partition("\n## ")[0]
    lines = re.findall(r"^vidkd ((?:predict|detect) .*\.onnx.*)$", section, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def test_commands_on_exported_files_run_without_torch(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shown()
    assert [words[0] for words in found] == ["predict", "detect"]
    tiny_export(tmp_path / "student.onnx")
    picture_model(tmp_path / "tiny.onnx")
    (tmp_path / "clip.mp4").write_bytes(next((tiny_root / "videos" / "Down").iterdir()).read_bytes())
    (tmp_path / "street.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    for words in found:
        done = without_torch(*words)
        assert done.returncode == 0, done.stderr
    assert next((tmp_path / "found").rglob("detections.jsonl")).stat().st_size
