import hashlib
import json
import math

import numpy as np
import pytest

from vidkd.base.errors import ConfigError, DataError
from vidkd.data.layouts import LAYOUTS, Options
from vidkd.data.manifest import Manifest
from vidkd.data.synthetic.motion import (
    ClipPlace,
    MotionShapesConfig,
    clip_places,
    draw_scene,
    render,
    truth_row,
    video_path,
    write_motion_shapes,
)
from vidkd.data.synthetic.scene import CLASSES
from vidkd.data.synthetic.shapes import KINDS, Shape, boxes_of, paint
from vidkd.video import open_video

SMALL = MotionShapesConfig(clips_per_class_train=2, clips_per_class_test=1, clips_per_group=1, frames=12, size=64, amplitude=3.0)


def decoded(path):
    with open_video(path) as video:
        return video.frames_at_indices(range(video.info.frame_count))


def decoded_hash(path):
    return hashlib.sha256(decoded(path).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("motion_shapes")
    return out, write_motion_shapes(out, SMALL, workers=1)


# ---- what is written


def test_decoded_frames_are_the_same_on_every_run_and_for_a_clip_written_alone(written, tmp_path):
    out, first = written
    assert (first.counts, first.written, first.kept) == ({"train": 12, "test": 6}, 18, 0)
    write_motion_shapes(tmp_path / "again", SMALL, workers=2)
    places = list(clip_places(SMALL))
    for place in places:
        path = video_path(SMALL, place)
        assert decoded_hash(out / path) == decoded_hash(tmp_path / "again" / path), path
    alone = render(SMALL, draw_scene(SMALL, places[-1]))
    error = decoded(out / video_path(SMALL, places[-1])).astype(float) - alone
    assert np.abs(error.reshape(12, 16, 4, 16, 4, 3).mean((2, 4))).mean() < 2  # over blocks, as the codec halves the resolution of colour
    assert np.array_equal(alone, render(SMALL, draw_scene(SMALL, ClipPlace(group=3, label=5, number=1))))


def test_a_second_call_writes_what_is_missing(written):
    out, _ = written
    paths = [out / video_path(SMALL, place) for place in clip_places(SMALL)]
    before = {path: path.stat().st_mtime_ns for path in paths}
    missing = paths[7]
    content = decoded_hash(missing)
    missing.unlink()
    again = write_motion_shapes(out, SMALL, workers=1)
    assert (again.written, again.kept) == (1, 17)
    assert decoded_hash(missing) == content
    assert all(path.stat().st_mtime_ns == before[path] for path in paths if path != missing)


def test_another_config_in_the_same_folder_is_an_error_that_names_the_difference(written, tmp_path):
    out, _ = written
    other = MotionShapesConfig(**{**SMALL.as_dict(), "classes": CLASSES, "period": 20.0})
    with pytest.raises(ConfigError, match=r"period: 16\.0 there, 20\.0 asked"):
        write_motion_shapes(out, other)
    (tmp_path / "videos").mkdir()
    with pytest.raises(DataError, match=r"no config\.json"):
        write_motion_shapes(tmp_path, SMALL)


def test_lists_manifest_and_truth_agree_and_groups_do_not_cross_the_split(written):
    out, _ = written
    manifest = Manifest.read(out / "manifest.jsonl")
    assert manifest.classes == CLASSES
    assert manifest.splits == ("1",)
    assert not manifest.horizontal_flip
    assert not LAYOUTS["ucf101"](out, Options()).manifest.horizontal_flip, "read as the data set whose layout it has"
    train, test = manifest.select("1", "train"), manifest.select("1", "test")
    assert (len(train), len(test)) == (12, 6)
    assert not {clip.group for clip in train} & {clip.group for clip in test}
    assert (out / "splits/classInd.txt").read_text().split("\n")[:2] == ["1 LeftRight", "2 UpDown"]
    listed = [line.split() for line in (out / "splits/trainlist01.txt").read_text().splitlines()]
    assert {(f"videos/{name}", int(number) - 1) for name, number in listed} == {(clip.path, clip.label) for clip in train}
    assert {f"videos/{name}" for name in (out / "splits/testlist01.txt").read_text().splitlines()} == {clip.path for clip in test}
    truth = [json.loads(line) for line in (out / "truth.jsonl").read_text().splitlines()]
    assert [row["path"] for row in truth] == [clip.path for clip in manifest.clips]
    for row, clip in zip(truth, manifest.clips, strict=True):
        assert row["class"] == clip.path.split("/")[1] == CLASSES[row["label"]]
        assert [list(box[1:]) for box in clip.boxes] == row["shapes"][row["actor"]]["boxes"]
        assert [box[0] for box in clip.boxes] == pytest.approx([t / 25 for t in range(12)])
        assert row["shapes"][row["actor"]]["role"] == "actor"


# ---- what is true of it


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_are_the_extent_of_the_drawn_pixels(kind):
    shape = Shape(kind, 6.3, np.ones(3, np.float32), np.zeros((1, 3)), 0.0)
    centres = np.array([[20.0, 30.0], [21.37, 29.81], [33.5, 15.25]])
    frames = np.zeros((3, 48, 48, 3), np.float32)
    paint(frames, shape, centres)
    for frame, box in zip(frames, boxes_of(shape, centres, 48), strict=True):
        rows, columns = np.nonzero(frame[..., 0] > 0.02)
        drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array(drawn) - box).max() <= 1.0
        assert frame[..., 0].sum() > 0.3 * np.prod(box[2:] - box[:2])


