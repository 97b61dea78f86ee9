import dataclasses
import hashlib
import json

import numpy as np
import pytest

from vidkd.base.errors import ConfigError
from vidkd.cli.main import main
from vidkd.data.synthetic.street import StreetShapesConfig, VideoPlace, draw_street, render_street, video_places, write_street_shapes
from vidkd.video import open_video

SMALL = StreetShapesConfig(
    size=64,
    videos_plain=1,
    videos_wide=1,
    videos_val=1,
    video_scenes=3,
    streams_train=1,
    streams_val=0,
    streams_test=1,
    stream_s=3.0,
    shortest_visit_s=0.4,
    arrivals_per_s=1.5,
)
LONG = dataclasses.replace(SMALL, size=112, stream_s=60.0, shortest_visit_s=5.0, arrivals_per_s=0.6)
STREAM = VideoPlace(role="stream_test", number=1)


def decoded(path):
    with open_video(path) as video:
        return video.frames_at_indices(range(video.info.frame_count))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("street_shapes")
    return out, write_street_shapes(out, SMALL, workers=1)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# ---- what is written


def test_decoded_frames_are_the_same_on_every_run_and_show_the_scenes(written, tmp_path):
    out, first = written
    assert (first.counts, first.written, first.kept) == ({"videos": 4, "streams": 2}, 6, 0)
    write_street_shapes(tmp_path, SMALL, workers=1)
    for place in video_places(SMALL):
        hashes = {hashlib.sha256(decoded(root / place.path).tobytes()).hexdigest() for root in (out, tmp_path)}
        assert len(hashes) == 1, place
    painted = np.stack(list(render_street(SMALL, draw_street(SMALL, STREAM))))
    error = decoded(out / STREAM.path).astype(float) - painted  # over blocks, as the codec halves the resolution of colour
    assert painted.shape == (45, 64, 64, 3)
    assert np.abs(error.reshape(45, 16, 4, 16, 4, 3).mean((2, 4))).mean() < 2


def test_truth_tells_sides_lengths_and_scenes(written):
    out, _ = written
    truth = lines(out / "truth.jsonl")
    assert [(row["path"], row["subset"], row["frames"]) for row in truth] == [
        ("videos/plain_01.mp4", "train", 9),
        ("videos/wide_01.mp4", "train", 9),
        ("videos/val_plain_01.mp4", "val", 9),
        ("videos/val_wide_01.mp4", "val", 9),
        ("streams/train_01.mp4", "train", 45),
        ("streams/test_01.mp4", "test", 45),
    ]
    assert len({row["group"] for row in truth}) == 6
    assert all(len(decoded(out / row["path"])) == row["frames"] for row in truth)
    starts = truth[-1]["scenes"]
    assert "".join(start["scene"] for start in starts) == "ABACB"
    assert starts[0]["first_frame"] == 0
    assert min(np.diff([*(start["first_frame"] for start in starts), 45])) >= 6


# ---- what is drawn


def test_a_scene_that_returns_looks_the_same_and_other_shapes_pass():
    visits = draw_street(LONG, STREAM).visits
    first, other, again = visits[:3]
    assert first.look is again.look
    assert np.abs(first.look.background - other.look.background).mean() > 0.02
    assert [p.boxes[0].tolist() for p in first.passages] != [p.boxes[0].tolist() for p in again.passages]


def test_boxes_lie_around_what_was_painted():
    config = dataclasses.replace(LONG, arrivals_per_s=0.15)
    visit = draw_street(config, STREAM).visits[0]
    empty = dataclasses.replace(visit, passages=(), look=dataclasses.replace(visit.look, noise=0.0))
    with_shapes = dataclasses.replace(empty, passages=visit.passages)
    street = draw_street(config, STREAM)
    pair = [np.stack(list(render_street(config, dataclasses.replace(street, visits=(one,))))) for one in (empty, with_shapes)]
    changed = np.abs(pair[0].astype(int) - pair[1]).max(-1) > 12
    expected = np.zeros_like(changed)
    seen = 0
    for passage in visit.passages:
        for number, (x1, y1, x2, y2) in enumerate(passage.boxes, start=passage.first_frame):
            expected[number, max(0, int(y1)) : max(0, int(np.ceil(y2))), max(0, int(x1)) : max(0, int(np.ceil(x2)))] = True
            seen += 1
    assert seen > 30
    assert not (changed & ~expected).any()
    assert changed.sum() > 0.35 * expected.sum()  # a triangle fills half of its box, a cross less


