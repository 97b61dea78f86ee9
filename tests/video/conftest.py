"""One file of every kind, made once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from kinds_of_files import OTHERS, PLAIN, PYAV_ONLY


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """made(name): the file of that name, encoded when first asked for."""
    folder = tmp_path_factory.mktemp("videos")
    makers = PLAIN | {name: maker for name, (maker, _, _) in PYAV_ONLY.items()} | OTHERS

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else makers[name](path)

    return make
