"""Optional packages: a missing one is one line that says what to install."""

import importlib
from types import ModuleType

from vidkd.base.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import `module`; raises MissingExtraError naming the extra of vidkd that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise MissingExtraError(f"'{module}' is not installed", to_mend=f"pip install 'vidkd[{extra}]'") from error
