"""A student and an oracle in files, and a video in which the student learns from the oracle."""

from pathlib import Path

import pytest
from learning_files import make_video, oracle_arguments, student_arguments


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("networks")
    return [*student_arguments(folder), *oracle_arguments(folder)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "street.mp4")
