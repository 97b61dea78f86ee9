"""Extraction of flow: which pairs are computed, what is kept, what is done again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flow_samples import DIS, STEP, extract, window
from moving_textures import epe, moved, translation, write_panning

from vidkd.base.errors import ConfigError
from vidkd.data import flow_extract
from vidkd.data.flow_extract import ExtractConfig, claim_folder, flow_function, flow_of_frames
from vidkd.data.flow_store import read_side_file, read_stored_flow


@pytest.mark.parametrize("step", [1, 3, 9, 40])
@pytest.mark.parametrize("count", [1, 2, 20])
def test_flow_goes_to_the_frame_a_step_later_or_the_last(count: int, step: int) -> None:
    frames = [np.full((2, 2, 3), number, np.uint8) for number in range(count)]

    def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        assert len(first) <= flow_extract.BATCH_PAIRS
        return (second[..., :2].astype(np.float32) - first[..., :2]).astype(np.float32)

    flows = list(flow_of_frames(iter(frames), difference, step))
    assert [float(flow[0, 0, 0]) for flow in flows] == [min(step, count - 1 - number) for number in range(count)]


def test_methods_are_functions_of_two_stacks() -> None:
    first, second, truth = moved(64, 80, translation(2, -1))
    assert epe(flow_function(ExtractConfig(method="dis", preset="medium"))(first[None], second[None])[0], truth) < 0.1
    assert epe(flow_function(ExtractConfig(method="tvl1"))(first[None], second[None])[0], truth) < 0.1


def test_flow_that_lies_there_is_kept_and_what_changed_is_done_again(panning_root: Path, tmp_path: Path) -> None:
    assert [answer["kept"] for answer in extract(panning_root, tmp_path, DIS)] == [False, False]
    before = (tmp_path / "left.mp4.flow.mp4").stat().st_mtime_ns
    assert [answer["kept"] for answer in extract(panning_root, tmp_path, DIS)] == [True, True]
    assert (tmp_path / "left.mp4.flow.mp4").stat().st_mtime_ns == before
    (tmp_path / "left.mp4.flow.json").unlink()
    assert [answer["kept"] for answer in extract(panning_root, tmp_path, DIS)] == [True, False]
    (tmp_path / "in" / "right.mp4.flow.mp4").unlink()
    assert [answer["kept"] for answer in extract(panning_root, tmp_path, DIS)] == [False, True]


def test_another_video_under_the_name_is_extracted_again(tmp_path: Path) -> None:
    write_panning(tmp_path / "a.mp4", frames=6, dx=1)
    extract(tmp_path, tmp_path / "flow", DIS, "a.mp4")
    write_panning(tmp_path / "a.mp4", frames=6, dx=2)
    assert extract(tmp_path, tmp_path / "flow", DIS, "a.mp4")[0]["kept"] is False
    assert np.median(read_stored_flow(tmp_path / "flow", "a.mp4", window(1, last=5))[0, 8:-8, 8:-8, 0]) == pytest.approx(8 / 3, abs=0.1)


def test_a_folder_holds_one_kind_of_flow(tmp_path: Path) -> None:
    claim_folder(tmp_path, DIS.settings())
    claim_folder(tmp_path, DIS.settings())
    with pytest.raises(ConfigError, match="made otherwise") as caught:
        claim_folder(tmp_path, ExtractConfig(method="dis", flow_step=3, short_side=32).settings())
    assert caught.value.lines["differing"] == "flow_step: 2 there, 3 asked"


def test_cut_components_are_told(panning_root: Path, tmp_path: Path) -> None:
    narrow = ExtractConfig(method="dis", flow_step=STEP, short_side=32, bound=1.0)
    (answer,) = extract(panning_root, tmp_path, narrow, "in/right.mp4")
    assert 0.2 < answer["clipped"] < 0.6  # dx is 2.7 pixels nearly everywhere, dy none
    assert read_side_file(tmp_path, "in/right.mp4").clipped == answer["clipped"]


@pytest.mark.parametrize("wrong", [{"flow_step": 0}, {"short_side": 8}, {"bound": 0.0}, {"bound": float("inf")}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="flow"):
        ExtractConfig(**wrong)
