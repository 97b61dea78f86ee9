"""Methods along a stream: boxes carried on by flow and by tracks, an oracle that errs, and policies that spend the same number of calls."""

import numpy as np
import pytest
from stream_study_samples import let_painter_be_the_oracle, make_places, make_root, make_study, study_content

from vidkd.base.errors import DataError
from vidkd.bench.streams.footage import WrongOracle
from vidkd.bench.streams.methods import FlowCarrier, TrackCarrier
from vidkd.bench.study import run_cells
from vidkd.detection.online import Answer
from vidkd.detection.policies import BARE
from vidkd.runtime.detections import Detections, box_iou

BOX = np.array([40.0, 30, 70, 80])


def textured(shift: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """A picture of soft spots whose patch under BOX moves to the right by `shift` pixels; the ground stays."""
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(60, 90, (size[0] // 8, size[1] // 8)), np.ones((8, 8))).astype(np.uint8)
    patch = np.kron(rng.integers(0, 255, (15, 10)), np.ones((4, 4))).astype(np.uint8)
    frame = ground.copy()
    frame[25:85, 35 + shift : 75 + shift] = patch
    return np.repeat(frame[:, :, None], 3, axis=2)


def moved(right: float, down: float, scale: float = 1) -> np.ndarray:
    return BOX * scale + np.tile([right, down], 2)


def one(box: np.ndarray, label: int = 0, score: float = 0.9) -> Detections:
    return Detections(boxes=box[None], scores=[score], labels=[label])


def test_flow_takes_a_box_along_with_what_is_in_it() -> None:
    carrier = FlowCarrier()
    assert len(carrier.carry(textured(0), Detections.none())) == 0
    carrier.take(one(BOX))
    for shift in (2, 4, 6):
        found = carrier.carry(textured(shift), Detections.none())
    np.testing.assert_allclose(found.boxes[0], moved(6, 0), atol=2.0)
    assert found.scores.tolist() == pytest.approx([0.9])


def walked(carrier: TrackCarrier, shifts: range, label: int = 0) -> Detections:
    found = Detections.none()
    for shift in shifts:
        found = carrier.carry(textured(0), one(moved(shift, 0), label))
    return found


def test_a_box_follows_the_track_of_the_student_s_box() -> None:
    carrier = TrackCarrier(fps=10)
    walked(carrier, range(0, 6, 2))
    carrier.take(one(moved(5, 1)))
    np.testing.assert_allclose(walked(carrier, range(6, 12, 2)).boxes[0], moved(11, 1))


def test_a_box_stays_while_its_track_is_lost_and_catches_up_after() -> None:
    carrier = TrackCarrier(fps=10)
    walked(carrier, range(0, 6, 2))
    carrier.take(one(moved(4, 0)))
    lost = carrier.carry(textured(0), Detections.none())
    np.testing.assert_allclose(lost.boxes[0], moved(4, 0))
    np.testing.assert_allclose(walked(carrier, range(8, 9)).boxes[0], moved(8, 0))


def test_a_box_is_cut_at_the_edge_gone_beyond_it_and_whole_when_it_returns() -> None:
    carrier = TrackCarrier(fps=10)
    walked(carrier, range(0, 80, 2))
    carrier.take(one(moved(78, 0)))
    np.testing.assert_array_equal(walked(carrier, range(80, 102, 2)).boxes[0], [140, 30, 160, 80])
    assert len(walked(carrier, range(102, 112, 2))) == 0, "its centre is 5 pixels beyond the frame"
    np.testing.assert_array_equal(walked(carrier, range(108, 78, -2)).boxes[0], moved(80, 0))


@pytest.mark.parametrize("answer", [one(BOX + np.array([70, 30, 70, 30])), one(BOX, label=1)])
def test_a_box_that_no_track_fits_stays_where_it_is(answer: Detections) -> None:
    carrier = TrackCarrier(fps=10)
    walked(carrier, range(0, 6, 2))
    carrier.take(answer)
    np.testing.assert_array_equal(walked(carrier, range(6, 10, 2)).boxes, answer.boxes)


WIDTH, HEIGHT = 640, 480


def many(count: int = 600) -> Detections:
    """Boxes of unlike scores, by which each can be told again."""
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 300, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 80, (count, 2))], axis=1)
    return Detections(boxes=boxes, scores=np.linspace(0.1, 0.9, count), labels=rng.integers(0, 3, count), frame_index=7, time_s=0.5)


def wrong(frame: np.ndarray, share: float, seed: int = 0, found: Detections | None = None) -> Detections:
    oracle = lambda _: Answer(detections=many() if found is None else found, known=frozenset({0, 2}))  # noqa: E731
    answer = WrongOracle(oracle, share, seed)(frame)
    assert answer.known == {0, 2}
    return answer.detections


