import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidkd.base.errors import ConfigError
from vidkd.data.manifest import Manifest
from vidkd.data.synthetic.cued import (
    CuedShapesConfig,
    cued_truth_row,
    cued_video_path,
    draw_cued_scene,
    is_labelled,
    labels_of,
    render_cued,
    subset_of_file,
    write_cued_shapes,
)
from vidkd.data.synthetic.scene import CLASSES
from vidkd.video import open_video

SMALL = CuedShapesConfig(
    files_train=4, files_test=2, episodes=2, size=64, amplitude=4.0, cue_amplitude=2.5, shift=8.0, cue_s=0.4, travel_s=0.2, action_s=0.4
)
AXES = {"LeftRight": (1.0, 0.0), "UpDown": (0.0, 1.0), "Rising": (math.sqrt(0.5), -math.sqrt(0.5)), "Falling": (math.sqrt(0.5),) * 2}
TURNING = {"Clockwise": 1, "CounterClockwise": -1}


def decoded(path):
    with open_video(path) as video:
        return video.frames_at_indices(range(video.info.frame_count)), video.timestamps_s


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("cued_shapes")
    return out, write_cued_shapes(out, SMALL, workers=1)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# ---- what is written


def test_decoded_frames_are_the_same_on_every_run_and_show_the_scene(written, tmp_path):
    out, first = written
    assert (first.counts, first.written, first.kept) == ({"train": 8, "test": 4}, 6, 0)
    write_cued_shapes(tmp_path / "again", SMALL, workers=2)
    for number in range(1, 7):
        hashes = {hashlib.sha256(decoded(root / cued_video_path(number))[0].tobytes()).hexdigest() for root in (out, tmp_path / "again")}
        assert len(hashes) == 1, number
    frames, painted = decoded(out / cued_video_path(6))[0], render_cued(SMALL, draw_cued_scene(SMALL, 6))
    error = frames.astype(float) - painted  # over blocks, as the codec halves the resolution of colour
    assert np.abs(error.reshape(len(painted), 16, 4, 16, 4, 3).mean((2, 4))).mean() < 2


def test_manifest_truth_and_decoded_timestamps_agree_and_groups_do_not_cross_the_split(written):
    out, _ = written
    manifest, truth = Manifest.read(out / "manifest.jsonl"), lines(out / "truth.jsonl")
    assert (manifest.classes, manifest.splits, manifest.horizontal_flip) == (CLASSES, ("1",), False)
    train, test = manifest.select("1", "train"), manifest.select("1", "test")
    assert (len(train), len(test)) == (8, 4)
    assert not {clip.group for clip in train} & {clip.group for clip in test}
    assert len({clip.name for clip in manifest.clips}) == 12
    rows = [(row, episode) for row in truth for episode in row["episodes"]]
    for (row, episode), clip in zip(rows, manifest.clips, strict=True):
        times_s = decoded(out / row["path"])[1]
        boxes = row["shapes"][row["actor"]]["boxes"]
        assert (clip.path, clip.label, clip.onset_s) == (row["path"], CLASSES.index(episode["class"]), None)
        assert (clip.group, clip.subsets) == (row["group"], {"1": row["subset"]})
        assert [clip.start_s, clip.end_s] == episode["action_s"]
        assert all(np.abs(times_s - moment).min() < 1e-5 for key in ("cue_s", "travel_s", "action_s") for moment in episode[key])
        assert len(boxes) == len(times_s)
        inside = (times_s >= episode["cue_s"][0] - 1e-6) & (times_s < clip.end_s - 1e-6)
        assert [box[0] for box in clip.boxes] == pytest.approx(times_s[inside])
        assert [list(box[1:]) for box in clip.boxes] == [box for box, there in zip(boxes, inside, strict=True) if there]


def test_unlabelled_files_keep_their_classes_to_the_truth_and_a_larger_share_holds_a_smaller_one(tmp_path):
    config = dataclasses.replace(SMALL, unlabelled_share=0.5)
    write_cued_shapes(tmp_path, config, workers=1)
    manifest, truth = Manifest.read(tmp_path / "manifest.jsonl"), lines(tmp_path / "truth.jsonl")
    assert [clip.label is None for clip in manifest.clips] == [False] * 4 + [True] * 4 + [False] * 4
    assert {clip.subsets["1"] for clip in manifest.clips if clip.label is None} == {"train"}
    assert [row["labelled"] for row in truth] == [True, True, False, False, True, True]
    assert [[episode["label"] for episode in row["episodes"]] for row in truth] == [labels_of(SMALL, number) for number in range(1, 7)]
    unlabelled = [
        {number for number in range(1, 163) if not is_labelled(CuedShapesConfig(unlabelled_share=share), number)} for share in (0, 0.5, 0.9)
    ]
    assert [len(numbers) for numbers in unlabelled] == [0, 60, 108]
    assert unlabelled[1] < unlabelled[2]


