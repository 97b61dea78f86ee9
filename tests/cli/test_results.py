"""vidkd results writes the page, or says that there is nothing to write."""

from pathlib import Path

import pytest

from vidkd.bench import results_page, single_runs_page
from vidkd.bench.streams import page as streams_page
from vidkd.cli.main import run_verb


def test_the_page_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[Path, Path]] = []

    def page(studies: Path, results: Path) -> str:
        asked.append((studies, results))
        return "# Results µ\n"

    monkeypatch.setattr(results_page, "results_page", page)
    monkeypatch.setattr(streams_page, "streams_page", lambda studies, results: f"# Streams of {studies}, {results}\n")
    monkeypatch.setattr(single_runs_page, "single_runs_page", lambda results: f"# Benchmarks of {results}\n")
    out = tmp_path / "docs" / "results.md"
    assert run_verb("results", ["--studies", "s", "--results", "r", "--out", str(out)]) == 0
    assert asked == [(Path("s"), Path("r"))]
    assert out.read_text(encoding="utf-8") == f"# Results µ\n# Streams of {Path('s', 'streams')}, r\n# Benchmarks of r\n"
    assert capsys.readouterr().out == f"written: {out}\n"


def test_without_cells_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.md"
    out.write_text("the page of before\n")
    code = run_verb("results", ["--studies", str(tmp_path), "--results", str(tmp_path / "none"), "--out", str(out)])
    assert code == 2
    assert "has finished cells" in capsys.readouterr().err
    assert out.read_text() == "the page of before\n"