def test_the_middle_of_a_shape_never_leaves_the_frame_and_edges_are_seldom_crossed():
    config = MotionShapesConfig(distractors=6, drift=3.0, jitter=1.0)
    scenes = [draw_scene(config, place) for place in list(clip_places(config))[:200]]
    centres, boxes = np.stack([scene.centres for scene in scenes]), np.stack([scene.boxes for scene in scenes])
    assert centres.min() > 1
    assert centres.max() < config.size - 1
    assert ((boxes == 0) | (boxes == config.size)).any(-1).mean() < 0.05
    with pytest.raises(ConfigError, match="leave the frame"):
        MotionShapesConfig(amplitude=20.0)


def test_the_actor_stands_still_until_the_onset():
    config = MotionShapesConfig(earliest_onset_s=0.2, latest_onset_s=0.8)
    onsets = set()
    for place in list(clip_places(config))[:60]:
        scene = draw_scene(config, place)
        path = scene.centres[scene.actor]
        assert np.ptp(path[: scene.onset_frame + 1], axis=0).max() < 1e-9
        assert np.abs(np.diff(path[scene.onset_frame : scene.onset_frame + 8], axis=0)).max() > 0.5
        assert truth_row(config, scene)["onset_s"] == scene.onset_frame / 25
        onsets.add(scene.onset_frame)
    assert min(onsets) >= 5
    assert max(onsets) <= 20
    assert len(onsets) > 5


def motion_of(path):
    """The class of a path (T, 2) by geometry alone: how far it turns, else the direction of its largest spread."""
    steps = np.diff(path, axis=0)
    before, after = steps[:-1], steps[1:]
    crossing = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    turning = crossing.sum() / (np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)).sum()
    if abs(turning) > 0.1:
        return "Clockwise" if turning > 0 else "CounterClockwise"
    _, vectors = np.linalg.eigh(np.cov(path.T))
    angle = math.degrees(math.atan2(-vectors[1, -1], vectors[0, -1])) % 180
    return ["LeftRight", "Rising", "UpDown", "Falling"][round(angle / 45) % 4]


def test_the_actors_path_alone_tells_the_class():
    config = MotionShapesConfig()
    for place in list(clip_places(config))[:240]:
        scene = draw_scene(config, place)
        assert motion_of(scene.centres[scene.actor]) == CLASSES[place.label]


# ---- one frame says nothing


MANY = MotionShapesConfig(clips_per_class_train=200, clips_per_class_test=2)


def test_positions_at_any_one_time_follow_one_law_for_every_class_and_role():
    scipy_stats = pytest.importorskip("scipy.stats")
    scenes = [draw_scene(MANY, place) for place in clip_places(MANY)]
    for frame in (0, 13, 35):
        by_class, by_role = {}, {}
        for scene in scenes:
            for role, path in zip(scene.roles, scene.centres, strict=True):
                if role == "actor":
                    by_class.setdefault(scene.place.label, []).append(path[frame])
                by_role.setdefault(role, []).append(path[frame])
        for samples in (by_class, by_role):
            arrays = [np.array(points) for points in samples.values()]
            for axis in (np.array([1, 0]), np.array([0, 1]), np.array([1, 1]), np.array([1, -1])):
                values = [points @ axis for points in arrays]
                smallest = min(scipy_stats.ks_2samp(a, np.concatenate(values[:k] + values[k + 1 :])).pvalue for k, a in enumerate(values))
                assert smallest > 1e-4, (frame, axis)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("LeftRight", "Sideways")}, "Sideways"),
        ({"classes": ("LeftRight",)}, "at least 2, all different"),
        ({"classes": ("LeftRight", "LeftRight")}, "at least 2, all different"),
        ({"clips_per_class_train": 3}, "multiple of clips_per_group"),
        ({"contrast": 1.5}, "contrast must lie in"),
        ({"noise": math.nan}, "noise must lie in"),
        ({"size": 81}, "even"),
        ({"latest_onset_s": 5.0}, "onset"),
        ({"earliest_onset_s": 0.5}, "onset"),
    ],
)
def test_config_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        MotionShapesConfig(**options)