def test_shapes_enter_stop_and_leave_and_are_never_too_many():
    passages = [passage for visit in draw_street(LONG, STREAM).visits for passage in visit.passages]
    counts = np.zeros(900, int)
    steps = [np.hypot(*np.diff(passage.centres, axis=0).T) for passage in passages]
    for passage in passages:
        counts[passage.first_frame : passage.first_frame + len(passage.boxes)] += 1
        assert ((passage.boxes[:, :2] < 112) & (passage.boxes[:, 2:] > 0)).all()
    moving = np.concatenate(steps)
    assert moving.max() <= LONG.fastest + 1e-9
    assert 0.05 < np.mean(moving < 1e-9) < 0.5
    assert counts.max() <= LONG.most_shapes
    assert 1 < counts.mean() < 5
    assert counts.min() == 0  # quiet times
    entering = [p for p in passages if (p.boxes[0, :2] < 0).any() or (p.boxes[0, 2:] > 112).any()]
    assert len(entering) > 0.7 * len(passages)


def test_plain_videos_are_light_and_alike_as_far_as_asked_for_and_wide_ones_are_not():
    def looks(role, reach):
        config = dataclasses.replace(LONG, video_scenes=40, plain_wideness=reach)
        return [visit.look for visit in draw_street(config, VideoPlace(role=role, number=1)).visits]

    def darkness(looks):
        return np.mean([(look.colours.mean(1) < look.background.mean()).all() for look in looks])

    plain, wide = looks("plain", 0.0), looks("wide", 0.0)
    assert all((look.light == 1).all() for look in plain)
    assert all((look.colours.mean(1) > look.background.mean()).all() for look in plain)
    assert 0 == darkness(plain) < darkness(looks("plain", 0.4)) < darkness(wide) < 0.7
    assert np.ptp([look.radius for look in plain]) < 1e-9
    assert np.ptp([look.radius for look in wide]) > 5
    spreads = [np.std([look.background.mean() * look.light.mean() for look in kind]) for kind in (plain, wide)]
    assert spreads[1] > 1.5 * spreads[0]
    assert max(look.background.std(axis=(0, 1)).max() for look in plain) < 0.03


# ---- the config and the command


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kinds": ("disc", "dsic")}, "dsic"),
        ({"kinds": ("disc", "disc")}, "all different"),
        ({"size": 63}, "even"),
        ({"size": 20}, r"size must lie in \[48"),
        ({"slowest": 3.0}, "slowest must not be above fastest"),
        ({"pattern": "A-B"}, "letters"),
        ({"stream_s": 2.0, "shortest_visit_s": 1.0}, "5 visits of at least 1 s do not fit into 2 s"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **wrong)


def test_the_command_makes_the_variant_and_refuses_knobs_of_the_others(tmp_path, capsys):
    base = ["make_data", "--variant", "street", "--out", str(tmp_path / "set"), "--workers", "1"]
    few = [f"--{name}=0" for name in ("videos-plain", "videos-wide", "streams-train", "streams-val")]
    more = ["--videos-val", "1", "--video-scenes", "1", "--stream-s", "2", "--shortest-visit-s", "0.2", "--streams-test", "1"]
    assert main([*base, *few, *more, "--size", "48", "--kinds", "disc,cross"]) == 0
    assert "street_shapes: 2 videos and 1 streams of 2 classes" in capsys.readouterr().out
    assert json.loads((tmp_path / "set/config.json").read_text())["config"]["kinds"] == ["disc", "cross"]
    assert main([*base, "--shift", "3"]) == 2
    assert "--shift is a setting of the variant 'cued'" in capsys.readouterr().err
    assert main(["make_data", "--out", str(tmp_path / "other"), "--wideness", "0.5"]) == 2
    assert "--variant street" in capsys.readouterr().err
