"""Fixtures shared by all tests."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Read when torch is first imported. The networks of the tests are too small to gain by more threads, and lose where tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What a shell starts in the background is deaf to Ctrl-C, and so are its children; the tests that press it need to be heard.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW_S = 1200
"""Seconds that a slow test may take; the others have what `timeout` in pyproject.toml says. One that waits for ever fails and is named."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests the time that they need."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_S))


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Processes are killed here, the power is not cut: what was written is there, and syncing takes half of the time of some tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        yield


CLASSES = ("Right", "Down", "Grow")
FRAMES, SIZE = 12, 48


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real videos named by VIDKD_DATA; tests that need it skip without it."""
    folder = os.environ.get("VIDKD_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("VIDKD_DATA does not name a folder of real videos")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 18 real video files, 3 classes x 6 groups, 12 frames of 48x48; groups 4 and 5 are the test side of split "1"."""
    from vidkd.data.manifest import Clip, Manifest
    from vidkd.video import write_video

    root = tmp_path_factory.mktemp("tiny")
    clips = []
    for label, name in enumerate(CLASSES):
        for group in range(6):
            path = f"videos/{name}/{name}_g{group}.mp4"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            write_video(root / path, tiny_frames(label, group), fps=25)
            clips.append(Clip(path=path, label=label, group=f"g{group}", subsets={"1": "train" if group < 4 else "test"}))
    Manifest(name="tiny", root=root, classes=CLASSES, splits=("1",), clips=tuple(clips)).write(root / "manifest.jsonl")
    return root


def tiny_frames(label: int, group: int, frames: int = FRAMES) -> np.ndarray:
    """A bright square that moves right, moves down or grows over a still background of the group; uint8 (T, 48, 48, 3)."""
    rng = np.random.default_rng([label, group])
    background = np.random.default_rng(group).integers(30, 90, (SIZE // 8, SIZE // 8, 3)).repeat(8, 0).repeat(8, 1)
    top, left = rng.integers(4, 14, 2)
    clip = np.empty((frames, SIZE, SIZE, 3), np.uint8)
    for t in range(frames):
        clip[t] = background
        y, x, side = (top, left + 2 * t, 10), (top + 2 * t, left, 10), (top, left, 6 + 2 * t)
        row, column, width = (y, x, side)[label]
        clip[t, row : row + width, column : column + width] = 220
    return clip


@pytest.fixture(scope="session")
def frames_of() -> Callable[..., np.ndarray]:
    """`tiny_frames`, for videos of other lengths."""
    return tiny_frames


Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def tiny_settings(tiny_root: Path, tmp_path: Path) -> Settings:
    """Settings of a run of two steps on the tiny data set; call it with dotted settings over them: tiny_settings(**{"train.steps": 4})."""

    def settings(**over: Any) -> dict[str, Any]:
        from vidkd.base.settings import merge

        base = {
            "name": "tiny",
            "runs": str(tmp_path / "runs"),
            "data": {
                "root": str(tiny_root),
                "window": {"frames": 4, "stride": 2},
                "transform": {"short_side": 36, "crop": 32},
                "flow": {"preset": "ultrafast"},
                "batch_size": 4,
                "eval_clips": 1,
            },
            "model": {"dropout": 0.0, "attention": {"pooling": "soft"}},
            "train": {"steps": 2, "threads": 1, "device": "cpu", "log_every": 1},
        }
        return merge(base, over)

    return settings


@pytest.fixture
def tiny_config(tiny_settings: Settings) -> Callable[..., Any]:
    """`tiny_settings` as a RunConfig."""

    def config(**over: Any) -> Any:
        from vidkd.engine.config import load_config

        return load_config(settings=tiny_settings(**over))

    return config


@pytest.fixture(scope="session")
def tiny_teacher(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of a flow network with soft attention on the tiny data set."""
    from vidkd.engine.config import load_config
    from vidkd.engine.fit import fit

    settings = {
        "name": "teacher",
        "runs": str(tmp_path_factory.mktemp("teacher")),
        "view": "flow",
        "data": {
            "root": str(tiny_root),
            "validation_fraction": 0.25,  # so that students may be validated on the groups that it has not seen
            "window": {"frames": 4, "stride": 2},
            "transform": {"short_side": 36, "crop": 32},
            "flow": {"preset": "ultrafast"},
            "batch_size": 4,
        },
        "model": {"dropout": 0.0, "attention": {"pooling": "soft"}},
        "train": {"steps": 6, "threads": 1, "device": "cpu"},
    }
    return fit(load_config(settings=settings), quiet=True).folder


@pytest.fixture
def places(tmp_path: Path) -> Any:
    """Where a study of a test writes: `vidkd.bench.study.Places`."""
    from vidkd.bench.study import Places

    return Places(results=tmp_path / "results", runs=tmp_path / "runs")
