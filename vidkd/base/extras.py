"""Optional packages: a missing one is one line that says what to install."""

import importlib
import importlib.metadata
import shlex
from pathlib import Path
from types import ModuleType

from vidkd.base.errors import MissingExtraError


def require(module: str, extra: str, *, package: str | None = None) -> ModuleType:
    """Import `module`; raises MissingExtraError naming the extra of vidkd that brings it.

    package: the single package that would do, for machines that have vidkd without torch, which an extra would bring.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and module.split(".")[0] != error.name.split(".")[0]:
            raise
        alone = "" if package is None else f"   (or pip install {package}, where vidkd is installed without torch)"
        missing = package or module.partition(".")[0]
        raise MissingExtraError(f"'{missing}' is not installed", hint=f"pip install {_requirement(extra)}{alone}") from error


def _requirement(extra: str) -> str:
    """What pip is asked for: vidkd by its name where it is installed, else the folder that it runs from, for no registry knows it."""
    try:
        importlib.metadata.distribution("vidkd")
    except importlib.metadata.PackageNotFoundError:
        return shlex.quote(f"{Path(__file__).resolve().parents[2]}[{extra}]")
    return f"'vidkd[{extra}]'"
