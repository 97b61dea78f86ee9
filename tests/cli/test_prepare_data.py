"""prepare_data as a user runs it: what it writes, what it prints, and what it refuses."""

import itertools
from pathlib import Path

import pytest
from layout_trees import write_clip

from vidkd.cli.main import run_verb
from vidkd.data.manifest import Manifest

ACTORS = ("ana", "bo", "cy")
TABLE = """\
weizmann: 6 clips, 2 classes, 3 groups
split     train     val    test  unused  groups in train and test
loo_ana       4       0       2       0       0
loo_bo        4       0       2       0       0
loo_cy        4       0       2       0       0
fold1         4       0       2       0       0
fold2         4       0       2       0       0
fold3         4       0       2       0       0
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Weizmann with three actors."""
    root = tmp_path / "my 'data'"
    for name, actor in itertools.product(("jack", "run"), ACTORS):
        write_clip(root / "video" / name / f"{actor}_{name}.avi")
    return root


def prepare(*arguments: object) -> int:
    return run_verb("prepare_data", [str(argument) for argument in arguments])


def test_the_manifest_lies_in_the_root_and_the_table_is_printed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("weizmann", "--data.root", root) == 0
    assert capsys.readouterr().out == f"{TABLE}written: {root / 'manifest.jsonl'}\n"
    manifest = Manifest.read(root / "manifest.jsonl")
    assert (manifest.root, len(manifest.clips), manifest.name) == (root, 6, "weizmann")


def test_a_manifest_elsewhere_and_a_root_given_from_here(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert prepare("weizmann", "--data.root", root.name, "--out", "lists/w.jsonl", "--name", "actors") == 0
    monkeypatch.chdir("/")
    manifest = Manifest.read(tmp_path / "lists" / "w.jsonl")
    assert (manifest.root, manifest.name) == (root, "actors")
    assert all((manifest.root / clip.path).is_file() for clip in manifest.clips)


def test_unknown_layout(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("weizman", "--data.root", root) == 2
    assert capsys.readouterr().err.startswith("vidkd: unknown layout 'weizman'\n  did you mean : weizmann\n")


def test_missing_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("ucf101", "--data.root", tmp_path / "nowhere") == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "vidkd: data set 'ucf101' not found"
    assert [line.partition(" :")[0].strip() for line in lines[1:]] == ["looked in", "expected", "found", "fix", "no data?"]
    assert lines[1].endswith(f": {tmp_path / 'nowhere'}")
    assert lines[-1].endswith(": vidkd make_data --out DIR writes synthetic videos")
    assert list(tmp_path.iterdir()) == []


def test_absent_clips_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"film{n}_clap_u_nm_np1_fr_med_0.avi" for n in range(4)]
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "clap_test_split1.txt").write_text("".join(f"{name} {1 + n % 2}\n" for n, name in enumerate(names)))
    for name in names[:3]:
        write_clip(tmp_path / "videos" / "clap" / name)
    assert prepare("hmdb51", "--data.root", tmp_path) == 2
    assert "1 of the 4 clips that its splits name are missing" in capsys.readouterr().err
    assert not (tmp_path / "manifest.jsonl").exists()
    assert prepare("hmdb51", "--data.root", tmp_path, "--allow-missing") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "hmdb51: 3 clips, 1 classes, 3 groups"
    assert out[2].split() == ["1", "2", "0", "1", "0", "0"]
    assert out[3] == f"left out, no file: 1 clips: clap/{Path(names[3]).stem}"


def test_groups_on_both_sides_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("train/a/x_1.avi", "train/a/y_1.avi", "test/a/x_2.avi", "val/a/z_1.avi", "val/a/x_9.avi"):
        write_clip(tmp_path / path)
    assert prepare("folder", "--data.root", tmp_path, "--group", r"_\d+$") == 0
    assert capsys.readouterr().out.splitlines()[2].split() == ["1", "2", "2", "1", "0", "1"]


def test_only_a_manifest_is_written_over(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = root / "clips.csv"
    mine.write_text("path,label\n")
    assert prepare("weizmann", "--data.root", root, "--out", mine) == 2
    assert "no manifest" in capsys.readouterr().err
    assert mine.read_text() == "path,label\n"
    assert prepare("weizmann", "--data.root", root, "--out", root) == 2
    assert "--out is a folder" in capsys.readouterr().err


def test_a_place_that_cannot_be_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "file").touch()
    assert prepare("weizmann", "--data.root", root, "--out", root / "file" / "m.jsonl") == 2
    assert "cannot write: " in capsys.readouterr().err


