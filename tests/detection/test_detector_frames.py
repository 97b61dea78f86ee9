"""Which frames a run trains on and is judged on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from box_samples import frame_of, manifest_of

from vidkd.base.errors import ConfigError, DataError
from vidkd.detection import frames as module
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.detection.config import BoxDataConfig
from vidkd.detection.frames import RunFrames, check_training, drawn_footage, frames_of_manifest, frames_of_videos, read_frames
from vidkd.video import write_video

BOX = [[1, 1, 20, 20]]


def keys(part: BoxManifest) -> list[tuple[str, int | None]]:
    return [frame.key for frame in part.frames]


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunFrames]:
    """What a run with these settings takes of a data set with these frames of cats and dogs."""

    def choose(*frames: LabelledFrame, **settings: Any) -> RunFrames:
        monkeypatch.setattr(module, "read_boxes", lambda *_, **__: manifest_of(*frames, root=tmp_path))
        return read_frames(BoxDataConfig(root=str(tmp_path), layout="coco", **settings))

    return choose


def test_subsets_patterns_and_every_nth_frame(chosen: Callable[..., RunFrames]) -> None:
    frames = [
        *(frame_of(BOX, path="a/1.mp4", index=index, subset="train") for index in range(4)),
        frame_of(BOX, path="b/1.mp4", subset="train"),
        frame_of(BOX, path="a/2.mp4", subset="val"),
        frame_of(BOX, path="b/2.mp4", subset="val"),
        frame_of(BOX, path="b/3.mp4", index=3, subset="test"),
        frame_of(BOX, path="a/4.mp4"),
    ]
    run = chosen(*frames, paths=("a/*",), every=2)
    assert keys(run.train) == [("a/1.mp4", 0), ("a/1.mp4", 2)]
    assert keys(run.subset("val")) == [("a/2.mp4", 0)]
    assert keys(run.subset("test")) == [("b/3.mp4", 3)]


def test_a_data_set_without_subsets_trains_on_all_but_the_groups_held_out(chosen: Callable[..., RunFrames]) -> None:
    frames = [frame_of(BOX, [number % 2], path=f"{number}.mp4", index=index) for number in range(8) for index in range(3)]
    whole = chosen(*frames)
    assert (len(whole.train.frames), len(whole.val.frames)) == (24, 0)
    with pytest.raises(DataError, match="validation_fraction"):
        whole.subset("val")
    run = chosen(*frames, validation_fraction=0.25)
    groups = [{frame.group for frame in part.frames} for part in (run.train, run.val)]
    assert (len(groups[0]), len(groups[1])) == (6, 2)
    assert not groups[0] & groups[1]
    assert {label for frame in run.val.frames for label in frame.labels.tolist()} == {0, 1}
    assert keys(chosen(*frames, validation_fraction=0.25, split_seed=5).val) != keys(run.val)


def test_one_video_is_never_split(chosen: Callable[..., RunFrames]) -> None:
    frames = [frame_of(BOX, path="a.mp4", index=index) for index in range(8)]
    with pytest.raises(DataError, match=r"no video can be held out(.|\n)*a\.mp4"):
        chosen(*frames, validation_fraction=0.25)


def test_frames_that_may_lack_boxes_are_trained_on_only_if_asked_for_and_never_judged_on(chosen: Callable[..., RunFrames]) -> None:
    frames = [
        frame_of(BOX, path="a.mp4", subset="train"),
        frame_of(BOX, path="b.mp4", subset="train", complete=False),
        frame_of(BOX, path="c.mp4", subset="val", complete=False),
    ]
    assert keys(chosen(*frames).train) == [("a.mp4", 0)]
    assert keys(chosen(*frames, incomplete="use").train) == [("a.mp4", 0), ("b.mp4", 0)]
    assert keys(chosen(*frames, incomplete="use").val) == []


def test_the_identity_changes_with_what_is_trained_on(chosen: Callable[..., RunFrames]) -> None:
    one, two = frame_of(BOX, path="a.mp4"), frame_of([[1, 1, 20, 21]], path="a.mp4")
    other = frame_of(BOX, path="b.mp4")
    found = [chosen(*frames).identity for frames in ([one], [one], [two], [one, other], [other, one])]
    assert found[0] == found[1]
    assert len(set(found)) == 4


# --- bad input ---


def test_a_class_without_a_box_is_named(chosen: Callable[..., RunFrames]) -> None:
    hidden = frame_of(BOX, [1], path="b.mp4", ignore=[True])
    run = chosen(frame_of(BOX, [0], path="a.mp4"), hidden)
    with pytest.raises(DataError, match=r"1 of 2 classes of 'pets' have no box to train on[\s\S]*dog[\s\S]*data\.classes"):
        check_training(run, BoxDataConfig())


def test_patterns_that_match_nothing_are_told(chosen: Callable[..., RunFrames]) -> None:
    with pytest.raises(DataError, match=r"no frame to train on[\s\S]*videos/\*"):
        check_training(chosen(frame_of(BOX), paths=("videos/*",)), BoxDataConfig(paths=("videos/*",)))
    hidden = frame_of(BOX, path="b.mp4", subset="val", ignore=[True])
    run = chosen(frame_of([*BOX, *BOX], [0, 1], subset="train"), hidden)
    with pytest.raises(DataError, match="`val` frames of 'pets' have no box to find"):
        check_training(run, BoxDataConfig())


def test_a_data_set_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data set not found: .*none[\s\S]*make_data"):
        read_frames(BoxDataConfig(root=str(tmp_path / "none"), layout="coco"))
    with pytest.raises(ConfigError, match=r"data\.layout is not set"):
        read_frames(BoxDataConfig(root=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"data\.root is not set"):
        read_frames(BoxDataConfig(layout="coco"))


GREYS = np.arange(0, 240, 12, dtype=np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "v.mp4"
    write_video(path, np.broadcast_to(GREYS[:, None, None, None], (20, 32, 48, 3)).copy(), fps=25)
    return path


def numbers(frames: list[np.ndarray]) -> list[int]:
    return [round(float(frame.mean()) / 12) for frame in frames]


def test_frames_are_drawn_by_the_seed_one_of_each_stretch(video: Path) -> None:
    found = frames_of_videos([video, video], 10)
    assert [frame.shape for frame in found] == [(32, 48, 3)] * 10
    drawn = [numbers(frames_of_videos([video, video], 10, seed)) for seed in range(12)]
    assert [number // 4 for each in drawn for number in each] == [*range(5), *range(5)] * 12
    assert drawn[0] == numbers(found), "the seed is 0 unless another is given"
    assert len(set(map(tuple, drawn))) > 10, "seeds draw differently"
    assert {number for each in drawn for number in each} == set(range(20)), "every frame may be drawn"
    assert numbers(drawn_footage([video, video], lambda: pytest.fail("videos are given"), 10, 3)[0]) == drawn[3]
    assert numbers(frames_of_videos([video], 99, 7)) == list(range(20)), "no more than there are"


def test_annotated_frames_are_drawn_by_the_seed(video: Path) -> None:
    truth = manifest_of(*(frame_of([], path=video.name, index=index) for index in range(20)), root=video.parent)
    found = [frames_of_manifest(truth, 5, seed) for seed in (0, 0, 1)]
    shades = [sorted(round(float(frame.mean()) / 12) for frame in each) for each in found]
    assert shades[0] == shades[1] != shades[2]
    assert len(set(shades[0])) == 5
    assert len(frames_of_manifest(truth, 99)) == 20