FRAME = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_a_third_each_is_dropped_shifted_and_joined_by_a_false_box(share: float) -> None:
    true = many()
    found = wrong(FRAME, share, 4)
    place = {float(score): number for number, score in enumerate(true.scores)}
    of_true = np.array([place[float(score)] for score in found.scores])
    first = np.unique(of_true, return_index=True)[1]
    dropped, added = len(true) - len(first), len(found) - len(first)
    own = np.diag(box_iou(found.boxes[first], true.boxes[of_true[first]]))
    shifted = int((own < 0.99).sum())
    for count in (dropped, shifted, added):
        assert count == pytest.approx(share * len(true) / 3, abs=4 * np.sqrt(share * len(true) / 3))
    assert own[own < 0.99].max() <= 1 / 7 + 1e-3
    np.testing.assert_array_equal(found.labels, true.labels[of_true])


def test_false_boxes_lie_in_the_frame_and_have_the_size_of_a_true_one() -> None:
    true = many()
    found = wrong(FRAME, 1.0)
    false = np.setdiff1d(np.arange(len(found)), np.unique(found.scores, return_index=True)[1])
    boxes = found.boxes[false]
    assert len(boxes) > 100
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= WIDTH
    assert boxes[:, 3].max() <= HEIGHT
    sides = {tuple(side) for side in np.round(true.boxes[:, 2:] - true.boxes[:, :2], 1).tolist()}
    assert np.mean([tuple(side) in sides for side in np.round(boxes[:, 2:] - boxes[:, :2], 1).tolist()]) > 0.9  # else rounded otherwise


def test_errors_depend_only_on_picture_and_seed() -> None:
    other = FRAME.copy()
    other[0, 0, 0] ^= 1
    first = wrong(FRAME, 0.3, 2).boxes
    np.testing.assert_array_equal(first, wrong(FRAME.copy(), 0.3, 2).boxes)
    for boxes in (wrong(other, 0.3, 2).boxes, wrong(FRAME, 0.3, 3).boxes):
        assert boxes.shape != first.shape or not np.array_equal(boxes, first)
    np.testing.assert_array_equal(wrong(FRAME, 0.0).boxes, many().boxes)
    assert len(wrong(FRAME, 1.0, found=Detections.none())) == 0


FRAMES, CALLS = 37, 3
METHODS = {
    **{name: {"policy": name} for name in (*BARE, "hindsight")},
    "flow": {"kind": "flow"},
    "first_tenth": {"kind": "first_tenth"},
    "student": {"kind": "frozen"},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policies")
    streams = {"both": {"segments": [{"video": "both", "frames": [0, FRAMES]}]}}
    update = {"trains": "all", "lr": 0.01, "steps": 1, "replay": 0}
    study = make_study(folder, study_content(streams=streams, methods=METHODS, update=update, seeds=[0]))
    places = make_places(make_root(folder / "root"), folder)
    with pytest.MonkeyPatch.context() as patch:
        let_painter_be_the_oracle(patch)
        cells = dict(run_cells(study, "test", study.test_waves(), places, {}, 1))
    return study, places, cells


def test_every_policy_spends_the_calls_of_the_whole_stream(done) -> None:
    study, places, cells = done
    counts = {key.method: len(cell["called"]) for key, cell in cells.items()}
    assert counts == {**dict.fromkeys(METHODS, CALLS), "student": 0}
    for key, cell in cells.items():
        if "policy" in METHODS[key.method]:
            assert set(cell["kept"]) <= set(cell["called"]), key
    summary = study.summarise(places.store(study.name).cells("test"), {})
    assert {summary["methods"][name]["metrics"]["oracle_calls@calls10"]["mean"] for name in BARE} == {CALLS}


def test_policies_that_do_not_plan_are_apart_and_none_is_far_behind(done) -> None:
    _, _, cells = done
    called = {key.method: cell["called"] for key, cell in cells.items()}
    even = FRAMES / CALLS
    for name in BARE:
        if name not in ("fixed", "random"):
            assert min(np.diff(called[name])) >= FRAMES // (2 * CALLS), name
            assert all(place <= even * (number + 1) + 1 for number, place in enumerate(called[name])), name
    assert called["fixed"] == [0, 13, 25]
    assert min(np.diff(called["hindsight"])) >= FRAMES // (2 * CALLS)


def test_cells_of_one_share_that_spent_unlike_numbers_of_calls_are_not_summarised(done) -> None:
    study, places, _ = done
    found = places.store(study.name).cells("test")
    name = "stride-calls10-s0-both"
    found[name] = {**found[name], "called": found[name]["called"][:-1]}
    with pytest.raises(DataError, match=r"(?s)different numbers of calls.*0/both.*10 %.*3 by fixed, .*2 by stride"):
        study.summarise(found, {})
