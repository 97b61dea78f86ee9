"""TV-L1: known motion, and what is stored of it."""

from pathlib import Path

import numpy as np
import pytest
from flow_samples import extract, window
from moving_textures import about, epe, moved, panning, translation

from vidkd.data.flow import tvl1_flow
from vidkd.data.flow_extract import ExtractConfig
from vidkd.data.flow_store import read_side_file, read_stored_flow
from vidkd.video import write_video


@pytest.mark.parametrize("matrix", [translation(2, -1), translation(-1.5, 0.75), about(64, 80, angle_deg=2, zoom=1.02)])
def test_tvl1_on_known_motion(matrix: np.ndarray) -> None:
    first, second, truth = moved(64, 80, matrix)
    assert epe(tvl1_flow(first[None], second[None])[0], truth) < 0.15


def test_tvl1_is_stored_with_its_parameters(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", iter(panning(3, height=24, width=32)), fps=25, crf=10)
    config = ExtractConfig(method="tvl1", flow_step=1, short_side=24)
    extract(tmp_path, tmp_path / "flow", config, "a.mp4")
    found = read_stored_flow(tmp_path / "flow", "a.mp4", window(0, 1, step=1, last=2))
    assert np.median(found[..., 0]) == pytest.approx(1, abs=0.1)
    side = read_side_file(tmp_path / "flow", "a.mp4")
    assert (side.method, side.settings["Lambda"], side.settings["WarpingsNumber"]) == ("tvl1", 0.15, 5)
