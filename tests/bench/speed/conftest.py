"""A classifier of the tiny data set as a checkpoint and as an exported file, made once."""

from pathlib import Path

import pytest
from speed_models import tiny_checkpoint, tiny_export


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("speed") / "rgb.pt")


@pytest.fixture(scope="session")
def exported(checkpoint: Path) -> Path:
    return tiny_export(checkpoint.with_name("rgb.onnx"))