# ---- what is true of it


@st.composite
def scenes(draw):
    """A config and the scene of one of its files."""
    config = CuedShapesConfig(
        seed=draw(st.integers(0, 10_000)),
        shift=draw(st.one_of(st.sampled_from([0.0, 12.0, 24.0]), st.floats(0, 24.5))),
        episodes=draw(st.integers(1, 4)),
        distractors=draw(st.integers(0, 3)),
        fps=draw(st.sampled_from([12.5, 25.0, 50.0])),
        cue_s=draw(st.sampled_from([0.8, 1.2])),
        travel_s=draw(st.sampled_from([0.08, 0.64])),
        action_s=0.96,
        wander=draw(st.floats(0, 5)),
    )
    number = draw(st.integers(1, config.files_train + config.files_test))
    return config, draw_cued_scene(config, number)


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_the_timeline_keeps_its_lengths_and_nothing_overlaps(case):
    config, scene = case
    row, end = cued_truth_row(config, scene), 0.0
    for episode in row["episodes"]:
        (cue, cue_end), (left, arrived), (start, stop) = episode["cue_s"], episode["travel_s"], episode["action_s"]
        assert config.shortest_idle_s - 1e-6 <= cue - end <= config.longest_idle_s + 1e-6
        assert (cue_end, arrived) == (left, start)
        assert [cue_end - cue, arrived - left, stop - start] == pytest.approx([config.cue_s, config.travel_s, config.action_s], abs=2e-6)
        end = stop
    assert config.shortest_idle_s - 1e-6 <= scene.centres.shape[1] / config.fps - end <= config.longest_idle_s + 1e-6


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_everything_stays_in_the_frame(case):
    config, scene = case
    assert scene.centres.min() >= 2 - 1e-6
    assert scene.centres.max() <= config.size - 2 + 1e-6
    assert (scene.boxes >= 0).all()
    assert (scene.boxes <= config.size).all()
    assert (scene.boxes[..., 2:] - scene.boxes[..., :2] > 2).all()


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_place_and_acting_place_are_apart_by_the_shift_and_the_journey_is_that_vector_alone(case):
    config, scene = case
    path = scene.centres[scene.actor]
    for episode, row in zip(scene.episodes, cued_truth_row(config, scene)["episodes"], strict=True):
        apart = np.subtract(row["acting_place"], row["place"])
        np.testing.assert_allclose(apart, row["shift"], atol=2e-6)
        assert math.hypot(*apart) == pytest.approx(config.shift, abs=3e-6)
        journey = np.diff(path[episode.cue_end : episode.action_start + 1], axis=0)
        np.testing.assert_allclose(journey, np.tile(np.divide(episode.shift, len(journey)), (len(journey), 1)), atol=1e-9)


def check_motion(path, place, name, amplitude, period):
    """The motion of a class around a place, by geometry: on its line or circle, as far as it should go, and no class else."""
    away = path - np.array(place)
    if name in TURNING:
        np.testing.assert_allclose(np.hypot(*away.T), amplitude, atol=1e-5)
        crossing = away[:-1, 0] * away[1:, 1] - away[:-1, 1] * away[1:, 0]
        np.testing.assert_allclose(crossing, TURNING[name] * amplitude**2 * math.sin(2 * math.pi / period), atol=1e-4)
        return
    along = away @ np.array(AXES[name])
    np.testing.assert_allclose(away, along[:, None] * np.array(AXES[name]), atol=1e-5)
    assert np.abs(along).max() <= amplitude + 1e-5
    following, before = along[2:] + along[:-2], 2 * math.cos(2 * math.pi / period) * along[1:-1]
    np.testing.assert_allclose(following, before, atol=1e-4)  # an oscillation around nought
    if len(along) > period:
        assert np.abs(along).max() >= amplitude * math.cos(math.pi / period) - 1e-5  # sampled at most half a step from its peak


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_cue_and_action_are_the_motion_of_the_class_around_their_places_at_their_amplitudes(case):
    config, scene = case
    path = scene.centres[scene.actor]
    for episode, row in zip(scene.episodes, cued_truth_row(config, scene)["episodes"], strict=True):
        name, period = row["class"], episode.period
        assert abs(period / config.period - 1) <= config.period_spread + 1e-9
        assert abs(episode.amplitude / config.amplitude - 1) <= config.amplitude_spread + 1e-9
        check_motion(path[episode.cue_start : episode.cue_end + 1], row["place"], name, config.cue_amplitude, period)
        ramp = math.ceil((episode.action_end - episode.action_start) / 5)
        full = path[episode.action_start + ramp : episode.action_end - ramp + 1]
        check_motion(full, row["acting_place"], name, episode.amplitude, period)


