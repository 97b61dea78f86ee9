"""HMDB51, JHMDB, Something-Something, Weizmann and UT-Interaction as their archives unpack and in the tidy form."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.data.layouts.common import Options
from vidkd.data.layouts.hmdb51 import boxes_of_mask, read
from vidkd.data.layouts.hmdb51 import read_jhmdb as read_jhmdb
from vidkd.data.layouts.something import read as read_something
from vidkd.data.layouts.ut_interaction import CLASSES
from vidkd.data.layouts.ut_interaction import read as read_ut_interaction
from vidkd.data.layouts.weizmann import read as read_weizmann
from vidkd.data.manifest import Manifest
from vidkd.video import write_video

# --- HMDB51 as its archives unpack and in the tidy form, against the official lists where they are at hand ---

Tree = Callable[..., Path]
SPLITS = "testTrainMulti_7030_splits"
# the name of the class stands twice in one name; names hold blanks, brackets and marks
CLAP = ["boom_clap_(try)!_clap_u_nm_np1_fr_bad_0", "A Film & more_clap_u_nm_np1_fr_med_1", "A Film & more_clap_f_cm_np2_le_goo_2"]
WALK = ["A Film & more_walk_f_cm_np1_ri_med_0", "other#1_walk_u_nm_np1_fr_bad_0", "third_walk_u_nm_np1_fr_bad_0"]


def texts(folder: str = SPLITS) -> dict[str, str]:
    """clap: 1 train, 2 test; walk: film train, other test, third unused. As in the official files, a blank ends each line."""
    return {
        f"{folder}/clap_test_split1.txt": f"{CLAP[0]}.avi 1 \n{CLAP[1]}.avi 2 \n{CLAP[2]}.avi 2 \n",
        f"{folder}/walk_test_split1.txt": f"{WALK[0]}.avi 1 \n{WALK[1]}.avi 2 \n{WALK[2]}.avi 0 \n",
    }


def paths(folder: str = "", suffix: str = ".avi") -> list[str]:
    return [f"{folder}{name}/{stem}{suffix}" for name, stems in (("clap", CLAP), ("walk", WALK)) for stem in stems]


@pytest.mark.parametrize(
    ("folder", "lists", "suffix"), [("", SPLITS, ".avi"), ("hmdb51_org/", SPLITS, ".avi"), ("videos/", "splits", ".mp4")]
)
def test_both_forms_and_any_container(tree: Tree, folder: str, lists: str, suffix: str) -> None:
    manifest = read(tree(paths(folder, suffix), texts(lists)), Options()).manifest
    assert (manifest.classes, manifest.splits, len(manifest.clips)) == (("clap", "walk"), ("1",), 6)
    assert [clip.path for clip in manifest.clips] == paths(folder, suffix)
    assert [clip.label for clip in manifest.clips] == [0, 0, 0, 1, 1, 1]
    film = "A Film & more"
    assert [clip.group for clip in manifest.clips] == ["boom_clap_(try)!", film, film, film, "other#1", "third"]
    assert [clip.subsets.get("1") for clip in manifest.clips] == ["train", "test", "test", "train", "test", None]


def test_no_lists(tree: Tree) -> None:
    with pytest.raises(DataError, match=r"<class>_test_split1\.txt is missing in splits/"):
        read(tree(paths("videos/"), {"splits/readme.txt": "x"}), Options())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x_clap_y.avi 3", "neither train nor test"),
        ("x_clap_y.avi", "neither train nor test"),
        (f"{CLAP[0]}.avi 2", "is listed before, as train"),
    ],
)
def test_a_bad_line_is_named(tree: Tree, line: str, message: str) -> None:
    root = tree(paths(), texts())
    with (root / SPLITS / "clap_test_split1.txt").open("a") as out:
        out.write(line)
    with pytest.raises(DataError, match=rf"clap_test_split1\.txt:4: .*{message}"):
        read(root, Options())


@pytest.mark.data
def test_the_official_lists_whole(real_data: Path, tree: Tree) -> None:
    """All 153 files: 70 train and 30 test of every class in every split, and within a class no source on both sides."""
    official = {path.name: path.read_text() for path in (real_data / "splits" / "hmdb51").glob("*.txt")}
    assert len(official) == 153
    clips = [
        f"{name.removesuffix('_test_split1.txt')}/{line.split()[0]}"
        for name, text in official.items()
        if name.endswith("split1.txt")
        for line in text.splitlines()
    ]
    reading = read(tree(clips, {f"{SPLITS}/{name}": text for name, text in official.items()}), Options())
    manifest = reading.manifest
    assert (len(manifest.clips), len(manifest.classes), manifest.splits, reading.notes) == (6766, 51, ("1", "2", "3"), ())
    for split in manifest.splits:
        train, test = (manifest.select(split, subset) for subset in ("train", "test"))
        assert Counter(clip.label for clip in train) == dict.fromkeys(range(51), 70)
        assert Counter(clip.label for clip in test) == dict.fromkeys(range(51), 30)
        assert not {(clip.label, clip.group) for clip in train} & {(clip.label, clip.group) for clip in test}
        assert {clip.group for clip in train} & {clip.group for clip in test}, "films with several classes are on both sides, officially"


# --- JHMDB: boxes of the puppet masks stand at the frames' own times, in the pixels of the stored video ---


CLIPS = ["some film (1)_clap_u_nm_np1_fr_med_0", "other_clap_u_nm_np1_fr_med_0"]
LISTS = {"splits/clap_test_split1.txt": f"{CLIPS[0]}.avi 1\n{CLIPS[1]}.avi 2\n"}


def with_mask(root: Path, clip: str, mask: np.ndarray) -> None:
    """A mask and a video of 4 frames at 25 fps, 64x48, whatever the size of the mask."""
    scipy_io = pytest.importorskip("scipy.io")
    folder = root / "puppet_mask" / "clap" / clip
    folder.mkdir(parents=True)
    scipy_io.savemat(folder / "puppet_mask.mat", {"part_mask": mask.astype(np.uint8)})
    write_video(root / "ReCompress_Videos" / "clap" / f"{clip}.avi", [np.full((48, 64, 3), 40 * k, np.uint8) for k in range(4)], fps=25)


def test_a_mask_becomes_tight_boxes() -> None:
    mask = np.zeros((6, 8, 3), bool)
    mask[2:5, 1:4, 0] = True
    mask[3, 2, 0] = False
    mask[5, 7, 2] = True
    times_s = np.array([0.0, 0.04, 0.08])
    assert boxes_of_mask(mask, times_s) == ((0.0, 1, 2, 4, 5), (0.08, 7, 5, 8, 6))
    assert boxes_of_mask(mask, times_s, scale=(0.5, 2.0)) == ((0.0, 0.5, 4, 2, 10), (0.08, 3.5, 10, 4, 12))


@pytest.mark.parametrize("folder", ["ReCompress_Videos", "videos"])
def test_without_masks(tree: Tree, folder: str) -> None:
    manifest = read_jhmdb(tree([f"{folder}/clap/{clip}.avi" for clip in CLIPS], LISTS), Options()).manifest
    assert [(clip.group, clip.subsets["1"], clip.boxes) for clip in manifest.clips] == [
        ("some film (1)", "train", ()),
        ("other", "test", ()),
    ]


def test_boxes_at_the_times_and_in_the_pixels_of_the_video(tree: Tree) -> None:
    root = tree([f"ReCompress_Videos/clap/{CLIPS[1]}.avi"], LISTS)
    mask = np.zeros((24, 32, 6), np.uint8)  # half the size of the video, and two frames longer
    for frame in (0, 1, 3, 5):
        mask[4:10, 2 + frame : 8 + frame, frame] = frame + 1  # the parts of the body have numbers
    with_mask(root, CLIPS[0], mask)
    reading = read_jhmdb(root, Options())
    boxes = reading.manifest.clips[0].boxes
    assert [box[1:] for box in boxes] == [(4, 8, 16, 20), (6, 8, 18, 20), (10, 8, 22, 20)]
    assert [box[0] for box in boxes] == pytest.approx([0, 0.04, 0.12], abs=1e-3)
    assert reading.notes == ("1 clips have no puppet mask, so no boxes",)
    reading.manifest.write(root / "m.jsonl")
    assert Manifest.read(root / "m.jsonl").clips[0].boxes == boxes


def test_a_damaged_mask(tree: Tree) -> None:
    pytest.importorskip("scipy.io")
    root = tree([f"videos/clap/{clip}.avi" for clip in CLIPS], {**LISTS, f"puppet_mask/clap/{CLIPS[0]}/puppet_mask.mat": "no mat"})
    with pytest.raises(DataError, match=r"not a puppet mask: .*puppet_mask\.mat(.|\n)*--no-boxes"):
        read_jhmdb(root, Options())
    assert len(read_jhmdb(root, Options(boxes=False)).manifest.clips) == 2


# --- Something-Something v2 as its archive unpacks ---


LABELS = {"Pushing something from left to right": "1", "Holding something next to something": "0", "Moving something, something down": "2"}
TRAIN = [{"id": "11", "label": "x", "template": "Pushing [something] from left to right", "placeholders": ["cup"]}]
VALIDATION = [{"id": "7", "label": "x", "template": "Moving [something], [something] down", "placeholders": ["a", "b"]}]
TEST = [{"id": "5"}]


def texts_of_something(folder: str = "labels", **changes: Any) -> dict[str, str]:
    content = {"labels": LABELS, "train": TRAIN, "validation": VALIDATION, "test": TEST, **changes}
    return {f"{folder}/{name}.json": json.dumps(rows) for name, rows in content.items()}


@pytest.mark.parametrize(("videos", "lists", "suffix"), [("20bn-something-something-v2", "labels", ".webm"), ("videos", "splits", ".mp4")])
def test_both_forms(tree: Tree, videos: str, lists: str, suffix: str) -> None:
    manifest = read_something(tree([f"{videos}/{name}{suffix}" for name in (11, 7, 5)], texts_of_something(lists)), Options()).manifest
    assert manifest.classes == (
        "Holding something next to something",
        "Pushing something from left to right",
        "Moving something, something down",
    )
    assert not manifest.horizontal_flip, "labels name directions"
    assert [(clip.path, clip.label, dict(clip.subsets)) for clip in manifest.clips] == [
        (f"{videos}/11{suffix}", 1, {"1": "train", "val_as_test": "train"}),
        (f"{videos}/7{suffix}", 2, {"1": "val", "val_as_test": "test"}),
        (f"{videos}/5{suffix}", None, {"1": "test"}),
    ]
    assert set(manifest.sources) == {f"{lists}/{name}.json" for name in ("labels", "train", "validation", "test")}


def test_a_missing_video_is_named(tree: Tree) -> None:
    with pytest.raises(DataError, match=r"1 of the 3 clips(.|\n)*missing +: 7\n"):
        read_something(tree(["videos/11.webm", "videos/5.webm"], texts_of_something()), Options())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"a": "0", "b": "2"}}, "from 0 without a gap"),
        ({"labels": ["a"]}, "not a map of label to number"),
        ({"labels": {"a": "first"}}, "not a map of label to number"),
        ({"train": {"11": {}}}, "not a list of clips with an id"),
        ({"train": [{"id": "11"}]}, r"train\.json\[0\]: template '' is not in labels\.json"),
        ({"train": [{"id": "11", "template": "Eating [something]"}]}, r"template 'Eating something' is not in labels\.json"),
        ({"test": [{"id": "7"}]}, r"test\.json\[0\]: '/?7' is listed before, as val of split 1"),
    ],
)
def test_a_bad_list_is_named(tree: Tree, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_something(tree(["videos/11.webm", "videos/7.webm", "videos/5.webm"], texts_of_something(**changes)), Options())


@pytest.mark.parametrize("name", ["labels", "train"])
def test_a_missing_list_is_named(tree: Tree, name: str) -> None:
    root = tree(["videos/11.webm"], texts_of_something())
    (root / "labels" / f"{name}.json").unlink()
    with pytest.raises(DataError, match=rf"'something' not found(.|\n)*no {name}\.json in labels/"):
        read_something(root, Options())


# --- Weizmann: actors are groups, and never on both sides ---


ACTORS = ["daria", "denis", "eli", "ido", "ira", "lena", "lyova", "moshe", "shahar"]


def assert_protocol(manifest: Manifest) -> None:
    assert manifest.splits == (*(f"loo_{actor}" for actor in ACTORS), "fold1", "fold2", "fold3")
    for split in manifest.splits:
        train, test = ({clip.group for clip in manifest.select(split, subset)} for subset in ("train", "test"))
        assert train | test == set(ACTORS)
        assert not train & test
        expected = {split.removeprefix("loo_")} if split.startswith("loo") else set(ACTORS[int(split[-1]) * 3 - 3 : int(split[-1]) * 3])
        assert test == expected


@pytest.mark.parametrize("folder", ["video", "videos"])
def test_leave_one_actor_out_and_three_folds(tree: Tree, folder: str) -> None:
    # lena runs twice in the original
    paths = [f"{folder}/{name}/{actor}_{name}.avi" for name in ("run", "wave1") for actor in ACTORS if (actor, name) != ("lena", "run")]
    manifest = read_weizmann(tree([*paths, f"{folder}/run/lena_run1.avi", f"{folder}/run/lena_run2.avi"]), Options()).manifest
    assert (manifest.name, manifest.classes, len(manifest.clips)) == ("weizmann", ("run", "wave1"), 19)
    assert [clip.path for clip in manifest.select("loo_lena", "test")] == [
        f"{folder}/run/lena_run1.avi",
        f"{folder}/run/lena_run2.avi",
        f"{folder}/wave1/lena_wave1.avi",
    ]
    assert_protocol(manifest)


def test_a_name_without_an_actor(tree: Tree) -> None:
    with pytest.raises(DataError, match=r"no actor in the name of .*run\.avi"):
        read_weizmann(tree(["video/run/run.avi"]), Options())


@pytest.mark.parametrize("paths", [[], ["video/run/readme.txt"], ["other/run/a_run.avi"]])
def test_nothing_there(tree: Tree, paths: list[str]) -> None:
    with pytest.raises(DataError, match="data set 'weizmann' not found"):
        read_weizmann(tree(paths), Options(allow_missing=True))


@pytest.mark.data
def test_the_real_one(real_data: Path) -> None:
    manifest = read_weizmann(real_data / "weizmann", Options()).manifest
    assert (len(manifest.clips), len(manifest.classes)) == (90, 10)
    assert_protocol(manifest)
    assert all(len(manifest.select(f"loo_{actor}", "test")) == 10 for actor in ACTORS)


# --- UT-Interaction: sequences are groups, and never on both sides ---


def assert_protocol_of_ut_interaction(manifest: Manifest) -> None:
    assert manifest.splits == (*(f"seq{k}" for k in range(1, 11)), *(f"fold{k}" for k in range(1, 6)))
    everything = {f"seq{k}" for k in range(1, 11)}
    for split in manifest.splits:
        train, test = ({clip.group for clip in manifest.select(split, subset)} for subset in ("train", "test"))
        number = int(split.lstrip("seqfold"))
        assert test == ({split} if split.startswith("seq") else {f"seq{2 * number - 1}", f"seq{2 * number}"})
        assert train == everything - test


@pytest.mark.parametrize("folder", ["set1", "segmented_set1", "videos"])
def test_every_sequence_and_pair_of_sequences(tree: Tree, folder: str) -> None:
    names = [f"{6 * sequence + label}_{sequence + 1}_{label}" for sequence in range(10) for label in range(6)]
    manifest = read_ut_interaction(tree(f"{folder}/{name}.avi" for name in names), Options()).manifest
    assert manifest.classes == CLASSES == ("hand-shaking", "hugging", "kicking", "pointing", "punching", "pushing")
    assert [clip.path for clip in manifest.clips] == [f"{folder}/{name}.avi" for name in names], "in the order of their numbers"
    assert manifest.clips[13].label == 1
    assert manifest.clips[13].group == "seq3"
    assert_protocol_of_ut_interaction(manifest)


@pytest.mark.parametrize("name", ["0_1_6", "clip", "1_2", "0_1_1_copy"])
def test_another_name_is_an_error(tree: Tree, name: str) -> None:
    with pytest.raises(DataError, match=rf"not a UT-Interaction name: .*{name}\.avi"):
        read_ut_interaction(tree([f"set1/{name}.avi", "set1/0_1_1.avi"]), Options())


def test_a_class_without_a_clip(tree: Tree) -> None:
    root = tree(f"set1/{label}_1_{label}.avi" for label in range(5))
    with pytest.raises(DataError, match=r"1 of its 6 classes have no video(.|\n)*pushing"):
        read_ut_interaction(root, Options())
    assert len(read_ut_interaction(root, Options(allow_missing=True)).manifest.clips) == 5
