"""Optional packages that are missing: what pip is asked for."""

import importlib.metadata
import sys

import pytest

from vidkd.base.errors import MissingExtraError
from vidkd.base.extras import require


def test_require_returns_the_module_or_names_the_extra() -> None:
    assert require("json", "report").dumps([]) == "[]"
    with pytest.raises(MissingExtraError, match=r"^'surely_not_a_module' is not installed\n.*pip install 'vidkd\[report\]'$"):
        require("surely_not_a_module.pyplot", "report")
    with pytest.raises(
        MissingExtraError, match=r"^'one-package' is not installed\n.*'vidkd\[report\]' +\(or pip install one-package, where "
    ):
        require("surely_not_a_module.pyplot", "report", package="one-package")


def test_a_checkout_that_is_not_installed_is_named_by_its_folder(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(MissingExtraError) as raised:
        require("no_such_package", "litert", package="ai-edge-litert")
    told = str(raised.value)
    assert f"{request.config.rootpath}[litert]" in told
    assert told.endswith("(or pip install ai-edge-litert, where vidkd is installed without torch)")


def test_require_does_not_hide_what_an_installed_package_lacks(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "installed_but_broken.py").write_text("import surely_not_a_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="surely_not_a_module"):
        require("installed_but_broken", "report")
    sys.modules.pop("installed_but_broken", None)
