"""Small data-set trees of placeholder files: no layout decodes a video unless it has boxes to place."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes empty-looking videos at `paths` and text files of `texts` below a root with an awkward name."""

    def make(paths: Iterable[str] = (), texts: dict[str, str] | None = None) -> Path:
        root = tmp_path / "my data 'ü'"
        for path, text in {**dict.fromkeys(paths, "placeholder"), **(texts or {})}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        return root

    return make
