"""EPIC-KITCHENS-100 in small: two participants, videos as files and as folders of frames."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import Options
from vidkd.data.layouts.epic100 import frame_rate, read
from vidkd.data.manifest import Manifest
from vidkd.video import open_video

Tree = Callable[..., Path]
HEAD = "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,narration,verb,verb_class,noun,noun_class\n"
TEST_HEAD = "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp\n"
VIDEOS = ["P01/videos/P01_01.MP4", "P01/videos/P01_101.MP4", "P02/videos/P02_01.MP4"]
LISTS = {
    "EPIC_100_verb_classes.csv": "id,key,instances\n0,take,\"['take', 'get']\"\n1,put-down,['put']\n",
    "EPIC_100_noun_classes.csv": "id,key,instances\n1,spoon,['spoon']\n0,tap,['tap']\n2,salt:sea,['salt']\n",
    "EPIC_100_video_info.csv": "video_id,duration,fps,resolution\n"
    "P01_01,100.0,59.94,1920x1080\nP01_101,60.5,50.0,1920x1080\nP02_01,20.0,59.94,1920x1080\nP03_101,30.0,50.0,1920x1080\n",
    "EPIC_100_train.csv": HEAD
    + "P01_01_0,P01,P01_01,,00:00:01.00,00:00:03.50,take spoon,take,0,spoon,1\n"
    + "P01_01_1,P01,P01_01,,00:00:03.00,00:01:40.05,put salt,put,1,sea salt,2\n"
    + "P01_101_0,P01,P01_101,00:00:01.1,00:00:02.10,00:00:04.20,take spoon,take,0,spoon,1\n",
    "EPIC_100_validation.csv": HEAD
    + '"P02_01_0","P02",P02_01,,00:00:00.00,00:00:01.89,"take spoon, then",get,0,spoon,1\n'
    + "P02_01_1,P02,P02_01,,00:00:05.00,00:00:06.00,take tap,take,0,tap,0\n",
}
TEST = {"EPIC_100_test_timestamps.csv": TEST_HEAD + "P03_101_0,P03,P03_101,,00:00:01.00,00:00:02.00\n"}
TAILS = {
    "EPIC_100_unseen_participant_ids_validation.csv": "participant_id\nP02\n",
    "EPIC_100_tail_verbs.csv": "verb\n1\n",
    "EPIC_100_tail_nouns.csv": "noun\n0\n2\n",
}


def make(tree: Tree, paths: list[str] = VIDEOS, folder: str = "annotations", **over: str) -> Path:
    lists = {**LISTS, **{f"EPIC_100_{name}.csv": text for name, text in over.items()}}
    return tree(paths, {f"{folder}/{name}": text for name, text in lists.items()})


def with_lists(root: Path, lists: dict[str, str]) -> Path:
    for name, text in lists.items():
        (root / "annotations" / name).write_text(text)
    return root


def test_actions_with_verb_and_noun(tree: Tree, tmp_path: Path) -> None:
    reading = read(make(tree), Options())
    manifest = reading.manifest
    assert manifest.classes == ("take tap", "take spoon", "put-down salt:sea"), "pairs that occur, in the order of their ids"
    assert manifest.targets == {"verb": ("take", "put-down"), "noun": ("tap", "spoon", "salt:sea")}
    assert [(clip.name, clip.label, clip.targets["verb"], clip.targets["noun"]) for clip in manifest.clips] == [
        ("P01_01_0", 1, 0, 1),
        ("P01_01_1", 2, 1, 2),
        ("P01_101_0", 1, 0, 1),
        ("P02_01_0", 1, 0, 1),
        ("P02_01_1", 0, 0, 0),
    ]
    manifest.write(tmp_path / "m.jsonl")
    assert Manifest.read(tmp_path / "m.jsonl") == manifest
    assert [(clip.path, clip.start_s, clip.end_s, clip.group, clip.fps) for clip in manifest.clips[:3]] == [
        (VIDEOS[0], 1.0, 3.5, "P01_01", None),
        (VIDEOS[0], 3.0, 100.0, "P01_01", None),  # written to end 0.05 s after the video does
        (VIDEOS[1], 2.1, 4.2, "P01_101", None),
    ]
    assert (manifest.splits, [clip.name for clip in manifest.select("1", "test")]) == (("1",), ["P02_01_0", "P02_01_1"])
    assert len(manifest.select("1", "train")) == 3
    assert reading.notes == ("1 of 5 intervals begin before an earlier one of their video has ended",)
    assert set(manifest.sources) == {f"annotations/{name}" for name in LISTS}


@pytest.mark.parametrize("lists", ["epic-kitchens-100-annotations", "splits", "."])
@pytest.mark.parametrize("videos", ["videos/{participant}/{video}.mkv", "videos/train/{participant}/{video}.MP4", "videos/{video}.mp4"])
def test_other_places(tree: Tree, lists: str, videos: str) -> None:
    paths = [videos.format(participant=video[:3], video=video) for video in ("P01_01", "P01_101", "P02_01")]
    manifest = read(make(tree, paths, lists), Options()).manifest
    assert list(dict.fromkeys(clip.path for clip in manifest.clips)) == paths


def test_tags_of_unseen_participants_and_tail_classes(tree: Tree) -> None:
    root = make(tree)
    assert {clip.tags for clip in read(root, Options()).manifest.clips} == {()}
    tags = {clip.name: clip.tags for clip in read(with_lists(root, TAILS), Options()).manifest.clips}
    assert tags == {
        "P01_01_0": (),
        "P01_01_1": ("tail", "tail_verb", "tail_noun"),
        "P01_101_0": (),
        "P02_01_0": ("unseen",),
        "P02_01_1": ("unseen", "tail", "tail_noun"),
    }


def test_the_test_list_is_a_split_without_labels_where_its_videos_are(tree: Tree) -> None:
    root = with_lists(make(tree), TEST)
    reading = read(root, Options())
    assert (reading.manifest.splits, len(reading.manifest.clips)) == (("1",), 5)
    assert reading.notes[0] == "none of the videos of EPIC_100_test_timestamps.csv is there: no split challenge"
    (root / "P03" / "videos").mkdir(parents=True)
    (root / "P03" / "videos" / "P03_101.MP4").touch()
    manifest = read(root, Options()).manifest
    assert manifest.splits == ("1", "challenge")
    (clip,) = manifest.select("challenge", "test")
    assert (clip.name, clip.label, clip.targets, clip.subsets) == ("P03_101_0", None, {}, {"challenge": "test"})
    assert len(manifest.select("challenge", "train")) == 5
    assert len(manifest.select("1", "train")) == 3


def test_missing_videos(tree: Tree) -> None:
    root = make(tree, VIDEOS[:1])
    (root / "P02" / "rgb_frames").mkdir(parents=True)
    (root / "P02" / "rgb_frames" / "P02_01.tar").touch()
    with pytest.raises(DataError, match=r"2 of the 3 videos that its lists name are missing(.|\n)*P01_101, P02_01") as error:
        read(root, Options())
    assert error.value.lines["packed"] == "P02/rgb_frames/P02_01.tar: unpack each into a folder of its name"
    reading = read(root, Options(allow_missing=True))
    assert [clip.name for clip in reading.manifest.clips] == ["P01_01_0", "P01_01_1"]
    assert reading.absent == ("P01_101_0", "P02_01_0", "P02_01_1")
    assert len(reading.manifest.classes) == 3, "the classes stay those of the whole"
    shutil.rmtree(root / "P01")
    shutil.rmtree(root / "P02")
    with pytest.raises(DataError, match=r"data set 'epic100' not found(.|\n)*none of the 3 videos"):
        read(root, Options(allow_missing=True))


ROW = "P01_01_0,P01,P01_01,,00:00:01.00,00:00:03.50,take spoon,take,0,spoon,1\n"


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (
            {"train": HEAD.replace("verb_class,", "").replace("video_id", "video")},
            r"train\.csv:1: missing columns: 'video_id', 'verb_class'",
        ),
        ({"train": HEAD + ROW.replace("P01_01,", "P01_77,")}, r"train\.csv:2: unknown video 'P01_77'(.|\n)*video_info"),
        (
            {"train": HEAD + ROW.replace("00:00:03.50", "00:01:40.20")},
            r"train\.csv:2: the interval lies outside the video(.|\n)*P01_01\.MP4, 100",
        ),
        ({"train": HEAD + ROW.replace("00:00:03.50", "3.50")}, r"train\.csv:2: stop_timestamp '3\.50' is not a time"),
        ({"train": HEAD + ROW.replace("take,0", "take,2")}, r"train\.csv:2: verb_class '2' is out of range(.|\n)*0 to 1"),
        ({"train": HEAD + ROW.replace("spoon,1", "spoon,")}, r"train\.csv:2: noun_class '' is out of range"),
        ({"verb_classes": "id,key\n0,take\n2,put\n"}, "not a list of classes"),
        ({"video_info": "video_id,duration,fps\nP01_01,3,x\n"}, r"video_info\.csv:2: duration and fps are numbers"),
    ],
)
def test_bad_lists(tree: Tree, over: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(make(tree, **over), Options())


@pytest.mark.parametrize(
    ("count", "video", "fps", "expected"),
    [
        (6000, "P01_01", 59.94, 60.0),  # as the archive has it
        (5994, "P01_01", 59.94, 59.94),  # extracted at the video's own rate
        (6000, "P01_01", 29.97, 60.0),
        (5000, "P01_101", 50.0, 50.0),
        (4900, "P01_101", 50.0, 50.0),  # two seconds short
        (4890, "P01_101", 50.0, None),
        (6000, "P01_101", 50.0, None),
        (3000, "P01_01", 50.0, None),
    ],
)
def test_the_rate_of_a_folder_of_frames(count: int, video: str, fps: float, expected: float | None) -> None:
    if expected is None:
        with pytest.raises(DataError, match=f"{count} images do not make video '{video}'"):
            frame_rate(count, video, 100.0, fps, "x")
    else:
        assert frame_rate(count, video, 100.0, fps, "x") == expected


@pytest.fixture
def framed(tree: Tree) -> Path:
    """P02_01 as 4 s of frames at 60 a second, as the archive has them."""
    info = LISTS["EPIC_100_video_info.csv"].replace("P02_01,20.0", "P02_01,4.0")
    rows = LISTS["EPIC_100_validation.csv"].replace("05.00,00:00:06.00", "02.00,00:00:03.00")
    root = make(tree, VIDEOS[:2], video_info=info, validation=rows)
    folder = root / "P02" / "rgb_frames" / "P02_01"
    folder.mkdir(parents=True)
    for number in range(1, 241):
        cv2.imwrite(str(folder / f"frame_{number:010d}.jpg"), np.full((16, 24, 3), number, np.uint8))
    return root


def test_a_folder_of_frames_is_a_video(framed: Path) -> None:
    clips = [clip for clip in read(framed, Options()).manifest.clips if clip.group == "P02_01"]
    assert {(clip.path, clip.fps) for clip in clips} == {("P02/rgb_frames/P02_01", 60.0)}
    with open_video(framed / clips[1].path, sequence_fps=clips[1].fps) as video:
        index = video.indices_at_times([clips[1].start_s])[0]
        assert (index, video.info.duration_s) == (120, 4.0)
        assert video.frames_at_indices([index]).mean() == pytest.approx(121, abs=1)
    (framed / "P02" / "videos").mkdir()
    (framed / "P02" / "videos" / "P02_01.MP4").touch()
    assert {clip.fps for clip in read(framed, Options()).manifest.clips} == {None}, "a file wins over frames"


@pytest.mark.data
def test_the_official_validation_list(real_data: Path, tree: Tree) -> None:
    official = {path.name: path.read_text() for path in (real_data / "splits" / "epic100").glob("*.csv")}
    videos = {line.split(",")[2] for line in official["EPIC_100_validation.csv"].splitlines()[1:]}
    root = tree([f"{video[:3]}/videos/{video}.MP4" for video in videos], {f"annotations/{name}": text for name, text in official.items()})
    reading = read(root, Options())
    manifest = reading.manifest
    assert (len(manifest.clips), len(manifest.classes), len(videos)) == (9668, 1352, 138)
    assert [len(names) for names in manifest.targets.values()] == [97, 300]
    assert reading.notes[1] == "2610 of 9668 intervals begin before an earlier one of their video has ended"
    first = manifest.clips[0]
    assert (first.name, first.start_s, first.end_s, manifest.classes[first.label or 0]) == ("P01_11_0", 0.0, 1.89, "take plate")
    last = next(clip for clip in manifest.clips if clip.name == "P29_05_563")
    assert last.end_s == pytest.approx(1821.736567), "the list ends it 13 ms after the video"
