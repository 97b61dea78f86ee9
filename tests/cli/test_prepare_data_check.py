"""`vidkd prepare_data check`: rows, table, exit code, resuming, clean copies."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from vidkd.base.errors import ConfigError, DataError
from vidkd.base.files import read_jsonl, sha256
from vidkd.cli import prepare_data_check
from vidkd.cli.main import main
from vidkd.video import open_video, write_video
from vidkd.video.check import VideoCheck


def frames(count: int = 10) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 64, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good videos, one of them with an index that is not to be trusted, one cut off, and a text file."""
    folder = tmp_path / "videos"
    write_video(folder / "good.mp4", frames(10), fps=10)
    write_video(folder / "sub" / "in avi.avi", frames(8), fps=10)  # H.264 in AVI
    write_video(folder / "cut.mkv", frames(30), fps=10)
    content = (folder / "cut.mkv").read_bytes()
    (folder / "cut.mkv").write_bytes(content[: len(content) // 2])
    (folder / "notes.txt").write_text("not looked at")
    (folder / ".hidden.mp4").write_bytes(b"")
    return folder


def check(*arguments: object) -> int:
    return main(["prepare_data", "check", "--workers", "1", *map(str, arguments)])


def test_table_and_exit_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"in {folder}"
    assert lines[1].split() == ["file", "codec", "size", "frames", "fps", "seconds", "index", "problem"]
    assert lines[2].split() == ["good.mp4", "h264", "64x32", "10", "10.000", "1.00", "ok"]
    assert lines[3].split()[:10] == ["sub/in", "avi.avi", "h264", "64x32", "8", "10.000", "0.80", "unreliable", "AVI", "with"]
    assert lines[4].startswith("cut.mkv")
    assert "UNUSABLE: " in lines[4]
    assert "3 files: 2 usable (18 frames, 0.0 minutes), 1 unusable" in lines
    assert any(line.startswith("1 with an unreliable index") for line in lines)


def test_without_broken_files_the_exit_code_is_zero(folder: Path) -> None:
    assert check(folder / "good.mp4", folder / "sub") == 0


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["schema_version"] == 1
    assert report["summary"] == {
        "files": 3,
        "usable": 2,
        "unusable": 1,
        "unreliable_index": 1,
        "frames": 18,
        "duration_s": 1.8,
        "copies": 0,
    }
    row = next(row for row in report["files"] if row["path"].endswith("good.mp4"))
    assert (row["codec"], row["frame_count"], row["index_reliable"], row["first_error"]) == ("h264", 10, True, None)


def test_kept_rows_are_not_checked_again_unless_the_file_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, checked = tmp_path / "rows.jsonl", []
    whole = prepare_data_check.check_file

    def counting(item: str, *, samples: int) -> dict[str, object]:
        checked.append(Path(item).name)
        return whole(item, samples=samples)

    monkeypatch.setattr(prepare_data_check, "check_file", counting)
    assert check(folder, "--out", out) == 1
    first = capsys.readouterr().out
    assert sorted(checked) == ["cut.mkv", "good.mp4", "in avi.avi"]
    assert len(read_jsonl(out)) == 3
    checked.clear()
    assert check(folder, "--out", out) == 1
    assert capsys.readouterr().out == first
    assert checked == []
    write_video(folder / "good.mp4", frames(12), fps=10)
    os.utime(folder / "sub" / "in avi.avi", ns=(1, 1))
    check(folder, "--out", out)
    assert sorted(checked) == ["good.mp4", "in avi.avi"]
    checked.clear()
    check(folder, "--out", out, "--samples", 3)
    assert len(checked) == 3
    out.write_text(out.read_text().replace("check-2-", "check-1-"))  # what was checked before is not what is checked now
    checked.clear()
    check(folder, "--out", out, "--samples", 3)
    assert len(checked) == 3


def test_clean_copies(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = folder / "clean"
    before = {file: sha256(file) for file in folder.rglob("*") if file.is_file()}
    assert check(folder, "--normalise", clean) == 1  # the cut file is still unusable
    assert sorted(str(file.relative_to(clean)) for file in clean.rglob("*.mp4")) == ["good.mp4", "sub/in avi.mp4"]
    assert f"clean copies in {clean}: 2" in capsys.readouterr().out
    assert {file: sha256(file) for file in before} == before
    with open_video(clean / "sub" / "in avi.mp4", backend="decord") as copy, open_video(folder / "sub" / "in avi.avi") as source:
        np.testing.assert_allclose(copy.timestamps_s, source.timestamps_s, atol=1e-9)
    stamps = {file: file.stat().st_mtime_ns for file in clean.rglob("*.mp4")}
    assert check(folder, "--normalise", clean) == 1
    assert {file: file.stat().st_mtime_ns for file in clean.rglob("*.mp4")} == stamps
    assert "3 files:" in capsys.readouterr().out  # copies inside the folder are not checked as if they were sources
    assert check(clean) == 0


def test_names_of_copies() -> None:
    found = {"/a/x.avi": "x.avi", "/a/x.mp4": "x.mp4", "/a/s/y.b.mkv": "s/y.b.mkv"}
    names = prepare_data_check.copy_names(found, Path("out"))
    assert {source: str(name) for source, name in names.items()} == {
        "/a/x.avi": "out/x.avi.mp4",
        "/a/x.mp4": "out/x.mp4.mp4",
        "/a/s/y.b.mkv": "out/s/y.b.mp4",
    }
    with pytest.raises(ConfigError, match="same copy"):
        prepare_data_check.copy_names({"/a/x.avi": "x.avi", "/b/x.avi": "x.avi"}, Path("out"))


def test_globs_and_files_named_one_by_one(folder: Path) -> None:
    assert list(prepare_data_check.find_videos([f"{folder}/*.mp4"])) == [str(folder / "good.mp4")]
    assert list(prepare_data_check.find_videos([f"{folder}/**/*.avi"])) == [str(folder / "sub" / "in avi.avi")]
    both = prepare_data_check.find_videos([str(folder / "notes.txt"), str(folder), str(folder / "good.mp4")])
    assert [Path(file).name for file in both] == ["notes.txt", "cut.mkv", "good.mp4", "in avi.avi"]
    assert both[str(folder / "sub" / "in avi.avi")] == "sub/in avi.avi"


@pytest.mark.parametrize("name", ["missing.mp4", "*.mov", "."])
def test_a_path_that_leads_to_nothing_is_an_error(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="no videos at"):
        prepare_data_check.find_videos([str(tmp_path / name)])
    assert check(tmp_path / name) == 2
    assert "no videos at" in capsys.readouterr().err


def test_a_check_that_dies_is_an_unusable_file() -> None:
    row = asdict(VideoCheck(path="a.mp4", first_error="WorkerDied: the process died"))
    assert (row["path"], row["usable"], row["first_error"]) == ("a.mp4", False, "WorkerDied: the process died")
    assert prepare_data_check.summarise([row], {})["unusable"] == 1
    assert "UNUSABLE: WorkerDied" in prepare_data_check.table([row])


@pytest.mark.data
def test_real_clips(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare_data", "check", str(real_data / "clips"), "--json", "--samples", "3"]) == 0
    rows = {Path(row["path"]).name: row for row in json.loads(capsys.readouterr().out)["files"]}
    assert len(rows) == 22
    assert all(row["usable"] for row in rows.values())
    unreliable = {name for name, row in rows.items() if not row["index_reliable"]}
    assert "v_ApplyEyeMakeup_g01_c01.avi" in unreliable  # UCF101 as distributed: XviD with B-frames
    assert not {"bikes.mp4", "v_BaseballPitch_g01_c01.avi", "flipping_a_pancake.mkv"} & unreliable
