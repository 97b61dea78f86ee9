"""Flow stored as video: how exact it is, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flow_samples import DIS, FRAMES, STEP, extract, window
from hypothesis import given, settings
from hypothesis import strategies as st

from vidkd.base.errors import DataError
from vidkd.data.flow import dis_flow
from vidkd.data.flow_store import (
    decode_flow,
    encode_flow,
    read_side_file,
    read_stored_flow,
    write_stored_flow,
)
from vidkd.data.footage import shrink
from vidkd.data.windows import Window
from vidkd.video import open_video

# --- pictures of flow ---


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 20.0, 64.0, 300.0]))
def test_the_error_of_a_component_is_at_most_half_a_step(seed: int, bound: float) -> None:
    flow = np.random.default_rng(seed).uniform(-bound, bound, (9, 7, 2)).astype(np.float32)
    picture, clipped = encode_flow(flow, bound)
    assert picture.dtype == np.uint8
    assert clipped == 0
    error = np.abs(decode_flow(picture[None], bound)[0] - flow).max()
    assert error <= bound / 4094 * 1.001
    assert error > bound / 4094 * 0.8  # the bound that is stated is the one there is


def test_what_lies_beyond_the_bound_is_cut_and_counted() -> None:
    flow = np.array([[[70.0, -3.0], [-1000.0, 64.0]]], np.float32)
    picture, clipped = encode_flow(flow, 64.0)
    assert clipped == 2
    np.testing.assert_allclose(decode_flow(picture[None], 64.0)[0], [[[64, -3], [-64, 64]]], atol=64.0 / 4094)


# --- stored and read ---


def test_stored_flow_is_the_flow_to_half_a_step(panning_root: Path, stored_flow: Path) -> None:
    with open_video(panning_root / "in" / "right.mp4") as video:
        frames = shrink(video.frames_at_indices(range(FRAMES)), 32)
    expected = dis_flow(frames, frames[np.minimum(np.arange(FRAMES) + STEP, FRAMES - 1)])
    found = read_stored_flow(stored_flow, "in/right.mp4", window(*range(FRAMES)), frame_count=FRAMES)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 64.0 / 4094 * 1.001
    # and it is the motion: 2 pixels a frame, 2 frames a step, at 32/48 of the size
    assert np.median(found[:-STEP, 8:-8, 8:-8, 0]) == pytest.approx(4 * 32 / 48, abs=0.1)
    assert not found[-1].any()


def test_a_frame_with_itself_has_no_flow(stored_flow: Path) -> None:
    held = Window(np.array([4, 5, 5]), np.array([6, 5, 5]))
    found = read_stored_flow(stored_flow, "left.mp4", held)
    assert found[0].any()
    assert not found[1:].any()


@pytest.mark.parametrize("clip_window", [window(2, 4, step=3), window(2, 4, step=1)])
def test_another_flow_step_is_an_error(stored_flow: Path, clip_window: Window) -> None:
    with pytest.raises(DataError, match="another step") as caught:
        read_stored_flow(stored_flow, "left.mp4", clip_window)
    assert caught.value.lines["flow step"] == f"2 stored, {int(clip_window.targets[0] - 2)} wanted"


def test_a_pair_cut_short_by_the_interval_is_an_error_and_no_look_ahead(stored_flow: Path) -> None:
    with pytest.raises(DataError, match="beyond the clip's end") as caught:
        read_stored_flow(stored_flow, "left.mp4", window(4, 6, 7, last=8))
    assert caught.value.lines["frames"] == "7"


def test_no_stored_flow_is_an_error_that_says_what_to_do(stored_flow: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no stored flow of none\.mp4") as caught:
        read_stored_flow(stored_flow, "none.mp4", window(0))
    assert "prepare_data flow" in caught.value.lines["fix"]
    assert caught.value.lines["missing"] == str(stored_flow / "none.mp4.flow.json")


def test_the_flow_of_another_video_is_an_error(stored_flow: Path) -> None:
    with pytest.raises(DataError, match="not of this video"):
        read_stored_flow(stored_flow, "left.mp4", window(0), frame_count=FRAMES + 1)


def test_missing_frames_are_an_error(panning_root: Path, tmp_path: Path) -> None:
    extract(panning_root, tmp_path, DIS, "left.mp4")
    with pytest.raises(DataError, match="frames are missing"):
        read_stored_flow(tmp_path, "left.mp4", Window(np.array([13]), np.array([15])))
    record = {"method": "dis", "settings": {}, "flow_step": STEP, "source_sha256": "", "versions": {}}
    side = (tmp_path / "left.mp4.flow.json").read_text()
    write_stored_flow(tmp_path, "left.mp4", [np.zeros((32, 43, 2), np.float32)] * 9, bound=64.0, fps=25, record=record)
    (tmp_path / "left.mp4.flow.json").write_text(side)
    with pytest.raises(DataError, match="frames are missing") as caught:
        read_stored_flow(tmp_path, "left.mp4", window(3))
    assert caught.value.lines["found"] == "9 frames of 43x32"
    (tmp_path / "left.mp4.flow.mp4").unlink()
    with pytest.raises(DataError, match="no stored flow"):
        read_stored_flow(tmp_path, "left.mp4", window(3))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"schema_version": 2}, "schema_version must be"), ({"bound": None}, "missing: bound"), ({"colour": 1}, "unknown key")],
)
def test_a_foreign_side_file_is_an_error(stored_flow: Path, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    content = {**json.loads((stored_flow / "left.mp4.flow.json").read_text()), **change}
    (tmp_path / "left.mp4.flow.json").write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    (tmp_path / "left.mp4.flow.mp4").write_bytes((stored_flow / "left.mp4.flow.mp4").read_bytes())
    with pytest.raises(DataError, match=said):
        read_side_file(tmp_path, "left.mp4")


def test_flow_that_breaks_off_leaves_nothing_that_is_read(panning_root: Path, tmp_path: Path) -> None:
    extract(panning_root, tmp_path, DIS, "left.mp4")
    record = {"method": "dis", "settings": {}, "flow_step": STEP, "source_sha256": "", "versions": {}}

    def breaking() -> Any:
        yield np.zeros((32, 43, 2), np.float32)
        raise DataError("the video ends early")

    with pytest.raises(DataError, match="ends early"):
        write_stored_flow(tmp_path, "left.mp4", breaking(), bound=64.0, fps=25, record=record)
    with pytest.raises(DataError, match="no stored flow"):
        read_side_file(tmp_path, "left.mp4")
    assert [file.name for file in tmp_path.iterdir()] == ["left.mp4.flow.mp4"]  # the old one, no longer vouched for
