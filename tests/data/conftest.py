"""Videos that pan and their stored flow, made once."""

from pathlib import Path

import pytest
from flow_samples import DIS, FRAMES, extract
from moving_textures import write_panning


@pytest.fixture(scope="session")
def panning_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """in/right.mp4 and left.mp4, 14 frames each, named by where their picture moves."""
    root = tmp_path_factory.mktemp("panning")
    write_panning(root / "in" / "right.mp4", frames=FRAMES, dx=2)
    write_panning(root / "left.mp4", frames=FRAMES, dx=-1, dy=1, seed=1)
    return root


@pytest.fixture(scope="session")
def stored_flow(panning_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DIS flow of both, stored."""
    out = tmp_path_factory.mktemp("flow")
    extract(panning_root, out, DIS)
    return out
