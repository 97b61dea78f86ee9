"""UCF101 as its archives unpack and in the tidy form, against the official lists where they are at hand."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vidkd.base.errors import DataError
from vidkd.base.files import sha256
from vidkd.data.layouts import Options
from vidkd.data.layouts.ucf101 import read
from vidkd.data.manifest import Manifest

Tree = Callable[..., Path]
CLASSES = ("Punch", "YoYo")
OFFICIAL = ("UCF-101", "ucfTrainTestlist")
TIDY = ("videos", "splits")


def names(number: int) -> list[str]:
    return [f"{name}/v_{name}_g{number:02d}_c{take:02d}" for name in CLASSES for take in (1, 2)]


def lists(folder: str, suffix: str = ".avi", end: str = "\n") -> dict[str, str]:
    """Two splits of three groups: 1 tests group 1, 2 tests group 2."""
    texts = {f"{folder}/classInd.txt": end.join(f"{n} {name}" for n, name in enumerate(CLASSES, 1)) + end}
    for split in (1, 2):
        train = [f"{name}{suffix} {CLASSES.index(name.split('/')[0]) + 1}" for g in (1, 2, 3) if g != split for name in names(g)]
        texts[f"{folder}/trainlist0{split}.txt"] = end.join(train) + end
        texts[f"{folder}/testlist0{split}.txt"] = end.join(f"{name}{suffix}" for name in names(split)) + end
    return texts


def videos(folder: str, suffix: str = ".avi") -> list[str]:
    return [f"{folder}/{name}{suffix}" for number in (1, 2, 3) for name in names(number)]


def assert_disjoint(manifest: Manifest) -> None:
    for split in manifest.splits:
        train, test = ({clip.group for clip in manifest.select(split, subset)} for subset in ("train", "test"))
        assert train
        assert test
        assert not train & test


@pytest.mark.parametrize("folders", [OFFICIAL, TIDY])
@pytest.mark.parametrize(("file_suffix", "list_suffix", "end"), [(".avi", ".avi", "\r\n"), (".mp4", ".avi", "\n"), (".MKV", ".mp4", "\n")])
def test_both_forms_and_any_container(tree: Tree, folders: tuple[str, str], file_suffix: str, list_suffix: str, end: str) -> None:
    root = tree(videos(folders[0], file_suffix), lists(folders[1], list_suffix, end))
    reading = read(root, Options())
    manifest = reading.manifest
    assert (manifest.name, manifest.root, manifest.classes, manifest.splits) == ("ucf101", root, CLASSES, ("1", "2"))
    assert manifest.horizontal_flip
    assert (reading.absent, reading.notes) == ((), ())
    assert len(manifest.clips) == 12
    first = next(clip for clip in manifest.clips if "YoYo_g01_c02" in clip.path)
    assert first.path == f"{folders[0]}/YoYo/v_YoYo_g01_c02{file_suffix}"
    assert (first.label, first.group, dict(first.subsets)) == (1, "YoYo_g01", {"1": "test", "2": "train"})
    assert [len(manifest.select("1", subset)) for subset in ("train", "test")] == [8, 4]
    assert_disjoint(manifest)
    assert set(manifest.sources) == set(lists(folders[1]))
    assert manifest.sources[f"{folders[1]}/classInd.txt"] == sha256(root / folders[1] / "classInd.txt")


def test_names_that_differ_in_case_or_composition(tree: Tree) -> None:
    """UCF101 has HandstandPushups/v_HandStandPushups; macOS stores an accent as two characters."""
    texts = {
        "splits/classInd.txt": "1 Café\n",
        "splits/trainlist01.txt": "Café/v_CAFE_g01_c01.avi 1\n",
        "splits/testlist01.txt": "Café/v_Café_g02_c01.avi\n",
    }
    root = tree(["videos/Café/v_Cafe_g01_c01.avi", "videos/Café/v_Cafe\u0301_g02_c01.avi"], texts)
    assert len(read(root, Options()).manifest.clips) == 2


def test_missing_clips_are_counted_and_named(tree: Tree) -> None:
    root = tree([path for path in videos("videos") if "YoYo" not in path], lists("splits"))
    with pytest.raises(DataError, match="incomplete: 6 of the 12 clips") as error:
        read(root, Options())
    assert "YoYo/v_YoYo_g02_c01, YoYo/v_YoYo_g02_c02, " in str(error.value)
    assert "and 1 more" in str(error.value)
    assert error.value.lines["classes without a clip"] == "YoYo"
    assert "--allow-missing" in error.value.lines["fix"]
    reading = read(root, Options(allow_missing=True))
    assert (len(reading.manifest.clips), len(reading.absent)) == (6, 6)
    assert reading.manifest.classes == CLASSES, "labels stay those of the full set"


def test_files_in_no_list_are_mentioned(tree: Tree) -> None:
    root = tree(
        [*videos("videos"), "videos/Punch/extra.avi", "videos/Punch/._v_Punch_g01_c01.avi", "videos/Punch/notes.txt"], lists("splits")
    )
    assert read(root, Options()).notes == ("1 video files are in no split list and left out: videos/Punch/extra.avi",)


def test_two_files_for_one_clip(tree: Tree) -> None:
    root = tree([*videos("videos"), "videos/Punch/v_Punch_g01_c01.mp4"], lists("splits"))
    with pytest.raises(DataError, match=r"two files for one clip: videos/Punch/v_Punch_g01_c01\.avi and videos/Punch/v_Punch_g01_c01\.mp4"):
        read(root, Options())


@pytest.mark.parametrize(
    ("remove", "found"),
    [
        ("*", "is missing"),
        ("videos", r"UCF-101/ and videos/ missing; there: splits"),
        ("splits", r"ucfTrainTestlist/ and splits/ missing; there: videos"),
        ("splits/classInd.txt", r"no classInd\.txt in splits/"),
        ("splits/testlist02.txt", r"no testlist02\.txt in splits/"),
        ("splits/trainlist*.txt", r"no trainlist01\.txt in splits/"),
        ("videos/*/*.avi", "none of the 12 clips"),
    ],
)
def test_what_is_not_there_is_named(tree: Tree, remove: str, found: str) -> None:
    root = tree(videos("videos"), lists("splits"))
    for path in [root] if remove == "*" else list(root.glob(remove)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=r"^data set 'ucf101' not found\n") as error:
        read(root, Options(allow_missing=True))
    assert list(error.value.lines) == ["looked in", "expected", "found", "fix", "no data?"]
    assert error.value.lines["looked in"] == str(root)
    assert re.search(found, error.value.lines["found"])


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        (
            "trainlist01.txt",
            "Pnch/v_Pnch_g09_c01.avi 1",
            r"trainlist01\.txt:9: class 'Pnch' is not in classInd\.txt\n.*did you mean : Punch",
        ),
        ("trainlist01.txt", "Punch/v_Punch_g09_c01.avi 2", r"trainlist01\.txt:9: class 2 is not 'Punch'.*number 1"),
        ("trainlist01.txt", "Punch/some name.avi 1", r"trainlist01\.txt:9: no group in the name"),
        ("trainlist01.txt", "Punch", r"trainlist01\.txt:9: names no file: 'Punch'"),
        ("trainlist01.txt", "Punch/v_Punch_g01_c01.avi 1", r"testlist01\.txt:1: .* is listed before, as train of split 1"),
        ("testlist01.txt", "Punch/v_Punch_g01_c01.avi", r"testlist01\.txt:5: .* is listed before, as test of split 1"),
        ("classInd.txt", "2 Kick", r"classInd\.txt:3: not a class of its own: '2 Kick'"),
        ("classInd.txt", "3 Punch", r"classInd\.txt:3: not a class of its own"),
        ("classInd.txt", "three Kick", r"classInd\.txt:3: not a class of its own"),
        ("classInd.txt", "3", r"classInd\.txt:3: not a class of its own"),
    ],
)
def test_a_bad_line_is_named(tree: Tree, file: str, line: str, message: str) -> None:
    root = tree(videos("videos"), lists("splits"))
    with (root / "splits" / file).open("a") as out:
        out.write(f"{line}\n")
    with pytest.raises(DataError, match=message):
        read(root, Options(allow_missing=True))


@pytest.mark.data
def test_the_official_lists_whole(real_data: Path, tree: Tree) -> None:
    """All 13,320 clips as placeholders, in the official lists: the published counts, group-disjoint in each split."""
    official = real_data / "splits" / "ucf101"
    clips = {line.split()[0] for side in ("train", "test") for line in (official / f"{side}list01.txt").read_text().splitlines()}
    root = tree(
        (f"UCF-101/{clip}" for clip in clips), {f"ucfTrainTestlist/{path.name}": path.read_text() for path in official.glob("*.txt")}
    )
    reading = read(root, Options())
    manifest = reading.manifest
    counts = [[len(manifest.select(split, subset)) for subset in ("train", "test")] for split in manifest.splits]
    assert counts == [[9537, 3783], [9586, 3734], [9624, 3696]]
    assert (len(manifest.clips), len(manifest.classes), len({clip.group for clip in manifest.clips})) == (13320, 101, 101 * 25)
    assert_disjoint(manifest)
    assert (reading.absent, reading.notes) == ((), ())
