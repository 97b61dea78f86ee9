"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real videos named by VIDKD_DATA; tests that need it skip without it."""
    folder = os.environ.get("VIDKD_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("VIDKD_DATA does not name a folder of real videos")
    return Path(folder)
