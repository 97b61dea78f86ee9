"""Optional packages that are missing: what pip is asked for."""

import importlib.metadata
from pathlib import Path

import pytest

from vidkd.base.errors import MissingExtraError
from vidkd.base.extras import require


def test_where_vidkd_is_installed_its_name_does() -> None:
    importlib.metadata.distribution("vidkd")
    with pytest.raises(MissingExtraError, match=r"'no_such_package' is not installed\n.*pip install 'vidkd\[report\]'$"):
        require("no_such_package.part", "report")


def test_a_checkout_that_is_not_installed_is_named_by_its_folder(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(MissingExtraError) as raised:
        require("no_such_package", "litert", package="ai-edge-litert")
    told = str(raised.value)
    assert f"{request.config.rootpath}[litert]" in told
    assert told.endswith("(or pip install ai-edge-litert, where vidkd is installed without torch)")


def test_a_package_that_misses_another_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole_package.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        require("whole_package", "report")