# ---- what the shift changes, and what it does not


def test_the_frames_of_every_cue_are_the_same_whatever_the_shift():
    configs = [CuedShapesConfig(shift=shift) for shift in (0.0, 24.0)]
    pairs = [(config, draw_cued_scene(config, 7)) for config in configs]
    (_, near), (_, far) = pairs
    still, moved = (render_cued(config, scene) for config, scene in pairs)
    assert np.array_equal(still[: near.episodes[0].cue_end + 1], moved[: far.episodes[0].cue_end + 1])
    for episode in near.episodes:
        assert np.array_equal(still[episode.cue_start : episode.cue_end + 1], moved[episode.cue_start : episode.cue_end + 1])
        acting = slice(episode.action_start, episode.action_end)
        assert all((a != b).any() for a, b in zip(still[acting], moved[acting], strict=True))


# ---- what tells nothing


def test_classes_are_balanced_and_successive_ones_independent():
    stats = pytest.importorskip("scipy.stats")
    config = CuedShapesConfig(files_train=1800)
    labels = np.array([labels_of(config, number) for number in range(1, 1801)])
    assert np.bincount(labels.ravel()).tolist() == [900] * 6
    test = [labels_of(config, number) for number in range(1801, 1843) if subset_of_file(config, number) == "test"]
    assert np.bincount(np.ravel(test)).tolist() == [21] * 6
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        table = np.histogram2d(labels[:, earlier], labels[:, later], bins=6)[0]
        assert stats.chi2_contingency(table).pvalue > 1e-4
        assert table.diagonal().sum() > 0.8 * 300


MANY = CuedShapesConfig(files_train=420, cue_amplitude=2.5)  # a small cue leaves places from which every direction has room


@pytest.fixture(scope="module")
def many_episodes():
    """Labels (N,), places and shift vectors (N, 2), and the actor's positions (N, 2) at some moments of the episode."""
    config = MANY
    labels, places, shifts = [], [], []
    moments = {"idle": [], "cue": [], "cue's end": [], "journey": [], "half a turn": []}
    for number in range(1, 421):
        scene = draw_cued_scene(config, number)
        path = scene.centres[scene.actor]
        for episode in scene.episodes:
            labels.append(episode.label)
            places.append(episode.place)
            shifts.append(episode.shift)
            moments["idle"].append(path[episode.cue_start - 3])
            moments["cue"].append(path[episode.cue_start + 9])
            moments["cue's end"].append(path[episode.cue_end])
            moments["journey"].append(path[episode.cue_end + 7])
            moments["half a turn"].append(path[episode.cue_start + 8] - path[episode.cue_start])
    return np.array(labels), np.array(places), np.array(shifts), {name: np.array(points) for name, points in moments.items()}


def smallest_p(stats, labels, points):
    """The least likely difference in law between one class and the rest, along four axes."""
    axes = (np.array([1, 0]), np.array([0, 1]), np.array([1, 1]), np.array([1, -1]))
    return min(stats.ks_2samp(points[labels == k] @ axis, points[labels != k] @ axis).pvalue for k in range(6) for axis in axes)


def test_positions_in_one_frame_and_the_journey_follow_one_law_for_every_class_and_displacements_do_not(many_episodes):
    stats = pytest.importorskip("scipy.stats")
    labels, _, shifts, moments = many_episodes
    for name in ("idle", "cue", "cue's end", "journey"):
        assert smallest_p(stats, labels, moments[name]) > 1e-4, name
    assert smallest_p(stats, labels, shifts) > 1e-4
    assert smallest_p(stats, labels, moments["half a turn"]) < 1e-12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("LeftRight", "Sideways")}, "Sideways"),
        ({"shift": -1.0}, "shift must lie in"),
        ({"shift": math.nan}, "shift must lie in"),
        ({"shift": 26.0}, "not always room"),
        ({"cue_s": 0.5}, "cue_s must be a whole number of frames, found 12.5"),
        ({"travel_s": 0.0}, "travel_s must be a whole number of frames"),
        ({"shortest_idle_s": 0.8}, "idle"),
        ({"shortest_idle_s": 0.01, "longest_idle_s": 0.03}, "idle"),
        ({"cue_amplitude": 5.5}, "cue_amplitude must not be above"),
        ({"amplitude": 40.0}, "leave the frame"),
        ({"unlabelled_share": 1.5}, "unlabelled_share must lie in"),
        ({"size": 81}, "even"),
    ],
)
def test_config_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        CuedShapesConfig(**options)
