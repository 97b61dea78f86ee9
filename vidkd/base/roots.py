"""Files that a study or a recipe names by a path that holds on any machine: looked for below the folders that its user names."""

import os
from collections.abc import Sequence
from pathlib import Path

from vidkd.base.errors import ConfigError
from vidkd.base.settings import read_flags

DATA_VARIABLE = "VIDKD_DATA"
ROOT = "data.root"


def split_roots(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The folders that --data.root names among flags, and the other flags."""
    flags = read_flags(words)
    others = [flag if text is None else f"{flag}={text}" for flag, text in flags if flag != f"--{ROOT}"]
    return [text for flag, text in flags if flag == f"--{ROOT}" and text], others


def roots_of(words: Sequence[str]) -> tuple[Path, ...]:
    """The folders of --data.root, which may be repeated; without any the one that the variable VIDKD_DATA names, if it is set."""
    default = os.environ.get(DATA_VARIABLE)
    return tuple(map(Path, split_roots(words)[0] or ([default] if default else [])))


def data_root(named: str, folders: Sequence[Path], given: Sequence[str]) -> str:
    """The folder of the data set: what a file names, below the first of the folders that has it, else the last --data.root that was given,
    else as it is named.
    """
    below = [str(folder / named) for folder in folders if named and not Path(named).is_absolute() and (folder / named).exists()]
    return [named, *given[-1:], *below[:1]][-1]


def find_below(name: str, folders: Sequence[Path], *, named_by: Path | str) -> Path:
    """The file or folder `name` below the first of the folders that has it. Raises ConfigError, naming who named it, if none has."""
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    raise ConfigError(
        f"a file that is named is not there: {name}",
        named_by=named_by,
        looked_in=", ".join(map(str, folders)),
        hint="--data.root DIR, the folder that holds videos and weights",
    )