def broken_tree(root: Path) -> Path:
    """Five videos of two classes, a text file, a cut file and an empty one that are named like videos; clips.csv lists them all."""
    for path in ("a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4", "b/cut.mp4"):
        write_clip(root / path)
    (root / "b" / "cut.mp4").write_bytes((root / "b" / "cut.mp4").read_bytes()[:400])
    (root / "a" / "notes.mp4").write_text("what I filmed\n" * 20)
    (root / "b" / "empty.mp4").touch()
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.mp4"))
    (root / "clips.csv").write_text("path,label,start_s\n" + "".join(f"{name},{name[0]},0.04\n" for name in files))
    return root


@pytest.mark.parametrize("layout", ["folder", "csv"])
@pytest.mark.parametrize("workers", [(), ("--workers", 2)])
def test_files_that_are_no_videos_are_named(
    layout: str, workers: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = broken_tree(tmp_path / "mine")
    assert prepare(layout, "--data.root", root, *workers) == 2
    what, *lines = capsys.readouterr().err.splitlines()
    assert what == "vidkd: 3 of 7 video files cannot be read"
    found = dict(line.strip().split(" : ", 1) for line in lines)
    assert {label.strip() for label in found} == {"looked in", "first", "then 1", "then 2", "fix"}
    assert found["looked in"] == str(root)
    texts = [text for label, text in found.items() if label.startswith(("first", "then"))]
    assert [text.split(":")[0] for text in texts] == ["a/notes.mp4", "b/cut.mp4", "b/empty.mp4"]
    assert texts[2] == "b/empty.mp4: the file is empty"
    assert all(len(text.split(": ")[1]) > 5 for text in texts)
    assert "--allow-missing" in found["fix      "]
    assert f"vidkd prepare_data check {root}" in found["fix      "]
    assert not (root / "manifest.jsonl").exists()

    assert prepare(layout, "--data.root", root, "--allow-missing", *workers) == 0
    assert "left out, cannot be read: 3 files: a/notes.mp4, b/cut.mp4, b/empty.mp4\n" in capsys.readouterr().out
    manifest = Manifest.read(root / "manifest.jsonl")
    assert [clip.path for clip in manifest.clips] == ["a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4"]
    assert len(manifest.select("1", "test")) == 2, "the split is drawn of what is left"
    for path in ("a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4"):
        (root / path).unlink()
    assert prepare("folder", "--data.root", root, "--allow-missing") == 2
    assert "3 of 3 video files cannot be read" in capsys.readouterr().err


def test_many_files_that_are_no_videos_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(tmp_path / "a" / "1.mp4")
    for number in range(7):
        (tmp_path / "a" / f"x{number}.mp4").write_text("no video")
    assert prepare("folder", "--data.root", tmp_path) == 2
    error = capsys.readouterr().err
    assert "7 of 8 video files" in error
    assert "a/x4.mp4: " in error
    assert "a/x5.mp4" not in error
    assert "  and       : 2 more\n" in error


def test_a_class_that_is_never_judged_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("jump/a.mp4", "jump/b.mp4", "run/a.mp4"):
        write_clip(tmp_path / path)
    assert prepare("folder", "--data.root", tmp_path) == 0
    out = capsys.readouterr().out
    assert "warning: 1 of 2 classes have no test clip\n  classes : run\n  where   : split 1 of " in out
    assert "  fix     : a drawn split needs two groups of a class" in out


@pytest.mark.data
def test_the_real_subset_of_ucf101(real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("ucf101", "--data.root", real_data / "ucf101_4", "--out", tmp_path / "ucf.jsonl") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ucf101: 522 clips, 4 classes, 100 groups"
    assert lines[2].split() == ["1", "382", "0", "140", "0", "0"]
    assert Manifest.read(tmp_path / "ucf.jsonl").root == (real_data / "ucf101_4").resolve()


def test_check_decodes_everything(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = root / "video" / "run" / "ana_run.mkv"
    write_clip(damaged, frames_each=8)
    (root / "video" / "run" / "ana_run.avi").unlink()
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    assert prepare("weizmann", "--data.root", root) == 0, "its packets alone do not tell"
    assert prepare("weizmann", "--data.root", root, "--check", "--workers", 1) == 2
    assert "1 of 6 video files cannot be read" in capsys.readouterr().err
    assert prepare("weizmann", "--data.root", root, "--check", "--workers", 1, "--allow-missing") == 0
    assert "left out, cannot be read: 1 files: video/run/ana_run.mkv" in capsys.readouterr().out
    assert len(Manifest.read(root / "manifest.jsonl").clips) == 5
