"""Files that a study or a recipe names by a path that holds on any machine: looked for below the folders that its user names."""

import os
from collections.abc import Sequence
from pathlib import Path

from vidkd.base.errors import ConfigError

DATA_VARIABLE = "VIDKD_DATA"
ROOT_HELP = f"folder of videos and weights; may be repeated (default: ${DATA_VARIABLE})"


def roots_of(given: Sequence[str] | None) -> tuple[Path, ...]:
    """The folders of --root; without any the one that the variable VIDKD_DATA names, if it is set."""
    default = os.environ.get(DATA_VARIABLE)
    return tuple(map(Path, given or ([default] if default else [])))


def find_below(name: str, folders: Sequence[Path], *, named_by: Path | str) -> Path:
    """The file or folder `name` below the first of the folders that has it. Raises ConfigError, naming who named it, if none has."""
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    raise ConfigError(
        f"a file that is named is not there: {name}",
        named_by=named_by,
        looked_in=", ".join(map(str, folders)),
        hint="--root DIR, the folder that holds videos and weights",
    )
